//! A run's figures as what is kept of them: a table for the terminal, a page for the repository,
//! and JSON for machines.

use crate::error::{Error, Result};
use crate::figure::{Figure, Goal, Relation, short, with_unit};
use crate::host::Host;
use crate::plot;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The picture's name, beside the page.
const PLOT: &str = "results.svg";

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Where and of what.
    pub host: Host,
    /// The command that made it.
    pub command: String,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Rows that gave no figure, with why.
    pub failures: Vec<(String, String)>,
}

fn goal_text(goal: Goal, unit: &str) -> String {
    let sign = match goal.relation {
        Relation::AtLeast => '≥',
        Relation::AtMost => '≤',
    };
    format!("{sign} {}", with_unit(goal.limit, unit))
}

/// The columns of a figure: what, goal, measured, reached, beside it, ratio to that.
fn cells(figure: &Figure) -> [String; 6] {
    let reached = match figure.is_reached() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let unit = &figure.unit;
    let beside = figure
        .baseline
        .as_ref()
        .map(|baseline| format!("{}: {}", baseline.what, with_unit(baseline.value, unit)));
    [
        figure.what.clone(),
        figure.goal.map(|goal| goal_text(goal, unit)).unwrap_or_default(),
        with_unit(figure.value, unit),
        reached.to_owned(),
        beside.unwrap_or_default(),
        figure.ratio().map(short).unwrap_or_default(),
    ]
}

const HEADS: [&str; 6] = ["what", "goal", "measured", "reached", "beside it, same run", "ratio"];

impl Results {
    /// The table for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let rows: Vec<[String; 6]> = self.figures.iter().map(cells).collect();
        let mut widths = HEADS.map(|head| head.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &[String; 6]| {
            let mut line = String::new();
            for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
                // Numbers to the right, words to the left.
                let is_number = matches!(i, 1 | 2 | 5);
                let cell =
                    if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            line.trim_end().to_owned()
        };
        let mut out = line(&HEADS.map(str::to_owned));
        out.push('\n');
        for row in &rows {
            out.push_str(&line(row));
            out.push('\n');
        }
        for (row, why) in &self.failures {
            let _ = writeln!(out, "{row}: not measured: {why}");
        }
        let Host { at, load_average, .. } = &self.host;
        let _ = writeln!(out, "\n{}", self.host.machine());
        let _ =
            writeln!(out, "{} · {at} · load average before: {load_average}", self.host.version());
        out
    }

    /// The page for the repository.
    #[must_use]
    pub fn page(&self) -> String {
        let mut out = String::from("# What nO reaches\n\n");
        let _ = writeln!(
            out,
            "Written by `{}` on {}; commit `{}`.\n",
            self.command,
            self.host.at,
            self.host.version()
        );
        let _ = writeln!(
            out,
            "{}. The load ran on the same cores as nO. Load average before: {}; \
             other work on the machine lowers all figures, so compare within one run.\n",
            self.host.machine(),
            self.host.load_average
        );
        let _ = writeln!(out, "![measured to goal]({PLOT})\n");
        let _ = writeln!(out, "| {} | note |", HEADS.join(" | "));
        let _ = writeln!(out, "| --- | ---: | ---: | --- | --- | ---: | --- |");
        for figure in &self.figures {
            let _ = writeln!(out, "| {} | {} |", cells(figure).join(" | "), figure.note);
        }
        for (row, why) in &self.failures {
            let _ = writeln!(out, "\nNot measured: `{row}`: {why}");
        }
        out.push_str(
            "\nOne row alone: `make bench ROWS=single,latency`. Two commits on one machine: \
             `make bench-compare BASE=<commit>`.\n",
        );
        out
    }

    /// Writes the page and its picture into `folder`.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_page(&self, folder: &Path) -> Result<()> {
        write(&folder.join("RESULTS.md"), &self.page())?;
        write(&folder.join(PLOT), &plot::svg(self))
    }

    /// Writes the JSON into `folder`, under the commit's name.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_json(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        write(&folder.join(format!("{}.json", self.host.version())), &text)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(Error::system(path.display().to_string()))?;
    eprintln!("written: {}", path.display());
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run with one figure of each kind.
    pub(crate) fn results() -> Results {
        let figures = vec![
            Figure::new("single", "single submissions", 20_000.0, "/s")
                .goal(Goal::at_least(40_000.0))
                .note("64 clients"),
            Figure::new("p50", "latency", 0.5, "ms").goal(Goal::at_most(1.0)).beside("disk", 0.2),
            Figure::new("link", "link", 1e8, "/s").beside("rtrb", 2e8),
        ];
        let failures = vec![("idle".to_owned(), "it ended".to_owned())];
        let host = Host::here(Path::new("."));
        Results { host, command: "make bench".to_owned(), figures, failures }
    }

    #[test]
    fn a_table_has_a_line_for_each_figure_and_a_page_says_the_same() {
        let results = results();
        let table = results.table();
        let line = table.lines().find(|line| line.starts_with("single")).expect("its line");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["single", "submissions", "≥", "40,000/s", "20,000/s", "no"]);
        assert!(
            table.contains("disk: 0.200 ms") && table.contains("idle: not measured"),
            "{table}"
        );
        let page = results.page();
        assert!(page.contains("| single submissions | ≥ 40,000/s | 20,000/s | no |  |  | 64 cli"));
        assert!(page.contains("| link |  | 100,000,000/s |  | rtrb: 200,000,000/s | 0.500 |"));
    }
}
