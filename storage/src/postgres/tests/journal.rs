//! Commit, load, read: what comes back is what was written.

use super::*;
use crate::samples::{Histories, any_histories, dead_lettered, large, next, started, submitted};
use no_engine::agent::definition::{Agent, Kind};
use no_engine::event::{AgentRow, Event, KeyRow};
use no_engine::payload::Payload;
use no_engine::port::CommitError;
use no_engine::task::State;
use no_engine::time::Millis;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[test]
fn what_is_committed_is_loaded_and_read() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let (first, mut task) = submitted(id(1), &Payload::inline(br#"{"say": "hi"}"#));
    let second = next(&mut task, started());
    commit(&mut journal, samples::batch(1, vec![first.clone(), second.clone()], &[(&task, true)]));
    assert_eq!(loaded(&store).0, BTreeMap::from([(task.id, task.clone())]));

    let third = next(&mut task, Event::Succeeded { output: Payload::inline(b"[1]") });
    commit(&mut journal, samples::batch(2, vec![third.clone()], &[(&task, false)]));
    assert_eq!(loaded(&store).0, BTreeMap::new(), "it ended");

    let mut reader = store.reader().expect("a reader");
    assert_eq!(reader.task(task.id).expect("readable"), Some(task.clone()));
    assert_eq!(history(&mut reader, task.id), [first, second.clone(), third]);
    assert_eq!(reader.events(task.id, 1, 1).expect("readable"), [second]);
    assert_eq!(reader.task(id(2)).expect("readable"), None);
    let nowhere = TaskId::new(1, 1, PartitionId(9_999));
    assert_eq!(reader.task(nowhere).expect("readable"), None);
}

#[test]
fn a_task_that_changed_often_in_one_commit_is_written_as_it_is_last() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let (first, mut task) = submitted(id(1), &Payload::null());
    let one = samples::batch(1, vec![first], &[(&task, true)]);
    let second = next(&mut task, started());
    let two = samples::batch(2, vec![second], &[(&task, false)]);
    let third = next(&mut task, dead_lettered());
    let three = samples::batch(3, vec![third], &[(&task, false)]);
    journal.commit(&[one, two, three]).expect("committed");
    assert_eq!(loaded(&store).0, BTreeMap::from([(task.id, task.clone())]), "a dead letter");
    assert_eq!(history(&mut store.reader().expect("a reader"), task.id).len(), 3);

    let gone = Batch { tasks_gone: vec![task.id], ..Batch::default() };
    commit(&mut journal, gone);
    assert_eq!(loaded(&store).0, BTreeMap::new());
    assert_eq!((database.count("tasks"), database.count("events")), (0, 0));
}

#[test]
fn agents_and_keys_come_change_and_go() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let agent = |paused| AgentRow {
        name: "a".into(),
        agent: Arc::new(Agent::of_kind(Kind::Worker)),
        paused,
    };
    let key = |expires_at| KeyRow {
        partition: PartitionId(3),
        hash: 1 << 100,
        fingerprint: u64::MAX,
        task: id(3),
        expires_at,
    };
    let agents = |store: &PgStore| store.loader().expect("a loader").agents();
    commit(
        &mut journal,
        Batch { agents: vec![agent(false)], keys: vec![key(None)], ..Batch::default() },
    );
    assert_eq!(agents(&store), Ok(vec![agent(false)]));
    let later = key(Some(Millis(5)));
    commit(
        &mut journal,
        Batch { agents: vec![agent(true)], keys: vec![later], ..Batch::default() },
    );
    assert_eq!(agents(&store), Ok(vec![agent(true)]));
    assert_eq!(loaded(&store).1, BTreeMap::from([(later.hash, later)]));
    let gone = Batch {
        agents_gone: vec!["a".into()],
        keys_gone: vec![(later.partition, later.hash)],
        ..Batch::default()
    };
    commit(&mut journal, gone);
    assert_eq!((agents(&store), loaded(&store).1), (Ok(Vec::new()), BTreeMap::new()));
}

#[test]
fn large_payloads_are_stored_once_and_go_with_the_last_that_names_them() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let payload = large('x');
    // Two of one partition, and one of another, which has its own.
    let same = u64::from(PARTITIONS_FEW);
    for i in [0, same, 1] {
        let (first, mut task) = submitted(id(i), &payload);
        commit(&mut journal, samples::batch(1, vec![first], &[(&task, true)]));
        // As an echo gives it back: by name only.
        let last = next(&mut task, Event::Succeeded { output: payload.stored() });
        commit(&mut journal, samples::batch(2, vec![last], &[(&task, false)]));
    }
    assert_eq!(database.count("blobs"), 2);
    let mut reader = store.reader().expect("a reader");
    let task = reader.task(id(0)).expect("readable").expect("there");
    let bytes = reader.resolve(task.id, &task.input).expect("stored");
    assert_eq!(Some(&*bytes), payload.bytes());

    commit(&mut journal, Batch { tasks_gone: vec![id(0), id(1)], ..Batch::default() });
    assert_eq!(database.count("blobs"), 1);
    assert!(reader.resolve(id(same), &task.input).is_ok());
    commit(&mut journal, Batch { tasks_gone: vec![id(same)], ..Batch::default() });
    assert_eq!(database.count("blobs"), 0);
    assert!(reader.resolve(task.id, &task.input).is_err(), "gone");
}

#[test]
fn what_cannot_be_read_back_is_not_acknowledged() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let (first, task) = submitted(id(0), &large('x').stored());
    let batch = samples::batch(1, vec![first], &[(&task, true)]);
    let Err(CommitError::Failed(why)) = journal.commit(&[batch]) else { panic!("it has no bytes") };
    assert!(why.contains("a large payload has no bytes"), "{why}");
    // And nothing ever after.
    assert!(matches!(journal.commit(&[Batch::default()]), Err(CommitError::Failed(_))));
    assert!(matches!(journal.tidy(Millis(1)), Err(CommitError::Failed(_))));
    assert_eq!(database.count("tasks"), 0);
}

#[test]
fn one_event_twice_is_refused() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let (first, task) = submitted(id(0), &Payload::null());
    let batch = samples::batch(1, vec![first], &[(&task, true)]);
    journal.commit(std::slice::from_ref(&batch)).expect("committed");
    assert!(matches!(journal.commit(&[batch]), Err(CommitError::Failed(_))));
}

#[test]
fn finished_tasks_go_after_their_retention() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let tasks = 3_000;
    let mut kept = Vec::new();
    let mut batch = Batch::default();
    for i in 0..tasks {
        let (first, mut task) = submitted(id(i), &Payload::null());
        let event = match i % 100 {
            0 => started(),
            1 => dead_lettered(),
            2 => Event::Cancelled,
            _ => Event::Succeeded { output: Payload::null() },
        };
        let last = next(&mut task, event);
        if task.state == State::Running || task.state == State::Failed {
            kept.push(task.id);
        }
        batch.records.extend([first, last]);
        batch.tasks.push(no_engine::event::TaskImage { task, is_new: true });
    }
    commit(&mut journal, batch);
    let half = Millis(id(tasks / 2).made_ms() + 1_000);
    while journal.tidy(half).expect("tidied") {}
    let left = database.count("tasks");
    assert!((1_500..=1_550).contains(&left), "{left}");
    assert_eq!(journal.tidy(half), Ok(false), "the next pass is later");

    let all = half + 1_000_000;
    while journal.tidy(all).expect("tidied") {}
    let open: Vec<TaskId> = loaded(&store).0.into_keys().collect();
    assert_eq!(open, kept);
    assert_eq!(database.count("tasks"), kept.len() as u64);
    assert_eq!(database.count("events"), 0, "short histories stand in the task's row");
}

#[test]
fn a_long_history_goes_in_slices() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let (first, mut task) = submitted(id(0), &large('l'));
    let mut records = vec![first];
    records.extend((0..2_998).map(|_| next(&mut task, Event::Woken)));
    records.push(next(&mut task, Event::Cancelled));
    commit(&mut journal, samples::batch(1, records, &[(&task, true)]));
    let late = Millis(task.ended_at().expect("it ended").0 + 1_000);
    // The first 64 stand in the task's row, then 64 in each row: a piece removes 1,024.
    let rows = (3_000_u64 - 64).div_euclid(64) + 1;
    for left in [rows - 16, rows - 32] {
        assert_eq!(journal.tidy(late), Ok(true));
        assert_eq!((database.count("tasks"), database.count("events")), (1, left));
    }
    assert_eq!(journal.tidy(late), Ok(false));
    assert_eq!((database.count("tasks"), database.count("events")), (0, 0));
    assert_eq!(database.count("blobs"), 0);
}

#[test]
fn any_histories_committed_in_any_cuts_are_loaded_and_read() {
    let Some(database) = Database::made() else { return };
    let store = PgStore::open(&database.options(), 64).expect("a sound database");
    let mut runner = TestRunner::new(ProptestConfig::with_cases(32));
    let checked = runner.run(&(any_histories(), 1..5_usize), |(histories, cut)| {
        database.server.says(&database.name, "TRUNCATE tasks, events, blobs, keys");
        let Histories { batches, live, read, keys } = histories;
        let mut journal = journal_of(&store, "a");
        for group in batches.chunks(cut) {
            journal.commit(group).expect("committed");
        }
        prop_assert_eq!(loaded(&store), (live, keys));
        let mut reader = store.reader().expect("a reader");
        for (id, (task, records)) in read {
            prop_assert_eq!(reader.task(id).expect("readable"), Some(task));
            prop_assert_eq!(history(&mut reader, id), records);
        }
        Ok(())
    });
    checked.unwrap_or_else(|failed| panic!("{failed}"));
}
