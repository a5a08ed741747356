//! The circle: what is written and not released is found again, whole and in order, wherever the
//! file is cut or damaged.

use super::*;
use crate::journal::frame::sealed;
use proptest::prelude::*;
use tempfile::TempDir;

const CIRCLE: u64 = 16 * BLOCK;

fn file() -> (TempDir, PathBuf, JournalFile) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let path = dir.path().join("shard-000.journal");
    let file = JournalFile::create(&path, CIRCLE).expect("a new file");
    (dir, path, file)
}

fn frame(file: &JournalFile, number: u64, len: usize) -> Frame {
    sealed(number, file.key(), &vec![number as u8; len])
}

fn append(file: &mut JournalFile, number: u64, len: usize) -> std::result::Result<(), Refused> {
    let frame = frame(file, number, len);
    file.append(&frame)
}

fn found(path: &Path, after: u64) -> super::Result<Vec<u64>> {
    let file = JournalFile::open(path)?.expect("it is there");
    Ok(file.frames_after(path, after)?.iter().map(|frame| frame.number).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_held_is_found_whatever_came_and_went(
        steps in prop::collection::vec((1..9_000_usize, 0..4_u64), 1..80),
    ) {
        let (_dir, path, mut file) = file();
        let (mut number, mut released) = (0, 0);
        for (len, release) in steps {
            match append(&mut file, number + 1, len) {
                Ok(()) => number += 1,
                Err(Refused::Held) => prop_assert!(released < number, "an empty circle has room"),
                Err(other) => panic!("{other:?}"),
            }
            prop_assert_eq!(found(&path, released).expect("sound"),
                (released + 1..=number).collect::<Vec<_>>());
            released = number.min(released + release);
            file.release(released);
        }
        let len = std::fs::metadata(&path).expect("a file").len();
        prop_assert!(len <= BLOCK + CIRCLE, "{}", len);
    }
}

#[test]
fn a_quiet_journal_stays_small() {
    let (_dir, path, mut file) = file();
    for number in 1..=100 {
        append(&mut file, number, 100).expect("room");
        file.release(number);
    }
    assert_eq!(std::fs::metadata(&path).expect("a file").len(), 2 * BLOCK);
}

#[test]
fn a_full_circle_refuses_until_frames_are_released() {
    let (_dir, path, mut file) = file();
    for number in 1..=16 {
        append(&mut file, number, 10).expect("room");
    }
    assert!(matches!(append(&mut file, 17, 10), Err(Refused::Held)));
    assert_eq!(file.oldest(), 1);
    file.release(1);
    append(&mut file, 17, 10).expect("the first block is free");
    assert!(matches!(append(&mut file, 18, 10), Err(Refused::Held)));
    assert_eq!(found(&path, 1).expect("sound").len(), 16);
    let whole = usize::try_from(CIRCLE).expect("small");
    assert!(matches!(append(&mut file, 18, whole), Err(Refused::Large)));
}

#[test]
fn the_newest_frame_may_be_torn_and_no_other() {
    let (_dir, path, mut file) = file();
    for number in 1..=4 {
        append(&mut file, number, 5_000).expect("room");
    }
    let whole = std::fs::read(&path).expect("read");
    let block = BLOCK as usize;
    // Frames have two blocks each, behind the header.
    for cut in [7 * block, 7 * block + 40, 8 * block + 3] {
        std::fs::write(&path, &whole[..cut]).expect("written");
        assert_eq!(found(&path, 0).expect("a torn end"), [1, 2, 3]);
    }
    let mut damaged = whole;
    damaged[3 * block + 77] ^= 1;
    std::fs::write(&path, damaged).expect("written");
    let error = found(&path, 0).expect_err("the second is damaged").to_string();
    assert!(error.contains("a part of it is missing"), "{error}");
    assert_eq!(found(&path, 2).expect("it is no longer needed"), [3, 4]);
}

#[test]
fn what_is_no_journal_is_refused() {
    let (_dir, path, file) = file();
    drop(file);
    let whole = std::fs::read(&path).expect("read");
    let check = |bytes: &[u8], why: &str| {
        std::fs::write(&path, bytes).expect("written");
        let error = JournalFile::open(&path).err().expect("a refusal").to_string();
        assert!(error.contains(why), "{error}");
    };
    check(&whole[..100], "the file is too short");
    check(&[0; 5_000], "its header is not a journal's");
    std::fs::remove_file(&path).expect("removed");
    assert!(JournalFile::open(&path).expect("no error").is_none());
}
