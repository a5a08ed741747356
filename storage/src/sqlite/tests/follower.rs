//! The index behind the journal: readers see what was acknowledged, and a start finds what the
//! index had not taken over.

use super::*;
use crate::samples::{large, next, started};
use crate::writer::Finish;
use no_engine::event::Event;
use no_engine::payload::Payload;
use no_engine::port::CommitError;

fn behind() -> OpenOptions {
    OpenOptions { following: Following::ByHand { after: usize::MAX }, ..options(1) }
}

fn threaded() -> OpenOptions {
    OpenOptions { following: Following::Thread, journal_bytes: 1 << 20, ..options(1) }
}

/// A task that came and ended, in two commits.
fn run(journal: &mut SqliteJournal, i: u64, input: &Payload) -> (Task, Vec<Record>) {
    let (first, mut task) = samples::submitted(id(i), input);
    let second = next(&mut task, started());
    commit(journal, samples::batch(i, vec![first.clone(), second.clone()], &[(&task, true)]));
    let third = next(&mut task, Event::Succeeded { output: input.stored() });
    commit(journal, samples::batch(i, vec![third.clone()], &[(&task, false)]));
    (task, vec![first, second, third])
}

#[test]
fn a_reader_sees_what_was_acknowledged_before_it_asked() {
    let dir = folder();
    let mut store = Store::open(dir.path(), &threaded()).expect("a new folder");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let mut reader = store.reader().expect("a reader");
    for i in 0..20 {
        let input = if i % 7 == 0 { large('f') } else { Payload::null() };
        let (task, records) = run(&mut journal, i, &input);
        assert_eq!(reader.task(task.id).expect("readable").as_ref(), Some(&task));
        assert_eq!(history(&mut reader, task.id), records);
        let bytes = reader.resolve(task.id, &task.input).expect("stored");
        assert_eq!(bytes.len(), input.bytes_len());
    }
    journal.finish().expect("finished");
    drop((journal, reader, store));
    assert!(Store::open(dir.path(), &threaded()).expect("sound").was_clean());
    assert_eq!(count(dir.path(), 0, "tasks"), 20);
    assert_eq!(count(dir.path(), 0, "events"), 0, "short histories stand in the task's row");
}

#[test]
fn a_start_takes_over_what_the_index_had_not() {
    let dir = folder();
    let mut store = Store::open(dir.path(), &behind()).expect("a new folder");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let inputs = [large('b'), Payload::null(), Payload::inline(b"[1]")];
    let expected: Vec<_> =
        (0..).zip(&inputs).map(|(i, input)| run(&mut journal, i, input)).collect();
    assert_eq!(count(dir.path(), 0, "tasks"), 0, "the index is behind");
    drop((journal, store));
    let mut store = open(dir.path(), 1);
    assert!(!store.was_clean());
    let mut reader = store.reader().expect("a reader");
    for (task, records) in &expected {
        assert_eq!(reader.task(task.id).expect("readable").as_ref(), Some(task));
        assert_eq!(&history(&mut reader, task.id), records);
        reader.resolve(task.id, &task.input).expect("stored");
    }
    // And goes on from there.
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    run(&mut journal, 9, &Payload::null());
    assert_eq!(count(dir.path(), 0, "tasks"), 4);
}

#[test]
fn a_journal_that_is_full_waits_for_the_index() {
    for following in [Following::Thread, Following::ByHand { after: usize::MAX }] {
        let dir = folder();
        let options = OpenOptions { following, ..options(1) };
        let mut store = Store::open(dir.path(), &options).expect("a new folder");
        let mut journal = store.journal(ShardId(0)).expect("a journal");
        let text = format!("\"{}\"", "w".repeat(3_000));
        for i in 0..60 {
            run(&mut journal, i, &Payload::inline(text.as_bytes()));
        }
        // Larger than the whole circle: it goes into the index at once.
        let text = format!("\"{}\"", "l".repeat(100_000));
        let huge = Payload::new(text.as_bytes(), crate::blob::hash);
        let (task, _) = run(&mut journal, 60, &huge);
        run(&mut journal, 61, &Payload::null());
        let journal_len = std::fs::metadata(dir.path().join("shard-000.journal")).expect("a file");
        assert!(journal_len.len() <= options.journal_bytes + 4_096);
        drop((journal, store));
        let store = open(dir.path(), 1);
        let mut reader = store.reader().expect("a reader");
        assert_eq!(reader.task(task.id).expect("readable"), Some(task));
        let all = reader.list(&Default::default(), None, 100).expect("readable").tasks;
        assert_eq!(all.len(), 62);
    }
}

#[test]
fn a_journal_that_is_missing_or_anothers_is_damage_after_a_crash() {
    let dir = folder();
    let mut store = Store::open(dir.path(), &behind()).expect("a new folder");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    run(&mut journal, 1, &Payload::null());
    drop((journal, store));
    let path = dir.path().join("shard-000.journal");
    let refusal = |dir: &Path| Store::open(dir, &options(1)).err().expect("a refusal").to_string();
    let away = dir.path().join("away");
    std::fs::rename(&path, &away).expect("moved");
    assert!(refusal(dir.path()).contains("shard-000.journal is damaged (the file is missing)"));
    let other = folder();
    drop(open(other.path(), 1));
    std::fs::copy(other.path().join("shard-000.journal"), &path).expect("copied");
    assert!(refusal(dir.path()).contains("it is the journal of another store"));
    std::fs::rename(&away, &path).expect("moved back");
    let store = open(dir.path(), 1);
    assert!(store.reader().expect("a reader").task(id(1)).expect("readable").is_some());
}

#[test]
fn after_a_clean_stop_the_journal_may_be_missing_or_get_another_size() {
    let dir = folder();
    for journal_bytes in [64 << 10, 128 << 10, 128 << 10] {
        let options = OpenOptions { journal_bytes, ..options(1) };
        let mut store = Store::open(dir.path(), &options).expect("sound");
        assert!(store.was_clean());
        let mut journal = store.journal(ShardId(0)).expect("a journal");
        run(
            &mut journal,
            journal_bytes + u64::from(count(dir.path(), 0, "tasks") > 1),
            &Payload::null(),
        );
        journal.finish().expect("finished");
        drop((journal, store));
        if count(dir.path(), 0, "tasks") == 2 {
            std::fs::remove_file(dir.path().join("shard-000.journal")).expect("removed");
        }
    }
    assert_eq!(count(dir.path(), 0, "tasks"), 3);
}

#[test]
fn a_failed_index_fails_the_journal() {
    let dir = folder();
    let mut store = Store::open(dir.path(), &threaded()).expect("a new folder");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let (first, task) = samples::submitted(id(0), &Payload::null());
    let batch = samples::batch(1, vec![first], &[(&task, true)]);
    journal.commit(std::slice::from_ref(&batch)).expect("committed");
    // The engine never does this: a task that is there comes as a new one.
    journal.commit(&[batch]).expect("it is in the journal");
    assert!(store.reader().expect("a reader").events(task.id, 0, 9).is_err(), "and not beyond");
    assert!(matches!(journal.commit(&[Batch::default()]), Err(CommitError::Failed(_))));
    assert!(matches!(journal.finish(), Err(CommitError::Failed(_))));
}
