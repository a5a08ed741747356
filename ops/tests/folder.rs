//! The data folder, start and stop: what keeps a node from starting, with its exit code and what is
//! to be done, and how a node ends.

mod e2e;

use e2e::client::id_of;
use e2e::folder::refused;
use e2e::{Act, Home, Node, Server, no};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Instant;

fn home() -> Home {
    Home::new(json!({}))
}

/// Checks that the node does not start, says why in these words, and names the folder.
fn check_refused(home: &Home, code: i32, words: &[&str]) {
    let (exit, said) = home.refused();
    assert_eq!(exit, code, "{said}");
    let folder = home.data().to_str().expect("a path");
    for word in words.iter().chain([&folder]) {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

/// A home whose store has one ended task; its id.
fn used() -> (Home, String) {
    let home = home();
    let node = home.start();
    let id = node.submit(&json!({"agent": "echo", "input": "kept"}));
    node.succeeded(&id);
    node.stop();
    (home, id)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_of_somebody_else_is_refused_and_not_touched() {
    let home = home();
    std::fs::create_dir(home.data()).expect("a folder");
    std::fs::write(home.data().join("letters.txt"), "dear aunt").expect("a file");
    check_refused(&home, 4, &["no nO store", "name an empty or a new folder"]);
    assert_eq!(names(home.data()), ["letters.txt"]);
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    let home = home();
    std::fs::write(home.data(), "a file").expect("a file");
    check_refused(&home, 4, &[]);
    assert_eq!(std::fs::read(home.data()).expect("still there"), b"a file");
}

#[test]
fn a_folder_that_another_node_has_is_refused_and_that_node_goes_on() {
    let home = home();
    let node = home.start();
    check_refused(&home, 4, &["in use by another nO", "stop it first"]);
    let id = node.submit(&json!({"agent": "echo", "input": 1}));
    node.succeeded(&id);
    node.kill9();
    // A lock goes with its process.
    let node = home.start();
    node.succeeded(&id);
    node.stop();
}

#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    let (home, id) = used();
    let is_root = rustix::process::geteuid().is_root();
    let mut command = home.serve();
    if is_root {
        // Root may write everywhere, so somebody else tries, with a copy of the binary in reach.
        let copy = home.path().join("no");
        std::fs::copy(env!("CARGO_BIN_EXE_no"), &copy).expect("a copy");
        set_mode(home.path(), 0o755);
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = std::process::Command::new(copy);
        command.args(args).current_dir(home.path()).uid(65_534).gid(65_534);
        for name in names(home.data()) {
            set_mode(&home.data().join(name), 0o644);
        }
    } else {
        set_mode(home.data(), 0o555);
        for name in names(home.data()) {
            set_mode(&home.data().join(name), 0o444);
        }
    }
    let (exit, said) = refused(command);
    set_mode(home.data(), 0o755);
    for name in names(home.data()) {
        set_mode(&home.data().join(name), 0o600);
    }
    assert_eq!(exit, 4, "{said}");
    for word in [home.data().to_str().expect("a path"), "cannot be written", "its rights"] {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    let node = home.start();
    assert_eq!(node.task(&id)["output"], "kept");
    node.stop();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let (home, _) = used();
    let path = home.data().join("no.json");
    let marker = std::fs::read_to_string(&path).expect("a marker");
    let mut newer: Value = serde_json::from_str(&marker).expect("JSON");
    newer["schema"] = json!(newer["schema"].as_u64().expect("a number") + 1);
    newer["colour"] = json!("unknown here");
    std::fs::write(&path, newer.to_string()).expect("written");
    check_refused(&home, 4, &["schema version 4", "run the newer nO"]);
    std::fs::write(&path, marker).expect("written");
    home.start().stop();
}

#[test]
fn a_damaged_file_is_refused_by_name() {
    let (home, id) = used();
    let file = |name: &str| home.data().join(name);
    let shards: Vec<String> =
        names(home.data()).into_iter().filter(|name| name.ends_with(".db")).collect();
    assert_eq!(shards, ["shard-000.db", "shard-001.db"]);
    let sound = std::fs::read(file("shard-000.db")).expect("a store");
    let mut scribbled = sound.clone();
    scribbled[..16].copy_from_slice(b"not a database!!");
    let cut = &sound[..sound.len() / 2 + 100];
    for broken in [&scribbled[..], cut, b"", b"short"] {
        std::fs::write(file("shard-000.db"), broken).expect("written");
        check_refused(&home, 4, &["shard-000.db", "damaged", "no backup restore"]);
    }
    std::fs::remove_file(file("shard-000.db")).expect("removed");
    check_refused(&home, 4, &["shard-000.db", "missing", "no backup restore"]);
    std::fs::write(file("shard-000.db"), &sound).expect("written");
    let marker = std::fs::read(file("no.json")).expect("a marker");
    std::fs::write(file("no.json"), "{").expect("written");
    check_refused(&home, 4, &["no.json", "damaged"]);
    std::fs::write(file("no.json"), marker).expect("written");
    let node = home.start();
    assert_eq!(node.task(&id)["output"], "kept");
    node.stop();
}

#[test]
fn the_number_of_partitions_is_fixed_when_a_store_is_made() {
    let (home, _) = used();
    home.configure(json!({"engine": {"partitions": 32}}));
    check_refused(&home, 4, &["64 partitions", "set 64"]);
}

#[test]
fn a_port_in_use_a_bad_configuration_and_wrong_usage_have_their_codes() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut command = no();
    command.current_dir(home.path()).args(["serve", "--port", &port]);
    command.arg("--data-dir").arg(home.data());
    let (exit, said) = refused(command);
    assert_eq!(exit, 5, "{said}");
    assert!(said.contains(&port) && said.contains("in use"), "{said}");

    std::fs::write(home.config(), "{\n  \"service\": {\n    \"prot\": 1\n  }\n}").expect("written");
    let (exit, said) = home.refused();
    assert_eq!(exit, 3, "{said}");
    for word in ["service.prot", "service.port", "test.json", "3"] {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    std::fs::write(home.config(), "{\"service\": {\"port\": \"x\"}}").expect("written");
    let (exit, said) = home.refused();
    assert!(exit == 3 && said.contains("service.port"), "{exit} {said}");
    std::fs::write(home.config(), "{").expect("written");
    assert_eq!(home.refused().0, 3);
    std::fs::remove_file(home.config()).expect("removed");
    assert_eq!(home.refused().0, 3);

    for args in [&["srve"][..], &["serve", "--prot", "1"], &["serve", "--port", "x"], &[]] {
        let mut command = no();
        command.current_dir(home.path()).args(args);
        assert_eq!(refused(command).0, 2, "{args:?}");
    }
    let mut open = home.serve();
    open.args(["--host", "0.0.0.0"]);
    assert_eq!(refused(open).0, 2, "an option twice");
    home.configure(json!({}));
    let mut open = no();
    open.current_dir(home.path()).args(["serve", "--host", "0.0.0.0", "--port", "0"]);
    open.arg("--data-dir").arg(home.data());
    let (exit, said) = refused(open);
    assert!(exit == 3 && said.contains("loopback"), "{exit} {said}");
}

/// A server whose answers are held, and a home with agents that call it.
fn held() -> (Server, Home) {
    let server = Server::start(|_, _| Act::Hold(json!("late")));
    let tool = json!({
        "kind": "http", "name": "search", "url": server.url("/"), "effect": "idempotent"
    });
    let script = json!([{"tool_calls": [{"name": "search"}]}, {"text": "found"}]);
    let home = Home::new(json!({
        "service": {"drainTimeout": "20s"},
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {"script": {"provider": "scripted", "script": script}},
        "agents": {
            "post": {"kind": "http", "url": server.url("/")},
            "loop": {"kind": "model", "model": "script", "tools": [tool]}
        }
    }));
    (server, home)
}

/// Waits until the node says that it drains.
fn draining(node: &Node) {
    // The net core's own word: from then on it takes nothing new.
    let is_it = |line: &str| line.contains("\"intake\":\"Draining\"").then_some(());
    node.log().wait(Instant::now() + e2e::PATIENCE, is_it).expect("it says so");
}

#[test]
fn a_drain_lets_running_work_end_and_takes_no_more() {
    let (server, home) = held();
    let mut node = home.start();
    let running = node.submit(&json!({"agent": "post", "input": 1}));
    let looping = node.submit(&json!({"agent": "loop", "input": "?"}));
    let parked = node.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    node.after_event(&parked, "waited");
    server.wait_for(2);
    let waiting = {
        let client = node.patient(e2e::PATIENCE);
        // Its connection is open before the drain begins.
        client.get("/health/live").expect(200);
        let path = format!("/v1/tasks/{running}?wait_ms=20000");
        std::thread::spawn(move || client.get(&path).ok(200))
    };
    node.get("/health/ready").expect(200);
    node.terminate();
    draining(&node);
    // On connections that are open, the node says how things are and takes nothing new.
    node.get("/health/ready").expect(503);
    node.get("/health/live").expect(200);
    let late = node.post("/v1/tasks", &json!({"agent": "echo", "input": 1}));
    assert!(!late.header("retry-after").is_empty());
    late.problem(503, "draining");
    server.release(2);
    assert_eq!(waiting.join().expect("it is answered")["output"], "late");
    assert_eq!(node.exited().code(), Some(0));
    drop(node);
    assert_eq!(server.count(), 2);
    let node = home.start();
    let task = node.task(&running);
    assert_eq!((&task["state"], &task["output"]), (&json!("succeeded"), &json!("late")), "{task}");
    assert_eq!(node.succeeded(&looping)["output"], "found");
    assert_eq!(node.task(&parked)["state"], "waiting");
    assert_eq!(server.count(), 2, "what ended while draining is not called again");
    node.stop();
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let (server, home) = held();
    let mut node = home.start();
    let running = node.submit(&json!({"agent": "post", "input": 1}));
    server.wait_for(1);
    node.terminate();
    draining(&node);
    let begun = Instant::now();
    node.terminate();
    node.exited();
    assert!(begun.elapsed().as_secs() < 10, "it did not wait for drainTimeout");
    drop(node);
    server.wait_closed(0);
    server.release(1);
    let node = home.start();
    assert_eq!(node.succeeded(&running)["output"], "late");
    assert_eq!(server.count_of(&format!("{running}-0")), 2);
    node.stop();
}

#[test]
fn another_number_of_shards_keeps_every_task_and_key() {
    let home = Home::new(json!({"engine": {"shards": 1}}));
    let mut ended: Vec<Value> = Vec::new();
    let mut parked: Vec<String> = Vec::new();
    for (round, shards) in [1, 2, 3, 1].into_iter().enumerate() {
        home.configure(json!({"engine": {"shards": shards}}));
        let node = home.start();
        for task in &ended {
            assert_eq!(&node.task(&id_of(task)), task);
        }
        for id in &parked {
            assert_eq!(node.task(id)["state"], "waiting");
        }
        for key in 0..round * 10 {
            let body = json!({"agent": "echo", "input": key});
            let again = node.submit_keyed(&format!("key {key}"), &body).expect(200);
            assert!(ended.contains(&again.body), "{}", again.text);
        }
        for key in round * 10..(round + 1) * 10 {
            let body = json!({"agent": "echo", "input": key});
            let id = id_of(&node.submit_keyed(&format!("key {key}"), &body).body);
            ended.push(node.succeeded(&id));
        }
        let id = node.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
        node.after_event(&id, "waited");
        parked.push(id);
        assert_eq!(node.all("/v1/tasks?limit=7").len(), ended.len() + parked.len());
        node.stop();
    }
    let shards = names(home.data()).into_iter().filter(|name| name.ends_with(".db")).count();
    assert_eq!(shards, 1);
}
