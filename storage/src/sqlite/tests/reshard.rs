//! Another number of shards: all rows move, whenever the move is killed.

use super::*;
use crate::samples::{large, next, started};
use no_engine::event::{Event, KeyRow};
use no_engine::payload::Payload;

const TASKS: u64 = 40;

/// Fills a store of one shard with tasks that share large payloads, and keys.
fn fill(dir: &Path) -> BTreeMap<TaskId, (Task, Vec<Record>)> {
    let mut store = open(dir, 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let mut expected = BTreeMap::new();
    for i in 0..TASKS {
        let input = if i % 3 == 0 { large('s') } else { Payload::inline(b"[0]") };
        let (first, mut task) = samples::submitted(id(i), &input);
        let mut records = vec![first, next(&mut task, started())];
        if i % 2 == 0 {
            records.push(next(&mut task, Event::Succeeded { output: input.stored() }));
        }
        let key = KeyRow {
            partition: task.id.partition(),
            hash: u128::from(i),
            fingerprint: i,
            task: task.id,
            expires_at: None,
        };
        let mut batch = samples::batch(i, records.clone(), &[(&task, true)]);
        batch.keys.push(key);
        commit(&mut journal, batch);
        expected.insert(task.id, (task, records));
    }
    expected
}

fn check(dir: &Path, shards: u16, expected: &BTreeMap<TaskId, (Task, Vec<Record>)>) {
    let store = open(dir, shards);
    let (open, keys) = loaded(&store);
    assert_eq!(keys.len(), expected.len());
    let expected_open: BTreeMap<TaskId, Task> = expected
        .iter()
        .filter(|(_, (task, _))| !task.state.is_ended())
        .map(|(id, (task, _))| (*id, task.clone()))
        .collect();
    assert_eq!(open, expected_open);
    let mut reader = store.reader().expect("a reader");
    for (id, (task, records)) in expected {
        assert_eq!(reader.task(*id).expect("readable").as_ref(), Some(task));
        assert_eq!(&history(&mut reader, *id), records);
        reader.resolve(*id, &task.input).expect("its bytes came along");
    }
    let total: i64 = (0..shards).map(|shard| count(dir, shard, "tasks")).sum();
    assert_eq!(total, expected.len() as i64, "no task twice");
    let sum = |sql: &str| -> i64 {
        let of = |shard| {
            let db = schema::open_reader(&schema::shard_path(dir, shard)).expect("a file");
            db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a sum")
        };
        (0..shards).map(of).sum()
    };
    let named = sum("SELECT coalesce(sum(length(named)), 0) FROM tasks")
        + sum("SELECT coalesce(sum(length(named)), 0) FROM events");
    let refs = sum("SELECT coalesce(sum(refs), 0) FROM blobs");
    assert_eq!(32 * refs, named, "references are counted right");
    let extra = schema::shard_path(dir, shards);
    assert!(!extra.exists(), "files that are no more are gone");
}

/// Opens with `shards`, killed after `pieces` pieces. Whether the move was done before that.
fn open_killed(dir: &Path, shards: u16, pieces: usize) -> bool {
    let mut seen = 0;
    let done = Store::open_with_progress(dir, &options(shards), &mut |_| {
        seen += 1;
        if seen == pieces { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match done {
        Ok(_) => true,
        Err(Error::Interrupted) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn partitions_move_from_one_to_three_to_two_files() {
    let dir = folder();
    let expected = fill(dir.path());
    for shards in [3, 2, 7, 1] {
        check(dir.path(), shards, &expected);
    }
}

#[test]
fn a_move_that_is_killed_after_any_piece_is_finished_by_the_next_start() {
    let dir = folder();
    let expected = fill(dir.path());
    for to in [3, 2] {
        let (mut pieces, mut done) = (0, false);
        while !done {
            pieces += 1;
            let round = copy(dir.path());
            done = open_killed(round.path(), to, pieces);
            check(round.path(), to, &expected);
        }
        assert!(10 < pieces, "each was killed at another place");
        check(dir.path(), to, &expected);
    }
}

#[test]
fn a_move_that_is_killed_again_and_again_comes_to_its_end() {
    let dir = folder();
    let expected = fill(dir.path());
    // Each start is killed at its third piece and wants another number.
    for shards in [3, 2, 5, 3, 4, 1, 6] {
        open_killed(dir.path(), shards, 3);
    }
    check(dir.path(), 2, &expected);
}

#[test]
fn a_file_too_many_is_not_thrown_away_with_tasks_in_it() {
    let dir = folder();
    fill(dir.path());
    let stray = schema::shard_path(dir.path(), 1);
    let own = schema::shard_path(dir.path(), 0);
    std::fs::copy(schema::log_path(&own), schema::log_path(&stray)).expect("copied");
    std::fs::copy(&own, &stray).expect("copied");
    let error = Store::open(dir.path(), &options(1)).err().expect("a refusal").to_string();
    assert!(error.contains("it holds tasks although no.json counts fewer files"), "{error}");
    assert!(stray.exists());
}
