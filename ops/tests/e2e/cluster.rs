//! Three nodes on one database, and a load of keyed tasks that goes to any of them.

use super::client::JSON;
use super::cut::Way;
use super::postgres::Postgres;
use super::{Client, Dice, Home, Node, PATIENCE};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Short, so that a dead node is soon noticed.
pub(crate) const LEASE_MS: u64 = 1_500;

/// The nodes' names.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// Whose partitions are how many.
pub(crate) const SPREAD: &str = "SELECT string_agg(owner || ':' || n, ' ' ORDER BY owner) FROM \
     (SELECT owner, count(*) AS n FROM partitions GROUP BY owner) AS spread";

/// A home of a node with that name on that database.
pub(crate) fn home(database: &Value, node: &str, more: &Value) -> Home {
    let mut database = database.clone();
    database["lease"] = json!(LEASE_MS);
    let script = json!([
        {"text": "", "tool_calls": [{"name": "wait", "arguments": {"ms": 30}}]},
        {"text": "done"}
    ]);
    let mut config = json!({
        "service": {"node": node},
        "database": database,
        "models": {"small": {"provider": "scripted", "script": script}},
        "agents": {
            "loop": {"kind": "model", "model": "small", "tools": [{"kind": "wait"}]},
            "render": {"kind": "worker"}
        }
    });
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    Home::new(config)
}

/// Homes of three nodes on a database with tables.
pub(crate) fn homes(postgres: &Postgres) -> [Home; 3] {
    homes_with(postgres, &json!({}))
}

/// The same with more in their configurations.
pub(crate) fn homes_with(postgres: &Postgres, more: &Value) -> [Home; 3] {
    let homes = NAMES.map(|node| home(&postgres.config(), node, more));
    postgres.migrate(&homes[0]);
    homes
}

/// Homes of three nodes, each with a way to the database that can be cut.
pub(crate) fn homes_with_ways(postgres: &Postgres) -> ([Home; 3], [Way; 3]) {
    let ways = NAMES.map(|_| postgres.way());
    postgres.migrate(&home(&postgres.config(), "a", &json!({})));
    let homes = std::array::from_fn(|i| {
        let mut database = postgres.config();
        database["host"] = json!(ways[i].folder());
        home(&database, NAMES[i], &json!({}))
    });
    (homes, ways)
}

/// Waits until what the database says is as expected.
#[track_caller]
pub(crate) fn await_said(postgres: &Postgres, sql: &str, expected: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let said = postgres.try_says(sql);
        if said.as_deref() == Ok(expected) {
            return;
        }
        assert!(Instant::now() < until, "{sql}: {said:?}, not {expected}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Starts all and waits until the partitions are spread over them.
pub(crate) fn start(postgres: &Postgres, homes: &[Home; 3]) -> [Node; 3] {
    let nodes = homes.each_ref().map(Home::start);
    await_said(postgres, SPREAD, "a:22 b:21 c:21");
    nodes
}

/// The place of the node that has a task's partition.
pub(crate) fn owner_of(postgres: &Postgres, id: &str) -> usize {
    let partition = u16::from_str_radix(&id[id.len() - 4..], 16).expect("hex");
    let owner = postgres.says(&format!("SELECT owner FROM partitions WHERE id = {partition}"));
    NAMES.iter().position(|name| *name == owner).expect("a node")
}

/// Clients that submit tasks, each with a key of its own, to any node, again and again until one
/// takes it.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    clients: Arc<[Mutex<Client>; 3]>,
    accepted: Arc<AtomicU64>,
    threads: Vec<JoinHandle<BTreeMap<String, String>>>,
}

/// How long one answer is waited for.
const ANSWER: Duration = Duration::from_secs(3);
/// Clients at once.
const CLIENTS: u64 = 4;

impl Load {
    /// Begins.
    pub(crate) fn start(nodes: [&Node; 3], seed: u64) -> Load {
        let clients = Arc::new(nodes.map(|node| Mutex::new(node.patient(ANSWER))));
        let (is_over, accepted) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = |number: u64| {
            let (clients, is_over) = (Arc::clone(&clients), Arc::clone(&is_over));
            let accepted = Arc::clone(&accepted);
            let dice = Dice::new(seed ^ (number + 1) << 32);
            std::thread::spawn(move || submit(number, dice, &clients, &is_over, &accepted))
        };
        let threads = (0..CLIENTS).map(thread).collect();
        Load { is_over, clients, accepted, threads }
    }

    /// The node of that place answers there from now on.
    pub(crate) fn turn(&self, place: usize, node: &Node) {
        *self.clients[place].lock().expect("no panic") = node.patient(ANSWER);
    }

    /// Tasks that were taken so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until so many more were taken.
    #[track_caller]
    pub(crate) fn await_more(&self, more: u64) {
        let (goal, until) = (self.accepted() + more, Instant::now() + PATIENCE);
        while self.accepted() < goal {
            assert!(Instant::now() < until, "the load does not get on");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Ends; the ids by their keys.
    pub(crate) fn stop(self) -> BTreeMap<String, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let taken = self.threads.into_iter().map(|thread| thread.join().expect("no panic"));
        taken.fold(BTreeMap::new(), |mut all, some| {
            all.extend(some);
            all
        })
    }
}

/// What task a key is for: the same whenever it is sent.
pub(crate) fn body_of(key: &str) -> Value {
    match key.bytes().last().unwrap_or_default() % 4 {
        0 => json!({"agent": "loop", "input": key}),
        1 => json!({"agent": "sleep", "input": {"ms": 50}}),
        _ => json!({"agent": "echo", "input": key}),
    }
}

fn submit(
    number: u64,
    mut dice: Dice,
    clients: &[Mutex<Client>; 3],
    is_over: &AtomicBool,
    accepted: &AtomicU64,
) -> BTreeMap<String, String> {
    let mut taken = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        let key = format!("{:x}-{number}-{}", dice.roll(), taken.len());
        let body = body_of(&key).to_string();
        let until = Instant::now() + PATIENCE;
        let id = loop {
            assert!(Instant::now() < until, "{key} is never taken");
            let client = clients[dice.below(3) as usize].lock().expect("no panic").clone();
            let headers = [JSON, ("idempotency-key", &*key)];
            let sent = client.try_send("POST", "/v1/tasks", &headers, Some(body.as_bytes()));
            match sent {
                Ok(reply) if matches!(reply.status, 200 | 202) => {
                    break reply.body["id"].as_str().expect("an id").to_owned();
                }
                Ok(reply) => assert!(500 <= reply.status, "{}", reply.text),
                Err(_) => {}
            }
            std::thread::park_timeout(Duration::from_millis(20));
        };
        accepted.fetch_add(1, Ordering::Relaxed);
        taken.insert(key, id);
    }
    taken
}

/// Every task that was taken has ended well, once, and its key still means it.
#[track_caller]
pub(crate) fn check(postgres: &Postgres, client: &Client, taken: &BTreeMap<String, String>) {
    let all = postgres.says("SELECT count(*) FROM tasks");
    assert_eq!(all, taken.len().to_string(), "each key made one task");
    await_said(postgres, "SELECT count(*) FROM tasks WHERE state = 'succeeded'", &all);
    for (key, id) in taken {
        let again = client.submit_keyed(key, &body_of(key)).ok(200);
        assert_eq!(again["id"], **id, "one key makes one task");
        assert_eq!(again["state"], "succeeded", "{again}");
    }
    let ends = "SELECT coalesce(sum(array_length(regexp_split_to_array(text, '\"succeeded\"'), 1) \
                - 1), 0) FROM (SELECT history AS text FROM tasks UNION ALL SELECT data FROM events) \
                AS all_events";
    assert_eq!(postgres.says(ends), all, "each task ended once");
}
