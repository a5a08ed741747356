//! A disk that fills up: new work is refused with 507, what was acknowledged stays, and with room
//! the node goes on.
//!
//! The disk is a small tmpfs in a mount namespace of its own, where this test runs itself again.
//! Where the machine allows no namespaces the test says so and shows nothing; in CI that is a
//! failure.

mod e2e;

use e2e::client::{JSON, id_of};
use e2e::{Home, Node, PATIENCE};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const TEST: &str = "a_full_disk_refuses_new_work_and_goes_on_once_there_is_room";
/// Names the mounted folder to the test inside.
const INSIDE: &str = "E2E_SMALL_DISK";
const MOUNT: &str = "mount -t tmpfs -o size=128m tmpfs \"$0\" && exec \"$@\"";

#[test]
fn a_full_disk_refuses_new_work_and_goes_on_once_there_is_room() {
    if let Some(disk) = std::env::var_os(INSIDE) {
        return fill_and_free(&PathBuf::from(disk));
    }
    let disk = tempfile::TempDir::with_prefix("no-disk-").expect("a folder");
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT]).arg(disk.path());
        command.arg(program).args(args).env(INSIDE, disk.path());
        command.output()
    };
    let can = run("true", &[]);
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        let text = format!("SKIPPED: no small disk can be mounted here: {can:?}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
        eprintln!("{text}");
        return;
    }
    let this = std::env::current_exe().expect("this test");
    let output = run(this.to_str().expect("a path"), &[TEST, "--exact", "--nocapture"]);
    let output = output.expect("it ran just now");
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed"), "{out}\n{err}");
}

/// Fills the disk twice: into the reserve, and to the last byte.
fn fill_and_free(disk: &Path) {
    let config = json!({"engine": {"diskReserveBytes": 48 << 20}});
    let home = Home::with_data(config.clone(), disk.join("data"));
    home.configure(config);
    let mut node = home.start();
    let mut notes = Notes::default();
    submit(&node, &mut notes, Until::Count(20));
    for left in [40 << 20, 0] {
        let filler = fill(disk, left);
        submit(&node, &mut notes, Until::Full);
        // What is there already can be looked at meanwhile.
        assert_eq!(node.task(&notes.acknowledged[0].1)["state"], "succeeded");
        node.with_token(None).get("/health/live").expect(200);
        std::fs::remove_file(filler).expect("it is ours");
        submit(&node, &mut notes, Until::Count(20));
        check(&node, &notes);
        node.kill9();
        node = home.start();
        check(&node, &notes);
    }
    node.stop();
}

/// What is known outside of the node.
#[derive(Default)]
struct Notes {
    submitted: u64,
    /// Number and id of each task that was acknowledged.
    acknowledged: Vec<(u64, String)>,
}

enum Until {
    /// So many more are acknowledged.
    Count(usize),
    /// One is refused because the disk is full.
    Full,
}

/// Submits until then; while there is no room yet, or room still, it tries again.
///
/// What was in a batch that found the disk full is neither taken nor refused before there is room,
/// so its answer is not waited for long.
fn submit(node: &Node, notes: &mut Notes, until: Until) {
    let client = node.patient(Duration::from_secs(1));
    let deadline = Instant::now() + PATIENCE;
    let mut count = 0;
    loop {
        assert!(Instant::now() < deadline, "in vain; {count} were acknowledged");
        let number = notes.submitted;
        notes.submitted += 1;
        let input = json!({"number": number, "text": "x".repeat(4_096)});
        let body = json!({"agent": "echo", "input": input}).to_string();
        let reply = client.try_send("POST", "/v1/tasks", &[JSON], Some(body.as_bytes()));
        let Ok(reply) = reply else { continue };
        match reply.status {
            200 | 202 => {
                notes.acknowledged.push((number, id_of(&reply.body)));
                count += 1;
                if matches!(until, Until::Count(wanted) if wanted <= count) {
                    return;
                }
            }
            507 => {
                assert!(!reply.header("retry-after").is_empty());
                reply.problem(507, "disk_full");
                if matches!(until, Until::Full) {
                    return;
                }
            }
            _ => panic!("{} {}", reply.status, reply.text),
        }
    }
}

/// Everything that was acknowledged is there and ends.
fn check(node: &Node, notes: &Notes) {
    for (number, id) in &notes.acknowledged {
        let task = node.succeeded(id);
        assert_eq!(task["output"]["number"], *number);
    }
    let listed = node.all("/v1/tasks?limit=500");
    let numbers: BTreeSet<u64> =
        listed.iter().map(|task| task["input"]["number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers.len(), listed.len(), "none twice");
    assert!(notes.acknowledged.iter().all(|(number, _)| numbers.contains(number)));
}

/// Writes a file until no more than `left` bytes are free.
fn fill(disk: &Path, left: u64) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).expect("a file");
    let free = || {
        let stat = rustix::fs::statvfs(disk).expect("a disk");
        stat.f_bavail * stat.f_frsize
    };
    while left < free() {
        let len = (free() - left).min(1 << 20);
        let piece = vec![1; usize::try_from(len).expect("small")];
        if file.write_all(&piece).is_err() {
            break;
        }
    }
    path
}
