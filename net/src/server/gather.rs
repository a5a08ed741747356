//! A socket whose writes are gathered: what one look at a connection writes leaves it in one piece.
//!
//! hyper can gather pipelined answers itself, but then holds them back while anything is unread
//! behind them, and drops them when the connection ends like that: an answer to a request would be
//! lost because of the bytes that follow it. Here hyper's writes go into a buffer that outlives it,
//! and whoever polls the connection sends the buffer after each poll, so that one answer or sixteen
//! cost one system call, and none is lost. TLS gets whole records by the same way.

use crate::conn::ConnState;
use bytes::Bytes;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered before the socket has to take some; what is longer goes out uncopied.
const GATHER_BYTES_MAX: usize = 16 * 1024;
/// Room that a connection keeps for its next answer.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// The socket with what is on its way out, shared by hyper and by who polls it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: RefCell<S>,
    /// What was read of the socket before hyper had it.
    before: RefCell<Bytes>,
    out: RefCell<Out>,
    state: Rc<ConnState>,
}

/// hyper's end of a [`Wire`].
#[derive(Debug)]
pub(super) struct Io<S>(pub(super) Rc<Wire<S>>);

#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    /// Of these the socket has taken so many.
    taken: usize,
    /// Where the last write began.
    last_at: usize,
    /// Whether the socket itself may hold bytes back.
    is_unflushed: bool,
}

impl Out {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_unflushed
    }

    fn clear(&mut self) {
        if KEPT_BYTES_MAX < self.bytes.capacity() {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        (self.taken, self.last_at, self.is_unflushed) = (0, 0, false);
    }
}

impl<S> Wire<S> {
    /// Of the socket `before` was read already; hyper reads that first.
    pub(super) fn new(socket: S, before: Bytes, state: Rc<ConnState>) -> Wire<S> {
        let (socket, before) = (RefCell::new(socket), RefCell::new(before));
        Wire { socket, before, out: RefCell::default(), state }
    }

    /// What was read of the socket before.
    fn put_before(&self, buf: &mut ReadBuf<'_>) {
        let mut before = self.before.borrow_mut();
        if !before.is_empty() {
            let len = before.len().min(buf.remaining());
            buf.put_slice(&before.split_to(len));
        }
    }

    /// Puts `answer` in the place of hyper's own answer to a malformed head: that has no body, and
    /// is the last thing that was written. Nothing happens when it is not there.
    pub(super) fn answer_instead(&self, answer: &[u8]) {
        let mut out = self.out.borrow_mut();
        let at = out.last_at.max(out.taken);
        let last = &out.bytes[at..];
        if last.starts_with(b"HTTP/1.1 4") && last.ends_with(b"\r\n\r\n") {
            out.bytes.truncate(at);
            out.bytes.extend_from_slice(answer);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Sends what was gathered; ready once the socket has taken all.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut socket = self.socket.borrow_mut();
        let out = &mut *out;
        while out.taken < out.bytes.len() {
            let polled = Pin::new(&mut *socket).poll_write(cx, &out.bytes[out.taken..]);
            match self.noted(polled)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(len) => out.taken += len,
                Poll::Pending => return Poll::Pending,
            }
        }
        let flushed = Pin::new(&mut *socket).poll_flush(cx);
        ready!(self.noted(flushed))?;
        out.clear();
        self.state.moved();
        Poll::Ready(Ok(()))
    }

    /// Notes that the socket takes nothing. That it took something is no news until all is taken: a
    /// client that reads by the byte would never be overdue.
    fn noted<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_pending() {
            self.state.stalled();
        }
        polled
    }

    /// Sends all that is left, and the end behind it.
    pub(super) async fn finish(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_drain(cx)).await?;
        poll_fn(|cx| Pin::new(&mut *self.socket.borrow_mut()).poll_shutdown(cx)).await
    }

    /// Reads and throws away until the other side closes.
    pub(super) async fn discard(&self) -> io::Result<()> {
        let mut bytes = [0_u8; 4_096];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            let read = |cx: &mut Context<'_>| {
                Pin::new(&mut *self.socket.borrow_mut()).poll_read(cx, &mut buf)
            };
            poll_fn(read).await?;
            if buf.filled().is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes a write: into the buffer, or straight to the socket when it is long.
    fn poll_take(&self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if GATHER_BYTES_MAX < self.out.borrow().bytes.len() + len {
            ready!(self.poll_drain(cx))?;
        }
        if GATHER_BYTES_MAX < len {
            let mut socket = self.socket.borrow_mut();
            let polled = Pin::new(&mut *socket).poll_write_vectored(cx, bufs);
            if polled.is_ready() {
                self.out.borrow_mut().is_unflushed = true;
                self.state.moved();
            }
            return self.noted(polled);
        }
        let mut out = self.out.borrow_mut();
        out.last_at = out.bytes.len();
        for buf in bufs {
            out.bytes.extend_from_slice(buf);
        }
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begun = buf.filled().len();
        self.0.put_before(buf);
        let polled = Pin::new(&mut *self.0.socket.borrow_mut()).poll_read(cx, buf);
        if buf.filled().len() <= begun {
            return polled;
        }
        self.0.state.read_bytes(&buf.filled()[begun..]);
        match polled {
            Poll::Pending => Poll::Ready(Ok(())),
            ready => ready,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_take(cx, &[io::IoSlice::new(buf)])
    }

    /// Nothing: whoever polls the connection sends what was gathered.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing either: the socket is closed once all is sent, see [`Wire::finish`].
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_take(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::{Coarse, Patience};
    use std::task::Waker;
    use tokio::io::AsyncWriteExt;

    const PATIENCE: Patience = Patience { head_ms: 5, idle_ms: 75, write_ms: 30 };

    fn wire(room: usize) -> (Rc<Wire<tokio::io::DuplexStream>>, tokio::io::DuplexStream, Coarse) {
        let (socket, peer) = tokio::io::duplex(room);
        let clock = Coarse::default();
        let state = ConnState::new(Rc::clone(&clock), Rc::default());
        (Rc::new(Wire::new(socket, Bytes::new(), state)), peer, clock)
    }

    #[tokio::test]
    async fn small_writes_leave_together_and_long_ones_uncopied() {
        let (wire, mut peer, _) = wire(1 << 20);
        let mut io = Io(Rc::clone(&wire));
        io.write_all(b"one ").await.expect("taken");
        io.write_all(b"two").await.expect("taken");
        io.flush().await.expect("nothing");
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = [0; 16];
        let mut buf = ReadBuf::new(&mut bytes);
        assert!(Pin::new(&mut peer).poll_read(&mut cx, &mut buf).is_pending(), "not sent yet");
        assert!(wire.poll_drain(&mut cx).is_ready());
        assert!(Pin::new(&mut peer).poll_read(&mut cx, &mut buf).is_ready());
        assert_eq!(buf.filled(), b"one two");
        io.write_all(&[b'x'; GATHER_BYTES_MAX + 1]).await.expect("taken");
        assert!(wire.out.borrow().bytes.is_empty());
    }

    #[tokio::test]
    async fn hypers_bare_answer_is_replaced_and_no_other() {
        let (wire, _peer, _) = wire(1 << 10);
        let mut io = Io(Rc::clone(&wire));
        io.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").await.expect("taken");
        wire.answer_instead(b"no");
        io.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await
            .expect("taken");
        wire.answer_instead(b"ours");
        assert_eq!(wire.out.borrow().bytes, b"HTTP/1.1 200 OK\r\n\r\n{}ours");
    }

    #[tokio::test]
    async fn a_reader_that_takes_little_is_overdue_all_the_same() {
        let (wire, mut peer, clock) = wire(4);
        let mut io = Io(Rc::clone(&wire));
        io.write_all(b"a long answer").await.expect("gathered");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(wire.poll_drain(&mut cx).is_pending());
        for now in [10, 20, 31] {
            clock.set(now);
            let mut bytes = [0; 1];
            let mut buf = ReadBuf::new(&mut bytes);
            assert!(Pin::new(&mut peer).poll_read(&mut cx, &mut buf).is_ready());
            assert!(wire.poll_drain(&mut cx).is_pending());
        }
        assert!(wire.state.is_overdue(&PATIENCE));
    }
}
