//! All routes of a node, with who may call them: one that is new must be looked at here.

use super::super::links::{self, Door};
use super::*;
use crate::cores::SystemClock;
use crate::vitals::{Bounds, Vitals};
use expect_test::expect;
use no_engine::trace::Sampling;
use no_net::NetOrders;
use no_net::route::Access;
use no_storage::{OpenOptions, Store};
use std::collections::BTreeMap;

fn plan(data_dir: &std::path::Path, is_metrics_open: bool) -> Plan {
    let store = Store::open(data_dir, &OpenOptions::default()).expect("a store");
    let bounds = Bounds { disk_reserve_bytes: 0, memory_max_bytes: u64::MAX };
    let vitals = Vitals::new(Vec::new(), SystemClock::start(), data_dir, bounds);
    let out = OutConfig::new::<&str>(&[], &BTreeMap::new(), &|_| None).expect("a configuration");
    Plan {
        registry: Arc::new(Registry::new([].into(), Vec::new())),
        out,
        keys: None,
        roles: Arc::default(),
        issuer: None,
        browsers: None,
        cluster: None,
        redis: None,
        database: DatabaseHealth::default(),
        health: Arc::new(Health::new(Arc::new(vitals), health::Others::default())),
        about: About {
            started_at: no_engine::time::Millis(0),
            partitions: 64,
            drain_timeout: std::time::Duration::from_secs(1),
            config: Arc::default(),
            pool: Arc::new(crate::pool::PoolView::new(1, None)),
        },
        stats: vec![Arc::default()],
        ordered: NetOrders::new().1,
        reader_bell: Door::new().expect("an eventfd").bell,
        partitions: 64,
        connections_max: 10,
        tally: Arc::default(),
        limits: Arc::default(),
        audit: None,
        tls: None,
        needs_certificates: false,
        store: store.watch(),
        spans: Arc::default(),
        is_prometheus_on: true,
        is_metrics_open,
        seed: 1,
        extra: Extra::Demo,
    }
}

/// One line a route: method, pattern, permission or `open`, verb of the audit log.
fn routes(is_metrics_open: bool) -> String {
    let data = tempfile::tempdir().expect("a folder");
    let plan = plan(data.path(), is_metrics_open);
    let (_shards, mut nets) = links::make(1, 1).expect("rings");
    let ends = nets.pop().expect("a net core");
    let (reads, _reader) = reads::link(plan.reader_bell.clone(), ends.door.bell.clone());
    let mut core = NetCore::new(NetCoreParts {
        net: NetId(0),
        shards: ends.shards,
        partitions: plan.partitions,
        reads,
        sleeper: ends.door.sleeper,
        bell: ends.door.eventfd.try_clone().expect("a clone"),
        agents: Arc::clone(&plan.registry),
        stats: Arc::default(),
        ordered: plan.ordered.clone(),
        verify: None,
        provider: None,
        browsers: None,
        cluster: None,
        redis: None,
        count_proof: Box::new(|_| {}),
        gate: Gate::default(),
        sampling: Sampling::ALL,
        seed: 1,
    });
    mount(&plan, core.router());
    let mut lines: Vec<String> = Vec::new();
    for (method, pattern, access) in core.router().routes() {
        let permission = access.permission().map_or("open", no_auth::Permission::name);
        let verb = match access {
            Access::Controls(_, verb) => format!(" {verb}"),
            _ => String::new(),
        };
        lines.push(format!("{method} {pattern} {permission}{verb}\n"));
    }
    lines.concat()
}

#[test]
fn every_route_is_open_or_needs_what_is_written_here() {
    expect![[r#"
        POST /v1/tasks tasks:submit
        GET /v1/tasks tasks:read
        POST /v1/tasks/batch tasks:submit
        GET /v1/tasks/{id} tasks:read
        GET /v1/tasks/{id}/steps tasks:read
        GET /v1/tasks/{id}/events tasks:read
        POST /v1/tasks/{id}/cancel tasks:control task.cancel
        POST /v1/tasks/{id}/retry tasks:control task.retry
        POST /v1/tasks/{id}/resolve tasks:control task.resolve
        POST /v1/tasks/{id}/feedback tasks:control task.feedback
        POST /v1/dead-letters/redrive tasks:control dead_letters.redrive
        GET /v1/agents agents:read
        GET /v1/agents/{name} agents:read
        PUT /v1/agents/{name} agents:write agent.put
        DELETE /v1/agents/{name} agents:write agent.delete
        POST /v1/agents/{name}/pause agents:write agent.pause
        POST /v1/agents/{name}/resume agents:write agent.resume
        POST /v1/worker/lease worker:lease
        POST /v1/worker/heartbeat worker:lease
        POST /v1/worker/step worker:lease
        POST /v1/worker/complete worker:lease
        POST /v1/worker/fail worker:lease
        GET /auth/login open
        POST /auth/login open
        GET /auth/callback open
        POST /auth/logout open
        GET /auth/me open
        GET /health open
        GET /health/live open
        GET /health/ready open
        GET /health/detailed ops:read
        GET /admin/health/checks ops:read
        POST /admin/health/check/{name} ops:read
        GET /admin/shutdown/handlers ops:read
        POST /admin/shutdown admin:shutdown node.shutdown
        GET /admin/status ops:read
        GET /admin/live ops:read
        GET /console/ open
        GET /console/{file} open
        GET /console open
        GET /metrics open
        GET /demo/tides open
    "#]]
    .assert_eq(&routes(true));
    let closed = routes(false);
    assert!(closed.contains("GET /metrics ops:read\n"), "{closed}");
    let open = closed.lines().filter(|line| line.ends_with(" open"));
    let known = ["/health", "/auth/", "/console"];
    let is_other = |line: &&str| !known.iter().any(|part| line.contains(part));
    let open: Vec<_> = open.filter(is_other).collect();
    assert_eq!(open, ["GET /demo/tides open"]);
}
