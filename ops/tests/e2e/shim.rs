//! A disk whose sync fails: a shared object of a few lines of C, loaded before the C library.
//!
//! It fails every sync while the file of `E2E_FAIL_SYNC` is there, and notes each in that of
//! `E2E_SYNC_NOTES`: a failed sync must never be tried again (Rebello et al., "Can Applications
//! Recover from fsync Failures?", 2020).

use std::path::{Path, PathBuf};
use std::process::Command;

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(void) {
    const char *trigger = getenv("E2E_FAIL_SYNC");
    if (!trigger || access(trigger, F_OK)) return 0;
    int note = open(getenv("E2E_SYNC_NOTES"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(note, "x", 1) != 1) abort();
    close(note);
    errno = EIO;
    return 1;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fail() ? -1 : real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fail() ? -1 : real(fd);
}
"#;

/// Builds it in this folder.
pub(crate) fn failing_sync(dir: &Path) -> PathBuf {
    let (source, object) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&source, SHIM).expect("a source file");
    let mut cc = Command::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&object).arg(&source).arg("-ldl").status();
    assert!(built.expect("a C compiler").success(), "the shim is built");
    object
}
