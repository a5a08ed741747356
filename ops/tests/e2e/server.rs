//! An HTTP server that counts: what a tool or an agent of kind `http` talks to.
//!
//! It remembers every request in the order in which they came, and answers as it was told: at once,
//! with another status, or only when the test lets go. A connection that is closed while its answer
//! is held is noted at once, as somebody reads from it all the time.

use super::PATIENCE;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The method.
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    /// The `Idempotency-Key`; empty when it has none.
    pub(crate) key: String,
    /// The `traceparent`; empty when it has none.
    pub(crate) trace: String,
    /// The body as JSON, or as its text; null when there is none.
    pub(crate) body: Value,
    /// Whether the other side closed before it was answered.
    pub(crate) is_closed: bool,
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with this status and JSON.
    Answer(u16, Value),
    /// Answers with 429 and asks to wait this long, in s.
    Later(u64),
    /// Answers with 200 and this JSON once [`Server::release`] is called.
    Hold(Value),
}

type Plan = dyn Fn(&Seen, usize) -> Act + Send + Sync;

struct Shared {
    plan: Box<Plan>,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    released: usize,
}

/// A running server. Its threads end with the process.
#[derive(Clone)]
pub(crate) struct Server {
    address: String,
    shared: Arc<Shared>,
}

impl Server {
    /// A server that does as `plan` says for a request and its place among all, from 0.
    pub(crate) fn start(plan: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (state, moved) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { plan: Box::new(plan), state, moved });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || converse(&socket, &shared));
            }
        });
        Server { address, shared }
    }

    /// A server that answers everything with `{"ok":true}`.
    pub(crate) fn agreeing() -> Server {
        Server::start(|_, _| Act::Answer(200, json!({"ok": true})))
    }

    /// A URL of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Host and port, as `security.outbound.allow` takes them.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many requests there were so far.
    pub(crate) fn count(&self) -> usize {
        self.lock().seen.len()
    }

    /// How often this key was requested.
    pub(crate) fn count_of(&self, key: &str) -> usize {
        self.lock().seen.iter().filter(|seen| seen.key == key).count()
    }

    /// Waits until there were so many requests, and gives the last of them.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Seen {
        assert!(0 < count);
        let state = self.wait(|state| count <= state.seen.len());
        state.seen[count - 1].clone()
    }

    /// Waits until the other side has closed the connection of request `place`, from 0.
    #[track_caller]
    pub(crate) fn wait_closed(&self, place: usize) {
        drop(self.wait(|state| state.seen.get(place).is_some_and(|seen| seen.is_closed)));
    }

    /// Lets `count` more held requests be answered, in the order in which they are at it.
    pub(crate) fn release(&self, count: usize) {
        self.lock().released += count;
        self.shared.moved.notify_all();
    }

    #[track_caller]
    fn wait(&self, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while !is_so(&state) {
            let left = until.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("in vain, with {:#?}", state.seen));
            state = self.shared.moved.wait_timeout(state, left).expect("no panic").0;
        }
        state
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }
}

/// Answers requests until the connection closes or an answer was held.
fn converse(socket: &TcpStream, shared: &Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let Ok(clone) = socket.try_clone() else { return };
    let mut reader = BufReader::new(clone);
    while let Some(seen) = read_request(&mut reader) {
        let (place, seen) = {
            let mut state = shared.lock();
            state.seen.push(seen.clone());
            (state.seen.len() - 1, seen)
        };
        shared.moved.notify_all();
        match (shared.plan)(&seen, place) {
            Act::Answer(status, body) => {
                if answer(socket, status, &body, "keep-alive").is_err() {
                    return;
                }
            }
            Act::Later(pause_s) => {
                let then = format!("keep-alive\r\nretry-after: {pause_s}");
                if answer(socket, 429, &json!({}), &then).is_err() {
                    return;
                }
            }
            Act::Hold(body) => {
                hold(socket, shared, place, reader);
                let _ = answer(socket, 200, &body, "close");
                return;
            }
        }
    }
}

/// Waits until the test lets go or the other side closes.
fn hold(socket: &TcpStream, shared: &Arc<Shared>, place: usize, mut reader: BufReader<TcpStream>) {
    let watching = Arc::clone(shared);
    std::thread::spawn(move || {
        if !matches!(reader.read(&mut [0]), Ok(1..)) {
            watching.lock().seen[place].is_closed = true;
            watching.moved.notify_all();
        }
    });
    let mut state = shared.lock();
    while state.released == 0 && !state.seen[place].is_closed {
        state = shared.moved.wait(state).expect("no panic");
    }
    if !state.seen[place].is_closed {
        state.released -= 1;
    }
    drop(state);
    let _ = socket.set_nodelay(true);
}

fn answer(mut socket: &TcpStream, status: u16, body: &Value, then: &str) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: {then}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())
}

/// One request with a `content-length`, or none.
fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut key, mut trace, mut len) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => key = value.trim().to_owned(),
            "traceparent" => trace = value.trim().to_owned(),
            "content-length" => len = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8_lossy(&body);
    let text = || if text.is_empty() { Value::Null } else { json!(text) };
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
    Some(Seen { method, path, key, trace, body, is_closed: false })
}
