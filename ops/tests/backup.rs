//! Backups: made under load, refused when damaged, brought back whole or not at all.

mod common;
mod e2e;

use common::no;
use e2e::client::id_of;
use e2e::{Client, Home, Node, PATIENCE};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

/// Threads that submit.
const CLIENTS: u64 = 3;

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

/// What was acknowledged so far: the task of each key.
#[derive(Default)]
struct Notes {
    keys: Mutex<BTreeMap<String, String>>,
    more: Condvar,
}

impl Notes {
    fn wait_for(&self, count: usize) -> BTreeMap<String, String> {
        let until = Instant::now() + PATIENCE;
        let mut keys = self.keys.lock().expect("no client panics");
        while keys.len() < count {
            let left = until.checked_duration_since(Instant::now()).expect("it is acknowledged");
            keys = self.more.wait_timeout(keys, left).expect("no client panics").0;
        }
        keys.clone()
    }
}

fn body(n: u64) -> Value {
    // Some large payloads, some timers, and what ends at once.
    match n % 10 {
        0 => json!({"agent": "echo", "input": format!("{n}{}", "x".repeat(20_000))}),
        1..3 => json!({"agent": "sleep", "input": {"ms": 300}}),
        _ => json!({"agent": "echo", "input": n}),
    }
}

/// Submits until told to stop.
fn load(client: &Client, numbers: &AtomicU64, notes: &Notes, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let n = numbers.fetch_add(1, Ordering::Relaxed);
        let key = format!("key-{n}");
        let task = client.submit_keyed(&key, &body(n)).ok(202);
        notes.keys.lock().expect("no client panics").insert(key, id_of(&task));
        notes.more.notify_all();
    }
}

fn leased(client: &Client) -> Value {
    let ask = json!({"agents": ["work"], "max_tasks": 1, "wait_ms": 20_000, "lease_ms": 600_000});
    client.post("/v1/worker/lease", &ask).ok(200)["leases"][0].take()
}

/// Sees that a restored node has all that was acknowledged before its backup, and goes on with it.
fn check_restored(node: &Node, keys: &BTreeMap<String, String>, held: &Value) {
    for (key, id) in keys {
        node.succeeded(id);
        let n = key.trim_start_matches("key-").parse().expect("a number");
        let again = node.submit_keyed(key, &body(n));
        assert_eq!(&id_of(&again.body), id, "{key} makes no second task: {}", again.text);
    }
    let done = |lease: &Value| json!({"lease": lease["lease"], "output": 1});
    let complete = |lease: &Value| node.post("/v1/worker/complete", &done(lease));
    complete(held).problem(409, "lease_lost");
    let fresh = leased(node);
    assert_eq!((&fresh["task"], &fresh["attempt"]), (&held["task"], &json!(2)));
    complete(held).problem(409, "lease_lost");
    complete(&fresh).expect(200);
    node.succeeded(fresh["task"].as_str().expect("an id"));
}

#[test]
fn all_that_was_acknowledged_before_a_backup_under_load_comes_back() {
    let home = Home::new(json!({"agents": {"work": {"kind": "worker"}}}));
    let node = home.start();
    let worked = node.submit(&json!({"agent": "work", "input": 1}));
    let held = leased(&node);
    assert_eq!(held["task"], worked);
    let file = home.path().join("no.backup");
    let create = ["backup", "create", "--with-key", "--json", "--output", text(&file)];
    let (numbers, notes, is_over) = (AtomicU64::new(0), Notes::default(), AtomicBool::new(false));
    let (before, made) = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| load(&node, &numbers, &notes, &is_over));
        }
        let before = notes.wait_for(600);
        let made = home.run(&create);
        let after = notes.wait_for(before.len() + 1).len();
        is_over.store(true, Ordering::Relaxed);
        assert!(before.len() < after, "it went on meanwhile");
        (before, made)
    });
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).expect("json");
    let counted = made["contents"]["tasks"].as_object().expect("counts").values();
    let counted: u64 = counted.filter_map(Value::as_u64).sum();
    assert!(before.len() as u64 <= counted, "{made}");
    assert_eq!((&made["manifest"]["shards"], &made["holds_key"]), (&json!(2), &json!(true)));
    let token = node.token().to_owned();
    node.kill9();
    fs::remove_dir_all(home.data()).expect("destroyed");

    let verified = home.run(&["backup", "verify", text(&file), "--json"]);
    assert!(verified.status.success(), "{verified:?}");
    let verified: Value = serde_json::from_slice(&verified.stdout).expect("json");
    assert_eq!(verified["manifest"], made["manifest"]);
    let restored = home.run(&["backup", "restore", text(&file)]);
    assert!(restored.status.success(), "{restored:?}");
    assert!(!home.data().join("admin.token").exists());
    let node = home.start();
    // The key came back, so what was signed with it is still good.
    assert_eq!(node.with_token(Some(&token)).get("/v1/tasks").status, 200);
    check_restored(&node, &before, &held);
    node.stop();
    let audit = home.run(&["audit", "verify"]);
    assert!(audit.status.success(), "{audit:?}");
    let lines = fs::read_dir(home.data().join("audit")).expect("a folder").flatten();
    let lines: String = lines.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    assert!(lines.contains("backup.create") && lines.contains("backup.restore"), "{lines}");
}

/// A stopped node's data folder with a few tasks, and a backup of it.
fn backed_up() -> (Home, PathBuf) {
    let home = Home::new(json!({}));
    let node = home.start();
    for n in 0..40 {
        node.submit(&body(n));
    }
    node.kill9();
    let file = home.path().join("no.backup");
    let said = create(&home, &file, &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    (home, file)
}

fn create(home: &Home, file: &Path, more: &[&str]) -> common::Said {
    let args = ["backup", "create", "--data-dir", text(home.data()), "--output", text(file)];
    no(&[&args, more].concat())
}

fn restore(file: &Path, to: &Path) -> common::Said {
    no(&["backup", "restore", text(file), "--data-dir", text(to)])
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_damaged_backup_is_refused_wherever_it_is_damaged_and_nothing_is_written() {
    let (home, file) = backed_up();
    let whole = fs::read(&file).expect("a file");
    let mode = fs::metadata(&file).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it holds what tasks hold");
    let to = home.path().join("restored");
    let damaged = home.path().join("damaged");
    let check = |bytes: &[u8], what: &str| {
        fs::write(&damaged, bytes).expect("written");
        let verified = no(&["backup", "verify", text(&damaged)]);
        assert_eq!(verified.code, 1, "{what}: {}", verified.out);
        assert!(verified.err.contains("damaged"), "{what}: {}", verified.err);
        assert_eq!(restore(&damaged, &to).code, 1, "{what}");
        assert!(!to.exists(), "{what}");
    };
    let len = whole.len();
    let spread = (0..200).map(|i| i * (len - 1) / 199);
    let mut flipped = whole.clone();
    for at in (0..32).chain(spread).chain(len - 64..len) {
        flipped[at] ^= 1 << (at % 8);
        check(&flipped, &format!("byte {at} of {len} flipped"));
        flipped[at] = whole[at];
    }
    for cut in [0, 1, 55, 56, len / 3, len - 57, len - 1] {
        check(&whole[..cut], &format!("cut after {cut} of {len}"));
    }
    check(&[&whole[..], b"x"].concat(), "longer");
    check(&[&whole[..], &whole[..]].concat(), "twice");
    // And it is not the checks that are broken.
    assert_eq!(restore(&file, &to).code, 0);
}

#[test]
fn nothing_is_written_over() {
    let (home, file) = backed_up();
    let said = restore(&file, home.data());
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("holds a store already"), "{}", said.err);
    let other = home.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("letters.txt"), "dear aunt").expect("a file");
    assert_eq!(restore(&file, &other).code, 4);
    assert_eq!(names(&other), ["letters.txt"]);

    let before = fs::read(&file).expect("a file");
    let said = create(&home, &file, &[]);
    assert_eq!((said.code, fs::read(&file).expect("a file")), (2, before));
    assert!(said.err.contains("--force"), "{}", said.err);
    assert_eq!(create(&home, &file, &["--force"]).code, 0);
    assert_eq!(create(&home, &home.data().join("inside"), &[]).code, 2);
    assert_eq!(create(&home, &home.path().join("no/such/folder"), &[]).code, 2);
    let empty = Home::new(json!({}));
    let said = create(&empty, &empty.path().join("f"), &[]);
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("holds no nO store"), "{}", said.err);
    assert_eq!((names(empty.data()), empty.path().join("f.new").exists()), (vec![], false));
}

#[test]
fn without_the_key_a_restored_node_makes_its_own() {
    let (home, file) = backed_up();
    let token = fs::read_to_string(home.data().join("admin.token")).expect("a token");
    fs::remove_dir_all(home.data()).expect("destroyed");
    let said = restore(&file, home.data());
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("local tokens"), "{}", said.err);
    let listed = no(&["backup", "verify", text(&file)]);
    assert!(listed.out.contains("STATE") && listed.out.contains("40"), "{}", listed.out);
    let node = home.start();
    let old = node.with_token(Some(token.trim()));
    old.get("/v1/tasks").problem(401, "unauthenticated");
    assert_eq!(node.all("/v1/tasks?limit=100").len(), 40);
    node.stop();
}

/// Starts a command and kills it as soon as `is_so`; whether it was still running then.
fn killed_when(home: &Home, args: &[&str], is_so: impl Fn() -> bool) -> bool {
    let mut command = home.command(args);
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let until = Instant::now() + PATIENCE;
    while !is_so() && child.try_wait().expect("a child of ours").is_none() {
        assert!(Instant::now() < until, "it neither begins nor ends");
        std::thread::yield_now();
    }
    let is_running = child.try_wait().expect("a child of ours").is_none();
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    is_running
}

#[test]
fn killed_at_any_point_there_is_a_whole_backup_or_none_and_a_whole_store_or_none() {
    let (home, file) = backed_up();
    let other = home.path().join("other.backup");
    let (new, shard) =
        (home.path().join("other.backup.new"), home.path().join("other.backup.new-shard"));
    let args = ["backup", "create", "--output", text(&other)];
    let mut kills = 0;
    for moment in [&new, &shard] {
        kills += u32::from(killed_when(&home, &args, || moment.exists()));
        if other.exists() {
            assert_eq!(no(&["backup", "verify", text(&other)]).code, 0);
            fs::remove_file(&other).expect("removed");
        }
    }
    assert_eq!(create(&home, &other, &[]).code, 0, "what was left is in nobody's way");
    assert!(!new.exists() && !shard.exists(), "{:?}", names(home.path()));

    let to = home.path().join("restored");
    let args = ["backup", "restore", text(&file), "--data-dir", text(&to)];
    let gathered = to.join("restore.new");
    let moments: [&dyn Fn() -> bool; 3] =
        [&|| gathered.exists(), &|| gathered.join("shard-001.db").exists(), &|| {
            to.join("shard-000.db").exists()
        }];
    for moment in moments {
        kills += u32::from(killed_when(&home, &args, moment));
        if to.join("no.json").exists() {
            fs::remove_dir_all(&to).expect("removed");
            continue;
        }
        if gathered.exists() {
            let serve = no(&["serve", "--port", "0", "--data-dir", text(&to)]);
            assert_eq!(serve.code, 4, "{}", serve.err);
            assert!(serve.err.contains("a restore that was broken off"), "{}", serve.err);
        }
    }
    assert!(0 < kills, "none came in time");
    let said = restore(&file, &to);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(!gathered.exists());
    fs::remove_dir_all(home.data()).expect("removed");
    fs::rename(&to, home.data()).expect("moved");
    let node = home.start();
    assert_eq!(node.all("/v1/tasks?limit=100").len(), 40);
    node.stop();
}
