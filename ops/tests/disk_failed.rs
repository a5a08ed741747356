//! A disk whose sync fails: the shard acknowledges nothing more, the process drains and leaves with
//! its own exit code, and the next start finds everything that was acknowledged.
//!
//! The failing disk is a shared object of a few lines of C, loaded before the C library: it fails
//! every sync while a trigger file is there. A failed sync must never be tried again (Rebello et
//! al., "Can Applications Recover from fsync Failures?", 2020), so it also notes each call.

mod e2e;

use e2e::client::id_of;
use e2e::{Home, Node};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(void) {
    const char *trigger = getenv("E2E_FAIL_SYNC");
    if (!trigger || access(trigger, F_OK)) return 0;
    int note = open(getenv("E2E_SYNC_NOTES"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(note, "x", 1) != 1) abort();
    close(note);
    errno = EIO;
    return 1;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fail() ? -1 : real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fail() ? -1 : real(fd);
}
"#;

fn shim(dir: &Path) -> PathBuf {
    let (source, object) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&source, SHIM).expect("a source file");
    let mut cc = Command::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&object).arg(&source).arg("-ldl").status();
    assert!(built.expect("a C compiler").success(), "the shim is built");
    object
}

#[test]
fn a_failed_sync_halts_for_good_and_loses_nothing_acknowledged() {
    let home = Home::new(json!({"engine": {"shards": 1}}));
    let (trigger, notes) = (home.path().join("fail"), home.path().join("notes"));
    let mut command = home.serve();
    command.env("LD_PRELOAD", shim(home.path()));
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
