//! Two builds on one machine, by turns: what a change is worth, with how far the rounds differ.

use crate::bench::{Bench, Length, median};
use crate::error::Result;
use crate::figure::{short, with_unit};
use crate::rows::Row;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The two builds.
#[derive(Clone, Debug)]
pub struct Builds {
    /// The earlier.
    pub base: PathBuf,
    /// The later.
    pub head: PathBuf,
}

/// A figure's values, round by round.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rounds {
    what: String,
    unit: String,
    base: Vec<f64>,
    head: Vec<f64>,
}

/// Runs the rows so many times on each build, base and head by turns, and gives the table.
///
/// # Errors
/// When a row fails.
pub fn compare(
    builds: &Builds,
    rows: &[Row],
    place: &Path,
    length: Length,
    rounds: usize,
) -> Result<String> {
    let mut names = Vec::new();
    let mut figures = BTreeMap::<String, Rounds>::new();
    for round in 1..=rounds {
        for (side, binary) in [("base", &builds.base), ("head", &builds.head)] {
            let mut bench = Bench::new(binary.clone(), place.to_owned(), length);
            for row in rows {
                eprintln!("round {round} of {rounds}, {side}: {}", row.about);
                for figure in row.run(&mut bench)? {
                    if !figures.contains_key(&figure.name) {
                        names.push(figure.name.clone());
                    }
                    let entry = figures.entry(figure.name).or_default();
                    (entry.what, entry.unit) = (figure.what, figure.unit);
                    let values = if side == "base" { &mut entry.base } else { &mut entry.head };
                    values.push(figure.value);
                }
            }
        }
    }
    Ok(table(names.iter().map(|name| &figures[name])))
}

/// The ratios of rounds that were run next to each other: the middle one, the least, the most.
fn ratios(rounds: &Rounds) -> Option<(f64, f64, f64)> {
    let pairs = rounds.base.iter().zip(&rounds.head).filter(|(base, _)| 0.0 < **base);
    let mut ratios: Vec<f64> = pairs.map(|(base, head)| head / base).collect();
    ratios.sort_by(f64::total_cmp);
    let (first, last) = (*ratios.first()?, *ratios.last()?);
    Some((ratios[ratios.len() / 2], first, last))
}

fn table<'r>(figures: impl Iterator<Item = &'r Rounds>) -> String {
    let mut out = format!(
        "{:<42} {:>16} {:>16} {:>11}  {}\n",
        "what", "base", "head", "head ÷ base", "least – most"
    );
    for rounds in figures {
        let value = |values: &[f64]| with_unit(median(values.iter().copied()), &rounds.unit);
        let (ratio, spread) = match ratios(rounds) {
            Some((middle, least, most)) => {
                (short(middle), format!("{} – {}", short(least), short(most)))
            }
            None => (String::new(), String::new()),
        };
        let (base, head) = (value(&rounds.base), value(&rounds.head));
        let _ = writeln!(out, "{:<42} {base:>16} {head:>16} {ratio:>11}  {spread}", rounds.what);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_neighbours() {
        let rounds = Rounds {
            what: "single".to_owned(),
            unit: "/s".to_owned(),
            base: vec![100.0, 50.0, 100.0],
            head: vec![110.0, 60.0, 100.0],
        };
        assert_eq!(ratios(&rounds), Some((1.1, 1.0, 1.2)));
        assert_eq!(ratios(&Rounds::default()), None);
        let table = table([&rounds].into_iter());
        let words: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(words, ["single", "100/s", "100/s", "1.10", "1.00", "–", "1.20"]);
    }
}
