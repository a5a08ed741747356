//! Secrets: read once at the start, never shown, wiped from memory when dropped.
//!
//! One type for all of them: keys of models, passwords, the issuer's client secret, a client
//! command's token. A file that holds one must be closed to others, as a key file must: else
//! whoever has a shell on the machine has the secret. What an orchestrator mounts is let through
//! (Kubernetes and systemd give the group the right to read, Docker everybody): there the mount
//! belongs to one container or service, cannot be written, and its modes are not the operator's
//! choice.

use crate::error::{Error, Result};
use rustix::fs::{StatVfsMountFlags, fstatfs, fstatvfs};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 8 * 1024;
/// What stands in a secret's place where it would be seen.
pub const REDACTED: &str = "[redacted]";
/// A secret's start of so many bytes at the end of a text that was cut is taken out too.
const START_BYTES_MIN: usize = 4;
/// File systems in memory on which secrets are mounted: `TMPFS_MAGIC` and `RAMFS_MAGIC` of Linux.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A secret. Its `Debug` does not show it, it has no `Display`, and it is not serialised.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text, without the line break at its end if it has one.
    ///
    /// # Errors
    /// When it is empty, too long, or has a line break or another control character; the text is
    /// not in the error.
    pub fn new(text: String) -> std::result::Result<Secret, &'static str> {
        Secret::of(Zeroizing::new(text))
    }

    fn of(mut text: Zeroizing<String>) -> std::result::Result<Secret, &'static str> {
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.trim().is_empty() {
            return Err("is empty");
        }
        if SECRET_BYTES_MAX < text.len() {
            return Err("is too long: a secret has at most 8 KiB");
        }
        if text.contains(char::is_control) {
            return Err("has a line break or control character in it: give the secret alone");
        }
        Ok(Secret(text))
    }

    /// Reads a file that holds a secret and nothing else.
    ///
    /// # Errors
    /// [`Error::SecretFile`] when it cannot be read, [`Error::FileOpen`] when it is open to others,
    /// [`Error::SecretUnfit`] when there is no secret in it.
    pub fn from_file(path: &Path) -> Result<Secret> {
        let failed = |source| Error::SecretFile { path: path.to_owned(), source };
        let unfit = |why| Error::SecretUnfit { path: path.to_owned(), why };
        let file = File::open(path).map_err(failed)?;
        if let Some(mode) = open_mode(&file).map_err(failed)? {
            return Err(Error::FileOpen { path: path.to_owned(), mode });
        }
        // Room for all of it, so that growing leaves no copy behind; past the bound it is refused.
        let bytes_max = SECRET_BYTES_MAX as u64 + 3;
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 3));
        file.take(bytes_max).read_to_end(&mut bytes).map_err(failed)?;
        let text = String::from_utf8(std::mem::take(&mut bytes));
        Secret::of(Zeroizing::new(text.map_err(|_| unfit("is no text in UTF-8"))?)).map_err(unfit)
    }

    /// The same secret for a header: blanks around it are left out.
    ///
    /// # Errors
    /// When it cannot stand in a header.
    pub fn for_header(self) -> std::result::Result<Secret, &'static str> {
        let text = self.0.trim();
        if !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err("has characters that cannot stand in a header");
        }
        Ok(Secret(Zeroizing::new(text.to_owned())))
    }

    /// The secret itself, to be sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with the secret taken out, should the other side have quoted it; its start too where
    /// the text was cut in the middle of it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let secret = self.reveal();
        let mut text = text.replace(secret, REDACTED);
        let is_cut = |len: &usize| secret.get(..*len).is_some_and(|start| text.ends_with(start));
        if let Some(len) = (START_BYTES_MIN..secret.len()).rev().find(is_cut) {
            text.truncate(text.len() - len);
            text.push_str(REDACTED);
        }
        text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The permission bits of a file with a secret, when others than its owner may do with it what they
/// may not; `None` for one that is closed. What is no regular file, such as a pipe, has no reader
/// but us.
///
/// # Errors
/// What the system says.
pub fn open_mode(file: &File) -> io::Result<Option<u32>> {
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    let is_open = metadata.is_file() && is_open(mode, || is_mounted(file))?;
    Ok(is_open.then_some(mode))
}

fn is_open(mode: u32, is_mounted: impl FnOnce() -> io::Result<bool>) -> io::Result<bool> {
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    // Whoever may write a secret may choose it, wherever it stands.
    Ok(mode & 0o022 != 0 || !is_mounted()?)
}

/// Whether it stands where an orchestrator mounts secrets: in memory, read-only.
fn is_mounted(file: &File) -> io::Result<bool> {
    let kind = u64::try_from(fstatfs(file)?.f_type);
    let is_in_memory = kind.is_ok_and(|kind| MEMORY_FILE_SYSTEMS.contains(&kind));
    Ok(is_in_memory && fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn secret(text: &str) -> std::result::Result<Secret, &'static str> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = secret("sk-123456\n").expect("a key");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "[redacted] Some([redacted])");
        assert_eq!(key.reveal(), "sk-123456");
        for (text, shown) in [
            ("key sk-123456!", "key [redacted]!"),
            ("sk-123456sk-123456", "[redacted][redacted]"),
            ("cut at sk-12345", "cut at [redacted]"),
            ("cut at sk-1", "cut at [redacted]"),
            ("no more than sk-", "no more than sk-"),
            ("", ""),
        ] {
            assert_eq!(key.redact(text), shown);
        }
    }

    #[test]
    fn one_line_break_at_the_end_is_left_out_and_no_more() {
        for (text, expected) in [
            ("pass word", Ok("pass word")),
            ("pass\n", Ok("pass")),
            ("pass\r\n", Ok("pass")),
            (" pass ", Ok(" pass ")),
            ("pässwörd", Ok("pässwörd")),
            ("pass\n\n", Err("line break")),
            ("a\nb", Err("line break")),
            ("a\0b", Err("control character")),
            ("", Err("is empty")),
            ("\n", Err("is empty")),
            (" \n", Err("is empty")),
        ] {
            match (secret(text), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.reveal(), expected),
                (Err(got), Err(piece)) => assert!(got.contains(piece), "{text:?}: {got}"),
                (got, expected) => panic!("{text:?}: {got:?}, not {expected:?}"),
            }
        }
        assert!(secret(&"x".repeat(SECRET_BYTES_MAX)).is_ok());
        assert!(secret(&"x".repeat(SECRET_BYTES_MAX + 1)).is_err_and(|why| why.contains("8 KiB")));
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused_there() {
        let of = |text: &str| secret(text).expect("a secret").for_header();
        assert_eq!(of(" sk-1 ").expect("a key").reveal(), "sk-1");
        for bad in ["a b", "ä"] {
            assert!(of(bad).is_err_and(|why| why.contains("header")), "{bad:?}");
        }
    }

    #[test]
    fn a_file_must_be_there_closed_and_hold_a_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let write = |bytes: &[u8], mode: u32| {
            fs::write(&path, bytes).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        };
        let says = |piece: &str| {
            let said = Secret::from_file(&path).expect_err(piece).to_string();
            assert!(said.contains(piece) && said.contains("secret"), "{said}");
            assert!(!said.contains("hush"), "{said}");
        };
        says("let the user that runs nO read it");
        write(b"hush\n", 0o600);
        assert_eq!(Secret::from_file(&path).expect("a secret").reveal(), "hush");
        write(b"hush\n", 0o400);
        assert!(Secret::from_file(&path).is_ok());
        for mode in [0o640, 0o604, 0o660, 0o602, 0o644] {
            write(b"hush\n", mode);
            says(&format!("has mode {mode:03o}: a secret must not be open to others"));
            says("chmod 600");
        }
        write(b"", 0o600);
        says("is empty");
        write(b"hush\nhush\n", 0o600);
        says("line break");
        write(b"hush\xff", 0o600);
        says("no text in UTF-8");
        write(&[b'x'; SECRET_BYTES_MAX + 9], 0o600);
        says("too long");
        assert!(matches!(Secret::from_file(folder.path()), Err(Error::SecretFile { .. })));
    }

    #[test]
    fn what_an_orchestrator_mounts_may_be_read_by_others_but_not_written() {
        let check = |mode: u32, is_mounted: bool, expected: bool| {
            let got = is_open(mode, || Ok(is_mounted)).expect("known");
            assert_eq!(got, expected, "{mode:o}, mounted: {is_mounted}");
        };
        check(0o600, false, false);
        check(0o440, false, true);
        check(0o440, true, false);
        check(0o444, true, false);
        check(0o644, true, false);
        check(0o664, true, true);
        check(0o666, true, true);
    }
}
