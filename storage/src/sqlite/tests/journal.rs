//! Commit, load, read: what comes back is what was written.

use super::*;
use crate::samples::{any_histories, next, started, submitted};
use no_engine::payload::Payload;
use proptest::prelude::*;

crate::contract::hold!(Some(World::new(&options(1))));

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
        let following = Following::ByHand { after };
        let options = OpenOptions { partitions: 64, following, ..few() };
        crate::contract::histories_are_loaded_and_read(&mut World::new(&options), histories, cut);
    }
}
