//! What commands say: lines and tables for people, JSON for machines, a spinner on a terminal.

use crate::error::{Error, Result};
use indicatif::ProgressBar;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// Where a command's words go.
pub struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    has_progress: bool,
}

impl Console {
    /// Standard output and error; a spinner when the latter is a terminal.
    #[must_use]
    pub fn of_process() -> Console {
        let (out, err) = (Box::new(std::io::stdout()), Box::new(std::io::stderr()));
        Console { out, err, has_progress: true }
    }

    /// Any two places, without a spinner; for tests.
    #[must_use]
    pub fn new(out: Box<dyn Write>, err: Box<dyn Write>) -> Console {
        Console { out, err, has_progress: false }
    }

    /// Prints one line.
    ///
    /// # Errors
    /// [`Error::File`] when nobody reads it any more.
    pub fn print(&mut self, line: &str) -> Result<()> {
        writeln!(self.out, "{line}")
            .and_then(|()| self.out.flush())
            .map_err(|source| Error::File { path: "standard output".into(), source })
    }

    /// Prints JSON, indented.
    ///
    /// # Errors
    /// As [`Console::print`].
    pub fn print_json(&mut self, value: &Value) -> Result<()> {
        self.print(&format!("{value:#}"))
    }

    /// Prints a table with its columns aligned; the first row is the head.
    ///
    /// # Errors
    /// As [`Console::print`].
    pub fn print_table(&mut self, rows: &[Vec<String>]) -> Result<()> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let cells = row.iter().zip(&widths);
            let line: String = cells.map(|(cell, width)| format!("{cell:<width$}  ")).collect();
            self.print(line.trim_end())?;
        }
        Ok(())
    }

    /// Says something that is not the result, on standard error.
    pub fn complain(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    /// A bar for long work over bytes; nothing when there is no terminal. It ends when it is
    /// dropped.
    #[must_use]
    pub(super) fn bar(&self, message: &'static str) -> Bar {
        self.bar_like("{msg} {bar:40} {bytes}/{total_bytes} {eta}", message)
    }

    /// Likewise over tasks.
    #[must_use]
    pub(super) fn bar_of_tasks(&self, message: &'static str) -> Bar {
        self.bar_like("{msg} {bar:40} {pos}/{len} tasks {per_sec} {eta}", message)
    }

    fn bar_like(&self, template: &str, message: &'static str) -> Bar {
        match indicatif::ProgressStyle::with_template(template) {
            Ok(style) if self.has_progress => {
                Bar(ProgressBar::new(0).with_style(style).with_message(message))
            }
            _ => Bar(ProgressBar::hidden()),
        }
    }

    /// A spinner for a wait; nothing when there is no terminal. It ends when it is dropped.
    #[must_use]
    pub(super) fn spinner(&self, message: &str) -> Spinner {
        if !self.has_progress {
            return Spinner(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(message.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Spinner(bar)
    }
}

/// A bar that goes away.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// So much is done, of all.
    pub(super) fn set(&self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A spinner that goes away.
#[derive(Debug)]
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    /// Says what is being waited for now.
    pub(super) fn say(&self, message: &str) {
        self.0.set_message(message.to_owned());
    }

    /// Prints around it, so that the two do not mix.
    pub(super) fn pause<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A field as one cell: texts bare, other JSON compact, nothing as `-`; control characters escaped.
#[must_use]
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// A text that cannot move a terminal's cursor or change its colours.
#[must_use]
pub(super) fn plain(text: &str) -> String {
    let escape = |c: char| match c {
        '\n' | '\t' => vec![c],
        c if c.is_control() => c.escape_default().collect(),
        c => vec![c],
    };
    text.chars().flat_map(escape).collect()
}

/// A number of bytes for people.
#[must_use]
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, "B");
    for larger in UNITS {
        if value < 1_024.0 {
            break;
        }
        (value, unit) = (value / 1_024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// At most `len` characters on one line.
#[must_use]
pub(super) fn short(text: &str, len: usize) -> String {
    let line = plain(text).replace(['\n', '\t'], " ");
    if line.chars().count() <= len {
        return line;
    }
    let mut cut: String = line.chars().take(len.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_one_line_and_harmless() {
        assert_eq!(cell(&Value::from("a\u{1b}[31mb")), "a\\u{1b}[31mb");
        assert_eq!(cell(&Value::Null), "-");
        assert_eq!([bytes(1_023), bytes(1_536), bytes(3 << 30)], ["1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!(short("a\nbcdef", 4), "a b…");
    }
}
