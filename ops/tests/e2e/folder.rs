//! A folder of a test's own with a configuration and a data folder, where `no` is run.

use super::{Node, PATIENCE};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// A folder with everything that a node needs; gone when dropped.
pub(crate) struct Home {
    dir: TempDir,
    data: PathBuf,
}

impl Home {
    /// A new one. `config` is laid over what suits tests: two shards, no pinning, a short drain.
    pub(crate) fn new(config: Value) -> Home {
        let dir = TempDir::with_prefix("no-e2e-").expect("a folder");
        let home = Home { data: dir.path().join("data"), dir };
        home.configure(config);
        home
    }

    /// The same with the data folder elsewhere.
    pub(crate) fn with_data(config: Value, data: PathBuf) -> Home {
        Home { data, ..Home::new(config) }
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, config: Value) {
        let mut whole = json!({
            "service": {"drainTimeout": "5s"},
            "engine": {"shards": 2, "pinCores": false, "diskReserveBytes": 1_048_576}
        });
        lay_over(&mut whole, config);
        std::fs::write(self.config(), whole.to_string()).expect("a configuration is written");
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("test.json")
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The folder around them.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `no serve` here, on a free port.
    pub(crate) fn serve(&self) -> Command {
        let mut command = no();
        command.current_dir(self.dir.path()).args(["serve", "--host", "127.0.0.1", "--port", "0"]);
        command.arg("--config").arg(self.config()).arg("--data-dir").arg(&self.data);
        command
    }

    /// Starts a node and waits until it listens.
    pub(crate) fn start(&self) -> Node {
        Node::start(self.serve(), &self.data)
    }

    /// Starts a node that must not come up; its exit code and what it said.
    pub(crate) fn refused(&self) -> (i32, String) {
        refused(self.serve())
    }

    /// Another command of `no` for the node's data folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = no();
        command.current_dir(self.dir.path()).args(args).env("NO_DATA_DIR", &self.data);
        command
    }

    /// Runs another command of `no` for the node's data folder.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    /// A token made by `no token create`.
    pub(crate) fn token(&self, args: &[&str]) -> String {
        let output = self.run(&[&["token", "create"], args].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a token").trim().to_owned()
    }
}

/// The binary under test, without the environment's settings.
pub(crate) fn no() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_no"));
    let is_ours =
        |name: &str| name.starts_with("NO_") || name.starts_with("OTEL_") || name == "NODE_ENV";
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_ours) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command that must end by itself; its exit code and all that it said.
pub(crate) fn refused(mut command: Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let lines = super::pipe::Lines::read(child.stderr.take().expect("piped"));
    if !lines.ended(Instant::now() + PATIENCE) {
        let _ = child.kill();
        panic!("it should have ended by itself:\n{}", lines.text());
    }
    let status = child.wait().expect("a child of ours");
    (status.code().unwrap_or(-1), lines.text())
}

/// Puts `over`'s members into `under`, objects member by member.
fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                lay_over(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}
