//! The store in memory, and its reader.

use super::*;

/// What the fake shards have committed.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) records: BTreeMap<TaskId, Vec<Record>>,
    pub(crate) blobs: BTreeMap<Hash, Arc<[u8]>>,
}

impl Store {
    /// Adds an event to a task's history.
    pub(crate) fn add(&mut self, task: TaskId, event: Event) -> Record {
        let records = self.records.entry(task).or_default();
        let n = records.len() as u32 + 1;
        let record = Record { task, n, at: AT, event: event.into() };
        records.push(record.clone());
        record
    }
}

pub(super) struct StoreReader(pub(super) Rc<RefCell<Store>>);

impl Reader for StoreReader {
    fn task(&mut self, id: TaskId) -> Result<Option<Task>, String> {
        Ok(self.0.borrow().tasks.get(&id).cloned())
    }

    fn events(&mut self, id: TaskId, after: u32, limit: usize) -> Result<Vec<Record>, String> {
        let store = self.0.borrow();
        let records = store.records.get(&id).map(Vec::as_slice).unwrap_or_default();
        Ok(records.iter().filter(|record| after < record.n).take(limit).cloned().collect())
    }

    fn list(
        &mut self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page, String> {
        let store = self.0.borrow();
        let fits = |task: &&Task| {
            before.is_none_or(|before| task.id < before)
                && filter.tenant.as_ref().is_none_or(|tenant| *tenant == task.tenant)
                && filter.agent.as_ref().is_none_or(|agent| *agent == task.agent)
                && filter.state.is_none_or(|state| state == task.state)
        };
        let mut tasks: Vec<Task> =
            store.tasks.values().rev().filter(fits).take(limit + 1).cloned().collect();
        let more = limit < tasks.len();
        tasks.truncate(limit);
        let next = if more { tasks.last().map(|task| task.id) } else { None };
        Ok(Page { tasks, next })
    }

    fn blob(&mut self, _: TaskId, hash: Hash) -> Result<Option<Arc<[u8]>>, String> {
        Ok(self.0.borrow().blobs.get(&hash).cloned())
    }
}
