//! The accept loop: connections, their limits and time-outs, and the drain.
//!
//! One listener, HTTP/1.1 with keep-alive and pipelining or HTTP/2. With TLS the handshake settles
//! which; without it, by prior knowledge, the first bytes tell. A handshake counts as a connection
//! and has as long as a head. Everything here runs on the net core's one thread.
//!
//! `speak` serves one connection, `gather` is its socket, `strict` refuses what is doubtful.

mod gather;
pub(crate) mod heads;
mod speak;
mod strict;
mod unread;

use crate::admit::is_operators;
use crate::conn::{Coarse, ConnState, Order, Patience};
use crate::core::{Phase, PhaseReceiver};
use crate::route::Router;
use crate::stats::Connected;
use crate::tls::TlsSource;
use bytes::{Bytes, BytesMut};
use speak::{Asker, Speaks, converse};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

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

/// What a client gets that finds [`CONNECTIONS_MAX`] before it.
const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
connection: close\r\ncontent-type: application/problem+json\r\ncontent-length: 100\r\n\r\n\
{\"type\":\"urn:no:problem:queue_full\",\"title\":\"Too many connections\",\"status\":503,\
\"code\":\"queue_full\"}";

/// What a client gets that speaks plain HTTP where TLS is due.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
content-type: application/problem+json\r\ncontent-length: 109\r\n\r\n\
{\"type\":\"urn:no:problem:bad_request\",\"title\":\"This port speaks TLS: https\",\"status\":400,\
\"code\":\"bad_request\"}";

/// How HTTP/2 begins (RFC 9113, 3.4); no HTTP/1 method begins like this.
const PREFACE: &[u8] = b"PRI ";
/// Bytes of a connection that are read first, to see what it speaks.
const FIRST_BYTES: usize = 16;
/// How a handshake of TLS begins: the type of its record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Where connections come from.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub listener: std::net::TcpListener,
    /// How it is secured; `None` for plain HTTP.
    pub tls: Option<TlsSource>,
}

impl From<std::net::TcpListener> for Door {
    fn from(listener: std::net::TcpListener) -> Door {
        Door { listener, tls: None }
    }
}

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
    door: impl Into<Door>,
    router: Rc<Router>,
    limits: ServerLimits,
    mut phase: PhaseReceiver,
) -> io::Result<()> {
    let Door { listener, tls } = door.into();
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
        let front = Front { listener: &listener, tls: tls.as_ref() };
        let accepting = accept(&front, &router, &limits, &clock, &open);
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

/// The door, on the reactor.
struct Front<'f> {
    listener: &'f TcpListener,
    tls: Option<&'f TlsSource>,
}

async fn accept(
    front: &Front<'_>,
    router: &Rc<Router>,
    limits: &ServerLimits,
    clock: &Coarse,
    open: &Open,
) {
    loop {
        let (socket, peer) = match front.listener.accept().await {
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
            if front.tls.is_none() {
                let _ = socket.try_write(REFUSED);
            }
            continue;
        }
        let connected = stats.connected();
        let _ = socket.set_nodelay(true);
        let state = ConnState::new(Rc::clone(clock), Rc::clone(&open.closed));
        open.states.borrow_mut().push(Rc::downgrade(&state));
        let asker =
            Asker { router: Rc::clone(router), state, peer, is_proven: false, is_secure: false };
        let tls = front.tls.map(TlsSource::now);
        tokio::task::spawn_local(connection(socket, asker, tls, connected));
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
    mut socket: TcpStream,
    mut asker: Asker,
    tls: Option<TlsAcceptor>,
    _connected: Connected,
) {
    let Some(acceptor) = tls else {
        let Some((speaks, first)) = first_words(&mut socket, &asker.state).await else { return };
        return converse(socket, first, speaks, asker).await;
    };
    match peek(&socket, &asker.state).await {
        None => return,
        Some(TLS_HANDSHAKE) => {}
        Some(_) => return refuse_plain(socket).await,
    }
    let state = Rc::clone(&asker.state);
    let shaken = tokio::select! {
        biased;
        () = ordered(&state) => return,
        shaken = acceptor.accept(socket) => shaken,
    };
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(target: "http", peer = %asker.peer, %error, "no handshake");
            return;
        }
    };
    state.secured();
    let session = stream.get_ref().1;
    let speaks = match session.alpn_protocol() {
        Some(b"h2") => Speaks::Http2,
        _ => Speaks::Http1,
    };
    asker.is_proven = session.peer_certificates().is_some_and(|chain| !chain.is_empty());
    asker.is_secure = true;
    converse(stream, Bytes::new(), speaks, asker).await;
}

/// Ready once the connection is told to end.
async fn ordered(state: &ConnState) {
    poll_fn(|cx| match state.poll_order(cx) {
        Order::Go => Poll::Pending,
        Order::Finish | Order::Close => Poll::Ready(()),
    })
    .await;
}

/// The first byte, without taking it; `None` when none comes, or we are ordered to close.
async fn peek(socket: &TcpStream, state: &ConnState) -> Option<u8> {
    let mut first = [0_u8; 1];
    let len = tokio::select! {
        biased;
        () = ordered(state) => return None,
        peeked = socket.peek(&mut first) => peeked.ok()?,
    };
    (0 < len).then_some(first[0])
}

/// Says in plain words that TLS is due: the other side would not understand an alert.
async fn refuse_plain(mut socket: TcpStream) {
    let saying = async {
        socket.write_all(NOT_TLS).await?;
        speak::linger(&mut socket).await
    };
    let _ = tokio::time::timeout(Duration::from_millis(speak::LINGER_MS_MAX), saying).await;
}

/// What the first bytes speak, and they; `None` when none come, or we are ordered to close.
async fn first_words(socket: &mut TcpStream, state: &ConnState) -> Option<(Speaks, Bytes)> {
    let mut first = BytesMut::with_capacity(FIRST_BYTES);
    loop {
        let len = tokio::select! {
            biased;
            () = ordered(state) => return None,
            read = socket.read_buf(&mut first) => read.ok()?,
        };
        let shared = first.len().min(PREFACE.len());
        if first[..shared] != PREFACE[..shared] || len == 0 {
            let path = first.strip_prefix(b"GET ").unwrap_or_default();
            state.set_operators(std::str::from_utf8(path).is_ok_and(is_operators));
            return (!first.is_empty()).then(|| (Speaks::Http1, first.freeze()));
        }
        if shared == PREFACE.len() {
            return Some((Speaks::Http2, first.freeze()));
        }
    }
}

#[cfg(test)]
mod tests;
