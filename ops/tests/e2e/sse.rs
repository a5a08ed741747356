//! A stream of server-sent events, frame by frame.

use super::{Client, PATIENCE};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    /// Its `id`; empty when it has none.
    pub(crate) id: String,
    /// Its `event`.
    pub(crate) event: String,
    /// Its `data`.
    pub(crate) data: String,
}

impl Frame {
    /// The data as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("data is JSON")
    }
}

/// An open stream.
pub(crate) struct Events {
    lines: BufReader<Chunks<BufReader<TcpStream>>>,
    /// The head of the answer.
    pub(crate) head: String,
}

impl Events {
    /// Asks for a stream.
    pub(crate) fn open(client: &Client, path: &str, after: Option<&str>) -> Events {
        let mut socket = TcpStream::connect(client.address()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let after = after.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let (host, token) = (client.address(), client.token());
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n{after}\
             accept: text/event-stream\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).expect("it takes a request");
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let len = reader.read_line(&mut head).expect("a head");
            assert_ne!(len, 0, "the head broke off: {head}");
        }
        Events { lines: BufReader::new(Chunks { from: reader, left: 0, is_first: true }), head }
    }

    /// The next frame with data; `None` at the end of the stream, however it came.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut frame = Frame::default();
        loop {
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => panic!("no event came"),
                Err(_) => return None,
            }
            let line = line.trim_end_matches('\n');
            match line.split_once(": ") {
                Some(("id", id)) => frame.id = id.to_owned(),
                Some(("event", event)) => frame.event = event.to_owned(),
                Some(("data", data)) => frame.data = data.to_owned(),
                _ if line.is_empty() && !frame.data.is_empty() => return Some(frame),
                _ => {}
            }
        }
    }

    /// All frames up to the first of that name.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next() {
            let is_it = frame.event == name;
            frames.push(frame);
            if is_it {
                return frames;
            }
        }
        panic!("no {name} came, but {frames:#?}");
    }

    /// All frames to the end.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Undoes the chunked transfer coding (RFC 9112, 7.1).
struct Chunks<R> {
    from: R,
    left: usize,
    is_first: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            if !self.is_first {
                self.from.read_line(&mut line)?;
                line.clear();
            }
            self.is_first = false;
            self.from.read_line(&mut line)?;
            self.left = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            if self.left == 0 {
                return Ok(0);
            }
        }
        let wanted = buf.len().min(self.left);
        let len = self.from.read(&mut buf[..wanted])?;
        self.left -= len;
        Ok(len)
    }
}
