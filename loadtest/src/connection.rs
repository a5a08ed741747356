//! One keep-alive connection: what is still to be written, what is owing, what has come in part.

use crate::outcome::{Failure, Sent};
use crate::parse::{Bodies, Head, Parser};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does.
    Open,
    /// It ended in good order, with an answer that said so or while nothing was owing.
    Ended,
    /// It broke.
    Broken(Failure),
}

/// A connection of the driver. Edge-triggered: it is read and written until the kernel says stop.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    is_open: bool,
    parser: Parser,
    out: Vec<u8>,
    written: usize,
    /// Requests without an answer, first sent first.
    owing: VecDeque<Sent>,
}

impl Connection {
    /// Begins to connect; it reports as `token`.
    pub(crate) fn connect(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        bodies: Bodies,
    ) -> io::Result<Connection> {
        let mut socket = TcpStream::connect(address)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection {
            socket,
            is_open: false,
            parser: Parser::new(bodies),
            out: Vec::with_capacity(4096),
            written: 0,
            owing: VecDeque::with_capacity(16),
        })
    }

    /// Whether it is connected.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Requests under way.
    pub(crate) fn owing(&self) -> usize {
        self.owing.len()
    }

    /// The requests under way, first sent first.
    pub(crate) fn into_owing(self) -> impl Iterator<Item = Sent> {
        self.owing.into_iter()
    }

    /// When the oldest request under way was sent.
    pub(crate) fn oldest(&self) -> Option<Sent> {
        self.owing.front().copied()
    }

    /// Whether everything given to it has been written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.len() == self.written
    }

    /// Finishes connecting when the socket reports for the first time. An event of the socket that
    /// had the token before may come first: then this one is still on its way, and stays so.
    pub(crate) fn opened(&mut self) -> Standing {
        if !matches!(self.socket.take_error(), Ok(None)) {
            return Standing::Broken(Failure::Connect);
        }
        if self.socket.peer_addr().is_ok() {
            // Small requests must not wait for each other.
            self.is_open = self.socket.set_nodelay(true).is_ok();
        }
        Standing::Open
    }

    /// Adds a request, rendered by `push`; `flush` sends it.
    pub(crate) fn queue(&mut self, sent: Sent, push: impl FnOnce(&mut Vec<u8>)) {
        push(&mut self.out);
        self.owing.push_back(sent);
    }

    /// Writes as much as the kernel takes.
    pub(crate) fn flush(&mut self) -> Standing {
        while self.written < self.out.len() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(len) => self.written += len,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Standing::Open,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Standing::Broken(Failure::Reset),
            }
        }
        self.out.clear();
        self.written = 0;
        Standing::Open
    }

    /// Reads what is there and calls `on` for every answer with the request it belongs to.
    /// `is_ending` says that the peer has closed its side, so that a short read is not the last.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        is_ending: bool,
        mut on: impl FnMut(Head, &[u8], Sent),
    ) -> Standing {
        let mut closes = false;
        loop {
            let len = match self.socket.read(scratch) {
                Ok(0) if self.owing.is_empty() => return Standing::Ended,
                Ok(0) => return Standing::Broken(Failure::Closed),
                Ok(len) => len,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Standing::Open,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Standing::Broken(Failure::Reset),
            };
            let (owing, mut is_unasked) = (&mut self.owing, false);
            let fed = self.parser.feed(&scratch[..len], |head, body| {
                closes |= head.closes;
                match owing.pop_front() {
                    Some(sent) => on(head, body, sent),
                    None => is_unasked = true,
                }
            });
            if fed.is_err() || is_unasked {
                return Standing::Broken(Failure::Malformed);
            }
            if closes {
                let is_done = self.owing.is_empty();
                return if is_done { Standing::Ended } else { Standing::Broken(Failure::Closed) };
            }
            // A short read has emptied the socket: spares the call that would say so.
            if len < scratch.len() && !is_ending {
                return Standing::Open;
            }
        }
    }
}
