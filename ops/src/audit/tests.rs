//! The files under crashes, rotation and two writers; the thread and who waits for it.

use super::*;
use no_auth::audit::{Broken, TORN};
use std::fs;
use std::path::PathBuf;

fn entry(on: &str) -> Entry {
    Entry { on: on.to_owned().into(), ..Entry::of_log("task.cancel", "", "why".into()) }
}

fn open(data: &Path, bounds: AuditBounds) -> AuditFiles {
    AuditFiles::open(data, bounds).expect("opened")
}

fn sound(data: &Path) -> Sound {
    verify(data, &mut |_, _| {}).expect("readable").unwrap_or_else(|fault| panic!("{fault:?}"))
}

fn paths(data: &Path) -> Vec<PathBuf> {
    files::list(&data.join(files::AUDIT_DIR)).expect("a folder")
}

fn text(data: &Path) -> String {
    let read = |path: &PathBuf| fs::read_to_string(path).expect("text");
    paths(data).iter().map(read).collect()
}

#[test]
fn a_log_goes_on_after_a_stop_and_after_a_torn_line() {
    let data = tempfile::tempdir().expect("a folder");
    assert_eq!(sound(data.path()).lines, 0, "no log is a log without lines");
    open(data.path(), AuditBounds::default()).append(&[entry("a"), entry("b")]).expect("kept");
    assert_eq!(sound(data.path()).lines, 3);
    let path = paths(data.path()).pop().expect("a file");
    let whole = fs::read(&path).expect("read");
    for cut in [1, 40, 200] {
        fs::write(&path, &whole[..whole.len() - cut]).expect("torn");
        let seen = verify(data.path(), &mut |_, _| {}).expect("readable");
        assert_eq!(seen.expect_err("torn").why, Broken::Torn);
        let mut files = open(data.path(), AuditBounds::default());
        files.append(&[entry("c")]).expect("kept");
        assert_eq!(sound(data.path()).lines, 4, "begin, a, torn, c");
        let text = text(data.path());
        assert!(text.contains(TORN) && text.contains("cut off"), "{text}");
        fs::write(&path, &whole).expect("as before");
    }
}

#[test]
fn a_file_without_a_first_line_is_begun_anew() {
    let data = tempfile::tempdir().expect("a folder");
    open(data.path(), AuditBounds::default()).append(&[entry("a")]).expect("kept");
    let dir = data.path().join(files::AUDIT_DIR);
    fs::write(dir.join("audit-00000000000000000003.jsonl"), "{\"seq\":3,").expect("torn");
    open(data.path(), AuditBounds::default()).append(&[entry("b")]).expect("kept");
    assert_eq!((sound(data.path()).files, sound(data.path()).lines), (1, 3));
}

#[test]
fn files_follow_each_other_and_the_oldest_go() {
    let data = tempfile::tempdir().expect("a folder");
    let bounds = AuditBounds { file_bytes_max: 2_000, files_max: 3 };
    let mut files = open(data.path(), bounds);
    for n in 0..100 {
        files.append(&[entry(&n.to_string())]).expect("kept");
        let sound = sound(data.path());
        assert!(sound.files <= 3, "{sound:?}");
        assert_eq!(sound.chain.seq, files.append(&[]).map_or(0, |()| sound.chain.seq));
    }
    assert_eq!(paths(data.path()).len(), 3);
    // One that is missing in the middle is seen.
    fs::remove_file(&paths(data.path())[1]).expect("removed");
    let seen = verify(data.path(), &mut |_, _| {}).expect("readable").expect_err("a gap");
    assert_eq!((seen.line, seen.why), (1, Broken::Previous));
}

#[test]
fn a_node_and_commands_beside_it_make_one_chain_also_across_files() {
    let data = tempfile::tempdir().expect("a folder");
    let mut node = open(data.path(), AuditBounds { file_bytes_max: 2_000, files_max: 100 });
    node.append(&[entry("node")]).expect("kept");
    for n in 0..10 {
        AuditFiles::append_once(data.path(), entry(&format!("command {n}"))).expect("kept");
        node.append(&[entry(&format!("node {n}")), entry("more")]).expect("kept");
    }
    let sound = sound(data.path());
    assert_eq!(sound.lines, 1 + 30 + sound.files as u64);
    assert!(3 < sound.files, "{sound:?}");
}

#[test]
fn a_last_line_that_is_not_ours_is_refused_with_what_to_do() {
    let data = tempfile::tempdir().expect("a folder");
    open(data.path(), AuditBounds::default()).append(&[entry("a")]).expect("kept");
    let path = paths(data.path()).pop().expect("a file");
    let whole = fs::read_to_string(&path).expect("text");
    fs::write(&path, whole + "junk\n").expect("written");
    let error = AuditFiles::open(data.path(), AuditBounds::default()).expect_err("junk");
    assert!(error.to_string().contains("no audit verify"), "{error}");
}

#[test]
fn nothing_of_a_line_that_is_changed_passes() {
    let data = tempfile::tempdir().expect("a folder");
    open(data.path(), AuditBounds::default()).append(&[entry("a"), entry("b")]).expect("kept");
    let path = paths(data.path()).pop().expect("a file");
    let whole = fs::read(&path).expect("read");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).expect("written");
        let seen = verify(data.path(), &mut |_, _| {}).expect("readable");
        let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let fault = seen.expect_err("changed");
        assert_eq!((fault.line, &fault.file), (line, &path), "byte {at}");
    }
}

#[test]
fn the_thread_answers_what_is_durable_and_tells_what_it_suppressed() {
    let data = tempfile::tempdir().expect("a folder");
    let (link, inbox) = no_net::audit::link();
    let files = open(data.path(), AuditBounds::default());
    let denied = || Entry { decision: Decision::Denied, ..entry("denied") };
    (0..250).for_each(|_| link.deny(denied(), 1));
    let writer = AuditWriter::start(files, inbox).expect("started");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(link.control(entry("controlled"))).expect("kept");
    assert!(text(data.path()).contains("controlled"), "before it was answered");
    drop(link);
    writer.join();
    let text = text(data.path());
    assert!(text.contains("50 denials found no room"), "{text}");
    assert_eq!(sound(data.path()).lines, 1 + 200 + 1 + 1);
}

#[test]
fn a_failed_write_refuses_and_is_taken_back() {
    let data = tempfile::tempdir().expect("a folder");
    let (link, inbox) = no_net::audit::link();
    let mut files = open(data.path(), AuditBounds::default());
    files.append(&[entry("a")]).expect("kept");
    // A file that takes nothing any more, as a disk without room.
    let path = paths(data.path()).pop().expect("a file");
    files.replace_file(fs::File::open(&path).expect("to read alone"));
    let writer = AuditWriter::start(files, inbox).expect("started");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let refused = runtime.block_on(link.control(entry("b"))).expect_err("not kept");
    assert_eq!(refused.code.parts().1, "audit_failed");
    assert_eq!(link.counts().errors.load(Ordering::Relaxed), 1);
    assert_eq!(fault(&link), None, "a write may succeed again");
    drop(link);
    writer.join();
    assert_eq!(sound(data.path()).lines, 2);
}
