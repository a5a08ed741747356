//! The health endpoints: is it alive, is it ready, and what is wrong if not.
//!
//! They ask nobody: signs of life are read, not requested, so that overload or a stuck disk never
//! makes the answer late. An issuer of tokens that does not answer makes the node unwell, not
//! unready: whoever it let in before goes on working.

use crate::audit;
use crate::tls::TlsHealth;
use crate::vitals::{Stage, Vitals};
use hyper::{Method, StatusCode};
use no_net::audit::AuditLink;
use no_net::oidc::Issuer;
use no_net::render::json;
use no_net::route::{Access, Router, handler};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What is wrong; `None` when nothing is.
    pub fault: Option<String>,
}

/// All checks that this node can make of itself.
#[must_use]
pub fn checks(vitals: &Vitals) -> Vec<Check> {
    let shards = vitals.shards();
    let first = |is: &dyn Fn(&crate::vitals::ShardLife) -> bool| shards.iter().position(is);
    let stuck = first(&|life| !life.is_alive());
    let halted = first(&|life| life.reading.is_halted);
    let full = first(&|life| life.reading.is_full);
    let journal = halted
        .map(|shard| format!("the journal of shard {shard} failed"))
        .or(full.map(|shard| format!("the journal of shard {shard} finds no room")));
    let disk = vitals.is_disk_low().then(|| "free room is below engine.diskReserveBytes".into());
    let memory = vitals.is_memory_full().then(|| "more is used than engine.memoryMaxBytes".into());
    vec![
        Check {
            name: "shards",
            fault: stuck.map(|shard| format!("shard {shard} gives no sign of life")),
        },
        Check { name: "journal", fault: journal },
        Check { name: "disk", fault: disk },
        Check { name: "memory", fault: memory },
    ]
}

/// Whether the node takes work now, and in one word why not.
#[must_use]
pub fn readiness(vitals: &Vitals) -> (bool, &'static str) {
    match vitals.stage() {
        Stage::Starting => (false, "starting"),
        Stage::Draining => (false, "draining"),
        Stage::Ready => {
            let is_held_up = vitals.shards().iter().any(|life| !life.is_alive());
            if is_held_up { (false, "store") } else { (true, "ready") }
        }
    }
}

/// What else is looked at, where it is configured.
#[derive(Clone, Default)]
pub struct Others {
    /// The issuer of tokens.
    pub issuer: Option<Arc<Issuer>>,
    /// The audit log.
    pub audit: Option<AuditLink>,
    /// The certificate.
    pub tls: Option<TlsHealth>,
}

/// Adds `/health`, `/health/live` and `/health/ready`, open to anybody.
pub fn mount(router: &mut Router, vitals: &Arc<Vitals>, others: Others) {
    let shown = Arc::clone(vitals);
    let overall = handler(move |_| {
        let mut checks = checks(&shown);
        let log = others.audit.iter();
        checks.extend(log.map(|log| Check { name: "audit", fault: audit::fault(log) }));
        let issuer = others.issuer.iter();
        checks.extend(issuer.map(|issuer| Check { name: "oidc", fault: issuer.fault() }));
        let tls = others.tls.iter();
        checks.extend(tls.map(|tls| Check { name: "tls", fault: tls.fault() }));
        let is_well = checks.iter().all(|check| check.fault.is_none());
        let (is_ready, why) = readiness(&shown);
        let is_well = is_well && is_ready;
        let named: Map<String, Value> = checks.into_iter().map(shown_check).collect();
        let status = if is_well { "ok" } else { "failing" };
        answer(is_well, json!({"status": status, "ready": why, "checks": named}))
    });
    router.mount(Method::GET, "/health", Access::Open, overall);
    let live = handler(|_| answer(true, json!({"status": "live"})));
    router.mount(Method::GET, "/health/live", Access::Open, live);
    let shown = Arc::clone(vitals);
    let ready = handler(move |_| {
        let (is_ready, why) = readiness(&shown);
        answer(is_ready, json!({"status": why}))
    });
    router.mount(Method::GET, "/health/ready", Access::Open, ready);
}

fn shown_check(check: Check) -> (String, Value) {
    let shown = match check.fault {
        None => json!({"status": "ok"}),
        Some(fault) => json!({"status": "failing", "error": fault}),
    };
    (check.name.to_owned(), shown)
}

fn answer(is_well: bool, body: Value) -> std::future::Ready<no_net::route::Outcome> {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    std::future::ready(Ok(json(status, body.to_string().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::SystemClock;
    use crate::vitals::Bounds;
    use no_engine::shard::Pulse;
    use no_engine::shard::pulse::Reading;

    fn vitals(change: impl Fn(&mut Reading)) -> Vitals {
        let pulse = Arc::new(Pulse::default());
        let mut reading = pulse.read();
        change(&mut reading);
        pulse.write(reading);
        let bounds = Bounds { disk_reserve_bytes: 0, memory_max_bytes: u64::MAX };
        Vitals::new(vec![pulse], SystemClock::start(), std::path::Path::new("/"), bounds)
    }

    fn check(change: impl Fn(&mut Reading), failing: &[&str], ready: (bool, &'static str)) {
        let vitals = vitals(change);
        assert_eq!(readiness(&vitals), (false, "starting"));
        vitals.enter(Stage::Ready);
        let found = checks(&vitals).into_iter().filter(|check| check.fault.is_some());
        assert_eq!(found.map(|check| check.name).collect::<Vec<_>>(), failing);
        assert_eq!(readiness(&vitals), ready);
        vitals.enter(Stage::Draining);
        vitals.enter(Stage::Ready);
        assert_eq!(readiness(&vitals), (false, "draining"), "a stage never goes back");
    }

    #[test]
    fn what_is_wrong_is_named() {
        check(|_| {}, &[], (true, "ready"));
        check(|r| r.is_halted = true, &["shards", "journal"], (false, "store"));
        check(|r| r.is_full = true, &["journal"], (true, "ready"));
    }
}
