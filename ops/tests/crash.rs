//! Kills the node fifty times under load, at moments that a seed chooses, and holds what it finds
//! against what was written down outside of it.
//!
//! Promised are (DESIGN §9): what was acknowledged is not lost; one key makes one task; what ended
//! stays as it is; a step whose result is journaled is never made again; every call carries its
//! key; a call that may not be repeated is not. `SEED=n` chooses other moments. A moment is a
//! number of acknowledgements, or of requests that the counting server saw, never a time.

mod e2e;

use e2e::client::{JSON, id_of, is_ended};
use e2e::postgres::Postgres;
use e2e::{Act, Client, Dice, Home, Node, PATIENCE, Seen, Server};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// How often the node is killed.
const ROUNDS: u64 = 50;
/// And on a database.
const DATABASE_ROUNDS: u64 = 10;
/// Threads that submit.
const CLIENTS: u64 = 4;
/// A round has at most so many acknowledgements, or requests, before its kill.
const MOMENTS_MAX: u64 = 40;

/// What is known outside of the node.
#[derive(Default)]
struct Notes {
    /// Tasks that were acknowledged, with their agent.
    acknowledged: BTreeMap<String, String>,
    /// The task that a key made.
    keys: BTreeMap<String, String>,
    /// Keyed submissions without an answer: key and body.
    unsure: Vec<(String, Value)>,
    /// Tasks that were seen ended, as they were then.
    ended: BTreeMap<String, Value>,
    /// Steps whose result was seen, and how many requests the server had had by then.
    finished: BTreeMap<String, usize>,
    /// Submissions so far: each carries its number.
    submitted: u64,
    /// Tasks that a kill interrupted, over all rounds.
    interrupted: usize,
}

struct World {
    server: Server,
    notes: Mutex<Notes>,
    acknowledged: Condvar,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no client panics")
    }

    /// A number that no submission had before.
    fn number(&self) -> u64 {
        let mut notes = self.lock();
        notes.submitted += 1;
        notes.submitted
    }

    /// Notes an answer with 2xx.
    fn acknowledge(&self, task: &Value, key: Option<&str>) {
        let (id, count) = (id_of(task), self.server.count());
        let mut notes = self.lock();
        if let Some(key) = key {
            let before = notes.keys.insert(key.to_owned(), id.clone());
            assert!(before.is_none_or(|before| before == id), "{key} made two tasks");
        }
        notes.acknowledged.insert(id.clone(), task["agent"].to_string());
        if is_ended(task) {
            note_ended(&mut notes, task, count);
        }
        drop(notes);
        self.acknowledged.notify_all();
    }

    /// Notes which steps of a task have their result.
    fn note_steps(&self, id: &str, steps: &[Value]) {
        let count = self.server.count();
        let mut notes = self.lock();
        for step in steps.iter().filter(|step| step["state"] == "succeeded") {
            notes.finished.entry(format!("{id}-{}", step["step"])).or_insert(count);
        }
    }

    /// Waits for so many acknowledged tasks in all.
    fn wait_for(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        let mut notes = self.lock();
        while notes.acknowledged.len() < count {
            let left =
                until.checked_duration_since(Instant::now()).expect("tasks are acknowledged");
            notes = self.acknowledged.wait_timeout(notes, left).expect("no client panics").0;
        }
    }
}

/// Notes a task that has ended, when the server had had `count` requests.
fn note_ended(notes: &mut Notes, task: &Value, count: usize) {
    let before = notes.ended.entry(id_of(task)).or_insert_with(|| task.clone());
    assert_eq!(before, task, "a task that had ended changed");
    if task["agent"] == "post" {
        notes.finished.entry(format!("{}-0", id_of(task))).or_insert(count);
    }
}

/// Two tools: one that may be called again with its key, one that may not.
fn tools(server: &Server) -> Value {
    json!([
        {"kind": "http", "name": "count", "url": server.url("/count"), "effect": "idempotent"},
        {"kind": "http", "name": "once", "url": server.url("/once"), "effect": "unsafe"}
    ])
}

fn config(server: &Server) -> Value {
    let script = json!([
        {"tool_calls": [{"name": "count", "arguments": {"n": 1}}]},
        {"tool_calls": [{"name": "count", "arguments": {"n": 2}}, {"name": "once"}]},
        {"text": "done"}
    ]);
    json!({
        "security": {"outbound": {"allow": [server.address()]}},
        "models": {
            "script": {"provider": "scripted", "script": script},
            "remote": {"provider": "openai", "baseUrl": server.url("/v1"), "model": "counted"}
        },
        "agents": {
            "post": {"kind": "http", "url": server.url("/post")},
            "loop": {"kind": "model", "model": "script", "tools": tools(server)},
            "chat": {"kind": "model", "model": "remote", "tools": tools(server)}
        }
    })
}

/// A tool call as a model asks for it.
fn call(id: &str, name: &str, arguments: &str) -> Value {
    let function = json!({"name": name, "arguments": arguments});
    json!({"id": id, "type": "function", "function": function})
}

/// The model and the tools: the model asks for `count`, then for both tools, then is done.
fn play(seen: &Seen, _: usize) -> Act {
    if seen.path != "/v1/chat/completions" {
        return Act::Answer(200, json!({"ok": true}));
    }
    let messages = seen.body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let results = messages.iter().filter(|message| message["role"] == "tool").count();
    let (content, calls) = match results {
        0 => (Value::Null, json!([call("a", "count", r#"{"n":1}"#)])),
        1 => (Value::Null, json!([call("b", "count", r#"{"n":2}"#), call("c", "once", "{}")])),
        _ => (json!("done"), json!([])),
    };
    let message = json!({"role": "assistant", "content": content, "tool_calls": calls});
    let reason = if results < 2 { "tool_calls" } else { "stop" };
    let choice = json!({"index": 0, "message": message, "finish_reason": reason});
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 2});
    Act::Answer(200, json!({"object": "chat.completion", "choices": [choice], "usage": usage}))
}

/// Submits until the node is gone.
fn load(world: &World, client: &Client, seed: u64) {
    let mut dice = Dice::new(seed);
    loop {
        let unsure = world.lock().unsure.pop();
        let is_over = match unsure {
            Some((key, body)) => submit_keyed(world, client, key, body).is_none(),
            None => submit_any(world, client, &mut dice).is_none(),
        };
        if is_over {
            return;
        }
    }
}

/// One submission of some kind; `None` when the node is gone.
fn submit_any(world: &World, client: &Client, dice: &mut Dice) -> Option<()> {
    let number = world.number();
    let agent = ["echo", "post", "loop", "chat"][dice.below(4) as usize];
    let body = json!({"agent": agent, "input": {"number": number}});
    match dice.below(4) {
        0 => submit_keyed(world, client, format!("key {number}"), body),
        1 => submit_batch(world, client, dice),
        kind => {
            let wait = if kind == 2 { "?wait_ms=5000" } else { "" };
            let text = body.to_string();
            let path = format!("/v1/tasks{wait}");
            let reply = client.try_send("POST", &path, &[JSON], Some(text.as_bytes())).ok()?;
            assert!(matches!(reply.status, 200 | 202), "{}", reply.text);
            world.acknowledge(&reply.body, None);
            look(world, client, &reply.body)
        }
    }
}

/// A submission under a key, which is noted as unsure while it has no answer.
fn submit_keyed(world: &World, client: &Client, key: String, body: Value) -> Option<()> {
    let headers = [JSON, ("idempotency-key", key.as_str())];
    let text = body.to_string();
    let Ok(reply) = client.try_send("POST", "/v1/tasks", &headers, Some(text.as_bytes())) else {
        world.lock().unsure.push((key, body));
        return None;
    };
    assert!(matches!(reply.status, 200 | 202), "{}", reply.text);
    world.acknowledge(&reply.body, Some(&key));
    look(world, client, &reply.body)
}

fn submit_batch(world: &World, client: &Client, dice: &mut Dice) -> Option<()> {
    let agents = ["echo", "echo", "echo", "post", "loop"];
    let item = |agent| json!({"agent": agent, "input": {"number": world.number()}});
    let items: Vec<Value> = agents[..=dice.below(5) as usize].iter().map(item).collect();
    let text = json!({"tasks": items}).to_string();
    let reply = client.try_send("POST", "/v1/tasks/batch", &[JSON], Some(text.as_bytes())).ok()?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let rows = reply.body["items"].as_array().expect("rows");
    assert_eq!(rows.len(), items.len());
    for row in rows {
        assert!(row["status"] == 202 || row["status"] == 200, "{row}");
        world.acknowledge(&row["task"], None);
    }
    Some(())
}

/// Looks at the steps of a loop that is under way or over.
fn look(world: &World, client: &Client, task: &Value) -> Option<()> {
    if matches!(task["agent"].as_str(), Some("loop" | "chat")) {
        let id = id_of(task);
        let reply = client.try_send("GET", &format!("/v1/tasks/{id}/steps"), &[], None).ok()?;
        let steps = reply.expect(200).body["items"].take();
        world.note_steps(&id, steps.as_array().expect("steps"));
    }
    Some(())
}

/// The tasks that have not ended; notes what they have done so far.
fn live(world: &World, node: &Node) -> BTreeSet<String> {
    let states = ["scheduled", "queued", "running", "waiting"];
    let mut ids = BTreeSet::new();
    for state in states {
        let tasks = node.all(&format!("/v1/tasks?state={state}&limit=500"));
        ids.extend(tasks.iter().map(id_of));
    }
    for id in &ids {
        world.note_steps(id, &node.steps(id));
    }
    ids
}

/// Waits for the end of these tasks, and says of each call of unknown outcome that it was done.
fn settle<'a>(world: &World, node: &Node, ids: impl IntoIterator<Item = &'a String>) {
    for id in ids {
        let until = Instant::now() + PATIENCE;
        loop {
            let task = node.get(&format!("/v1/tasks/{id}?wait_ms=200")).ok(200);
            if is_ended(&task) {
                let count = world.server.count();
                note_ended(&mut world.lock(), &task, count);
                break;
            }
            if task["waiting"]["reason"] == "outcome_unknown" {
                let done = json!({"outcome": "done", "result": {"ok": "said so"}});
                node.post(&format!("/v1/tasks/{id}/resolve"), &done).expect(200);
            }
            assert!(Instant::now() < until, "it does not end: {task}");
        }
    }
}

/// One life of the node. Gives the tasks that its start found interrupted.
///
/// What two kills have interrupted ends before the third: that one would make it `poison`.
fn round(
    world: &World,
    home: &Home,
    dice: &mut Dice,
    before: &BTreeSet<String>,
) -> BTreeSet<String> {
    let node = home.start();
    let found = live(world, &node);
    settle(world, &node, found.intersection(before));
    let acknowledged = world.lock().acknowledged.len();
    world.lock().interrupted += found.len();
    let moments = dice.below(MOMENTS_MAX) as usize;
    let is_by_requests = dice.below(2) == 0;
    let seeds: Vec<u64> = (0..CLIENTS).map(|_| dice.roll()).collect();
    std::thread::scope(|scope| {
        for seed in seeds {
            let client = node.client().clone();
            scope.spawn(move || load(world, &client, seed));
        }
        match (moments, is_by_requests) {
            (0, _) => {}
            (_, true) => drop(world.server.wait_for(world.server.count() + moments)),
            (_, false) => world.wait_for(acknowledged + moments),
        }
        node.kill9();
    });
    found
}

#[test]
fn fifty_kills_lose_nothing_and_repeat_nothing() {
    kills(ROUNDS, |_| {}, |_| {});
}

#[test]
fn kills_on_a_database_lose_nothing_and_repeat_nothing() {
    let Some(postgres) = Postgres::start() else { return };
    let on = |config: &mut Value| config["database"] = postgres.config();
    kills(DATABASE_ROUNDS, on, |home| postgres.migrate(home));
}

/// Kills a node so many times. Its configuration and its home may be changed before it starts.
fn kills(rounds: u64, change: impl FnOnce(&mut Value), prepare: impl FnOnce(&Home)) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("again with SEED={seed}");
    let world = World {
        server: Server::start(play),
        notes: Mutex::default(),
        acknowledged: Condvar::new(),
    };
    let mut configured = config(&world.server);
    change(&mut configured);
    let home = Home::new(configured);
    prepare(&home);
    let mut dice = Dice::new(seed);
    let mut interrupted = BTreeSet::new();
    for _ in 0..rounds {
        interrupted = round(&world, &home, &mut dice, &interrupted);
    }
    let node = home.start();
    let unsure = std::mem::take(&mut world.lock().unsure);
    for (key, body) in unsure {
        submit_keyed(&world, node.client(), key, body).expect("nobody kills it now");
    }
    let left = live(&world, &node);
    settle(&world, &node, &left);
    let tasks = node.all("/v1/tasks?limit=500");
    let notes = world.lock();
    println!(
        "{} acknowledged, {} tasks, {} interrupted, {} requests",
        notes.acknowledged.len(),
        tasks.len(),
        notes.interrupted,
        world.server.count()
    );
    check_tasks(&notes, &tasks);
    check_steps(&node, &tasks);
    check_requests(&notes, &tasks, &world.server.seen());
    // A run with too little going on shows nothing.
    let (acknowledged, interrupted) = (notes.acknowledged.len() as u64, notes.interrupted as u64);
    let is_enough = 10 * rounds < acknowledged && rounds / 2 < interrupted;
    assert!(is_enough, "too little went on: {acknowledged} tasks, {interrupted} interrupted");
    drop(notes);
    node.stop();
}

/// Everything that was acknowledged is there, once, ended well, and as it was when it had ended.
fn check_tasks(notes: &Notes, tasks: &[Value]) {
    let by_id: BTreeMap<String, &Value> = tasks.iter().map(|task| (id_of(task), task)).collect();
    assert_eq!(by_id.len(), tasks.len(), "a task is listed twice");
    for id in notes.acknowledged.keys() {
        assert!(by_id.contains_key(id), "{id} was acknowledged and is lost");
    }
    for task in tasks {
        assert_eq!(task["state"], "succeeded", "{task}");
    }
    for (id, ended) in &notes.ended {
        assert_eq!(by_id[id], ended, "a task that had ended changed");
    }
    let mut numbers = BTreeSet::new();
    for task in tasks {
        let number = task["input"]["number"].as_u64().expect("each has one");
        assert!(numbers.insert(number), "submission {number} made two tasks: {task}");
    }
    for (key, id) in &notes.keys {
        let number: u64 = key.trim_start_matches("key ").parse().expect("as it was made");
        assert_eq!(by_id[id]["input"]["number"], number, "{key} made another task");
    }
}

/// Every loop has each of its steps once.
fn check_steps(node: &Node, tasks: &[Value]) {
    for task in tasks {
        let (id, agent) = (id_of(task), task["agent"].as_str().expect("an agent"));
        match agent {
            "echo" => assert_eq!(task["output"], task["input"]),
            "post" => assert_eq!(task["output"], json!({"ok": true})),
            model => {
                assert_eq!(task["output"], "done");
                assert_eq!(task["usage"]["iterations"], 3, "{task}");
                let model = if model == "loop" { "script" } else { "remote" };
                let steps = node.steps(&id);
                let names: Vec<&str> =
                    steps.iter().map(|step| step["name"].as_str().expect("a name")).collect();
                assert_eq!(names, [model, "count", model, "count", "once", model], "{steps:#?}");
                for (place, step) in steps.iter().enumerate() {
                    assert_eq!(step["step"], place + 1);
                    assert_eq!(step["state"], "succeeded", "{step}");
                }
            }
        }
    }
}

/// What the counting server saw: keys of ours alone, no step after its result, nothing unsafe
/// twice.
fn check_requests(notes: &Notes, tasks: &[Value], requests: &[Seen]) {
    let ids: BTreeSet<String> = tasks.iter().map(id_of).collect();
    let mut unsafe_calls = BTreeSet::new();
    let mut by_key: BTreeMap<&str, &str> = BTreeMap::new();
    for (place, seen) in requests.iter().enumerate() {
        let (id, step) = seen.key.rsplit_once('-').expect("<task>-<step>");
        assert!(ids.contains(id), "{seen:?} is for no task");
        let is_post = seen.path == "/post";
        assert_eq!(step == "0", is_post, "{seen:?} has a strange step");
        let path = by_key.entry(&seen.key).or_insert(&seen.path);
        assert_eq!(*path, seen.path, "two calls have the key {}", seen.key);
        if let Some(finished) = notes.finished.get(&seen.key) {
            assert!(place < *finished, "{seen:?} was made again after its result was seen");
        }
        if seen.path == "/once" {
            assert!(unsafe_calls.insert(&seen.key), "{seen:?} may not be made twice");
        }
    }
}
