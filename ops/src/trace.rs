//! Logs: JSON lines for machines, text on a terminal, filtered by `NO_LOG`; and the last words of a
//! process whose invariant broke.
//!
//! No secret gets here: the types that hold one have no `Debug` that shows it.

use crate::error::EXIT_INVARIANT;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Sets the process's logs up; called once, before the first thread. A second call changes nothing.
///
/// `filter` is a level or `target=level,…`. Returns what was wrong with it, if anything: `info` is
/// used then.
pub fn init(filter: &str) -> Option<String> {
    let (filter, problem) = match EnvFilter::try_new(filter) {
        Ok(filter) => (filter, None),
        Err(e) => (EnvFilter::new("info"), Some(format!("log filter {filter:?}: {e}"))),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
    drop(done);
    if let Some(problem) = &problem {
        tracing::warn!(target: "config", problem);
    }
    problem
}

/// Makes a broken invariant end the process at once, with the exit code that says so.
///
/// A restart that loads is better than one dead shard among living ones; what was acknowledged is
/// on disk. Under test harnesses, which need to unwind, this is not called.
pub fn exit_on_panic() {
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        said(info);
        std::process::exit(i32::from(EXIT_INVARIANT));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named_and_does_no_harm() {
        assert!(init("[[[").is_some_and(|problem| problem.contains("[[[")));
        assert_eq!(init("info,journal=debug"), None);
    }
}
