//! A task's events as server-sent events: first what the store has, then what happens, each once.
//!
//! The subscription stands before the store is read, and the shard says after which event it began;
//! so the store is read up to that one, and the live ones go on above it. An event's SSE `id` is
//! its number in the journal, so a client that comes back with `Last-Event-ID` reads on where it
//! was, also after a restart of nO.

use super::tasks::read;
use crate::body::OutBody;
use crate::core::{Asked, Core, Phase, until};
use crate::extract::Request;
use crate::pending::Fed;
use crate::problem::{Code, Problem};
use crate::render_event::{push_delta_frame, push_frame};
use crate::route::{Outcome, Response};
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use no_engine::command::{Answer, Command, Refusal};
use no_engine::event::Record;
use no_engine::id::TaskId;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A comment is sent after this long without an event, in ms, so that proxies keep the stream open.
const HEARTBEAT_MS: u64 = 15_000;
/// A client that takes nothing for this long is cut off, in ms.
const STALL_MS_MAX: u64 = 30_000;
/// Pieces that wait for the socket.
const PIECES_LEN: usize = 16;
/// Events read from the store at once.
const EVENTS_PER_READ: usize = 256;

/// `GET /v1/tasks/{id}/events`.
pub(super) async fn stream(request: Request) -> Outcome {
    request.no_query()?;
    let id = request.task_id()?;
    let core = Rc::clone(&request.core);
    let after = last_event_id(&request)?;
    let task = read(&core, &request.tenant(), id).await?;
    let live = if task.state.is_ended() { None } else { subscribe(&core, id).await? };
    let (sender, pieces) = mpsc::channel(PIECES_LEN);
    let stream = Stream { core, id, after, sender };
    tokio::task::spawn_local(stream.run(live));
    let mut response = Response::new(OutBody::stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(request: &Request) -> Result<u32, Problem> {
    let Some(value) = request.parts.headers.get("last-event-id") else { return Ok(0) };
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(0);
    }
    let bad = |_| Problem::new(Code::BadRequest, "the Last-Event-ID is not one of this stream");
    text.parse().map_err(bad)
}

/// A subscription and the number of the last event before it; `None` when the task is not live.
async fn subscribe(core: &Core, id: TaskId) -> Result<Option<(Asked, u32)>, Problem> {
    let asked = core.ask(core.shard_of(id)?, |reply| Command::Subscribe { reply, task: id })?;
    match asked.answer().await {
        Answer::Subscribed { n } => Ok(Some((asked, n))),
        Answer::Refused(refusal) => {
            asked.settled();
            match refusal {
                Refusal::NotLive(_) | Refusal::TaskEnded { .. } => Ok(None),
                other => Err(other.into()),
            }
        }
        _ => Err(Problem::internal("a shard answered another question")),
    }
}

struct Stream {
    core: Rc<Core>,
    id: TaskId,
    /// The last event that was sent.
    after: u32,
    sender: mpsc::Sender<Bytes>,
}

/// The client is gone, too slow, or the store cannot be read: the stream ends, and the client may
/// come back with the last id that it saw.
struct Over;

impl Stream {
    async fn run(mut self, live: Option<(Asked, u32)>) {
        // First of all a comment, so that the client has its headers before anything happens.
        if self.send(b": nO\n\n".to_vec()).await.is_err() {
            return;
        }
        let Some((asked, n)) = live else {
            let _ = self.history(u32::MAX).await;
            return;
        };
        if self.history(n).await.is_ok() {
            let _ = self.live(&asked).await;
        }
    }

    /// Sends what the store has up to event `n`; whether the task's end was among it does not
    /// matter, as the store has no more then.
    async fn history(&mut self, n: u32) -> Result<(), Over> {
        while self.after < n {
            let records = self.core.reads.events(self.id, self.after, EVENTS_PER_READ).await;
            let records = records.map_err(|why| {
                tracing::error!(target: "http", task = %self.id, why, "events cannot be read");
                Over
            })?;
            if records.is_empty() {
                return Ok(());
            }
            for record in records.into_iter().take_while(|record| record.n <= n) {
                self.event(record).await?;
            }
        }
        Ok(())
    }

    async fn live(&mut self, asked: &Asked) -> Result<(), Over> {
        let mut deltas = self.core.deltas.subscribe(self.id);
        let phase = self.core.phase.clone();
        let mut quiet_at = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
        loop {
            let sender = self.sender.clone();
            tokio::select! {
                biased;
                fed = asked.fed() => match fed {
                    Fed::Lagged => return Err(Over),
                    Fed::Event { record, is_last } => {
                        // What the store already gave is not sent again.
                        if self.after < record.n {
                            self.event(record).await?;
                        }
                        if is_last {
                            asked.settled();
                            return Ok(());
                        }
                    }
                },
                delta = deltas.next() => {
                    let mut frame = Vec::new();
                    push_delta_frame(&mut frame, &delta);
                    self.send(frame).await?;
                }
                () = tokio::time::sleep_until(quiet_at) => self.send(b":\n\n".to_vec()).await?,
                () = sender.closed() => return Err(Over),
                () = until(&phase, Phase::Stopping) => return Err(Over),
            }
            quiet_at = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
        }
    }

    async fn event(&mut self, record: Record) -> Result<(), Over> {
        let n = record.n;
        let mut frame = Vec::with_capacity(256);
        if let Err(problem) = push_frame(&self.core.reads, &mut frame, record).await {
            tracing::error!(target: "http", task = %self.id, ?problem, "an event cannot be shown");
            return Err(Over);
        }
        self.send(frame).await?;
        self.after = n;
        Ok(())
    }

    async fn send(&self, frame: Vec<u8>) -> Result<(), Over> {
        let stall = Duration::from_millis(STALL_MS_MAX);
        match tokio::time::timeout(stall, self.sender.send(frame.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }
}
