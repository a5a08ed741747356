//! What operators ask a node about itself: each check with what it last found wrong, the resources
//! that are used, and how the shards are; and the order to stop. Needs `ops:read`, the last
//! `admin:shutdown`.
//!
//! Checks and resources are read, never waited for. The status alone asks the shards for figures;
//! one that is too busy to give them in time is shown without.

use crate::agents;
use crate::health::{Check, Health, text_of};
use crate::pool::PoolView;
use crate::process::ProcessReader;
use crate::shutdown::{self, Handler};
use crate::vitals::Stage;
use hyper::{Method, StatusCode};
use no_auth::Permission;
use no_engine::stats::ShardStats;
use no_engine::task::STATES;
use no_engine::time::Millis;
use no_net::core::Core;
use no_net::extract::Request;
use no_net::problem::{Code, Problem};
use no_net::render::json;
use no_net::route::{Access, Outcome, Router, handler};
use no_net::time;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a node says of itself beside its health.
#[derive(Clone, Debug)]
pub struct About {
    /// When it was started.
    pub started_at: Millis,
    /// Partitions of its store.
    pub partitions: u16,
    /// How long running steps may take to finish when the node stops.
    pub drain_timeout: Duration,
    /// The configuration in force, secrets taken out.
    pub config: Arc<Value>,
    /// The slots, and why there are so many.
    pub pool: Arc<PoolView>,
}

/// What the routes of one net core share.
struct Admin {
    health: Arc<Health>,
    about: About,
    process: RefCell<ProcessReader>,
}

/// Adds `/health/detailed`, `/admin/health/checks`, `/admin/health/check/{name}`, `/admin/status`,
/// `/admin/shutdown` and `/admin/shutdown/handlers`.
pub fn mount(router: &mut Router, health: &Arc<Health>, about: About) {
    let mut process = ProcessReader::new(health.vitals().data_dir());
    // Shares of time are taken from the reading before.
    process.read();
    let (health, process) = (Arc::clone(health), RefCell::new(process));
    let admin = Rc::new(Admin { health, about, process });
    let access = || Access::Needs(Permission::OpsRead);

    let shown = Rc::clone(&admin);
    let detailed = handler(move |request: Request| {
        std::future::ready(request.no_query().map(|()| shown.detailed()))
    });
    router.mount(Method::GET, "/health/detailed", access(), detailed);
    let shown = Rc::clone(&admin);
    let checks = handler(move |request: Request| {
        std::future::ready(request.no_query().map(|()| shown.checks()))
    });
    router.mount(Method::GET, "/admin/health/checks", access(), checks);
    let shown = Rc::clone(&admin);
    let check = handler(move |request: Request| {
        std::future::ready(request.no_query().and_then(|()| shown.check(request.param())))
    });
    router.mount(Method::POST, "/admin/health/check/{name}", access(), check);
    let vitals = Arc::clone(admin.health.vitals());
    let shutdown = handler(move |request: Request| {
        std::future::ready(request.no_query().map(|()| {
            vitals.ask_to_stop();
            // Before the watch has heard of it, so that whoever asked sees it at once.
            vitals.enter(Stage::Draining);
            json(StatusCode::ACCEPTED, br#"{"status":"draining"}"#.to_vec())
        }))
    });
    let all = shutdown::handlers(admin.about.drain_timeout);
    let listed = handler(move |request: Request| {
        std::future::ready(request.no_query().map(|()| shown_handlers(&all)))
    });
    router.mount(Method::GET, "/admin/shutdown/handlers", access(), listed);
    let controls = Access::Controls(Permission::AdminShutdown, "node.shutdown");
    router.mount(Method::POST, "/admin/shutdown", controls, shutdown);
    let status = handler(move |request: Request| {
        let admin = Rc::clone(&admin);
        async move {
            request.no_query()?;
            admin.status(&request.core).await
        }
    });
    router.mount(Method::GET, "/admin/status", access(), status);
}

impl Admin {
    fn detailed(&self) -> no_net::route::Response {
        let found = self.health.examine();
        let named: Map<String, Value> = found
            .checks
            .iter()
            .map(|check| (check.name.to_owned(), self.health.detailed(check)))
            .collect();
        let body = json!({
            "status": found.word(),
            "ready": found.ready,
            "checks": named,
            "resources": self.resources(),
        });
        // As `/health` answers, so that either can be probed.
        let status = if found.is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(status, body.to_string().into_bytes())
    }

    fn checks(&self) -> no_net::route::Response {
        let checks = self.health.examine().checks;
        let all: Vec<Value> = checks.iter().map(|check| self.named(check)).collect();
        json(StatusCode::OK, json!({"checks": all}).to_string().into_bytes())
    }

    fn check(&self, name: &str) -> Outcome {
        let checks = self.health.examine().checks;
        let Some(check) = checks.iter().find(|check| check.name == name) else {
            let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
            let detail = format!("there is no such check; there are {}", names.join(", "));
            return Err(Problem::new(Code::NotFound, detail));
        };
        Ok(json(StatusCode::OK, self.named(check).to_string().into_bytes()))
    }

    fn named(&self, check: &Check) -> Value {
        let mut shown = self.health.detailed(check);
        shown["name"] = check.name.into();
        shown
    }

    fn resources(&self) -> Value {
        let info = self.process.borrow_mut().read();
        json!({
            "cpu_ratio": info.cpu_ratio,
            "memory_ratio": info.memory_ratio,
            "disk_ratio": info.disk_ratio,
            "resident_bytes": info.resident_bytes,
            "disk_free_bytes": info.disk_free_bytes,
            "open_files": info.open_fds,
        })
    }

    async fn status(&self, core: &Core) -> Outcome {
        let vitals = self.health.vitals();
        let figures = core.shard_stats().await;
        let alive = vitals.shards();
        let shards: Vec<Value> = alive
            .iter()
            .enumerate()
            .map(|(number, life)| {
                let figures = figures.get(number).and_then(Option::as_deref);
                json!({
                    "shard": number,
                    "is_alive": life.is_alive(),
                    "beat_age_ms": life.beat_age_ms,
                    "is_halted": life.reading.is_halted,
                    "figures": figures.map(shown_figures),
                })
            })
            .collect();
        let About { started_at, partitions, config, pool, .. } = &self.about;
        let stage = match vitals.stage() {
            Stage::Starting => "starting",
            Stage::Ready => "ready",
            Stage::Draining => "draining",
        };
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "stage": stage,
            "started_at": text_of(*started_at),
            "uptime_s": time::wall().0.saturating_sub(started_at.0) / 1_000,
            "partitions": partitions,
            "pool": pool.shown(),
            "agents_held_back": agents::held_back(&core.agents),
            "shards": shards,
            "resources": self.resources(),
            "config": **config,
        });
        Ok(json(StatusCode::OK, body.to_string().into_bytes()))
    }
}

/// The handlers of a stop, in their order.
fn shown_handlers(all: &[Handler]) -> no_net::route::Response {
    let shown = |(place, handler): (usize, &Handler)| {
        json!({
            "name": handler.name,
            "order": place + 1,
            "timeout_ms": u64::try_from(handler.timeout.as_millis()).unwrap_or(u64::MAX),
            "about": handler.about,
        })
    };
    let all: Vec<Value> = all.iter().enumerate().map(shown).collect();
    json(StatusCode::OK, json!({"handlers": all}).to_string().into_bytes())
}

/// A shard's figures: its slots, and its tasks by state.
fn shown_figures(figures: &ShardStats) -> Value {
    let count = |state| figures.agents.values().map(|agent| agent.live_in(state)).sum::<u64>();
    let counts = STATES.into_iter().map(|state| (state, count(state)));
    let tasks: Map<String, Value> = counts
        .filter(|(_, count)| 0 < *count)
        .map(|(state, count)| (state.name().to_owned(), count.into()))
        .collect();
    json!({
        "slots": figures.slots,
        "slots_active": figures.slots_active,
        "live_tasks": figures.live_tasks,
        "tasks": tasks,
        "rings": figures.ring_depth,
    })
}
