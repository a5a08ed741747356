//! A real browser, driven by a script of ours (npm `playwright-core`, the distribution's chromium).
//!
//! `make test` installs both. Where they are missing a test says so and shows nothing; in CI that
//! is a failure.

use super::PATIENCE;
use super::pipe::Lines;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A browser's driver that is ended when dropped.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a script is started with.
pub(crate) struct Chromium {
    tools: PathBuf,
}

impl Chromium {
    /// `None`, and a word about it, where something is missing.
    pub(crate) fn find() -> Option<Chromium> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
        let module = tools.join("node_modules/playwright-core/index.mjs");
        let is_there = |name: &str| tools.join(name).exists();
        if is_there("bin/node") && is_there("bin/chromium") && module.is_file() {
            return Some(Chromium { tools });
        }
        let text = "SKIPPED: chromium or playwright-core is missing: run `make test`";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
        eprintln!("{text}");
        None
    }

    /// Runs a script of `ops/tests` with what it is told, a line of JSON; it must end with `done`.
    /// Its pictures are left in `target/console`.
    #[track_caller]
    pub(crate) fn drive(&self, script: &str, told: &Value) {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(self.tools.join("bin/node"))
            .arg(ours.join("tests").join(script))
            .args([&self.tools, &self.tools.join("bin/chromium"), &ours.join("../target/console")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node runs");
        let mut input = child.stdin.take().expect("piped");
        writeln!(input, "{told}").expect("it reads");
        drop(input);
        let lines = Lines::read(child.stdout.take().expect("piped"));
        let faults = Lines::read(child.stderr.take().expect("piped"));
        let _driver = Driver(child);
        let has_ended = lines.ended(Instant::now() + 4 * PATIENCE);
        let said = format!("{}{}", lines.text(), faults.text());
        assert!(has_ended && lines.text().lines().any(|line| line == "done"), "{said}");
    }
}
