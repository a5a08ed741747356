//! A Redis of a test's own, on a Unix socket in a temporary folder.

use crate::e2e::PATIENCE;
use crate::e2e::pipe::Lines;
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
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
        assert!(self.run(&[]), "Redis does not come up");
    }

    /// The same with TLS on a port of this machine besides; the port.
    pub(crate) fn start_with_tls(&mut self) -> u16 {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
        let key = self.dir.path().join("key.pem");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        std::fs::write(self.certificate(), made.cert.pem()).expect("written");
        let certificate = self.certificate().to_str().expect("plain").to_owned();
        let key = key.to_str().expect("plain");
        // Redis does not take a port of the system's choice, and what was free may be taken.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
            let port = free.expect("a port").port();
            let files = ["--tls-cert-file", &certificate, "--tls-key-file", key];
            let others = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
            let at = ["--bind", "127.0.0.1", "--tls-port", &port.to_string()];
            if self.run(&[&at[..], &files, &others].concat()) {
                return port;
            }
        }
        panic!("no port was free");
    }

    /// Its certificate, which is its authority as well.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Whether it came up with these options.
    fn run(&mut self, options: &[&str]) -> bool {
        assert!(self.child.is_none(), "it runs");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.dir.path()).arg("--unixsocket").arg(self.socket());
        if !self.password.is_empty() {
            command.args(["--requirepass", self.password]);
        }
        let piped = command.args(options).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("it runs");
        let log = Lines::read(child.stdout.take().expect("piped"));
        let ready = log.wait(Instant::now() + PATIENCE, |line| {
            line.contains("eady to accept connections").then_some(())
        });
        self.child = Some(child);
        if ready.is_none() {
            eprintln!("Redis does not come up:\n{}", log.text());
            self.kill();
        }
        ready.is_some()
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
