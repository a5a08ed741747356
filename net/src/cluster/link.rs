//! A request to another node, over connections that are kept.
//!
//! Whatever it is, it is sent once: when the connection breaks after it may have arrived, the
//! sender is told so, and decides whether it may be sent again.

use super::{Cluster, PASS, Peer};
use crate::body::OutBody;
use crate::out::connect::CONNECT_TIMEOUT;
use crate::problem::{Code, Problem};
use crate::route::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use hyper::{Method, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use no_auth::Principal;
use no_engine::command::Refusal;
use std::time::Duration;
use tokio::sync::mpsc;

/// Idle connections that are kept to one node.
const IDLE_PER_PEER_MAX: usize = 64;
/// How long one is kept: less than a node keeps its idle connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Until the head of an answer is there; a long poll lasts up to a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(100);
/// Longest answer that is read as a whole.
const WHOLE_BYTES_MAX: usize = 64 << 20;
/// Pieces of a body that wait for the socket.
const PIECES_LEN: usize = 16;

/// What of an answer is handed on.
const CARRIED: [HeaderName; 5] = [
    CONTENT_TYPE,
    CACHE_CONTROL,
    LOCATION,
    RETRY_AFTER,
    HeaderName::from_static("x-accel-buffering"),
];

/// What of a request is handed on.
const SENT_ON: [&str; 5] =
    ["content-type", "accept", "idempotency-key", "last-event-id", "traceparent"];

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreached {
    /// It did not arrive.
    NotSent,
    /// It may have arrived.
    MaybeDone,
}

/// One request to another node.
pub(crate) struct Errand<'e> {
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: &'e str,
    /// Of the request that is sent on; the others are left out.
    pub(crate) headers: &'e HeaderMap,
    /// One more.
    pub(crate) more: Option<(&'static str, String)>,
    pub(crate) principal: &'e Principal,
    pub(crate) body: Bytes,
}

/// The connections of one net core to the other nodes.
pub struct Links(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Links {
    /// No connection yet; who speaks for a node with TLS is checked as `tls` says.
    #[must_use]
    pub fn new(tls: &rustls::ClientConfig) -> Links {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT / 5));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Links(
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_PER_PEER_MAX)
                .build(connector),
        )
    }

    /// Sends an errand to `peer`; its answer with the body yet to come.
    pub(crate) async fn send(
        &self,
        cluster: &Cluster,
        peer: &Peer,
        errand: Errand<'_>,
    ) -> Result<hyper::Response<Incoming>, Unreached> {
        let Errand { method, path, headers, more, principal, body } = errand;
        let names = (&**cluster.name(), &*peer.name);
        let pass = cluster.key().pass(names, (method.as_str(), path), principal);
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", peer.address))
            .header(PASS, pass);
        for name in SENT_ON {
            for value in headers.get_all(name) {
                request = request.header(name, value);
            }
        }
        if let Some((name, value)) = more {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| {
            tracing::error!(target: "cluster", node = &*peer.name, %error, "not a request");
            Unreached::NotSent
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, self.0.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let (node, address) = (&*peer.name, &*peer.address);
                let why = chain(&error);
                tracing::warn!(target: "cluster", node, address, why, "a node was not reached");
                match error.is_connect() {
                    true => Err(Unreached::NotSent),
                    false => Err(Unreached::MaybeDone),
                }
            }
            Err(_) => Err(Unreached::MaybeDone),
        }
    }
}

/// All that an error says.
fn chain(error: &dyn std::error::Error) -> String {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    why
}

/// Whether an answer is a stream that is handed on as it comes.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

/// A stream of another node as ours. It ends where the other one breaks off: who reads events goes
/// on from the last.
pub(crate) fn handed_on(answer: hyper::Response<Incoming>) -> Response {
    let (head, mut body) = answer.into_parts();
    let (sender, pieces) = mpsc::channel(PIECES_LEN);
    tokio::task::spawn_local(async move {
        loop {
            tokio::select! {
                // Who reads it is gone: so is the other node's reason to go on.
                () = sender.closed() => return,
                frame = body.frame() => {
                    let Some(Ok(frame)) = frame else { return };
                    let Ok(piece) = frame.into_data() else { continue };
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    with_head(head.status, &head.headers, OutBody::stream(pieces))
}

/// The whole of an answer.
pub(crate) async fn whole(
    answer: hyper::Response<Incoming>,
) -> Result<(StatusCode, HeaderMap, Bytes), Unreached> {
    let (head, body) = answer.into_parts();
    let read = Limited::new(body, WHOLE_BYTES_MAX).collect().await;
    let body = read.map_err(|_| Unreached::MaybeDone)?.to_bytes();
    Ok((head.status, head.headers, body))
}

/// A response with what is handed on of a head.
pub(crate) fn with_head(status: StatusCode, head: &HeaderMap, body: OutBody) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for name in CARRIED {
        if let Some(value) = head.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Whether an answer says that the partition is not that node's.
pub(crate) fn is_moved(status: StatusCode, body: &[u8]) -> bool {
    status == Code::PartitionUnowned.status() && says_moved(body)
}

/// Whether a problem, or a row of an answer, says that the partition is not that node's.
pub(crate) fn says_moved(body: &[u8]) -> bool {
    memchr::memmem::find(body, br#""code":"partition_unowned""#).is_some()
}

impl From<Unreached> for Problem {
    fn from(unreached: Unreached) -> Problem {
        match unreached {
            Unreached::NotSent => {
                Problem::new(Code::PartitionUnowned, "the node that has it is not reached")
            }
            Unreached::MaybeDone => Refusal::Unanswered.into(),
        }
    }
}
