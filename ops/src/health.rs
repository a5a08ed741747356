//! The health endpoints: is it alive, is it ready, and what is wrong if not.
//!
//! They ask nobody: signs of life are read, not requested, so that overload or a stuck disk never
//! makes the answer late. An issuer of tokens that does not answer makes the node unwell, not
//! unready: whoever it let in before goes on working. Redis away makes it no more than degraded:
//! it answers 200, as all of its work goes on.

use crate::database::DatabaseHealth;
use crate::metrics::Life;
use crate::tls::TlsHealth;
use crate::vitals::{Stage, Vitals};
use crate::{agents, audit};
use hyper::{Method, StatusCode};
use no_engine::time::Millis;
use no_net::Registry;
use no_net::audit::AuditLink;
use no_net::cluster::Cluster;
use no_net::oidc::Issuer;
use no_net::out::model::outcomes::{Failing, ModelOutcomes};
use no_net::redis::Redis;
use no_net::render::json;
use no_net::route::{Access, Router, handler};
use no_net::time;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What is wrong; `None` when nothing is.
    pub fault: Option<String>,
    /// Whether the node is unwell with it, and not just degraded.
    pub is_grave: bool,
}

impl Check {
    /// A check that the node is unwell without.
    #[must_use]
    pub fn grave(name: &'static str, fault: Option<String>) -> Check {
        Check { name, fault, is_grave: true }
    }

    /// A check that the node does its work without.
    #[must_use]
    pub fn light(name: &'static str, fault: Option<String>) -> Check {
        Check { name, fault, is_grave: false }
    }
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
        Check::grave("shards", stuck.map(|shard| format!("shard {shard} gives no sign of life"))),
        Check::grave("journal", journal),
        Check::grave("disk", disk),
        Check::grave("memory", memory),
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
    /// The store's answers to reads.
    pub database: DatabaseHealth,
    /// The agents.
    pub agents: Option<Arc<Registry>>,
    /// What calls of models came to.
    pub models: ModelOutcomes,
    /// The issuer of tokens.
    pub issuer: Option<Arc<Issuer>>,
    /// What nodes share.
    pub redis: Option<Arc<Redis>>,
    /// The other nodes.
    pub cluster: Option<Arc<Cluster>>,
    /// The audit log.
    pub audit: Option<AuditLink>,
    /// The certificate.
    pub tls: Option<TlsHealth>,
}

/// The checks of a node, and what each last found wrong. Shared by the net cores.
pub struct Health {
    vitals: Arc<Vitals>,
    others: Others,
    last_faults: Mutex<BTreeMap<&'static str, LastFault>>,
}

/// What a check last found wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
struct LastFault {
    fault: String,
    at: Millis,
}

/// All checks at one moment.
pub struct Examined {
    /// In a fixed order.
    pub checks: Vec<Check>,
    /// Whether work is taken and nothing grave is wrong.
    pub is_well: bool,
    /// In one word, whether work is taken or why not.
    pub ready: &'static str,
}

impl Health {
    /// The health of the node with these signs of life.
    #[must_use]
    pub fn new(vitals: Arc<Vitals>, others: Others) -> Health {
        Health { vitals, others, last_faults: Mutex::default() }
    }

    /// The node's signs of life.
    #[must_use]
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Makes all checks.
    #[must_use]
    pub fn examine(&self) -> Examined {
        let mut checks = checks(&self.vitals);
        let Others { database, agents, models, issuer, redis, cluster, audit, tls } = &self.others;
        checks.push(Check::grave("database", database.fault()));
        checks.extend(cluster.iter().map(|of| Check::grave("cluster", fault_of_cluster(of))));
        let agents = agents.iter().map(|all| Check::light("agents", agents::fault(all)));
        checks.extend(agents);
        if !models.is_empty() {
            checks.push(Check::light("models", fault_of_models(&models.failing())));
        }
        checks.extend(audit.iter().map(|log| Check::grave("audit", audit::fault(log))));
        checks.extend(issuer.iter().map(|issuer| Check::grave("oidc", issuer.fault())));
        checks.extend(redis.iter().map(|redis| Check::light("redis", redis.fault())));
        checks.extend(tls.iter().map(|tls| Check::grave("tls", tls.fault())));
        self.remember(&checks);
        let (is_ready, ready) = self.readiness();
        let is_well =
            is_ready && checks.iter().all(|check| !check.is_grave || check.fault.is_none());
        Examined { checks, is_well, ready }
    }

    /// Signs of life as a scrape shows them.
    #[must_use]
    pub fn life(&self) -> Life {
        let Examined { checks, .. } = self.examine();
        let beats = self.vitals.shards().into_iter().map(|life| life.beat_age_ms);
        let is_failing = |check: &Check| (check.name, check.fault.is_some());
        Life {
            now: time::wall(),
            is_ready: self.readiness().0,
            beat_age_ms: beats.collect(),
            checks: checks.iter().map(is_failing).collect(),
            certificate_ends_at_s: self.others.tls.as_ref().map(TlsHealth::ends_at_s),
        }
    }

    /// Whether the node takes work now, and in one word why not.
    #[must_use]
    pub fn readiness(&self) -> (bool, &'static str) {
        let has_lease = self.others.cluster.as_ref().is_none_or(|cluster| cluster.is_valid());
        match readiness(&self.vitals) {
            (true, _) if !has_lease => (false, "lease"),
            found => found,
        }
    }

    fn remember(&self, checks: &[Check]) {
        if checks.iter().all(|check| check.fault.is_none()) {
            return;
        }
        let at = time::wall();
        let mut last = self.last_faults();
        for Check { name, fault, .. } in checks {
            if let Some(fault) = fault {
                last.insert(name, LastFault { fault: fault.clone(), at });
            }
        }
    }

    fn last_faults(&self) -> MutexGuard<'_, BTreeMap<&'static str, LastFault>> {
        // Each entry stands for itself.
        self.last_faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A check for operators: how it is, and what it last found wrong.
    #[must_use]
    pub fn detailed(&self, check: &Check) -> Value {
        let last = self.last_faults().get(check.name).cloned();
        let last = last.map(|last| json!({"error": last.fault, "at": text_of(last.at)}));
        let mut shown = shown_check(check);
        shown["last_error"] = last.into();
        shown
    }
}

/// Adds `/health`, `/health/live` and `/health/ready`, open to anybody.
pub fn mount(router: &mut Router, health: &Arc<Health>) {
    let shown = Arc::clone(health);
    let overall = handler(move |_| {
        let found = shown.examine();
        let checks = found.checks.iter();
        let named: Map<String, Value> =
            checks.map(|check| (check.name.to_owned(), shown_check(check))).collect();
        let body = json!({"status": found.word(), "ready": found.ready, "checks": named});
        answer(found.is_well, body)
    });
    router.mount(Method::GET, "/health", Access::Open, overall);
    let live = handler(|_| answer(true, json!({"status": "live"})));
    router.mount(Method::GET, "/health/live", Access::Open, live);
    let shown = Arc::clone(health);
    let ready = handler(move |_| {
        let (is_ready, why) = shown.readiness();
        answer(is_ready, json!({"status": why}))
    });
    router.mount(Method::GET, "/health/ready", Access::Open, ready);
}

impl Examined {
    /// In one word how it is.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.is_well, self.checks.iter().all(|check| check.fault.is_none())) {
            (true, true) => "ok",
            (true, false) => "degraded",
            (false, _) => "failing",
        }
    }
}

/// Which models fail; none of them need be called for it.
fn fault_of_models(failing: &[Failing]) -> Option<String> {
    let one = |Failing { model, failures, code }: &Failing| {
        format!("the last {failures} calls of model {model} failed, with {code} at last")
    };
    (!failing.is_empty()).then(|| failing.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// What keeps the node from its place among the others.
fn fault_of_cluster(cluster: &Cluster) -> Option<String> {
    let do_what = "it could not count in the database for a lease";
    (!cluster.is_valid()).then(|| format!("the node's lease has run out: {do_what}"))
}

/// An instant as the API writes it.
#[must_use]
pub fn text_of(at: Millis) -> String {
    let mut quoted = Vec::with_capacity(26);
    time::push_time(&mut quoted, at);
    String::from_utf8_lossy(&quoted).trim_matches('"').to_owned()
}

fn shown_check(check: &Check) -> Value {
    match &check.fault {
        None => json!({"status": "ok"}),
        Some(fault) => {
            let status = if check.is_grave { "failing" } else { "degraded" };
            json!({"status": status, "error": fault})
        }
    }
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
    fn what_was_wrong_is_remembered() {
        let pulse = Arc::new(Pulse::default());
        let bounds = Bounds { disk_reserve_bytes: 0, memory_max_bytes: u64::MAX };
        let place = std::path::Path::new("/");
        let vitals = Vitals::new(vec![Arc::clone(&pulse)], SystemClock::start(), place, bounds);
        vitals.enter(Stage::Ready);
        let health = Health::new(Arc::new(vitals), Others::default());
        let journal = |health: &Health| {
            let checks = health.examine().checks;
            health.detailed(checks.iter().find(|check| check.name == "journal").expect("is made"))
        };
        assert_eq!(journal(&health), json!({"status": "ok", "last_error": null}));
        let mut reading = pulse.read();
        reading.is_full = true;
        pulse.write(reading);
        assert_eq!(journal(&health)["status"], "failing");
        reading.is_full = false;
        pulse.write(reading);
        let after = journal(&health);
        assert_eq!(after["status"], "ok");
        assert_eq!(after["last_error"]["error"], "the journal of shard 0 finds no room");
        assert!(after["last_error"]["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{after}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        check(|_| {}, &[], (true, "ready"));
        check(|r| r.is_halted = true, &["shards", "journal"], (false, "store"));
        check(|r| r.is_full = true, &["journal"], (true, "ready"));
    }
}
