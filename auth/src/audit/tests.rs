//! The form of a line, and every way of changing a log that must be seen.

use super::*;
use expect_test::expect;

const AT: &str = "2026-11-25T02:38:49.123Z";

fn entry(on: &str) -> Entry {
    let who = Who { subject: "ada \"l\"".into(), tenant: "acme".into(), method: "bearer" };
    Entry {
        who: Some(who),
        from: Some("192.0.2.1".parse().expect("an address")),
        what: "task.cancel",
        on: on.to_owned().into(),
        decision: Decision::Allowed,
        reason: "tasks:control".into(),
    }
}

/// A log of two files.
fn files() -> [Vec<u8>; 2] {
    let mut chain = Chain::default();
    let mut first = chain.first_line(AT, "audit-1.jsonl");
    for on in ["a", "ü\n", "c"] {
        first.extend(chain.line(AT, &entry(on)));
    }
    let mut second = chain.first_line(AT, "audit-5.jsonl");
    second.extend(chain.line(AT, &Entry { who: None, from: None, ..entry("d") }));
    second.extend(chain.line(AT, &entry("e")));
    [first, second]
}

/// Checks whole files; the place of the first broken line.
fn check(files: &[Vec<u8>]) -> Result<Check, (usize, usize, Broken)> {
    let mut check = Check::default();
    for (file, bytes) in files.iter().enumerate() {
        check.file();
        let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for (number, line) in lines.iter().enumerate() {
            let whole = line.strip_suffix(b"\n").ok_or((file, number, Broken::Torn))?;
            check.line(whole).map_err(|why| (file, number, why))?;
        }
    }
    Ok(check)
}

#[test]
fn lines_have_this_form() {
    let [first, _] = files();
    let shown: String = String::from_utf8(first)
        .expect("text")
        .lines()
        .take(2)
        .fold(String::new(), |text, line| text + line + "\n");
    expect![[r#"
        {"seq":1,"at":"2026-11-25T02:38:49.123Z","who":null,"from":null,"what":"audit.begin","on":"audit-1.jsonl","decision":"allowed","reason":"a new file","previous":"0000000000000000000000000000000000000000000000000000000000000000","hash":"72e8957f98008dd713e61fd413e7e780fff193a6d8880fa80a32a10fd636dd7a"}
        {"seq":2,"at":"2026-11-25T02:38:49.123Z","who":{"subject":"ada \"l\"","tenant":"acme","method":"bearer"},"from":"192.0.2.1","what":"task.cancel","on":"a","decision":"allowed","reason":"tasks:control","hash":"843223db4cbf774eaea8c8ec046357d71c60486ed2823560fb784212da0a19cc"}
    "#]]
    .assert_eq(&shown);
}

#[test]
fn a_whole_log_is_sound_and_so_are_its_newest_files_alone() {
    let files = files();
    let chain = check(&files).expect("sound").chain().expect("lines");
    assert_eq!(chain.seq, 7);
    assert_eq!(check(&files[1..]).expect("sound").chain(), Some(chain));
    let last = files[1].trim_ascii_end().rsplit(|byte| *byte == b'\n').next().expect("a line");
    assert_eq!(after(last), Ok(chain));
}

#[test]
fn every_changed_byte_is_seen() {
    let files = files();
    for file in 0..2 {
        for at in 0..files[file].len() {
            // One bit of each class: lower and upper case, digits and marks, control, high.
            for bit in [0x01, 0x04, 0x20, 0x80] {
                let mut changed = files.clone();
                changed[file][at] ^= bit;
                assert!(check(&changed).is_err(), "file {file}, byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn removed_and_moved_lines_are_seen() {
    let files = files();
    let lines = |file: usize| -> Vec<Vec<u8>> {
        files[file].split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let with = |file: usize, lines: Vec<Vec<u8>>| {
        let mut changed = files.clone();
        changed[file] = lines.concat();
        check(&changed)
    };
    for file in 0..2 {
        let whole = lines(file);
        for at in 0..whole.len() {
            let mut less = whole.clone();
            less.remove(at);
            // What is cut off at the very end leaves a sound log: see the head of `audit.rs`.
            let is_end = file == 1 && at + 1 == whole.len();
            assert_eq!(with(file, less).is_ok(), is_end, "file {file} without line {at}");
            let mut twice = whole.clone();
            twice.insert(at, whole[at].clone());
            assert!(with(file, twice).is_err(), "file {file}, line {at} twice");
            for other in at + 1..whole.len() {
                let mut moved = whole.clone();
                moved.swap(at, other);
                assert!(with(file, moved).is_err(), "file {file}, {at} and {other}");
            }
        }
    }
    assert!(check(&[files[1].clone(), files[0].clone()]).is_err());
    let mut other = Chain::default();
    let mut early = other.first_line(AT, "audit-1.jsonl");
    (0..3).for_each(|_| early.extend(other.line(AT, &entry("x"))));
    let seen = check(&[early, files[1].clone()]).expect_err("another file before");
    assert_eq!(seen, (1, 0, Broken::Previous));
}

#[test]
fn the_first_broken_line_is_named() {
    let files = files();
    let text = String::from_utf8(files[0].clone()).expect("text");
    let changed = text.replace(r#""on":"a""#, r#""on":"b""#).into_bytes();
    let seen = check(&[changed, files[1].clone()]).expect_err("changed");
    assert_eq!(seen, (0, 1, Broken::Hash));
    let seen = check(&[files[0][..files[0].len() - 9].to_vec()]).expect_err("torn");
    assert_eq!(seen, (0, 3, Broken::Torn));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let mut chain = Chain::default();
    let line = chain.line(AT, &entry(&"ü".repeat(10_000)));
    assert!(line.len() < LINE_BYTES_MAX, "{}", line.len());
    assert!(after(line.trim_ascii_end()).is_ok());
}
