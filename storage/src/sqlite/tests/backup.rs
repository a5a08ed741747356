//! A cut beside a writer: all that was acknowledged before it is in it, whatever the writer did
//! meanwhile.

use super::*;
use crate::sqlite::{Cut, check_copy};
use no_engine::payload::Payload;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Copies a cut and gives the ids that are in it, file by file.
fn copied(cut: &mut Cut) -> Vec<Vec<Vec<u8>>> {
    let to = folder();
    let mut all = Vec::new();
    for shard in 0..cut.shards() {
        let path = schema::shard_path(to.path(), shard);
        cut.copy(shard, &path, &mut |_| {}).expect("copied");
        let contents = check_copy(&path).expect("a sound copy");
        assert!(!schema::log_path(&path).exists(), "it stands alone");
        let db = Connection::open(&path).expect("opens");
        let mut rows = db.prepare("SELECT id FROM tasks ORDER BY id").expect("a table");
        let ids = rows.query_map([], |row| row.get(0)).expect("rows");
        let ids: Vec<Vec<u8>> = ids.collect::<rusqlite::Result<_>>().expect("rows");
        assert_eq!(contents.tasks.values().sum::<u64>(), ids.len() as u64);
        all.push(ids);
    }
    all
}

/// Some hundred MiB.
const COMMITS_MAX: u64 = 5_000;

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_was_acknowledged_before_a_cut_is_in_it_while_the_journal_goes_round_and_round() {
    let dir = folder();
    // So small that each commit of a few KiB overwrites what the one some moments ago wrote.
    let options =
        OpenOptions { following: Following::Thread, journal_bytes: 48 << 10, ..options(2) };
    let mut store = Store::open(dir.path(), &options).expect("a new folder");
    let _checkpoints = store.checkpoints().expect("a thread");
    let mut journals = journals(&mut store);
    let (acknowledged, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let input = Payload::inline(format!("\"{}\"", "x".repeat(3_000)).as_bytes());
    std::thread::scope(|scope| {
        // Also when an assertion fails.
        let _ends = Ends(&is_over);
        scope.spawn(|| {
            let mut i = 1;
            // Bounded, whatever happens: nothing cuts the indexes' logs here while a cut is open.
            while !is_over.load(Ordering::Relaxed) && i < COMMITS_MAX {
                submit(&mut store, &mut journals, i..i + 1, &input);
                acknowledged.store(i, Ordering::Release);
                i += 1;
            }
        });
        for _ in 0..8 {
            let before = acknowledged.load(Ordering::Acquire);
            let mut cut = Cut::take(dir.path()).expect("a cut");
            let ids: std::collections::BTreeSet<_> =
                copied(&mut cut).concat().into_iter().collect();
            for i in 1..=before {
                assert!(ids.contains(&id(i).to_bytes()[..]), "task {i} of {before} is missing");
            }
        }
        assert!(20 < acknowledged.load(Ordering::Relaxed), "it went on meanwhile");
    });
}

#[test]
fn a_cut_without_a_node_has_what_only_the_journal_has() {
    let dir = folder();
    let options = OpenOptions {
        following: Following::ByHand { after: usize::MAX },
        journal_bytes: 1 << 20,
        ..options(2)
    };
    let mut store = Store::open(dir.path(), &options).expect("a new folder");
    let mut journals = journals(&mut store);
    let tasks = submit(&mut store, &mut journals, 0..9, &samples::large('b'));
    drop((journals, store));
    assert_eq!(count(dir.path(), 0, "tasks") + count(dir.path(), 1, "tasks"), 0);
    let mut cut = Cut::take(dir.path()).expect("a cut");
    assert_eq!((cut.partitions(), cut.shards()), (PARTITIONS_FEW, 2));
    assert!(0 < cut.bytes());
    assert_eq!(copied(&mut cut).concat().len(), tasks.len());
    assert_eq!(count(dir.path(), 0, "tasks"), 0, "the store itself is not touched");
    // And a start finds it as it was.
    assert_eq!(loaded(&open(dir.path(), 2)).0, tasks);
}

#[test]
fn a_gap_that_stays_is_damage_and_not_a_shorter_backup() {
    let dir = folder();
    let options = OpenOptions { following: Following::ByHand { after: usize::MAX }, ..options(1) };
    let mut store = Store::open(dir.path(), &options).expect("a new folder");
    let mut journals = journals(&mut store);
    submit(&mut store, &mut journals, 0..4, &Payload::null());
    drop((journals, store));
    let journal = schema::journal_path(&schema::shard_path(dir.path(), 0));
    let mut bytes = std::fs::read(&journal).expect("a file");
    bytes[2 * 4_096 + 100] ^= 1;
    std::fs::write(&journal, &bytes).expect("written");
    let refused = Cut::take(dir.path()).err().expect("refused");
    assert!(matches!(refused, Error::Damaged { ref path, .. } if *path == journal), "{refused}");
}

#[test]
fn folders_without_a_whole_store_are_refused() {
    let dir = folder();
    let refused = |dir: &Path| Cut::take(dir).err().expect("refused");
    assert!(matches!(refused(dir.path()), Error::NoStore { .. }));
    drop(open(dir.path(), 2));
    let mut marker = Marker::read(dir.path()).expect("sound").expect("there");
    marker.moving_from = Some(1);
    marker.write(dir.path()).expect("written");
    assert!(matches!(refused(dir.path()), Error::Unsettled { .. }));
}

#[test]
fn a_copy_with_a_flipped_bit_is_found_out() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut journals = journals(&mut store);
    submit(&mut store, &mut journals, 0..300, &samples::large('c'));
    drop((journals, store));
    let path = dir.path().join("copy.db");
    Cut::take(dir.path()).expect("a cut").copy(0, &path, &mut |_| {}).expect("copied");
    let contents = check_copy(&path).expect("sound");
    assert_eq!((contents.payloads, contents.tasks["queued"]), (1, 300));
    let whole = std::fs::read(&path).expect("a file");
    // The bytes of the payload stand as they are.
    let at = whole.windows(64).position(|part| part == [b'c'; 64]).expect("the payload");
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    std::fs::write(&path, &damaged).expect("written");
    let refused = check_copy(&path).expect_err("refused");
    assert!(refused.to_string().contains("does not fit its hash"), "{refused}");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    assert!(check_copy(&path).is_err());
}
