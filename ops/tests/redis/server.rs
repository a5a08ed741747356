//! A Redis of a test's own, on a Unix socket in a temporary folder.

use crate::e2e::PATIENCE;
use crate::e2e::pipe::Lines;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// A folder for Redis, and the one that runs there; ended when dropped.
pub(crate) struct Redis {
    dir: TempDir,
    password: &'static str,
    child: Option<Child>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Redis {
    /// One that is not started yet; `None`, and a word about it, when Redis is not installed.
    pub(crate) fn new(password: &'static str) -> Option<Redis> {
        let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            let text = "SKIPPED: redis-server is missing: run `make test`";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
            eprintln!("{text}");
            return None;
        }
        let dir = TempDir::with_prefix("no-redis-").expect("a folder");
        Some(Redis { dir, password, child: None })
    }

    /// One that runs.
    pub(crate) fn started() -> Option<Redis> {
        let mut redis = Redis::new("")?;
        redis.start();
        Some(redis)
    }

    /// Starts it, with nothing in it.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.dir.path()).arg("--unixsocket").arg(self.socket());
        if !self.password.is_empty() {
            command.args(["--requirepass", self.password]);
        }
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("it runs");
        let log = Lines::read(child.stdout.take().expect("piped"));
        let ready = log.wait(Instant::now() + PATIENCE, |line| {
            line.contains("eady to accept connections").then_some(())
        });
        self.child = Some(child);
        assert!(ready.is_some(), "Redis does not come up:\n{}", log.text());
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has it hang.
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// Has it go on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("a child of ours");
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// What it answers to a command.
    pub(crate) fn says(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.arg("-s").arg(self.socket()).args(command);
        let output = cli.output().expect("redis-cli is with redis-server");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Its keys that begin so.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.says(&["--scan", "--pattern", &format!("{prefix}*")]);
        keys.lines().map(str::to_owned).collect()
    }
}
