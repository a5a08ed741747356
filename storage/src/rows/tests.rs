//! Whatever the engine has survives its rows; junk in rows is an error.

use super::*;
use crate::samples::{any_event, any_key_row, any_task, submitted};
use no_engine::agent::definition::{Agent, Kind};
use no_engine::event::{AgentRow, Event, Record};
use no_engine::id::{PartitionId, TaskId};
use no_engine::payload::Payload;
use no_engine::task::NewTask;
use no_engine::time::Millis;
use proptest::prelude::*;

/// Cells as a store would give them back.
struct Stored<'a>(&'a [Cell<'a>]);

impl Row for Stored<'_> {
    fn cell(&self, index: usize) -> Cell<'_> {
        match &self.0[index] {
            Cell::Text(text) => Cell::Text(Cow::Borrowed(text)),
            Cell::Bytes(bytes) => Cell::Bytes(Cow::Borrowed(bytes)),
            Cell::Bytes16(bytes) => Cell::Bytes(Cow::Borrowed(bytes)),
            other => other.clone(),
        }
    }
}

/// Cells of any type and content, for columns of all kinds.
fn any_cell() -> impl Strategy<Value = Cell<'static>> {
    let text = prop_oneof![
        Just(b"queued".to_vec()),
        Just(b"{}".to_vec()),
        Just(b"[\"a\"]".to_vec()),
        Just(br#"{"submitted":{}}"#.to_vec()),
        Just(b"\xff\xfe".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop_oneof![
        Just(Cell::Null),
        any::<i64>().prop_map(Cell::Int),
        (0..100_i64).prop_map(Cell::Int),
        text.prop_map(|text| Cell::Text(Cow::Owned(text))),
        any::<[u8; 16]>().prop_map(Cell::Bytes16),
        Just(Cell::Bytes(Cow::Borrowed(&[7; 32]))),
        Just(Cell::Other),
    ]
}

proptest! {
    #[test]
    fn any_task_survives_its_row(task in any_task()) {
        let cells = task_cells(&task).expect("a task of valid JSON");
        let back = task_of(&Stored(&cells), &mut Names::default()).expect("own row");
        prop_assert_eq!(back, task);
    }

    #[test]
    fn any_history_survives_its_text(
        events in prop::collection::vec((any_event(), any::<u64>()), 1..5),
        task in any_task(), first in 1..u32::MAX - 9,
    ) {
        let mut records = Vec::new();
        let mut text = b"[".to_vec();
        for (n, ((event, _), at)) in (first..).zip(events) {
            // Who, what and with which outcome is in the task's row.
            let event = match event {
                Event::Succeeded { .. } => match task.output() {
                    Some(output) => Event::Succeeded { output: output.clone() },
                    None => Event::Cancelled,
                },
                Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq } => {
                    let new = Box::new(NewTask {
                        id: task.id,
                        agent: task.agent.clone(),
                        tenant: task.tenant.clone(),
                        input: task.input.clone(),
                        fairness_key: task.fairness_key().cloned(),
                        tags: (!task.tags().is_empty()).then(|| Arc::from(task.tags())),
                        key: task.key(),
                        caller: task.origin().caller.map(Box::new),
                        ..*new
                    });
                    Event::Submitted { new, timeout_ms, max_attempts, budget, ready_seq }
                }
                other => other,
            };
            let record = Record { task: task.id, n, at: Millis(at), event: Arc::new(event) };
            if first < n {
                text.push(b',');
            }
            write_event(&mut text, &record).expect("an event of valid JSON");
            records.push(record);
        }
        text.push(b']');
        let text = String::from_utf8(text).expect("JSON is text");
        prop_assert_eq!(records_of(&text, first, &task).expect("own text"), records);
    }

    #[test]
    fn cells_survive_packing(cells in prop::collection::vec(any_cell(), 0..9), cut: usize) {
        let mut packed = Vec::new();
        cells.iter().for_each(|cell| pack(&mut packed, cell));
        let mut unpack = Unpack::new(&packed);
        for cell in &cells {
            let expected = match cell {
                Cell::Other => Cell::Null,
                Cell::Bytes16(bytes) => Cell::Bytes(Cow::Borrowed(bytes)),
                cell => cell.clone(),
            };
            prop_assert_eq!(unpack.cell(), Some(expected));
        }
        prop_assert_eq!(unpack.cell(), None);
        // What is cut off makes fewer cells, and no panic.
        let mut unpack = Unpack::new(&packed[..cut % (packed.len() + 1)]);
        let whole = std::iter::from_fn(|| unpack.cell()).count();
        prop_assert!(whole <= cells.len());
    }

    #[test]
    fn junk_makes_no_cells_but_an_end(junk in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut unpack = Unpack::new(&junk);
        prop_assert!(std::iter::from_fn(|| unpack.cell()).count() <= junk.len());
    }

    #[test]
    fn any_key_survives_its_row(key in any_key_row()) {
        prop_assert_eq!(key_of(&Stored(&key_cells(&key))).expect("own row"), key);
    }

    #[test]
    fn junk_in_one_column_is_an_error_or_another_value(
        task in any_task(), column in 0..TASK_COLUMNS.len(), junk in any_cell(),
    ) {
        let mut cells = task_cells(&task).expect("a task of valid JSON");
        cells[column] = junk;
        let _ = task_of(&Stored(&cells), &mut Names::default());
    }

    #[test]
    fn rows_of_junk_are_an_error(cells in prop::collection::vec(any_cell(), 42)) {
        prop_assert!(task_of(&Stored(&cells), &mut Names::default()).is_err());
        let (_, task) = submitted(TaskId::new(1, 2, PartitionId(3)), &Payload::null());
        let _ = v1_record_of(&Stored(&cells), &task);
        prop_assert!(v1_task_of(&Stored(&cells), &mut Names::default()).is_err());
        let _ = key_of(&Stored(&cells));
        let _ = agent_of(&Stored(&cells), &mut Names::default());
    }
}

#[test]
fn malformed_cells_are_named() {
    let (_, task) = submitted(TaskId::new(1, 2, PartitionId(3)), &Payload::null());
    let mut cells = task_cells(&task).expect("a task");
    cells[8] = Cell::Text(Cow::Borrowed(b"asleep"));
    let error = task_of(&Stored(&cells), &mut Names::default()).expect_err("no such state");
    assert_eq!(error, Malformed { table: "tasks", column: "state" });
}

#[test]
fn an_agent_survives_its_row() {
    let row =
        AgentRow { name: "a".into(), agent: Arc::new(Agent::of_kind(Kind::Echo)), paused: true };
    let cells = agent_cells(&row).expect("plain data");
    assert_eq!(agent_of(&Stored(&cells), &mut Names::default()).expect("own row"), row);
}

#[test]
fn names_are_kept_once() {
    let mut names = Names::default();
    assert!(Arc::ptr_eq(&names.get("echo"), &names.get("echo")));
}
