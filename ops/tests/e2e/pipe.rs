//! A child's output, read to its end by a thread, kept line by line, and waited at with a deadline.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// Lines that a child wrote so far.
#[derive(Clone)]
pub(crate) struct Lines(Arc<(Mutex<Kept>, Condvar)>);

#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    is_at_end: bool,
}

impl Lines {
    /// Reads `from` until it ends.
    pub(crate) fn read(from: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::default());
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let Ok(line) = line else { break };
                kept.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                kept.0.1.notify_all();
            }
            kept.lock().is_at_end = true;
            kept.0.1.notify_all();
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.0.lock().expect("no reader panics")
    }

    /// The first thing that `find` makes of a line; `None` when the pipe ends or time is up.
    pub(crate) fn wait<T>(&self, until: Instant, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut kept = self.lock();
        let mut at = 0;
        loop {
            if let Some(found) = kept.lines[at..].iter().find_map(|line| find(line)) {
                return Some(found);
            }
            at = kept.lines.len();
            let left = until.checked_duration_since(Instant::now())?;
            if kept.is_at_end {
                return None;
            }
            kept = self.0.1.wait_timeout(kept, left).expect("no reader panics").0;
        }
    }

    /// Whether the pipe came to its end in time, as it does when the child has ended.
    pub(crate) fn ended(&self, until: Instant) -> bool {
        let mut kept = self.lock();
        while !kept.is_at_end {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            kept = self.0.1.wait_timeout(kept, left).expect("no reader panics").0;
        }
        true
    }

    /// All of it so far.
    pub(crate) fn text(&self) -> String {
        self.lock().lines.join("\n")
    }
}
