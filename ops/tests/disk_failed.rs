//! A disk whose sync fails: the shard acknowledges nothing more, the process drains and leaves with
//! its own exit code, and the next start finds everything that was acknowledged.
//!
//! The failing disk is `e2e::shim`, which also notes each sync that it fails: there may be one.

mod e2e;

use e2e::client::id_of;
use e2e::{Home, Node};
use serde_json::json;

#[test]
fn a_failed_sync_halts_for_good_and_loses_nothing_acknowledged() {
    let home = Home::new(json!({"engine": {"shards": 1}}));
    let (trigger, notes) = (home.path().join("fail"), home.path().join("notes"));
    let mut command = home.serve();
    command.env("LD_PRELOAD", e2e::shim::failing_sync(home.path()));
    command.env("E2E_FAIL_SYNC", &trigger).env("E2E_SYNC_NOTES", &notes);
    let mut node = Node::start(command, home.data());
    let task = json!({"agent": "echo", "input": "kept"});
    let kept: Vec<String> = (0..20).map(|_| node.submit(&task)).collect();
    for id in &kept {
        node.succeeded(id);
    }

    std::fs::write(&trigger, "").expect("the trigger is set");
    let post = node.try_send("POST", "/v1/tasks", &[], Some(task.to_string().as_bytes()));
    // Refused, or cut off by the end of the process; never acknowledged.
    if let Ok(reply) = post {
        reply.problem(503, "shard_halted");
    }
    assert_eq!(node.exited().code(), Some(74), "{}", node.log().text());
    let failed = std::fs::read(&notes).expect("a sync was tried").len();
    assert_eq!(failed, 1, "a failed sync was followed by another");

    std::fs::remove_file(&trigger).expect("the disk is well again");
    let node = home.start();
    for id in &kept {
        assert_eq!(node.task(id)["output"], "kept");
    }
    let after = id_of(&node.post("/v1/tasks?wait_ms=10000", &task).ok(200));
    assert!(!kept.contains(&after));
    node.stop();
}
