//! How nO is: checks, each a value that others fill in, and the verdict over them.
//!
//! `/health` says whether the service can do its work, `/health/ready` whether it takes new work
//! now,
//! `/health/detailed` every check with its figures. A check that warns does not make the whole
//! unhealthy: a supervisor would restart what a restart does not mend.

use crate::process::ProcessInfo;
use serde::Serialize;
use std::collections::BTreeMap;

/// How a checked part is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Healthy,
    /// Works, but somebody should look.
    Degraded,
    /// Does not work.
    Unhealthy,
}

/// One part's check.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Check {
    /// How it is.
    pub status: Status,
    /// How long the check, or what it is about, took, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The last error, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Figures, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Check {
    /// A check with a status alone.
    #[must_use]
    pub fn of(status: Status) -> Check {
        Check { status, latency_ms: None, last_error: None, detail: None }
    }

    /// With a latency.
    #[must_use]
    pub fn latency_ms(self, ms: f64) -> Check {
        Check { latency_ms: Some(ms), ..self }
    }

    /// With the last error.
    #[must_use]
    pub fn last_error(self, error: impl Into<String>) -> Check {
        Check { last_error: Some(error.into()), ..self }
    }

    /// With figures.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Check {
        Check { detail: Some(detail.into()), ..self }
    }
}

/// What the process uses, as shares from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Resources {
    /// CPU, of what we may.
    pub cpu_ratio: Option<f64>,
    /// Memory, of what we may.
    pub memory_ratio: Option<f64>,
    /// The data folder's disk.
    pub disk_ratio: Option<f64>,
}

/// The whole, as `/health/detailed` shows it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Health {
    /// The worst of all checks.
    pub status: Status,
    /// Version that runs.
    pub version: &'static str,
    /// Checks by name: `shards`, `journal`, `disk`, `memory`, `agents`, `models`, …
    pub checks: BTreeMap<&'static str, Check>,
    /// What the process uses.
    pub resources: Resources,
}

/// Share of memory from which somebody should look.
const MEMORY_DEGRADED_RATIO: f64 = 0.9;

impl Health {
    /// The verdict over these checks, with memory and disk judged here.
    #[must_use]
    pub fn new(
        checks: impl IntoIterator<Item = (&'static str, Check)>,
        process: &ProcessInfo,
        disk_reserve_bytes: u64,
    ) -> Health {
        let mut checks: BTreeMap<_, _> = checks.into_iter().collect();
        checks.insert("disk", disk(process, disk_reserve_bytes));
        checks.insert("memory", memory(process));
        let status = checks.values().map(|check| check.status).max().unwrap_or(Status::Healthy);
        let resources = Resources {
            cpu_ratio: process.cpu_ratio,
            memory_ratio: process.memory_ratio,
            disk_ratio: process.disk_ratio,
        };
        Health { status, version: env!("CARGO_PKG_VERSION"), checks, resources }
    }

    /// The HTTP status: a degraded service still serves.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        if self.status == Status::Unhealthy { 503 } else { 200 }
    }

    /// The body of `/health`: the verdict alone, as it is open to everybody.
    #[must_use]
    pub fn summary(&self) -> String {
        let status = serde_json::to_string(&self.status).unwrap_or_default();
        format!("{{\"status\":{status}}}")
    }

    /// The body of `/health/detailed`.
    #[must_use]
    pub fn detailed(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Below the reserve new work is refused, while what there is goes on: degraded, not dead.
fn disk(process: &ProcessInfo, reserve_bytes: u64) -> Check {
    match process.disk_free_bytes {
        None => Check::of(Status::Degraded).last_error("the data folder's disk cannot be read"),
        Some(free) if free < reserve_bytes => Check::of(Status::Degraded)
            .last_error("less room than engine.diskReserveBytes: new work is refused")
            .detail(format!("{free} bytes free")),
        Some(free) => Check::of(Status::Healthy).detail(format!("{free} bytes free")),
    }
}

fn memory(process: &ProcessInfo) -> Check {
    match process.memory_ratio {
        Some(ratio) if MEMORY_DEGRADED_RATIO < ratio => {
            Check::of(Status::Degraded).detail(format!("{:.0} % of what we may use", ratio * 100.0))
        }
        _ => Check::of(Status::Healthy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn process(free: u64, memory_ratio: f64) -> ProcessInfo {
        ProcessInfo {
            disk_free_bytes: Some(free),
            memory_ratio: Some(memory_ratio),
            ..ProcessInfo::default()
        }
    }

    #[test]
    fn the_worst_check_is_the_verdict() {
        let check = |checks: Vec<(&'static str, Check)>, free, memory, status, http| {
            let health = Health::new(checks, &process(free, memory), 100);
            assert_eq!((health.status, health.http_status()), (status, http));
        };
        let good = || vec![("shards", Check::of(Status::Healthy))];
        check(good(), 100, 0.1, Status::Healthy, 200);
        check(good(), 99, 0.1, Status::Degraded, 200);
        check(good(), 100, 0.95, Status::Degraded, 200);
        let halted = Check::of(Status::Unhealthy).last_error("shard 0 is halted");
        check(vec![("journal", halted)], 100, 0.1, Status::Unhealthy, 503);
    }

    #[test]
    fn bodies() {
        let journal = Check::of(Status::Healthy).latency_ms(3.5);
        let health = Health::new([("journal", journal)], &process(200, 0.5), 100);
        assert_eq!(health.summary(), r#"{"status":"healthy"}"#);
        expect![[r#"{"status":"healthy","version":"0.1.0","checks":{"disk":{"status":"healthy","detail":"200 bytes free"},"journal":{"status":"healthy","latency_ms":3.5},"memory":{"status":"healthy"}},"resources":{"cpu_ratio":null,"memory_ratio":0.5,"disk_ratio":null}}"#]]
        .assert_eq(&health.detailed());
    }
}
