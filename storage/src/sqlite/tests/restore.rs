//! A restore counts as a whole or not at all.

use super::*;
use crate::sqlite::Restoring;
use crate::sqlite::folder::RESTORE_DIR;
use no_engine::payload::Payload;

/// A cut of a store with five tasks, copied to where a restore gathers it.
fn gather(restoring: &Restoring) -> BTreeMap<TaskId, Task> {
    let from = folder();
    let mut store = open(from.path(), 2);
    let mut journals = journals(&mut store);
    let tasks = submit(&mut store, &mut journals, 0..5, &Payload::null());
    drop((journals, store));
    let mut cut = crate::sqlite::Cut::take(from.path()).expect("a cut");
    for shard in 0..cut.shards() {
        let to = schema::shard_path(&restoring.gathered(), shard);
        cut.copy(shard, &to, &mut |_| {}).expect("copied");
    }
    tasks
}

fn refused(dir: &Path) -> Error {
    Store::open(dir, &options(2)).err().expect("refused")
}

#[test]
fn what_was_restored_opens_with_higher_fences_and_is_no_crash() {
    let dir = folder();
    let restoring = Restoring::begin(dir.path()).expect("an empty folder");
    assert!(matches!(refused(dir.path()), Error::RestoreUnfinished { .. }));
    let tasks = gather(&restoring);
    restoring.finish(PARTITIONS_FEW, 2, 77).expect("restored");
    assert!(!dir.path().join(RESTORE_DIR).exists());
    // Also with another number of shards.
    for shards in [2, 3] {
        let mut store = open(dir.path(), shards);
        assert_eq!((loaded(&store).0, store.fences_from()), (tasks.clone(), 77));
        assert!(shards != 2 || store.was_clean());
        let mut journals = journals(&mut store);
        let i = 100 + u64::from(shards);
        submit(&mut store, &mut journals, i..i + 1, &Payload::null());
        let gone = Batch { tasks_gone: vec![id(i)], ..Batch::default() };
        let own = no_engine::control::placement(id(i).partition(), PARTITIONS_FEW, shards);
        commit(&mut journals[usize::from(own.0)], gone);
    }
}

#[test]
fn a_restore_that_was_broken_off_anywhere_is_refused_and_can_be_made_again() {
    // After so many moves of the files that were gathered.
    for moves in 0..=2 {
        let dir = folder();
        std::fs::write(dir.path().join("token.key"), "kept").expect("a file");
        let restoring = Restoring::begin(dir.path()).expect("a folder with a key alone");
        gather(&restoring);
        for shard in 0..moves {
            let path = schema::shard_path(dir.path(), shard);
            std::fs::rename(schema::shard_path(&restoring.gathered(), shard), path).expect("moved");
        }
        drop(restoring);
        assert!(matches!(refused(dir.path()), Error::RestoreUnfinished { .. }));

        let again = Restoring::begin(dir.path()).expect("cleared");
        assert_eq!(std::fs::read_dir(again.gathered()).expect("a folder").count(), 0);
        assert!(!schema::shard_path(dir.path(), 0).exists());
        let tasks = gather(&again);
        std::fs::write(again.gathered().join("token.key"), "of the backup").expect("a file");
        again.finish(PARTITIONS_FEW, 2, 1).expect("restored");
        assert_eq!(loaded(&open(dir.path(), 2)).0, tasks);
        let key = std::fs::read(dir.path().join("token.key")).expect("a file");
        assert_eq!(key, b"kept", "the folder's own key stays");
    }
    // It counts, but what it gathered in was not yet removed.
    let dir = folder();
    let restoring = Restoring::begin(dir.path()).expect("an empty folder");
    let tasks = gather(&restoring);
    restoring.finish(PARTITIONS_FEW, 2, 1).expect("restored");
    std::fs::create_dir(dir.path().join(RESTORE_DIR)).expect("a folder");
    assert_eq!(loaded(&open(dir.path(), 2)).0, tasks);
    assert!(!dir.path().join(RESTORE_DIR).exists());
}

#[test]
fn nothing_is_restored_over_anything() {
    let dir = folder();
    let store = open(dir.path(), 1);
    assert!(matches!(Restoring::begin(dir.path()).err(), Some(Error::Locked { .. })));
    drop(store);
    assert!(matches!(Restoring::begin(dir.path()).err(), Some(Error::StoreThere { .. })));
    assert!(matches!(Restoring::look(dir.path()), Err(Error::StoreThere { .. })));
    for foreign in ["letters.txt", "shard-000.db", "tokens.jsonl"] {
        let dir = folder();
        std::fs::write(dir.path().join(foreign), "dear aunt").expect("a file");
        assert!(matches!(Restoring::begin(dir.path()).err(), Some(Error::NotOurs { .. })));
        assert_eq!(std::fs::read(dir.path().join(foreign)).expect("there"), b"dear aunt");
    }
}
