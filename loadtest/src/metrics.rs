//! What the server says of itself: the text of `GET /metrics`, and the difference of two of them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Samples by series, each written as `name{label="value",…}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

/// What one layer of the server cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// `net`, `auth`, `ring`, `decide`, `commit`, `act`, `render`, `index`.
    pub layer: String,
    /// Samples taken.
    pub samples: u64,
    /// Mean cost of a sample, in µs.
    pub mean_us: f64,
}

/// Tasks that ended, by how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// State `succeeded`.
    pub succeeded: u64,
    /// State `failed`.
    pub failed: u64,
    /// State `cancelled`.
    pub cancelled: u64,
}

impl Ended {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }
}

/// The value of a label in a series.
fn label<'s>(series: &'s str, name: &str) -> Option<&'s str> {
    let labels = series.split_once('{')?.1.strip_suffix('}')?;
    labels.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

impl Metrics {
    /// Reads Prometheus' text; comments and what is no sample are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            // Histograms' buckets are most of the text, and not used here.
            let is_bucket = line.split('{').next().is_some_and(|name| name.ends_with("_bucket"));
            let (series, value) = line.rsplit_once(' ').filter(|_| !is_bucket)?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Metrics(lines.filter_map(sample).collect())
    }

    /// The value of a series without labels.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// The sum of all series of a family.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.family(name).map(|(_, value)| value).sum()
    }

    /// All series of a family.
    fn family<'m>(&'m self, name: &'m str) -> impl Iterator<Item = (&'m str, f64)> {
        let from = self.0.range(name.to_owned()..);
        let is_ours = move |(series, _): &(&String, &f64)| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        from.take_while(move |(series, _)| series.starts_with(name))
            .filter(is_ours)
            .map(|(series, value)| (series.as_str(), *value))
    }

    /// Tasks of an agent that have ended since the server started.
    #[must_use]
    pub fn ended(&self, agent: &str) -> Ended {
        let mut ended = Ended::default();
        for (series, value) in self.family("no_tasks_total") {
            if label(series, "agent") != Some(agent) {
                continue;
            }
            match label(series, "state") {
                Some("succeeded") => ended.succeeded += value as u64,
                Some("failed") => ended.failed += value as u64,
                Some("cancelled") => ended.cancelled += value as u64,
                _ => {}
            }
        }
        ended
    }

    /// What each layer cost between `before` and this; empty when the server does not say.
    #[must_use]
    pub fn layers(&self, before: &Metrics) -> Vec<Layer> {
        let sums = |metrics: &Metrics, name: &str| {
            let mut sums = BTreeMap::<String, f64>::new();
            for (series, value) in metrics.family(name) {
                // Other labels, such as the shard, are summed over.
                let layer = label(series, "layer").unwrap_or_default().to_owned();
                *sums.entry(layer).or_default() += value;
            }
            sums
        };
        let difference = |name: &str| {
            let (mut now, was) = (sums(self, name), sums(before, name));
            was.iter().for_each(|(layer, was)| *now.entry(layer.clone()).or_default() -= was);
            now
        };
        let seconds = difference("no_task_cost_seconds_sum");
        let counts = difference("no_task_cost_seconds_count");
        let row = |(layer, count): (&String, &f64)| {
            let sum = seconds.get(layer).copied().unwrap_or_default();
            let row =
                Layer { layer: layer.clone(), samples: *count as u64, mean_us: sum / count * 1e6 };
            (0.5 < *count).then_some(row)
        };
        let mut layers: Vec<Layer> = counts.iter().filter_map(row).collect();
        // In the order in which a task goes through them.
        let order = ["net", "auth", "ring", "decide", "commit", "act", "render"];
        let place = |layer: &Layer| order.iter().position(|name| *name == layer.layer);
        layers.sort_by_key(|layer| place(layer).unwrap_or(order.len()));
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP no_tasks_total Tasks ended.
no_tasks_total{agent=\"echo\",state=\"succeeded\"} 5
no_task_cost_seconds_sum{layer=\"commit\",shard=\"0\"} 1
no_task_cost_seconds_count{layer=\"commit\",shard=\"0\"} 10
process_cpu_seconds_total 1.5
";
    const AFTER: &str = "\
no_tasks_total{agent=\"echo\",state=\"succeeded\"} 25
no_tasks_total{agent=\"echo\",state=\"failed\"} 1
no_tasks_total{agent=\"echo2\",state=\"succeeded\"} 7
no_task_cost_seconds_bucket{layer=\"commit\",shard=\"0\",le=\"+Inf\"} 20
no_task_cost_seconds_sum{layer=\"commit\",shard=\"0\"} 1.5
no_task_cost_seconds_count{layer=\"commit\",shard=\"0\"} 15
no_task_cost_seconds_sum{layer=\"commit\",shard=\"1\"} 0.5
no_task_cost_seconds_count{layer=\"commit\",shard=\"1\"} 5
no_task_cost_seconds_sum{layer=\"auth\",shard=\"1\"} 0.00002
no_task_cost_seconds_count{layer=\"auth\",shard=\"1\"} 10
process_cpu_seconds_total 2.5
not a sample
";

    #[test]
    fn tasks_are_counted_by_agent_and_state() {
        let after = Metrics::parse(AFTER);
        let ended = Ended { succeeded: 25, failed: 1, cancelled: 0 };
        assert_eq!((after.ended("echo"), ended.total()), (ended, 26));
        assert_eq!(after.ended("none"), Ended::default());
        assert_eq!(after.value("process_cpu_seconds_total"), Some(2.5));
    }

    #[test]
    fn layers_are_means_of_the_differences_in_their_order() {
        let layers = Metrics::parse(AFTER).layers(&Metrics::parse(BEFORE));
        let names: Vec<&str> = layers.iter().map(|layer| layer.layer.as_str()).collect();
        assert_eq!(names, ["auth", "commit"]);
        assert_eq!((layers[0].samples, layers[1].samples), (10, 10));
        assert!((layers[0].mean_us - 2.0).abs() < 1e-9);
        assert!((layers[1].mean_us - 100_000.0).abs() < 1e-6);
        assert!(Metrics::parse("x 1").layers(&Metrics::default()).is_empty());
    }
}
