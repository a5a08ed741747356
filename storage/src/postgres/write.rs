//! What commits come to (`work.rs`) as the steps of one transaction: an array for each column of
//! each kind of row, so that a thousand tasks are a handful of statements.

use crate::error::Malformed;
use crate::journal::entry::Stretch;
use crate::postgres::sql::{Op, Step};
use crate::postgres::value::{Param, Value};
use crate::rows::{AGENT_COLUMNS, Cell, FEEDBACK_COLUMNS, KEY_COLUMNS, TASK_COLUMNS, TASK_FIXED};
use crate::work::{Change, MALFORMED, Settled, join, named_by, rows, unpacked};
use std::array;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The steps of a commit, and whose rows they write.
#[derive(Default)]
pub(crate) struct Writing<'a> {
    /// In the order in which they must be done.
    pub(crate) steps: Vec<Step<'a>>,
    /// The partitions of all rows.
    pub(crate) touched: BTreeSet<u16>,
    /// Whether agents are written, which are of no partition.
    pub(crate) has_agents: bool,
}

/// The last event of any history, and more.
pub(crate) const TO_THE_END: i64 = i32::MAX as i64;

/// Rows of `N` columns, column by column.
struct Table<'a, const N: usize>([Vec<Value<'a>>; N]);

impl<'a, const N: usize> Table<'a, N> {
    fn new() -> Table<'a, N> {
        Table(array::from_fn(|_| Vec::new()))
    }

    fn push(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) {
        let Table(columns) = self;
        let mut cells = cells.into_iter();
        for column in columns {
            column.push(Value(cells.next().unwrap_or(Cell::Null)));
        }
        assert!(cells.next().is_none(), "a row has a column for each cell");
    }

    fn rows(&self) -> usize {
        self.0[0].len()
    }

    fn into_params(self) -> Vec<Param<'a>> {
        self.0.into_iter().map(Param::Many).collect()
    }
}

impl<'a> Writing<'a> {
    /// Adds the step that writes a table, if it has rows.
    fn add<const N: usize>(&mut self, op: Op, table: Table<'a, N>) {
        if 0 < table.rows() {
            self.steps.push(Step { op, params: table.into_params() });
        }
    }

    /// Likewise one that must touch as many rows as the table has.
    fn add_counted<const N: usize>(&mut self, op: Op, table: Table<'a, N>) {
        let count = table.rows();
        if 0 < count {
            let mut params = table.into_params();
            params.push(Param::count(count));
            self.steps.push(Step { op, params });
        }
    }

    /// Adds the steps that remove histories up to an event, and tasks, and what those alone named.
    pub(crate) fn drop(&mut self, histories: &[([u8; 16], i64)], tasks: &[[u8; 16]]) {
        if histories.is_empty() && tasks.is_empty() {
            return;
        }
        let mut old = Table::<3>::new();
        let mut partitions = BTreeSet::new();
        for (id, through) in histories {
            let partition = partition_of(id);
            partitions.insert(partition);
            let partition = Cell::Int(i64::from(partition));
            old.push([Cell::Bytes16(*id), partition, Cell::Int(*through)]);
        }
        partitions.extend(tasks.iter().map(partition_of));
        self.add(Op::DropEvents, old);
        if !tasks.is_empty() {
            self.steps.push(Step { op: Op::DropTasks, params: vec![Param::ids(tasks)] });
            self.steps.push(Step { op: Op::DropFeedback, params: vec![Param::ids(tasks)] });
        }
        let params = vec![Param::ints(partitions.iter().map(|id| i64::from(*id)))];
        self.steps.push(Step { op: Op::DropBlobs, params });
        self.touched.extend(partitions);
    }
}

/// The partition of a task's id.
pub(crate) fn partition_of(id: &[u8; 16]) -> u16 {
    u16::from_be_bytes([id[14], id[15]])
}

/// All that `work` writes.
pub(crate) fn writing<'a>(work: &'a Settled<'_>) -> Result<Writing<'a>, Malformed> {
    let mut writing = Writing::default();
    add_tasks(&mut writing, work)?;
    let gone = &work.tasks_gone;
    let histories: Vec<_> = gone.iter().map(|id| (*id, TO_THE_END)).collect();
    writing.drop(&histories, gone);
    add_keys(&mut writing, work)?;
    add_agents(&mut writing, work)?;
    add_feedback(&mut writing, work)?;
    Ok(writing)
}

fn add_tasks<'a>(writing: &mut Writing<'a>, work: &'a Settled<'_>) -> Result<(), Malformed> {
    let mut new = Table::<{ TASK_COLUMNS.len() + 2 }>::new();
    let mut changed = Table::<{ TASK_COLUMNS.len() - TASK_FIXED + 1 }>::new();
    let mut events = Table::<4>::new();
    let mut refs = BTreeMap::new();
    for change in work.changes() {
        let change = change?;
        let partition = partition_of(&change.id);
        writing.touched.insert(partition);
        count_named(&change, partition, &mut refs);
        let (head, more) = change.split();
        let cells = unpacked::<{ TASK_COLUMNS.len() }>(change.cells)?;
        if change.is_new {
            new.push(cells.into_iter().chain([text_of(head), named_by(head)]));
        } else {
            let id = Cell::Bytes16(change.id);
            changed.push([id].into_iter().chain(cells.into_iter().skip(TASK_FIXED)));
        }
        for row in rows(more) {
            let (id, n) = (Cell::Bytes16(change.id), Cell::Int(i64::from(row[0].first)));
            events.push([id, n, text_of(row), named_by(row)]);
        }
    }
    writing.add(Op::InsertTasks, new);
    writing.add_counted(Op::UpdateTasks, changed);
    writing.add(Op::InsertEvents, events);
    let (mut put, mut named) = (Table::<4>::new(), Table::<3>::new());
    for ((partition, hash), count) in refs {
        let partition = Cell::Int(i64::from(partition));
        let hash_cell = Cell::Bytes(Cow::Borrowed(hash));
        match work.payload(hash) {
            Some(bytes) => {
                let bytes = Cell::Bytes(Cow::Borrowed(bytes));
                put.push([partition, hash_cell, bytes, Cell::Int(count)]);
            }
            None => named.push([partition, hash_cell, Cell::Int(count)]),
        }
    }
    writing.add(Op::PutBlobs, put);
    writing.add_counted(Op::NameBlobs, named);
    Ok(())
}

/// Counts the events that name each large payload.
fn count_named<'a>(
    change: &Change<'_, 'a>,
    partition: u16,
    refs: &mut BTreeMap<(u16, &'a [u8]), i64>,
) {
    for stretch in change.events {
        for hash in stretch.named.chunks_exact(32) {
            *refs.entry((partition, hash)).or_default() += 1;
        }
    }
}

fn text_of(stretches: &[Stretch<'_>]) -> Cell<'static> {
    let mut text = Vec::new();
    join(stretches, &mut text);
    Cell::Text(Cow::Owned(text))
}

fn add_keys<'a>(writing: &mut Writing<'a>, work: &'a Settled<'_>) -> Result<(), Malformed> {
    let (mut gone, mut put) = (Table::<2>::new(), Table::<{ KEY_COLUMNS.len() }>::new());
    for (name, cells) in &work.keys {
        let name = unpacked::<2>(name)?;
        let Cell::Int(partition) = name[0] else { return Err(MALFORMED) };
        writing.touched.insert(u16::try_from(partition).map_err(|_| MALFORMED)?);
        match cells {
            Some(cells) => put.push(unpacked::<{ KEY_COLUMNS.len() }>(cells)?),
            None => gone.push(name),
        }
    }
    writing.add(Op::DropKeys, gone);
    writing.add(Op::PutKeys, put);
    Ok(())
}

fn add_agents<'a>(writing: &mut Writing<'a>, work: &'a Settled<'_>) -> Result<(), Malformed> {
    let (mut gone, mut put) = (Table::<1>::new(), Table::<{ AGENT_COLUMNS.len() }>::new());
    for (name, cells) in &work.agents {
        match cells {
            Some(cells) => put.push(unpacked::<{ AGENT_COLUMNS.len() }>(cells)?),
            None => gone.push([Cell::Text(Cow::Borrowed(*name))]),
        }
    }
    writing.has_agents = !work.agents.is_empty();
    writing.add(Op::DropAgents, gone);
    writing.add(Op::PutAgents, put);
    if writing.has_agents {
        writing.steps.push(Step { op: Op::CountAgents, params: Vec::new() });
    }
    Ok(())
}

fn add_feedback<'a>(writing: &mut Writing<'a>, work: &'a Settled<'_>) -> Result<(), Malformed> {
    let mut put = Table::<{ FEEDBACK_COLUMNS.len() }>::new();
    for cells in work.feedback.values() {
        let row = unpacked::<{ FEEDBACK_COLUMNS.len() }>(cells)?;
        let Cell::Int(partition) = row[1] else { return Err(MALFORMED) };
        writing.touched.insert(u16::try_from(partition).map_err(|_| MALFORMED)?);
        put.push(row);
    }
    writing.add(Op::PutFeedback, put);
    Ok(())
}
