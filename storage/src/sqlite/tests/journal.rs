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

#[test]
fn what_is_committed_is_loaded_and_read() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
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
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
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
    assert_eq!((count(dir.path(), 0, "tasks"), count(dir.path(), 0, "events")), (0, 0));
}

#[test]
fn agents_and_keys_come_change_and_go() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
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
    let agents = |store: &Store| store.loader(ShardId(0)).expect("a loader").agents();
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
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let payload = large('x');
    for i in 0..2 {
        let (first, mut task) = submitted(id(i), &payload);
        commit(&mut journal, samples::batch(1, vec![first], &[(&task, true)]));
        // As an echo gives it back: by name only.
        let last = next(&mut task, Event::Succeeded { output: payload.stored() });
        commit(&mut journal, samples::batch(2, vec![last], &[(&task, false)]));
    }
    assert_eq!(count(dir.path(), 0, "blobs"), 1);
    let mut reader = store.reader().expect("a reader");
    let task = reader.task(id(0)).expect("readable").expect("there");
    let bytes = reader.resolve(task.id, &task.input).expect("stored");
    assert_eq!(Some(&*bytes), payload.bytes());

    commit(&mut journal, Batch { tasks_gone: vec![id(0)], ..Batch::default() });
    assert_eq!(count(dir.path(), 0, "blobs"), 1);
    commit(&mut journal, Batch { tasks_gone: vec![id(1)], ..Batch::default() });
    assert_eq!(count(dir.path(), 0, "blobs"), 0);
    assert!(reader.resolve(task.id, &task.input).is_err(), "gone");
}

#[test]
fn what_cannot_be_read_back_is_not_acknowledged() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let (first, task) = submitted(id(0), &large('x').stored());
    let batch = samples::batch(1, vec![first], &[(&task, true)]);
    let Err(CommitError::Failed(why)) = journal.commit(&[batch]) else { panic!("it has no bytes") };
    assert!(why.contains("shard-000.db: a large payload of task"), "{why}");
    // And nothing ever after.
    assert!(matches!(journal.commit(&[Batch::default()]), Err(CommitError::Failed(_))));
    assert!(matches!(journal.tidy(Millis(1)), Err(CommitError::Failed(_))));
    assert_eq!(count(dir.path(), 0, "tasks"), 0);
}

#[test]
fn one_event_twice_is_refused() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let (first, task) = submitted(id(0), &Payload::null());
    let batch = samples::batch(1, vec![first], &[(&task, true)]);
    journal.commit(std::slice::from_ref(&batch)).expect("committed");
    assert!(matches!(journal.commit(&[batch]), Err(CommitError::Failed(_))));
}

#[test]
fn finished_tasks_go_after_their_retention() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
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
    let left = count(dir.path(), 0, "tasks");
    assert!((1_500..=1_550).contains(&left), "{left}");
    assert_eq!(journal.tidy(half), Ok(false), "the next pass is later");

    let all = half + 1_000_000;
    while journal.tidy(all).expect("tidied") {}
    let open: Vec<TaskId> = loaded(&store).0.into_keys().collect();
    assert_eq!(open, kept);
    assert_eq!(count(dir.path(), 0, "tasks"), kept.len() as i64);
    assert_eq!(count(dir.path(), 0, "events"), 0, "short histories stand in the task's row");
}

#[test]
fn a_long_history_goes_in_slices() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let (first, mut task) = submitted(id(0), &large('l'));
    let mut records = vec![first];
    records.extend((0..2_998).map(|_| next(&mut task, Event::Woken)));
    records.push(next(&mut task, Event::Cancelled));
    commit(&mut journal, samples::batch(1, records, &[(&task, true)]));
    let late = Millis(task.ended_at().expect("it ended").0 + 1_000);
    // The first 64 stand in the task's row, then 64 in each row: a piece removes 1,024.
    let rows = (3_000_i64 - 64).div_euclid(64) + 1;
    for left in [rows - 16, rows - 32] {
        assert_eq!(journal.tidy(late), Ok(true));
        assert_eq!((count(dir.path(), 0, "tasks"), count(dir.path(), 0, "events")), (1, left));
    }
    assert_eq!(journal.tidy(late), Ok(false));
    assert_eq!((count(dir.path(), 0, "tasks"), count(dir.path(), 0, "events")), (0, 0));
    assert_eq!(count(dir.path(), 0, "blobs"), 0);
}

#[test]
fn a_full_disk_leaves_no_trace_and_goes_on_with_room() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    journal.index().set_pages_max(32).expect("a bound");
    let mut committed = BTreeMap::new();
    let mut i = 0;
    let refused = loop {
        let input = serde_json::to_vec(&"y".repeat(3_000)).expect("a text");
        let (first, task) = submitted(id(i), &Payload::inline(&input));
        let batch = samples::batch(i, vec![first], &[(&task, true)]);
        match journal.commit(std::slice::from_ref(&batch)) {
            Ok(()) => committed.insert(task.id, task.clone()),
            Err(error) => {
                assert_eq!(error, CommitError::Full);
                break (batch, task);
            }
        };
        i += 1;
    };
    assert!(!committed.is_empty());
    let (batch, task) = refused;
    assert_eq!(journal.commit(std::slice::from_ref(&batch)), Err(CommitError::Full), "still");
    let indexed = loaded(&store).0.len();
    assert_eq!(indexed + 1, committed.len(), "the last one is in the journal only");
    let mut reader = store.reader().expect("a reader");
    assert!(reader.task(id(0)).expect("what is there can be read").is_some());
    assert!(reader.task(id(i - 1)).is_err(), "nobody says that there is no such task");
    journal.index().set_pages_max(1_000_000).expect("room");
    journal.commit(&[batch]).expect("the very same batch");
    committed.insert(task.id, task);
    assert_eq!(loaded(&store).0, committed);
}

/// Copies the files of shard 0 as a crash leaves them: nothing is closed, and of one file only the
/// first bytes are there.
fn crash(from: &Path, torn: &str, len: usize) -> TempDir {
    let to = folder();
    for name in ["no.json", "shard-000.journal", "shard-000.db", "shard-000.db-wal"] {
        let mut bytes = std::fs::read(from.join(name)).expect("read");
        if name == torn {
            bytes.truncate(len);
        }
        std::fs::write(to.path().join(name), bytes).expect("written");
    }
    to
}

fn len_of(dir: &Path, name: &str) -> usize {
    std::fs::metadata(dir.join(name)).expect("a file").len() as usize
}

/// Opens what a crash left, and checks that the first `durable` tasks are there with their events.
fn check_after(crashed: &TempDir, durable: usize, torn: usize) {
    let store = open(crashed.path(), 1);
    assert!(!store.was_clean());
    let ids: Vec<TaskId> = loaded(&store).0.into_keys().collect();
    assert_eq!(ids, (0..durable as u64).map(id).collect::<Vec<_>>(), "torn at {torn}");
    let mut reader = store.reader().expect("a reader");
    assert!(ids.iter().all(|id| history(&mut reader, *id).len() == 2));
}

#[test]
fn a_crash_leaves_whole_commits_in_their_order_wherever_a_file_is_torn() {
    const TASKS: usize = 12;
    let dir = folder();
    let following = Following::ByHand { after: TASKS };
    let mut store = Store::open(dir.path(), &OpenOptions { following, ..options(1) }).expect("new");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let (file, log) = ("shard-000.journal", "shard-000.db-wal");
    let log_len = len_of(dir.path(), log);
    let mut durable_at = vec![len_of(dir.path(), file)];
    for i in 0..TASKS as u64 {
        if i + 1 == TASKS as u64 {
            // All but the last wait in the journal, which is torn before or in its newest frame.
            for (durable, len) in durable_at[..durable_at.len() - 1].iter().enumerate() {
                for torn in [*len, len + 20, len + 200] {
                    check_after(&crash(dir.path(), file, torn), durable, torn);
                }
            }
        }
        let (first, mut task) = samples::submitted(id(i), &Payload::null());
        let second = next(&mut task, started());
        commit(&mut journal, samples::batch(i, vec![first, second], &[(&task, true)]));
        durable_at.push(len_of(dir.path(), file));
    }
    // The last has the index take over all of them: until its log is whole they are the journal's.
    let grown = len_of(dir.path(), log);
    assert!(log_len < grown);
    for torn in (log_len..grown).step_by(2_999).chain([grown]) {
        check_after(&crash(dir.path(), log, torn), TASKS, torn);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_histories_committed_in_any_cuts_are_loaded_and_read(
        histories in any_histories(), cut in 1..5_usize, after in 1..4_usize,
    ) {
        let Histories { batches, live, read, keys } = histories;
        let dir = folder();
        let following = Following::ByHand { after };
        let options = OpenOptions { partitions: 64, following, ..few() };
        let mut store = Store::open(dir.path(), &options).expect("a new folder");
        let mut journal = store.journal(ShardId(0)).expect("a journal");
        for group in batches.chunks(cut) {
            journal.commit(group).expect("committed");
        }
        prop_assert_eq!(journal.tidy(Millis(0)), Ok(false), "and takes over the rest");
        prop_assert_eq!(loaded(&store), (live, keys));
        let mut reader = store.reader().expect("a reader");
        for (id, (task, records)) in read {
            prop_assert_eq!(reader.task(id).expect("readable"), Some(task));
            prop_assert_eq!(history(&mut reader, id), records);
        }
    }
}
