//! One running `no serve`.

use super::pipe::Lines;
use super::{Client, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// A running node; a client of it with the administrator's token by dereference.
///
/// Killed when dropped, and its log is shown when the test fails.
pub(crate) struct Node {
    child: Child,
    log: Lines,
    client: Client,
}

impl Deref for Node {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Node {
    /// Runs the command and waits for the line that says where it listens.
    pub(crate) fn start(mut command: Command, data: &Path) -> Node {
        let piped = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary runs");
        let log = Lines::read(child.stderr.take().expect("piped"));
        let Some(url) = log.wait(Instant::now() + PATIENCE, listening) else {
            let _ = child.kill();
            let status = child.wait();
            panic!("the node does not listen ({status:?}):\n{}", log.text());
        };
        let token = std::fs::read_to_string(data.join("admin.token")).expect("an admin token");
        let client = Client::new(&url, Some(token.trim()));
        Node { child, log, client }
    }

    /// A client of this node.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> &Lines {
        &self.log
    }

    /// Ends it as a power cut would, as far as the process goes.
    pub(crate) fn kill9(mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a child of ours");
    }

    /// Stops it where it stands.
    pub(crate) fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("a child of ours");
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("a child of ours");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn exited(&mut self) -> ExitStatus {
        assert!(self.log.ended(Instant::now() + PATIENCE), "it does not end");
        self.child.wait().expect("a child of ours")
    }

    /// Drains it: SIGTERM, and the exit code must be 0.
    pub(crate) fn stop(mut self) {
        self.terminate();
        let status = self.exited();
        assert_eq!(status.code(), Some(0), "{status:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.log.text();
            let start = text.len().saturating_sub(16_384);
            eprintln!("the node's log:\n{}", &text[text.ceil_char_boundary(start)..]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The URL in the line that says `listening`.
fn listening(line: &str) -> Option<String> {
    let rest = line.split_once("listening").map(|_| line)?;
    let at = rest.find("http://127.0.0.1:").or_else(|| rest.find("https://127.0.0.1:"))?;
    let url = rest[at..].split(|c: char| c == '"' || c == ',' || c.is_whitespace()).next()?;
    Some(url.trim_end_matches('/').to_owned())
}
