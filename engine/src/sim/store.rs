//! A store in memory, and the record of what it held: the only thing that survives a crash.
//!
//! It folds every event itself, and so checks that what a batch says of a task is what its events
//! give.

use crate::event::{Batch, Event, FeedbackRow, KeyRow, Record};
use crate::id::{PartitionId, ShardId, TaskId};
use crate::machine::apply;
use crate::port::Loaded;
use crate::task::{State, Task};
use std::collections::{BTreeMap, BTreeSet};

/// A real store that is given what this one is given, and must give back the same.
pub trait Mirror {
    /// Commits a shard's batch.
    ///
    /// # Errors
    /// What the real store said.
    fn commit(&mut self, shard: ShardId, batch: &Batch) -> Result<(), String>;

    /// The process died: all that is open is lost, and the store is opened anew.
    ///
    /// # Errors
    /// What the real store said.
    fn reopen(&mut self) -> Result<(), String>;

    /// What a start finds of a partition.
    ///
    /// # Errors
    /// What the real store said.
    fn load(&mut self, partition: PartitionId) -> Result<Loaded, String>;

    /// A task's whole history.
    ///
    /// # Errors
    /// What the real store said.
    fn history(&mut self, task: TaskId) -> Result<Vec<Record>, String>;
}

/// All that is durable, of all shards.
#[derive(Default)]
pub(super) struct Store {
    pub(super) mirror: Option<Box<dyn Mirror>>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) histories: BTreeMap<TaskId, Vec<Record>>,
    pub(super) keys: BTreeMap<(PartitionId, u128), KeyRow>,
    pub(super) removed: BTreeSet<TaskId>,
    pub(super) feedback: BTreeMap<TaskId, FeedbackRow>,
    /// Which task each key made, for as long as it was known.
    pub(super) made_by_key: BTreeSet<(u128, TaskId)>,
    /// Tasks with new events since somebody looked.
    pub(super) dirty: BTreeSet<TaskId>,
    /// Rows of the transition table that were seen.
    pub(super) transitions: BTreeSet<(&'static str, &'static str)>,
}

impl Store {
    /// Commits a batch, or says what is wrong with it.
    pub(super) fn commit(&mut self, shard: ShardId, batch: &Batch) -> Result<(), String> {
        if let Some(mirror) = &mut self.mirror {
            mirror.commit(shard, batch)?;
        }
        let mut touched = BTreeSet::new();
        for record in &batch.records {
            self.dirty.insert(record.task);
            touched.insert(record.task);
            self.fold(record)?;
        }
        let mut imaged = BTreeSet::new();
        for image in &batch.tasks {
            let id = image.task.id;
            imaged.insert(id);
            let mine =
                self.tasks.get(&id).ok_or(format!("an image of {id}, which has no events"))?;
            let theirs = &image.task;
            if mine != theirs {
                return Err(format!(
                    "the image of {id} is not what its events give:\n{theirs:?}\n{mine:?}"
                ));
            }
        }
        if touched != imaged {
            return Err(format!("{touched:?} were touched, but {imaged:?} have images"));
        }
        for row in &batch.keys {
            let before = self.keys.insert((row.partition, row.hash), *row);
            if let Some(before) = before
                && before.task != row.task
                && before.expires_at.is_none()
            {
                return Err(format!("one key made {} and {}", before.task, row.task));
            }
            self.made_by_key.insert((row.hash, row.task));
        }
        for key in &batch.keys_gone {
            self.keys.remove(key).ok_or("a key was forgotten that nobody knew")?;
        }
        for row in &batch.feedback {
            self.feedback.insert(row.task, row.clone());
        }
        for id in &batch.tasks_gone {
            let task = self.tasks.remove(id).ok_or("a task was removed that was not there")?;
            if task.state != State::Failed {
                return Err(format!("{id} was removed while {:?}", task.state));
            }
            self.histories.remove(id);
            self.removed.insert(*id);
        }
        Ok(())
    }

    fn fold(&mut self, record: &Record) -> Result<(), String> {
        let id = record.task;
        let from = self.tasks.get(&id).map_or("(none)", |task| task.state.name());
        self.transitions.insert((from, record.event.name()));
        if let Event::Submitted { .. } = &*record.event {
            if self.tasks.contains_key(&id) {
                return Err(format!("{id} was submitted twice"));
            }
            self.tasks.insert(id, apply::submitted(record));
            self.histories.insert(id, vec![record.clone()]);
            return Ok(());
        }
        let task = self.tasks.get(&id).ok_or(format!("an event of {id}, never submitted"))?;
        super::check::early(task, record)?;
        super::check::order(self, record)?;
        let task = self.tasks.get_mut(&id).expect("looked at above");
        apply::fold(task, record);
        self.histories.get_mut(&id).expect("it has a task").push(record.clone());
        Ok(())
    }

    /// What a start finds of a partition.
    pub(super) fn load(&self, partition: PartitionId) -> Loaded {
        let is_kept = |task: &&Task| {
            task.id.partition() == partition
                && (!task.state.is_ended() || task.state == State::Failed)
        };
        let mut tasks: Vec<Task> = self.tasks.values().filter(is_kept).cloned().collect();
        tasks.sort_by_key(|task| task.id);
        let mut keys: Vec<KeyRow> =
            self.keys.values().filter(|row| row.partition == partition).copied().collect();
        keys.sort_by_key(|row| row.hash);
        Loaded { tasks, keys, feedback: Vec::new() }
    }

    /// After a crash, the real store is opened anew and must hold the same, histories included.
    pub(super) fn reopen(&mut self, partitions: u16) -> Result<(), String> {
        let Some(mut mirror) = self.mirror.take() else { return Ok(()) };
        mirror.reopen()?;
        for partition in (0..partitions).map(PartitionId) {
            let mut theirs = mirror.load(partition)?;
            theirs.tasks.sort_by_key(|task| task.id);
            theirs.keys.sort_by_key(|row| row.hash);
            let mine = self.load(partition);
            if mine != theirs {
                return Err(format!(
                    "{partition:?} was committed as\n{mine:#?}\nand read as\n{theirs:#?}"
                ));
            }
        }
        for (id, mine) in &self.histories {
            let theirs = mirror.history(*id)?;
            if *mine != theirs {
                return Err(format!("{id} was committed as\n{mine:#?}\nand read as\n{theirs:#?}"));
            }
        }
        self.mirror = Some(mirror);
        Ok(())
    }

    /// Events of a step with this name in a task's history.
    pub(super) fn count(&self, id: TaskId, is: impl Fn(&Event) -> bool) -> usize {
        let history = self.histories.get(&id).map_or(&[][..], |history| history);
        history.iter().filter(|record| is(&record.event)).count()
    }
}
