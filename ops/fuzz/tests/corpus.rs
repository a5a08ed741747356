//! Every input of the corpus through its target: what a fuzzer once found stays mended, and what
//! the targets assert is asserted in every `cargo test`.

use no_fuzz::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the corpus").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_of_the_corpus_passes() {
    for (name, check) in TARGETS {
        let inputs = inputs(&corpus().join(name));
        assert!(5 <= inputs.len(), "{name} has too few inputs to begin with");
        for input in inputs {
            let data = fs::read(&input).expect("readable");
            let passed = catch_unwind(|| check(&data));
            assert!(passed.is_ok(), "{name} fails with {}", input.display());
        }
    }
}

#[test]
fn targets_survive_what_is_no_text() {
    for (_, check) in TARGETS {
        for data in [&b""[..], b"0", b"1", b"2", b"3", b"\xff\xfe", b"0\xff", b"3\0\0\0\0", b"0{}"]
        {
            check(data);
        }
    }
}

#[test]
fn the_corpus_belongs_to_targets() {
    let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders = inputs(&corpus());
    let named = folders.iter().map(|path| path.file_name().expect("a name").to_string_lossy());
    let named: BTreeSet<String> = named.map(|name| name.into_owned()).collect();
    assert_eq!(named, known);
}
