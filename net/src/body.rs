//! Bodies, in and out: as small as hyper lets them be.
//!
//! A request's body comes from a socket, or from a test. A response's body is one piece of bytes,
//! or a stream that a task writes into; either way it keeps its connection busy until hyper has
//! dropped it.

use crate::conn::{ConnState, InFlight};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The body of a request.
#[derive(Debug)]
pub enum InBody {
    /// From a connection.
    Socket(SocketBody),
    /// Handed in whole.
    Given(Option<Bytes>),
}

/// A body that its connection gets back when it is dropped before its end.
#[derive(Debug)]
pub struct SocketBody {
    /// `None` once all of it has come.
    incoming: Option<Incoming>,
    state: Rc<ConnState>,
}

impl SocketBody {
    /// The body of the request that has just begun on the connection.
    #[must_use]
    pub fn new(incoming: Incoming, state: Rc<ConnState>) -> SocketBody {
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        SocketBody { incoming, state }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.incoming = None;
        }
        polled
    }
}

impl Drop for SocketBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream()) {
            self.state.put_unread(incoming);
        }
    }
}

impl Body for InBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            InBody::Socket(body) => body.poll_frame(cx),
            InBody::Given(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            InBody::Socket(body) => body.incoming.as_ref().is_none_or(Body::is_end_stream),
            InBody::Given(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            InBody::Socket(body) => match &body.incoming {
                Some(incoming) => incoming.size_hint(),
                None => SizeHint::with_exact(0),
            },
            InBody::Given(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

/// The body of a response.
#[derive(Debug)]
pub struct OutBody {
    kind: OutKind,
    _in_flight: Option<InFlight>,
}

#[derive(Debug)]
enum OutKind {
    Full(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl OutBody {
    /// One piece.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> OutBody {
        OutBody { kind: OutKind::Full(Some(bytes.into())), _in_flight: None }
    }

    /// Nothing.
    #[must_use]
    pub fn empty() -> OutBody {
        OutBody { kind: OutKind::Full(None), _in_flight: None }
    }

    /// Pieces as they come; the stream ends when the sender is dropped.
    #[must_use]
    pub fn stream(pieces: mpsc::Receiver<Bytes>) -> OutBody {
        OutBody { kind: OutKind::Stream(pieces), _in_flight: None }
    }

    /// The same, keeping its connection busy.
    #[must_use]
    pub fn busy(mut self, in_flight: InFlight) -> OutBody {
        self._in_flight = Some(in_flight);
        self
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().kind {
            OutKind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            OutKind::Stream(pieces) => {
                pieces.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, OutKind::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            OutKind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            OutKind::Stream(_) => SizeHint::default(),
        }
    }
}
