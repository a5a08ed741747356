//! The client of calls out: a pool of connections behind the guard, redirects, bounded answers.
//!
//! Each allowance (the general one, each model's own) has a client and pool of its own, since a
//! pooled connection to an address that only a model may reach must not serve a tool's call.

use super::connect::{ConnectError, Connector, Resolver, system_resolver};
use super::error::CallError;
use super::guard::Guard;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use url::Url;

/// Redirects that one call follows.
pub const REDIRECTS_MAX: usize = 5;
/// Idle connections that are kept for one host.
pub const IDLE_PER_HOST_MAX: usize = 32;
/// How long an idle connection is kept: less than servers and load balancers usually do.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection of HTTP/2 that is in use is probed this often, so that a dead one is noticed.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// Headers that follow a redirect to another origin.
const CARRIED: [&str; 5] =
    ["accept", "content-type", "user-agent", "idempotency-key", "traceparent"];
/// How long [`finish`] waits for the end of a body.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a request may have reached the other side: set once a connection takes it in hand.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Whether it may have.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request's body, which notes when a connection first looks at it: just before it writes the
/// head.
pub struct Outgoing {
    data: Option<Bytes>,
    sent: Sent,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to, checked by [`Client::check`].
    pub url: Url,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
}

/// One answer, its body yet to be read.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Incoming,
}

/// A client with its pool. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pool: legacy::Client<Connector, Outgoing>,
    guard: Arc<Guard>,
}

impl Client {
    /// A client behind `guard`.
    #[must_use]
    pub fn new(guard: Guard, tls: &rustls::ClientConfig) -> Client {
        Client::resolving(guard, tls, system_resolver())
    }

    /// The same with another resolver of names.
    #[must_use]
    pub fn resolving(guard: Guard, tls: &rustls::ClientConfig, resolver: Resolver) -> Client {
        let guard = Arc::new(guard);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http2_keep_alive_interval(PROBE_INTERVAL)
            .build(Connector::new(Arc::clone(&guard), tls, resolver));
        Client { pool, guard }
    }

    /// Parses a URL whose host and port a definition names, and checks that it may be called.
    ///
    /// # Errors
    /// [`CallError::Refused`].
    pub fn check(&self, url: &str) -> Result<Url, CallError> {
        self.guard.check_url(url).map_err(|why| CallError::Refused { why, maybe_done: false })
    }

    /// The same for a URL whose host or port came from somewhere else: the port must be one of the
    /// web, or allowed.
    ///
    /// # Errors
    /// [`CallError::Refused`].
    pub fn check_led(&self, url: &str) -> Result<Url, CallError> {
        self.guard.check_led(url, None).map_err(|why| CallError::Refused { why, maybe_done: false })
    }

    /// Sends `request`, follows redirects, and returns once the answer's head is there.
    ///
    /// # Errors
    /// [`CallError`]; a status is not one.
    pub async fn send(&self, mut request: Request, sent: &Sent) -> Result<Reply, CallError> {
        let mut acted = false;
        for _ in 0..=REDIRECTS_MAX {
            let reply = self.send_once(&request, sent).await;
            let reply = reply.map_err(|e| if acted { e.after_acting() } else { e })?;
            let Some(location) = redirect(&reply)? else { return Ok(reply) };
            // A 303 says that the request was acted on and where its result is.
            acted |= reply.status == StatusCode::SEE_OTHER;
            let next = self.redirected(request, reply.status, &location);
            request = next.map_err(|e| if acted { e.after_acting() } else { e })?;
        }
        let error = redirect_refused("too many redirects");
        Err(if acted { error.after_acting() } else { error })
    }

    /// Sends `request` and returns once the answer's head is there, whatever it says.
    ///
    /// # Errors
    /// [`CallError`]; a status is not one.
    pub async fn send_once(&self, request: &Request, sent: &Sent) -> Result<Reply, CallError> {
        let body = Outgoing {
            data: (!request.body.is_empty()).then(|| request.body.clone()),
            sent: sent.clone(),
        };
        let mut built = hyper::Request::builder()
            .method(&request.method)
            .uri(request.url.as_str())
            .body(body)
            .map_err(|e| CallError::Connect(e.to_string()))?;
        *built.headers_mut() = request.headers.clone();
        let reply = self.pool.request(built).await.map_err(|e| refine(&e, sent))?;
        let (head, body) = reply.into_parts();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// The request that follows a redirect, checked anew.
    fn redirected(
        &self,
        mut request: Request,
        status: StatusCode,
        location: &str,
    ) -> Result<Request, CallError> {
        let to = resolve(&request.url, location);
        let to = to.ok_or(redirect_refused("the redirect's location is malformed"))?;
        let named = request.url.port_or_known_default();
        let url = self
            .guard
            .check_led(&to, named)
            .map_err(|why| CallError::Refused { why, maybe_done: false })?;
        if request.url.scheme() == "https" && url.scheme() != "https" {
            return Err(redirect_refused("a redirect from https to http is not followed"));
        }
        if request.url.origin() != url.origin() {
            // Which headers hold secrets only who added them knows; so what stays is named here.
            let headers = std::mem::take(&mut request.headers).into_iter();
            let named = headers.filter_map(|(name, value)| Some((name?, value)));
            request.headers = named.filter(|(name, _)| CARRIED.contains(&name.as_str())).collect();
        }
        let keeps =
            matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !keeps {
            request.method = Method::GET;
            request.body = Bytes::new();
            request.headers.remove(header::CONTENT_TYPE);
        }
        request.url = url;
        Ok(request)
    }
}

fn redirect_refused(why: &'static str) -> CallError {
    CallError::Redirect { why, maybe_done: false }
}

/// The location of a redirect that we follow, or `None` for any other answer.
fn redirect(reply: &Reply) -> Result<Option<String>, CallError> {
    if !matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = reply.headers.get(header::LOCATION) else { return Ok(None) };
    let malformed = redirect_refused("the redirect's location is malformed");
    location.to_str().map(|text| Some(text.to_owned())).map_err(|_| malformed)
}

/// Where a location leads: relative ones from `url`. The guard parses the result again.
fn resolve(url: &Url, location: &str) -> Option<String> {
    if location.contains("://") && Url::parse(location).is_ok() {
        return Some(location.to_owned());
    }
    url.join(location).ok().map(String::from)
}

/// Tells apart what happened by where it happened.
fn refine(error: &legacy::Error, sent: &Sent) -> CallError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(ConnectError::Refused(why)) = cause.downcast_ref::<ConnectError>() {
            return CallError::Refused { why: why.clone(), maybe_done: false };
        }
        source = cause.source();
    }
    if error.is_connect() {
        return CallError::Connect(root_cause(error));
    }
    CallError::Broken { why: root_cause(error), maybe_done: sent.get() }
}

/// The innermost words of an error: the outer ones only say "client error".
fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// One piece of an answer's body, `None` at its end.
///
/// # Errors
/// [`CallError::Broken`].
pub async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, CallError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(e)) => {
                return Err(CallError::Broken { why: root_cause(&e), maybe_done: true });
            }
        }
    }
}

/// The whole body, up to `bytes_max`: past that reading stops and the connection is dropped.
///
/// # Errors
/// [`CallError::TooLarge`], [`CallError::Broken`].
pub async fn read_all(body: &mut Incoming, bytes_max: usize) -> Result<Vec<u8>, CallError> {
    if (bytes_max as u64) < body.size_hint().lower() {
        return Err(CallError::TooLarge { bytes_max });
    }
    let mut all = Vec::new();
    while let Some(piece) = next_piece(body).await? {
        if bytes_max - all.len() < piece.len() {
            return Err(CallError::TooLarge { bytes_max });
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// Reads what is left of a body whose content is complete, so that its connection can be used
/// again.
///
/// Goes on by itself, and gives up soon: then the connection is closed instead.
pub fn finish(mut body: Incoming) {
    tokio::task::spawn_local(async move {
        let rest = async { while let Ok(Some(_)) = next_piece(&mut body).await {} };
        let _ = tokio::time::timeout(FINISH_TIMEOUT, rest).await;
    });
}

/// The start of a body for an error's quote: reads no more than that needs, and forgives a cut.
pub async fn read_start(body: &mut Incoming, bytes_max: usize) -> Vec<u8> {
    let mut start = Vec::new();
    while start.len() < bytes_max {
        match next_piece(body).await {
            Ok(Some(piece)) => start.extend_from_slice(&piece),
            Ok(None) | Err(_) => break,
        }
    }
    start.truncate(bytes_max);
    start
}

/// The headers that every call carries.
#[must_use]
pub fn common_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let agent = HeaderValue::from_static(concat!("nO/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    headers
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.set();
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent.set();
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.sent.set();
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests;
