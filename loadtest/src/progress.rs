//! How far a load is: a bar on a terminal, a line a second elsewhere. On standard error, so that
//! results stay alone on standard output.

use crate::format::{rate, short};
use crate::run::Observer;
use crate::timeline::Second;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::Duration;

/// Shows progress the way standard error can take it.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    phase: String,
    seconds: u64,
}

impl Progress {
    /// One for this process.
    #[must_use]
    pub fn new() -> Progress {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{prefix:<10} {wide_bar} {pos}/{len} s {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress { bar, phase: String::new(), seconds: 0 }
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn phase(&mut self, name: &str, length: Duration) {
        name.clone_into(&mut self.phase);
        self.seconds = length.as_secs_f64().ceil() as u64;
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(name.to_owned());
                bar.set_length(self.seconds);
                bar.set_position(0);
                bar.set_message("");
            }
            None => eprintln!("{name}: {} s", self.seconds),
        }
    }

    fn second(&mut self, second: &Second) {
        let message = format!(
            "{}/s 2xx, {}/s refused, {} failed, p50 {} ms, p99 {} ms",
            rate(second.accepted as f64),
            rate(second.refused as f64),
            second.failed,
            short(second.p50_ms),
            short(second.p99_ms)
        );
        let number = second.second as u64 + 1;
        match &self.bar {
            Some(bar) => {
                bar.set_position(number.min(self.seconds));
                bar.set_message(message);
            }
            None => eprintln!("{} {number}/{} s: {message}", self.phase, self.seconds),
        }
    }
}
