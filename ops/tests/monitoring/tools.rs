//! Programs that check deploy/, as `.ci/deploy-tools` puts them under `target/test-tools`.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// One of PyPI's; `None`, and a word about it, when it is not there.
pub(crate) fn deploy(name: &str) -> Option<PathBuf> {
    found(format!("deploy/bin/{name}"))
}

/// A program under `target/test-tools`; `None`, and a word about it, when it is not there.
pub(crate) fn found(name: String) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools").join(name);
    if path.is_file() {
        return Some(path);
    }
    missing(&path.display().to_string());
    None
}

/// Says that a program is missing; in CI that is a failure.
pub(crate) fn missing(what: &str) {
    let text = format!("SKIPPED: {what} is missing: run `make test`");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
    eprintln!("{text}");
}

/// A command that runs a script of [`deploy`] with its libraries.
pub(crate) fn python(script: &Path) -> Command {
    let libraries = script.parent().and_then(Path::parent).expect("it is in a bin");
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", libraries).arg(script);
    command
}
