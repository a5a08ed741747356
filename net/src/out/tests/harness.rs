//! What the tests of calls out stand on: a server that does as it is told, and calls made by hand.

use crate::out::model::config::ModelConfig;
use crate::out::{OutConfig, Outbound, Ports};
use crate::reads::link;
use no_engine::agent::definition::{Agent, Kind, Tool};
use no_engine::command::{Command, Outcome};
use no_engine::doorbell::doorbell;
use no_engine::effect::{Call, Context, Work};
use no_engine::id::{Attempt, Fence, PartitionId, Step, TaskId};
use no_engine::payload::Payload;
use no_engine::port::Wake;
use no_engine::task::TaskError;
use no_engine::trace::{Origin, Trace};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What a server does after a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Writes this.
    Write(String),
    /// Writes this byte by byte, so that each may come alone.
    Drip(String),
    /// Closes the connection.
    Close,
    /// Waits until the other side closes it.
    Hold,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    head: String,
    pub(crate) body: String,
}

impl Seen {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> String {
        let line = |line: &str| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().find_map(line).unwrap_or_default()
    }
}

#[derive(Default)]
struct Log {
    connections: Cell<usize>,
    seen: RefCell<Vec<Seen>>,
    asked: Notify,
    closed: Notify,
}

pub(crate) struct Server {
    port: u16,
    log: Rc<Log>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(plan: impl Fn(&Seen) -> Vec<Act> + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let log = Rc::new(Log::default());
        let (kept, plan) = (Rc::clone(&log), Rc::new(plan));
        let accepting = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                kept.connections.set(kept.connections.get() + 1);
                let (plan, log) = (Rc::clone(&plan), Rc::clone(&kept));
                tokio::task::spawn_local(async move {
                    converse(stream, &*plan, &log).await;
                });
            }
        });
        Server { port, log, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn requests(&self) -> usize {
        self.log.seen.borrow().len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.get()
    }

    pub(crate) fn seen(&self, i: usize) -> Seen {
        self.log.seen.borrow()[i].clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.log.seen.borrow().last().cloned().expect("a request")
    }

    /// A request came.
    pub(crate) async fn asked(&self) {
        self.log.asked.notified().await;
    }

    /// The other side closed a connection that was held.
    pub(crate) async fn closed(&self) {
        self.log.closed.notified().await;
    }

    pub(crate) fn stop(self) {
        self.accepting.abort();
    }
}

async fn converse(mut stream: TcpStream, plan: &dyn Fn(&Seen) -> Vec<Act>, log: &Log) {
    let mut buffer = Vec::new();
    while let Some(seen) = next_request(&mut stream, &mut buffer).await {
        let acts = plan(&seen);
        log.seen.borrow_mut().push(seen);
        for act in acts {
            let written = match act {
                Act::Write(text) => stream.write_all(text.as_bytes()).await,
                Act::Drip(text) => drip(&mut stream, text.as_bytes()).await,
                Act::Close => return,
                Act::Hold => {
                    log.asked.notify_one();
                    let mut byte = [0_u8; 64];
                    while matches!(stream.read(&mut byte).await, Ok(n) if 0 < n) {}
                    log.closed.notify_one();
                    return;
                }
            };
            if written.is_err() {
                log.closed.notify_one();
                return;
            }
        }
    }
    // A handshake, or nothing more: hold on until the other side goes.
    let mut byte = [0_u8; 64];
    while matches!(stream.read(&mut byte).await, Ok(n) if 0 < n) {}
}

async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(std::slice::from_ref(byte)).await?;
        stream.flush().await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Reads one request; `None` when the connection ended or what came is no HTTP.
async fn next_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            return None;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut words = head.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut seen = Seen { method, target, head, body: String::new() };
    let len: usize = seen.header("content-length").parse().unwrap_or(0);
    while buffer.len() < end + len {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8_lossy(&buffer[end..end + len]).into_owned();
    buffer.drain(..end + len);
    Some(seen)
}

/// A whole answer.
pub(crate) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

pub(crate) struct Harness {
    pub(crate) config: OutConfig,
    pub(crate) outbound: Outbound,
    outcomes: Rc<RefCell<VecDeque<Outcome>>>,
    came: Rc<Notify>,
    pub(crate) deltas: Rc<RefCell<Vec<String>>>,
}

impl Harness {
    pub(crate) fn new(allow: &[&str], models: serde_json::Value) -> Harness {
        Harness::with(allow, models, json!({}))
    }

    /// Agents by name, each with a list of what it may reach; there is no general one.
    pub(crate) fn of_agents(agents: serde_json::Value) -> Harness {
        Harness::with(&[], json!({}), agents)
    }

    fn with(allow: &[&str], models: serde_json::Value, agents: serde_json::Value) -> Harness {
        let agents: BTreeMap<String, Vec<String>> =
            serde_json::from_value(agents).expect("lists by name");
        let models: BTreeMap<Box<str>, ModelConfig> =
            serde_json::from_value(models).expect("well formed models");
        let env = |name: &str| (name == "KEY").then(|| "sk-secret".to_owned());
        let config = OutConfig::new(allow, &models, &env).expect("a good configuration");
        let config = config.with_agents(&agents).expect("good lists");
        let (bell, _sleeper) = doorbell(Box::new(Silent));
        let (reads, _link) = link(bell.clone(), bell);
        let outcomes: Rc<RefCell<VecDeque<Outcome>>> = Rc::default();
        let (came, deltas): (Rc<Notify>, Rc<RefCell<Vec<String>>>) = Default::default();
        let (kept, bell, heard) = (Rc::clone(&outcomes), Rc::clone(&came), Rc::clone(&deltas));
        let commands = move |command: Command| {
            let Command::Outcome { outcome, .. } = command else { panic!("no outcome") };
            kept.borrow_mut().push_back(outcome);
            bell.notify_one();
        };
        let ports = Ports {
            reads,
            commands: Rc::new(commands),
            deltas: Rc::new(move |_, _, text| heard.borrow_mut().push(text.to_owned())),
        };
        let outbound = Outbound::new(&config, ports).expect("sets up");
        Harness { config, outbound, outcomes, came, deltas }
    }

    pub(crate) fn outcomes(&self) -> usize {
        self.outcomes.borrow().len()
    }

    pub(crate) async fn run(&self, call: Box<Call>) -> Outcome {
        self.outbound.call(call);
        self.came.notified().await;
        self.outcomes.borrow_mut().pop_front().expect("an outcome")
    }

    pub(crate) fn http_call(&self, url: &str, input: &[u8]) -> Box<Call> {
        let mut agent = Agent::of_kind(Kind::Http);
        agent.url = Some(url.into());
        call(agent, Work::Http { input: Payload::inline(input) })
    }

    pub(crate) async fn http(&self, url: &str, input: &[u8]) -> Outcome {
        self.run(self.http_call(url, input)).await
    }

    pub(crate) async fn tool(&self, tool: &serde_json::Value, arguments: &str) -> Outcome {
        let mut call = self.tool_call(tool);
        let arguments = Payload::inline(arguments.as_bytes());
        call.work = Work::Tool { tool: 0, arguments };
        self.run(call).await
    }

    /// A call of this tool without arguments.
    pub(crate) fn tool_call(&self, tool: &serde_json::Value) -> Box<Call> {
        let tool: Tool = serde_json::from_value(tool.clone()).expect("a tool");
        let mut agent = Agent::of_kind(Kind::Model);
        agent.tools.push(tool);
        call(agent, Work::Tool { tool: 0, arguments: Payload::inline(b"{}") })
    }

    pub(crate) async fn model(&self, agent: &serde_json::Value) -> Outcome {
        let agent: Agent = serde_json::from_value(agent.clone()).expect("an agent");
        self.run(model_call(agent)).await
    }
}

pub(crate) fn task() -> TaskId {
    TaskId::new(1_764_000_000_000, 5, PartitionId(3))
}

pub(crate) fn model_call(agent: Agent) -> Box<Call> {
    let input = Payload::inline(b"\"hello\"");
    let context = Context { after: Step(0), fresh: None };
    call(agent, Work::Model { input, iteration: 1, context })
}

fn call(agent: Agent, work: Work) -> Box<Call> {
    Box::new(Call {
        task: task(),
        fence: Fence(4),
        step: Step(7),
        attempt: Attempt(1),
        trace: Trace::new(task(), Origin::default()),
        tenant: Arc::from("default"),
        agent_name: Arc::from("a"),
        agent: Arc::new(agent),
        timeout_ms: 60_000,
        work,
    })
}

/// Runs a test where local tasks may be spawned.
pub(crate) async fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

pub(crate) fn output(outcome: &Outcome) -> String {
    let Outcome::Output { output } = outcome else { panic!("no output: {outcome:?}") };
    String::from_utf8_lossy(output.bytes().expect("at hand")).into_owned()
}

pub(crate) fn failed(outcome: &Outcome) -> (&TaskError, Option<u64>, bool) {
    let Outcome::Failed { error, retry_after_ms, maybe_done } = outcome else {
        panic!("no failure: {outcome:?}");
    };
    (error, *retry_after_ms, *maybe_done)
}
