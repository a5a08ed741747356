//! Plays workers: each leases up to 100 tasks over its own connection, completes them all in one
//! call, and leases again. One thread for all of them, apart from the one that measures.

use crate::connection::{Connection, Standing};
use crate::drive::Peer;
use crate::error::{Error, Result};
use crate::outcome::Sent;
use crate::parse::Bodies;
use crate::template::post;
use memchr::memmem::Finder;
use mio::{Events, Poll, Token, Waker};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Tasks leased by one call: as many as nO gives.
const LEASE_MAX: usize = 100;
/// How long a call for leases waits at the server, in ms.
const LEASE_WAIT_MS: u64 = 1_000;
/// When a lost connection is made anew.
const RETRY_AFTER: Duration = Duration::from_millis(50);
const SCRATCH_BYTES: usize = 256 * 1024;

/// Workers at work; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    is_over: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// One of them.
struct Worker {
    connection: Option<Connection>,
    /// The request to send next, empty while one is under way.
    next: Vec<u8>,
}

struct Pool {
    peer: Peer,
    token: Option<String>,
    lease: Vec<u8>,
    finder: Finder<'static>,
    workers: Vec<Worker>,
    poll: Poll,
}

impl Workers {
    /// Starts so many workers of that agent.
    pub(crate) fn start(
        peer: &Peer,
        token: Option<&str>,
        agent: &str,
        count: usize,
    ) -> Result<Workers> {
        let poll = Poll::new().map_err(Error::system("an event loop"))?;
        let waker = Waker::new(poll.registry(), Token(count));
        let waker = Arc::new(waker.map_err(Error::system("a waker"))?);
        let body = format!(
            r#"{{"agents":["{agent}"],"max_tasks":{LEASE_MAX},"wait_ms":{LEASE_WAIT_MS}}}"#
        );
        let lease = request("/v1/worker/lease", peer, token, body.as_bytes());
        let worker = |_| Worker { connection: None, next: lease.clone() };
        let workers = (0..count).map(worker).collect();
        let finder = Finder::new(br#""lease":""#);
        let (peer, token) = (peer.clone(), token.map(str::to_owned));
        let mut pool = Pool { peer, token, lease, finder, workers, poll };
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = std::thread::Builder::new().name("workers".into());
        let thread = thread.spawn(move || pool.run(&flag)).map_err(Error::system("a thread"))?;
        Ok(Workers { is_over, waker, thread: Some(thread) })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // ORDER: nothing else is handed over with the flag.
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        // What is leased and not completed stays so: the load has been settled before.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Pool {
    fn run(&mut self, is_over: &AtomicBool) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut connected_at = None::<Instant>;
        while !is_over.load(Ordering::Relaxed) {
            if connected_at.is_none_or(|at| RETRY_AFTER <= at.elapsed()) {
                self.connect();
                connected_at = Some(Instant::now());
            }
            match self.poll.poll(&mut events, Some(RETRY_AFTER)) {
                Err(why) if why.kind() != io::ErrorKind::Interrupted => return Err(why),
                _ => {}
            }
            for event in &events {
                let is_ending = event.is_read_closed() || event.is_error();
                self.handle(event.token().0, is_ending, &mut scratch);
            }
        }
        Ok(())
    }

    fn connect(&mut self) {
        for (place, worker) in self.workers.iter_mut().enumerate() {
            if worker.connection.is_none() {
                let (registry, token) = (self.poll.registry(), Token(place));
                let made = Connection::connect(self.peer.address, registry, token, Bodies::Keep);
                worker.connection = made.ok();
                worker.next.clone_from(&self.lease);
            }
        }
    }

    fn handle(&mut self, place: usize, is_ending: bool, scratch: &mut [u8]) {
        let Some(worker) = self.workers.get_mut(place) else { return };
        let Some(connection) = &mut worker.connection else { return };
        let next = &mut worker.next;
        let mut standing = if connection.is_open() {
            connection.read(scratch, is_ending, |head, body, _| {
                // What a lease call brings is completed; whatever else comes, lease anew.
                *next = match completion(&self.finder, body) {
                    Some(body) if head.status == 200 => {
                        let token = self.token.as_deref();
                        request("/v1/worker/complete", &self.peer, token, &body)
                    }
                    _ => self.lease.clone(),
                };
            })
        } else {
            connection.opened()
        };
        if standing == Standing::Open && connection.is_open() {
            if !next.is_empty() {
                let sent = Sent::default();
                connection.queue(sent, |out| out.append(next));
            }
            standing = connection.flush();
        }
        if standing != Standing::Open {
            worker.connection = None;
        }
    }
}

fn request(path: &str, peer: &Peer, token: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut bytes = post(path, &peer.host, token, body.len());
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// The body that completes every lease in an answer; `None` when there is none.
fn completion(finder: &Finder<'_>, leases: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for at in finder.find_iter(leases) {
        let lease = &leases[at + br#""lease":""#.len()..];
        let len = lease.iter().position(|byte| *byte == b'"')?;
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(br#"{"lease":""#);
        body.extend_from_slice(&lease[..len]);
        body.extend_from_slice(br#"","output":null}"#);
    }
    body.push(b']');
    (1 < body.len()).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lease_is_completed() {
        let finder = Finder::new(br#""lease":""#);
        let leases = br#"{"leases":[{"lease":"a","task":"1"},{"lease":"b","task":"2"}]}"#;
        let body = completion(&finder, leases).expect("a body");
        let expected = r#"[{"lease":"a","output":null},{"lease":"b","output":null}]"#;
        assert_eq!(String::from_utf8(body).expect("text"), expected);
        assert_eq!(completion(&finder, br#"{"leases":[]}"#), None);
        assert_eq!(completion(&finder, br#"[{"status":200}]"#), None);
    }
}
