//! The pool of a running node grows while work waits for a slot.

mod e2e;

use e2e::{Act, Home, Server};
use serde_json::json;

#[test]
fn a_pool_grows_while_work_waits_and_says_why() {
    let server = Server::start(|_, _| Act::Hold(json!("done")));
    let home = Home::new(json!({
        "engine": {"shards": 2},
        "security": {"outbound": {"allow": [server.address()]}},
        "performance": {"autoscaling": {"enabled": true, "minAgents": 2, "maxAgents": 5}},
        "agents": {"slow": {"kind": "http", "url": server.url("/")}},
    }));
    let node = home.start();
    let status = node.get("/admin/status").ok(200);
    assert_eq!(status["pool"]["slots"], 2, "{status}");
    let ids: Vec<_> = (0..40).map(|n| node.submit(&json!({"agent": "slow", "input": n}))).collect();
    // More than two run at once only once the controller has grown the pool.
    server.wait_for(5);
    let status = node.get("/admin/status").ok(200);
    let pool = &status["pool"];
    assert_eq!((&pool["slots"], &pool["slots_max"]), (&json!(5), &json!(5)), "{status}");
    let decision = &pool["decisions"][0];
    assert_eq!((&decision["from"], &decision["to"]), (&json!(2), &json!(5)), "{status}");
    assert_eq!(decision["reason"], "busy");
    let slots = status["shards"].as_array().expect("a list").iter();
    let slots: Vec<_> = slots.map(|shard| shard["figures"]["slots"].clone()).collect();
    assert_eq!(slots, [json!(3), json!(2)], "shared out evenly, the remainder too");
    let log = node.log().text();
    assert_eq!(log.matches("\"target\":\"pool\"").count(), 1, "one line for one decision: {log}");
    assert_eq!(server.seen().len(), 5, "not past the bound");
    server.release(ids.len());
    for id in &ids {
        node.succeeded(id);
    }
    node.stop();
}
