//! `GET /admin/live`: a node's figures each second, as server-sent events for the console. Needs
//! `ops:read`, and as the status shows the node and no task of anybody.
//!
//! One loop a net core asks the shards and writes one frame for all who watch, so ten consoles cost
//! what one does; it ends half a minute after the last of them. Each frame is whole: a watcher that
//! is slow misses some, and one that takes none for long is let go. Who comes later first gets the
//! rates and latencies of the last two minutes, as far as somebody watched. Streams end when the
//! node drains, and after five minutes, so that who may no longer watch finds out; who may comes
//! back.

mod figures;

use crate::monitor::Monitor;
use crate::vitals::{Stage, Vitals};
use figures::Figures;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use no_auth::Permission;
use no_engine::time::Millis;
use no_net::body::OutBody;
use no_net::core::{Core, Phase, until};
use no_net::extract::Request;
use no_net::problem::{Code, Problem};
use no_net::route::{Access, Outcome, Response, Router, handler};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Between two frames.
const PERIOD: Duration = Duration::from_secs(1);
/// Who may watch one net core at once.
pub const WATCHERS_MAX: usize = 32;
/// Frames that wait for a socket.
const FRAMES_LEN: usize = 4;
/// Frames in a row that a watcher may miss before it is let go.
const MISSED_MAX: u32 = 30;
/// Frames that are remembered for who comes later.
const HISTORY_LEN: usize = 120;
/// The loop goes on for so many frames without a watcher: who loads the page anew keeps its charts.
const ALONE_MAX: u32 = 30;
/// A stream ends after this long.
const STREAM_MAX: Duration = Duration::from_secs(300);

struct Watcher {
    sender: mpsc::Sender<Bytes>,
    missed: u32,
    until: Instant,
}

/// What the watchers of one net core share.
struct Hub {
    monitor: Monitor,
    vitals: Arc<Vitals>,
    started_at: Millis,
    watchers: RefCell<Vec<Watcher>>,
    is_running: Cell<bool>,
    /// The last frame, for who has just come.
    last: RefCell<Option<Bytes>>,
    /// What charts show of the frames before, as JSON.
    history: RefCell<VecDeque<String>>,
}

/// Adds `/admin/live`.
pub fn mount(router: &mut Router, monitor: Monitor, vitals: &Arc<Vitals>, started_at: Millis) {
    let hub = Rc::new(Hub {
        monitor,
        vitals: Arc::clone(vitals),
        started_at,
        watchers: RefCell::default(),
        is_running: Cell::new(false),
        last: RefCell::default(),
        history: RefCell::default(),
    });
    let watch = handler(move |request: Request| {
        let watched = request.no_query().and_then(|()| hub.watch(&request.core));
        std::future::ready(watched)
    });
    router.mount(Method::GET, "/admin/live", Access::Needs(Permission::OpsRead), watch);
}

impl Hub {
    fn watch(self: &Rc<Hub>, core: &Rc<Core>) -> Outcome {
        if self.is_over(core) {
            return Err(Problem::new(Code::Draining, ""));
        }
        let mut watchers = self.watchers.borrow_mut();
        watchers.retain(|watcher| !watcher.sender.is_closed());
        if WATCHERS_MAX <= watchers.len() {
            let detail = "32 watch this net core already; close one of them";
            return Err(Problem::new(Code::QueueFull, detail));
        }
        let (sender, frames) = mpsc::channel(FRAMES_LEN);
        // Cannot fail: it is new. First a comment, so that headers leave before the first figures.
        let _ = sender.try_send(Bytes::from_static(b": nO\n\n"));
        let _ = self.history().map(|frame| sender.try_send(frame));
        let _ = self.last.borrow().as_ref().map(|frame| sender.try_send(frame.clone()));
        watchers.push(Watcher { sender, missed: 0, until: Instant::now() + STREAM_MAX });
        drop(watchers);
        if !self.is_running.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).run(Rc::clone(core)));
        }
        let mut response = Response::new(OutBody::stream(frames));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }

    fn is_over(&self, core: &Core) -> bool {
        self.vitals.stage() == Stage::Draining || Phase::Draining <= *core.phase.borrow()
    }

    async fn run(self: Rc<Hub>, core: Rc<Core>) {
        let mut figures = Figures::default();
        let mut next = Instant::now();
        let mut alone = 0;
        while !self.is_over(&core) && alone < ALONE_MAX {
            let now = self.monitor.snapshot(&core).await;
            let shown = figures.shown(&now, &self.vitals, self.started_at);
            let frame = Bytes::from(format!("event: figures\ndata: {shown}\n\n"));
            *self.last.borrow_mut() = Some(frame.clone());
            self.send(&frame);
            self.remember(&shown);
            alone = if self.watchers.borrow().is_empty() { alone + 1 } else { 0 };
            next = (next + PERIOD).max(Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = until(&core.phase, Phase::Draining) => {}
            }
        }
        self.is_running.set(false);
        self.watchers.borrow_mut().clear();
        self.history.borrow_mut().clear();
        *self.last.borrow_mut() = None;
    }

    fn remember(&self, shown: &Value) {
        if shown["per_s"].is_null() {
            return;
        }
        let mut history = self.history.borrow_mut();
        history.truncate(HISTORY_LEN - 1);
        history.push_front(figures::charted(shown).to_string());
    }

    /// The frames before, the oldest first, in one event.
    fn history(&self) -> Option<Bytes> {
        let history = self.history.borrow();
        let all: Vec<&str> = history.iter().rev().map(String::as_str).collect();
        (!all.is_empty()).then(|| format!("event: history\ndata: [{}]\n\n", all.join(",")).into())
    }

    /// Gives each watcher the frame, and lets go who is gone, too slow, or has watched for long.
    fn send(&self, frame: &Bytes) {
        let now = Instant::now();
        self.watchers.borrow_mut().retain_mut(|watcher| {
            match watcher.sender.try_send(frame.clone()) {
                Ok(()) => watcher.missed = 0,
                Err(mpsc::error::TrySendError::Full(_)) => watcher.missed += 1,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
            watcher.missed < MISSED_MAX && now < watcher.until
        });
    }
}
