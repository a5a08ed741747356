//! What people said of results in the last 24 hours, by agent: sums by the hour, and the last score
//! of each task, so that a later one replaces it. The oldest hour goes as a whole, so a score
//! counts for 23 to 24 hours.

use crate::event::FeedbackRow;
use crate::id::{PartitionId, TaskId};
use crate::map::Map;
use crate::time::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a score counts, in ms.
pub const WINDOW_MS: u64 = 24 * HOUR_MS;
const HOUR_MS: u64 = 3_600_000;
const HOURS: u64 = WINDOW_MS / HOUR_MS;
/// Tasks whose last score is remembered; of one beyond them both scores count.
const REMEMBERED_MAX: usize = 100_000;

/// Scores of an hour or a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scores {
    /// Their sum.
    pub sum: u64,
    /// How many.
    pub count: u64,
}

impl Scores {
    /// Adds another's.
    pub fn add(&mut self, more: Scores) {
        self.sum += more.sum;
        self.count += more.count;
    }

    /// The mean, scaled from 1 to 5 to 0 to 1; `None` without any.
    #[must_use]
    pub fn index(&self) -> Option<f64> {
        (0 < self.count).then(|| (self.sum as f64 / self.count as f64 - 1.0) / 4.0)
    }
}

#[derive(Clone, Debug)]
struct Last {
    agent: Arc<str>,
    score: u8,
    hour: u64,
}

/// The scores of one shard's tasks.
#[derive(Debug, Default)]
pub struct Satisfaction {
    agents: BTreeMap<Arc<str>, BTreeMap<u64, Scores>>,
    last: Map<TaskId, Last>,
    /// The newest hour; what is a window before it is forgotten.
    newest: u64,
}

impl Satisfaction {
    /// Takes a score in.
    pub fn put(&mut self, row: &FeedbackRow) {
        let hour = row.at.0 / HOUR_MS;
        self.forget_before(hour);
        if let Some(last) = self.last.remove(&row.task) {
            self.take_back(&last);
        }
        if hour + HOURS <= self.newest {
            return;
        }
        let last = Last { agent: Arc::clone(&row.agent), score: row.score, hour };
        let hours = self.agents.entry(Arc::clone(&row.agent)).or_default();
        hours.entry(hour).or_default().add(Scores { sum: u64::from(row.score), count: 1 });
        if self.last.len() < REMEMBERED_MAX {
            self.last.insert(row.task, last);
        }
    }

    /// Takes the scores of a partition out, as it goes to another node.
    pub fn drop_partition(&mut self, partition: PartitionId) {
        let is_its = |id: &TaskId| id.partition() == partition;
        let gone: Vec<TaskId> = self.last.keys().copied().filter(is_its).collect();
        for id in gone {
            let last = self.last.remove(&id).expect("just listed");
            self.take_back(&last);
        }
    }

    /// What counts at `now`, by agent; without those of whom nothing was said.
    #[must_use]
    pub fn sums(&self, now: Millis) -> BTreeMap<Arc<str>, Scores> {
        let first = (now.0 / HOUR_MS + 1).saturating_sub(HOURS);
        let mut sums = BTreeMap::new();
        for (agent, hours) in &self.agents {
            let mut sum = Scores::default();
            hours.range(first..).for_each(|(_, scores)| sum.add(*scores));
            if 0 < sum.count {
                sums.insert(Arc::clone(agent), sum);
            }
        }
        sums
    }

    fn take_back(&mut self, last: &Last) {
        let Some(hours) = self.agents.get_mut(&last.agent) else { return };
        let Some(scores) = hours.get_mut(&last.hour) else { return };
        scores.sum -= u64::from(last.score);
        scores.count -= 1;
    }

    fn forget_before(&mut self, hour: u64) {
        if hour <= self.newest {
            return;
        }
        self.newest = hour;
        let first = (hour + 1).saturating_sub(HOURS);
        for hours in self.agents.values_mut() {
            *hours = hours.split_off(&first);
        }
        self.agents.retain(|_, hours| !hours.is_empty());
        self.last.retain(|_, last| first <= last.hour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(task: u64, agent: &str, score: u8, hour: u64) -> FeedbackRow {
        let task = TaskId::new(task, task, PartitionId((task % 2) as u16));
        FeedbackRow { task, agent: agent.into(), score, at: Millis(hour * HOUR_MS + 7) }
    }

    fn index(satisfaction: &Satisfaction, agent: &str, hour: u64) -> Option<f64> {
        satisfaction.sums(Millis(hour * HOUR_MS)).get(agent).and_then(Scores::index)
    }

    #[test]
    fn the_mean_of_a_day_counts_each_task_once() {
        let mut all = Satisfaction::default();
        all.put(&row(1, "a", 5, 100));
        all.put(&row(2, "a", 1, 101));
        all.put(&row(3, "b", 3, 101));
        assert_eq!((index(&all, "a", 101), index(&all, "b", 101)), (Some(0.5), Some(0.5)));
        all.put(&row(2, "a", 4, 102));
        assert_eq!(index(&all, "a", 102), Some(0.875), "the later score replaces the earlier");
        assert_eq!(index(&all, "a", 123), Some(0.875));
        assert_eq!(index(&all, "a", 124), Some(0.75), "the first is a day old");
        assert_eq!(index(&all, "a", 126), None);
        all.put(&row(4, "b", 5, 200));
        assert_eq!(all.last.len(), 1, "what does not count is not remembered");
        all.put(&row(5, "b", 1, 100));
        assert_eq!(index(&all, "b", 200), Some(1.0), "too old when it came");
    }

    #[test]
    fn a_partition_takes_its_scores_along() {
        let mut all = Satisfaction::default();
        all.put(&row(1, "a", 5, 100));
        all.put(&row(2, "a", 1, 100));
        all.drop_partition(PartitionId(0));
        assert_eq!(index(&all, "a", 100), Some(1.0));
    }
}
