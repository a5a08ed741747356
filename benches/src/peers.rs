//! What users would pick instead, measured in the same run by `make bench-peers`, which writes
//! `peers.json`: a list of what each peer did.

use crate::error::{Error, Result};
use crate::figure::{Figure, Goal, short};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// One number of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, such as `restate` or `bullmq`.
    pub peer: String,
    /// Its version.
    pub version: String,
    /// How it was set up, for people: `fsync always`, …
    pub settings: String,
    /// What: `single`, `batched` or `three_steps`, in tasks a second, is compared; others are kept.
    pub metric: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// A goal against peers: the metric, the figure of ours, which peers (all when empty), which of
/// their settings (any when empty), and how often as much.
struct Against {
    metric: &'static str,
    figure: &'static str,
    peer: &'static str,
    settings: &'static str,
    times: f64,
}

/// DESIGN §12.
const AGAINST: &[Against] = &[
    Against {
        metric: "single",
        figure: "single_per_second",
        peer: "restate",
        settings: "",
        times: 8.0,
    },
    Against {
        metric: "single",
        figure: "single_per_second",
        peer: "bullmq",
        settings: "always",
        times: 4.0,
    },
    Against {
        metric: "batched",
        figure: "batched_per_second",
        peer: "",
        settings: "",
        times: 10.0,
    },
    Against {
        metric: "three_steps",
        figure: "three_steps_per_second",
        peer: "restate",
        settings: "",
        times: 10.0,
    },
];

/// Reads what `make bench-peers` wrote.
///
/// # Errors
/// When the file is not there or is something else.
pub fn read(path: &Path) -> Result<Vec<Peer>> {
    let text = fs::read_to_string(path).map_err(Error::system(path.display().to_string()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Our figures ÷ the best of the peers that each is held against.
#[must_use]
pub fn compared(figures: &[Figure], peers: &[Peer]) -> Vec<Figure> {
    let mut compared = Vec::new();
    for against in AGAINST {
        let Some(ours) = figures.iter().find(|figure| figure.name == against.figure) else {
            continue;
        };
        let holds = |has: &str, wanted: &str| has.to_lowercase().contains(wanted);
        let theirs = peers.iter().filter(|peer| {
            // The run measures nO among them, to say what the machine gave.
            peer.peer != "nO"
                && peer.metric == against.metric
                && holds(&peer.peer, against.peer)
                && holds(&peer.settings, against.settings)
        });
        let Some(best) = theirs.max_by(|a, b| a.value.total_cmp(&b.value)) else { continue };
        let whom = if against.peer.is_empty() { "best_peer" } else { against.peer };
        let name = format!("{}_to_{whom}", against.metric);
        let what = format!("{} ÷ {} {}", ours.what, best.peer, best.version);
        let mut figure = Figure::new(&name, &what, ours.value / best.value, "×")
            .goal(Goal::at_least(against.times))
            .note(format!(
                "{}/s to {}/s ({})",
                short(ours.value),
                short(best.value),
                best.settings
            ));
        ours.row.clone_into(&mut figure.row);
        compared.push(figure);
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_is_held_against_the_best_of_its_peers() {
        let peer = |peer: &str, settings: &str, metric: &str, value: f64| Peer {
            peer: peer.to_owned(),
            version: "1".to_owned(),
            settings: settings.to_owned(),
            metric: metric.to_owned(),
            value,
            unit: "/s".to_owned(),
        };
        let peers = [
            peer("Restate", "one node", "single", 5_000.0),
            peer("bullmq", "fsync always", "single", 10_000.0),
            peer("bullmq", "fsync each second", "single", 12_000.0),
            peer("bullmq", "fsync each second", "batched", 14_000.0),
            peer("graphile", "", "batched", 12_000.0),
        ];
        let figures = [
            Figure::new("single_per_second", "single", 40_000.0, "/s"),
            Figure::new("batched_per_second", "batched", 140_000.0, "/s"),
            Figure::new("three_steps_per_second", "steps", 1.0, "/s"),
        ];
        let compared = compared(&figures, &peers);
        let values: Vec<_> = compared.iter().map(|f| (f.name.as_str(), f.value)).collect();
        let expected =
            [("single_to_restate", 8.0), ("single_to_bullmq", 4.0), ("batched_to_best_peer", 10.0)];
        assert_eq!(values, expected);
        assert!(compared.iter().all(|figure| figure.is_reached() == Some(true)));
    }
}
