//! Whatever the engine has survives its rows; junk in rows is an error.

use super::*;
use crate::samples::{any_event, any_key_row, any_task};
use no_engine::agent::definition::{Agent, Kind};
use no_engine::event::{AgentRow, Record};
use no_engine::id::TaskId;
use no_engine::time::Millis;
use proptest::prelude::*;

/// Cells as a store would give them back.
struct Stored<'a>(&'a [Cell<'a>]);

impl Row for Stored<'_> {
    fn cell(&self, index: usize) -> Cell<'_> {
        match &self.0[index] {
            Cell::Text(text) => Cell::Text(Cow::Borrowed(text)),
            Cell::Bytes16(bytes) => Cell::Bytes(bytes),
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
        Just(Cell::Bytes(&[7; 32])),
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
    fn any_record_survives_its_row((event, task) in any_event(), n: u32, at: u64) {
        let record = Record { task: task.id, n, at: Millis(at), event: Arc::new(event) };
        let cells = event_cells(&record).expect("an event of valid JSON");
        let joined = Joined { input: Some(task.input.clone()), output: task.output().cloned() };
        prop_assert_eq!(record_of(&Stored(&cells), &joined).expect("own row"), record);
    }

    #[test]
    fn any_key_survives_its_row(key in any_key_row()) {
        prop_assert_eq!(key_of(&Stored(&key_cells(&key))).expect("own row"), key);
    }

    #[test]
    fn junk_in_one_column_is_an_error_or_another_value(
        task in any_task(), column in 0..42_usize, junk in any_cell(),
    ) {
        let mut cells = task_cells(&task).expect("a task of valid JSON");
        cells[column] = junk;
        let _ = task_of(&Stored(&cells), &mut Names::default());
    }

    #[test]
    fn rows_of_junk_are_an_error(cells in prop::collection::vec(any_cell(), 42)) {
        prop_assert!(task_of(&Stored(&cells), &mut Names::default()).is_err());
        let _ = record_of(&Stored(&cells), &Joined::default());
        let _ = key_of(&Stored(&cells));
        let _ = agent_of(&Stored(&cells), &mut Names::default());
    }
}

#[test]
fn malformed_cells_are_named() {
    let (_, task) = crate::samples::submitted(
        TaskId::new(1, 2, no_engine::id::PartitionId(3)),
        &no_engine::payload::Payload::null(),
    );
    let mut cells = task_cells(&task).expect("a task");
    cells[12] = Cell::Text(Cow::Borrowed(b"asleep"));
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
