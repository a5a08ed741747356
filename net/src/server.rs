//! The accept loop: connections, their limits and time-outs, and the drain.
//!
//! One listener, HTTP/1.1 with keep-alive and pipelining or HTTP/2 by prior knowledge: the first
//! bytes tell which. Everything here runs on the net core's one thread.

use crate::admit::is_operators;
use crate::admit::turns::{Place, Verdict};
use crate::body::{InBody, OutBody};
use crate::conn::{Coarse, ConnState, Io, Order, Patience};
use crate::core::{Phase, PhaseReceiver};
use crate::cost::{Costs, Layer};
use crate::route::{Response, Router};
use crate::stats::Connected;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Open connections of one net core.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Largest head of a request, in bytes; it has at most 100 headers, as hyper keeps to by itself.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Requests under way on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 256;
/// How long a connection may take.
pub const PATIENCE: Patience = Patience { head_ms: 5_000, idle_ms: 75_000, write_ms: 30_000 };
/// Time between two looks at all connections, in ms.
const SWEEP_MS: u64 = 500;
/// Wait after an accept that failed for want of file handles, in ms.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Longest time in which what a client still sends is thrown away before its connection closes, in
/// ms.
const LINGER_MS_MAX: u64 = 500;

/// What a client gets that finds [`CONNECTIONS_MAX`] before it.
const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
connection: close\r\ncontent-type: application/problem+json\r\ncontent-length: 100\r\n\r\n\
{\"type\":\"urn:no:problem:queue_full\",\"title\":\"Too many connections\",\"status\":503,\
\"code\":\"queue_full\"}";

/// What a client gets whose head is no HTTP.
const MALFORMED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
content-type: application/problem+json\r\ncontent-length: 106\r\n\r\n\
{\"type\":\"urn:no:problem:bad_request\",\"title\":\"The request is malformed\",\"status\":400,\
\"code\":\"bad_request\"}";

/// What a client gets whose head is larger than [`HEAD_BYTES_MAX`], or has more than 100 headers.
const HEAD_TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\
connection: close\r\ncontent-type: application/problem+json\r\ncontent-length: 99\r\n\r\n\
{\"type\":\"urn:no:problem:too_large\",\"title\":\"The head is too large\",\"status\":431,\
\"code\":\"too_large\"}";

/// How HTTP/2 begins (RFC 9113, 3.4); no HTTP/1 method begins like this.
const PREFACE: &[u8] = b"PRI ";
/// Bytes of a first request that are looked at before it is read.
const PEEK_BYTES: usize = 16;

/// Bounds that a test or a configuration may set lower.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Open connections.
    pub connections_max: usize,
    /// How long a connection may take.
    pub patience: Patience,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits { connections_max: CONNECTIONS_MAX, patience: PATIENCE }
    }
}

/// The connections that are open, and what rings when one has closed.
#[derive(Default)]
struct Connections {
    states: RefCell<Vec<Weak<ConnState>>>,
    closed: Rc<Notify>,
}

type Open = Rc<Connections>;

/// Serves until the phase is [`Phase::Stopping`] and what was under way is done.
///
/// # Errors
/// When the reactor does not take the listener.
pub async fn serve(
    listener: std::net::TcpListener,
    router: Rc<Router>,
    limits: ServerLimits,
    mut phase: PhaseReceiver,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let clock = Coarse::default();
    let open = Open::default();
    let sweep = sweep(Rc::clone(&clock), Rc::clone(&open), limits.patience);
    let sweep = AbortOnDrop(tokio::task::spawn_local(sweep));
    let admission = Rc::clone(&router.core().admission);
    // A task like those that ask for turns: so every one that is ready is looked at between passes.
    let passes = async move { admission.turns.pass_always().await };
    let passes = AbortOnDrop(tokio::task::spawn_local(passes));
    {
        let accepting = accept(&listener, &router, &limits, &clock, &open);
        tokio::select! {
            () = accepting => {}
            // Nobody who could say so is there any more: that is a stop as well.
            _ = phase.wait_for(|now| Phase::Draining <= *now) => {}
        }
    }
    drop(listener);
    let _ = phase.wait_for(|now| Phase::Stopping <= *now).await;
    finish(&open).await;
    drop((sweep, passes));
    Ok(())
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(
    listener: &TcpListener,
    router: &Rc<Router>,
    limits: &ServerLimits,
    clock: &Coarse,
    open: &Open,
) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok((socket, peer)) => (socket, peer.ip().to_canonical()),
            Err(error) => {
                // Out of file handles, or the peer is gone already; the listener itself is sound.
                tracing::warn!(target: "http", %error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        let stats = &router.core().stats;
        if limits.connections_max as u64 <= stats.connections() {
            stats.connection_refused();
            let _ = socket.try_write(REFUSED);
            continue;
        }
        let connected = stats.connected();
        let _ = socket.set_nodelay(true);
        let state = ConnState::new(Rc::clone(clock), Rc::clone(&open.closed));
        open.states.borrow_mut().push(Rc::downgrade(&state));
        tokio::task::spawn_local(connection(socket, peer, state, Rc::clone(router), connected));
    }
}

/// Moves the coarse clock, and ends connections that take too long.
async fn sweep(clock: Coarse, open: Open, patience: Patience) {
    let begun = Instant::now();
    let mut every = tokio::time::interval(Duration::from_millis(SWEEP_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        clock.set(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        open.states.borrow_mut().retain(|state| match state.upgrade() {
            Some(state) => {
                if state.is_overdue(&patience) {
                    state.order(Order::Close);
                }
                true
            }
            None => false,
        });
    }
}

/// Has every connection finish what is under way, and waits until all are closed.
async fn finish(open: &Open) {
    loop {
        let mut is_open = false;
        for state in open.states.borrow().iter().filter_map(Weak::upgrade) {
            state.order(Order::Finish);
            is_open = true;
        }
        if !is_open {
            return;
        }
        open.closed.notified().await;
    }
}

async fn connection(
    socket: TcpStream,
    peer: IpAddr,
    state: Rc<ConnState>,
    router: Rc<Router>,
    _connected: Connected,
) {
    let Some(is_http2) = speaks_http2(&socket, &state).await else { return };
    let costs = Rc::clone(&router.core().costs);
    let admission = Rc::clone(&router.core().admission);
    let place = Rc::new(Place::default());
    let turn = |cx: &Context<'_>| match state.needs_turn() {
        true => admission.turns.poll_turn(&place, cx),
        false => Poll::Ready(Verdict::Serve),
    };
    let service = OurService { router, state: Rc::clone(&state), peer };
    let io = TokioIo::new(Io { socket, state: Rc::clone(&state) });
    if is_http2 {
        state.multiplexed();
        let conn = http2::Builder::new(LocalExecutor(Rc::clone(&costs)))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .serve_connection(io, service);
        let mut conn = pin!(conn);
        let mut is_finishing = false;
        let _ = poll_fn(|cx| match state.poll_order(cx) {
            Order::Close => Poll::Ready(Ok(())),
            order => {
                if order == Order::Finish && !std::mem::replace(&mut is_finishing, true) {
                    conn.as_mut().graceful_shutdown();
                }
                let verdict = ready!(turn(cx));
                let look = || admission.under(verdict, || conn.as_mut().poll(cx));
                costs.poll(Layer::Net, look)
            }
        })
        .await;
        return;
    }
    let mut conn = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .pipeline_flush(true)
        .serve_connection(io, service);
    let mut is_finishing = false;
    let end = poll_fn(|cx| match state.poll_order(cx) {
        Order::Close => Poll::Ready(None),
        order => {
            if order == Order::Finish && !std::mem::replace(&mut is_finishing, true) {
                Pin::new(&mut conn).graceful_shutdown();
            }
            let verdict = ready!(turn(cx));
            let look = || admission.under(verdict, || conn.poll_without_shutdown(cx));
            costs.poll(Layer::Net, look).map(Some)
        }
    });
    let Some(end) = end.await else { return };
    close(conn.into_parts().io.into_inner().socket, end).await;
}

/// Closes an HTTP/1.1 connection so that the client can read what it was sent: a socket closed with
/// bytes unread resets, and the last answer may be lost with it. So they are read, for a while.
///
/// A head that is no HTTP or too large is answered here: hyper does so itself, but with pipelined
/// answers gathered it ends before it has written them.
async fn close(mut socket: TcpStream, end: hyper::Result<()>) {
    if let Err(error) = &end {
        tracing::debug!(target: "http", %error, "a connection ended");
        let answer = match (error.is_parse(), error.is_parse_too_large()) {
            (false, _) => &[],
            (true, false) => MALFORMED,
            (true, true) => HEAD_TOO_LARGE,
        };
        let _ = socket.try_write(answer);
    }
    let linger = async {
        socket.shutdown().await?;
        let mut unread = [0_u8; 4_096];
        while 0 < socket.read(&mut unread).await? {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(Duration::from_millis(LINGER_MS_MAX), linger).await;
}

/// Looks at the first bytes without taking them; `None` when none come, or we are ordered to close.
async fn speaks_http2(socket: &TcpStream, state: &ConnState) -> Option<bool> {
    let mut first = [0_u8; PEEK_BYTES];
    loop {
        let ordered = poll_fn(|cx| match state.poll_order(cx) {
            Order::Go => Poll::Pending,
            Order::Finish | Order::Close => Poll::Ready(()),
        });
        let len = tokio::select! {
            biased;
            () = ordered => return None,
            peeked = socket.peek(&mut first) => peeked.ok()?,
        };
        if len == 0 {
            return None;
        }
        let shared = len.min(PREFACE.len());
        if first[..shared] != PREFACE[..shared] {
            let path = first[..len].strip_prefix(b"GET ").unwrap_or_default();
            state.set_operators(std::str::from_utf8(path).is_ok_and(is_operators));
            return Some(false);
        }
        if shared == PREFACE.len() {
            return Some(true);
        }
        // Less than four bytes that may yet become a preface; a peek does not wait for more.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs what hyper spawns for HTTP/2 on this thread.
#[derive(Clone)]
struct LocalExecutor(Rc<Costs>);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        let costs = Rc::clone(&self.0);
        tokio::task::spawn_local(async move { costs.always(Layer::Net, future).await });
    }
}

struct OurService {
    router: Rc<Router>,
    state: Rc<ConnState>,
    peer: IpAddr,
}

impl Service<hyper::Request<Incoming>> for OurService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>>>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let in_flight = self.state.begin();
        self.state.set_operators(is_operators(request.uri().path()));
        let (router, peer) = (Rc::clone(&self.router), self.peer);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let response = router.serve(parts, InBody::Socket(body), peer).await;
            Ok(response.map(|body: OutBody| body.busy(in_flight)))
        })
    }
}

#[cfg(test)]
mod tests;
