//! What is said of a journal: whole, behind, torn, damaged.

use super::*;
use crate::sqlite::{JournalSeen, inspect};
use crate::writer::Finish;
use no_engine::payload::Payload;

const BLOCK: usize = 4_096;

fn seen(dir: &Path) -> JournalSeen {
    inspect(dir).expect("readable").remove(0)
}

/// A store whose index has none of its journal's four frames.
fn behind() -> TempDir {
    let dir = folder();
    let options = OpenOptions { following: Following::ByHand { after: usize::MAX }, ..options(1) };
    let mut store = Store::open(dir.path(), &options).expect("a new folder");
    let mut journals = journals(&mut store);
    submit(&mut store, &mut journals, 0..4, &Payload::null());
    dir
}

#[test]
fn frames_the_mark_and_what_the_index_lacks() {
    let dir = behind();
    let journal = seen(dir.path());
    assert_eq!((journal.applied, journal.last, journal.is_clean), (0, 4, false));
    assert_eq!((journal.damage, journal.torn_at), (None, None));
    let places: Vec<_> = journal.frames.iter().map(|frame| (frame.number, frame.at)).collect();
    assert_eq!(places, [(1, 4_096), (2, 8_192), (3, 12_288), (4, 16_384)]);
    let entries = BTreeMap::from([("task_new", 1), ("history", 1)]);
    assert!(journal.frames.iter().all(|frame| frame.entries == entries));

    let mut store = open(dir.path(), 1);
    store.journal(ShardId(0)).expect("a journal").finish().expect("finished");
    let journal = seen(dir.path());
    assert_eq!((journal.applied, journal.last, journal.is_clean), (4, 4, true));
    assert!(journal.frames.iter().all(|frame| frame.entries.is_empty()), "leftovers");
}

fn check(change: impl Fn(&mut Vec<u8>), damage: Option<&str>, torn_at: Option<u64>) {
    let dir = behind();
    let path = schema::journal_path(&schema::shard_path(dir.path(), 0));
    let mut bytes = std::fs::read(&path).expect("a file");
    change(&mut bytes);
    std::fs::write(&path, &bytes).expect("written");
    let journal = seen(dir.path());
    assert_eq!((journal.damage.as_deref(), journal.torn_at), (damage, torn_at));
    assert_eq!(std::fs::read(&path).expect("a file"), bytes, "it only looks");
}

#[test]
fn damage_is_told_from_a_torn_end() {
    check(|bytes| bytes[4 * BLOCK + 40] ^= 1, None, Some(4 * 4_096));
    check(|bytes| bytes[2 * BLOCK + 40] ^= 1, Some("frame 2 at byte 8192 is broken"), None);
    check(|bytes| bytes[2 * BLOCK] ^= 1, Some("frame 2 is missing"), None);
    check(|bytes| bytes[0] ^= 1, Some("its header is not a journal's"), None);
    check(|bytes| bytes[20] ^= 1, Some("it is the journal of another store"), None);
    check(|bytes| bytes.truncate(100), Some("the file is too short"), None);
    let dir = behind();
    let path = schema::journal_path(&schema::shard_path(dir.path(), 0));
    std::fs::remove_file(path).expect("removed");
    assert_eq!(seen(dir.path()).damage.as_deref(), Some("the file is missing"));
}
