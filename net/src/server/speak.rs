//! One connection from its first request to its end, in HTTP/1.1 or HTTP/2, over TLS or not.

use super::gather::{Io, Wire};
use super::{HEAD_BYTES_MAX, STREAMS_MAX, strict, unread};
use crate::admit::is_operators;
use crate::admit::turns::{Place, Verdict};
use crate::body::{InBody, OutBody, SocketBody};
use crate::conn::{ConnState, Order};
use crate::cost::{Costs, Layer};
use crate::headers::{STRICT_TRANSPORT, secure_transport};
use crate::route::{Response, Router};
use crate::tls::Proven;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest time in which what a client still sends is thrown away before its connection closes, in
/// ms.
pub(super) const LINGER_MS_MAX: u64 = 500;

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

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaks {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Who asks on a connection, and what serves them.
pub(super) struct Asker {
    pub(super) router: Rc<Router>,
    pub(super) state: Rc<ConnState>,
    pub(super) peer: IpAddr,
    /// Whether a certificate of theirs was verified.
    pub(super) is_proven: bool,
    /// Whether the connection is TLS.
    pub(super) is_secure: bool,
}

/// Serves one connection to its end; `before` is what was read of it already.
pub(super) async fn converse<S>(socket: S, before: Bytes, speaks: Speaks, asker: Asker)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (state, router) = (Rc::clone(&asker.state), Rc::clone(&asker.router));
    let wire = Rc::new(Wire::new(socket, before, Rc::clone(&state)));
    let io = TokioIo::new(Io(Rc::clone(&wire)));
    let is_secure = asker.is_secure;
    let service = OurService(asker);
    let costs = Rc::clone(&router.core().costs);
    let end = if speaks == Speaks::Http2 {
        state.multiplexed();
        let conn = http2::Builder::new(LocalExecutor(costs))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .serve_connection(io, service);
        let mut conn = pin!(conn);
        drive(&wire, &state, &router, |ask| match ask {
            Ask::Finish => {
                conn.as_mut().graceful_shutdown();
                Poll::Pending
            }
            Ask::Look(cx) => conn.as_mut().poll(cx),
        })
        .await
    } else {
        let mut conn = http1::Builder::new()
            .header_read_timeout(None)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(io, service);
        drive(&wire, &state, &router, |ask| match ask {
            Ask::Finish => {
                Pin::new(&mut conn).graceful_shutdown();
                Poll::Pending
            }
            Ask::Look(cx) => Pin::new(&mut conn).poll(cx),
        })
        .await
    };
    let Some(end) = end else { return };
    close(&wire, &state, end, is_secure).await;
}

/// What hyper's connection is asked.
enum Ask<'a, 'cx> {
    /// To take no further request.
    Finish,
    /// To go on.
    Look(&'a mut Context<'cx>),
}

/// Lets hyper look at its connection whenever there is something to do, each new request in its
/// turn, and sends what it wrote. `None` when the connection is to be dropped as it is.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &Wire<S>,
    state: &ConnState,
    router: &Router,
    mut conn: impl FnMut(Ask<'_, '_>) -> Poll<hyper::Result<()>>,
) -> Option<hyper::Result<()>> {
    let (costs, admission) = (&router.core().costs, &router.core().admission);
    let place = Rc::new(Place::default());
    let turn = |cx: &Context<'_>| match state.needs_turn() {
        true => admission.turns.poll_turn(&place, cx),
        false => Poll::Ready(Verdict::Serve),
    };
    let mut is_finishing = false;
    poll_fn(|cx| {
        let order = state.poll_order(cx);
        if order == Order::Close {
            return Poll::Ready(None);
        }
        if order == Order::Finish && !std::mem::replace(&mut is_finishing, true) {
            let _ = conn(Ask::Finish);
        }
        if let Poll::Ready(Err(_)) = wire.poll_drain(cx) {
            return Poll::Ready(None);
        }
        let verdict = ready!(turn(cx));
        costs.poll(Layer::Net, || {
            let end = admission.under(verdict, || conn(Ask::Look(cx)));
            if let Poll::Ready(end) = end {
                return Poll::Ready(Some(end));
            }
            match wire.poll_drain(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
    })
    .await
}

/// Closes a connection so that the client can read what it was sent: a socket closed with bytes
/// unread resets, and the last answer may be lost with it. So they are read, for a while.
///
/// A head that is no HTTP or too large is answered here, with a body that hyper's answer lacks.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &Wire<S>,
    state: &ConnState,
    end: hyper::Result<()>,
    is_secure: bool,
) {
    if let Err(error) = &end {
        tracing::debug!(target: "http", %error, "a connection ended");
        match (error.is_parse(), error.is_parse_too_large()) {
            (false, _) => {}
            (true, false) => wire.answer_instead(&refusal(MALFORMED, is_secure)),
            (true, true) => wire.answer_instead(&refusal(HEAD_TOO_LARGE, is_secure)),
        }
    }
    let closed = poll_fn(|cx| match state.poll_order(cx) {
        Order::Close => Poll::Ready(()),
        Order::Go | Order::Finish => Poll::Pending,
    });
    tokio::select! {
        biased;
        () = closed => return,
        finished = wire.finish() => if finished.is_err() { return },
    }
    let _ = tokio::time::timeout(Duration::from_millis(LINGER_MS_MAX), wire.discard()).await;
}

/// A raw answer, over TLS with what every answer has there.
fn refusal(answer: &[u8], is_secure: bool) -> Vec<u8> {
    let line_end = answer.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (line, rest) = answer.split_at(line_end);
    let header = format!("strict-transport-security: {STRICT_TRANSPORT}\r\n");
    let more = if is_secure { header.as_bytes() } else { &[] };
    [line, more, rest].concat()
}

/// Sends the end of a plain socket, and reads until the other side closes as well.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) -> io::Result<()> {
    socket.shutdown().await?;
    let mut unread = [0_u8; 4_096];
    while 0 < socket.read(&mut unread).await? {}
    Ok(())
}

/// Runs what hyper spawns for HTTP/2 on this thread.
#[derive(Clone)]
pub(super) struct LocalExecutor(pub(super) Rc<Costs>);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        let costs = Rc::clone(&self.0);
        tokio::task::spawn_local(async move { costs.always(Layer::Net, future).await });
    }
}

struct OurService(Asker);

impl Service<Request<Incoming>> for OurService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let asker = &self.0;
        let in_flight = asker.state.begin();
        asker.state.set_operators(is_operators(request.uri().path()));
        let (mut parts, body) = request.into_parts();
        let strict = strict::check(&parts, &asker.state);
        if asker.is_proven {
            parts.extensions.insert(Proven);
        }
        let is_http1 = parts.version < Version::HTTP_2;
        let expects = parts.headers.contains_key(EXPECT);
        let (router, state) = (Rc::clone(&asker.router), Rc::clone(&asker.state));
        let (peer, is_secure) = (asker.peer, asker.is_secure);
        Box::pin(async move {
            let (mut response, is_last) = match strict {
                Ok(()) => {
                    let body = InBody::Socket(SocketBody::new(body, Rc::clone(&state)));
                    let response = router.serve(parts, body, peer).await;
                    let is_last = match state.take_unread() {
                        Some(body) if is_http1 => expects || !unread::discard(body).await,
                        _ => false,
                    };
                    (response, is_last)
                }
                Err(problem) => (router.refuse(&problem, parts.uri.path()), is_http1),
            };
            if is_last {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if is_secure {
                secure_transport(response.headers_mut());
            }
            Ok(response.map(|body: OutBody| body.busy(in_flight)))
        })
    }
}
