//! The audit log's lines and their chain. Pure: the time and the bytes are handed in.
//!
//! ```text
//! {"seq":7,"at":"2026-…Z","who":{"subject":…,"tenant":…,"method":"bearer"},"from":"192.0.2.1",
//!  "what":"task.cancel","on":"0197…","decision":"allowed","reason":"tasks:control","hash":"<64>"}
//! ```
//!
//! One line, no blanks between members, in this order. **The rule:** the content of a line is its
//! bytes from `{` up to, and without, `,"hash":"`; `hash` is BLAKE3 of the 32 bytes of the hash
//! before it, followed by the content, in lower-case hex; then come `"}` and one line feed. `seq`
//! grows by one. The first line of each file is an `audit.begin` with one member more,
//! `"previous"`, before `hash`: the hash that the file before ended with, 64 zeros in the very
//! first. So every file can be checked alone, and all of them together.
//!
//! The idea of a chain of hashes over a log is that of B. Schneier and J. Kelsey, "Secure Audit
//! Logs to Support Computer Forensics", 1999. It shows changes, not a cut at the end: whoever must
//! see that compares the last hash with one noted elsewhere.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest `on` or `reason`, in bytes; more is cut.
pub const TEXT_BYTES_MAX: usize = 256;
/// Longest line that is read, in bytes.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// What stands between a line's content and its hash.
const HASH_HEAD: &[u8] = b",\"hash\":\"";
const HASH_TAIL: &[u8] = b"\"}";
const HEX_LEN: usize = 64;

/// A line's hash.
pub type Hash = [u8; 32];

/// The verb of a file's first line.
pub const BEGIN: &str = "audit.begin";
/// The verb of the line that says how many denials found no room.
pub const SUPPRESSED: &str = "audit.suppressed";
/// The verb of the line that says that an unfinished one was cut off.
pub const TORN: &str = "audit.torn";

/// Who did it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Who {
    /// The principal's name.
    pub subject: Arc<str>,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// How it proved itself: `bearer`, `session`, `cli`, or `none` with access control off.
    pub method: &'static str,
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It was let through.
    Allowed,
    /// It was refused.
    Denied,
}

/// One thing to be kept. It holds no token, no secret and no payload: paths and names alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Who; `None` when nobody proved anything.
    pub who: Option<Who>,
    /// From where; `None` for what did not come over the network.
    pub from: Option<IpAddr>,
    /// A stable verb, such as `task.cancel`.
    pub what: &'static str,
    /// The object.
    pub on: Cow<'static, str>,
    /// What was decided.
    pub decision: Decision,
    /// Why.
    pub reason: Cow<'static, str>,
}

impl Entry {
    /// Something about the log itself.
    #[must_use]
    pub fn of_log(what: &'static str, on: impl Into<Cow<'static, str>>, reason: String) -> Entry {
        let decision = Decision::Allowed;
        Entry { who: None, from: None, what, on: on.into(), decision, reason: reason.into() }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    seq: u64,
    at: &'a str,
    who: Option<&'a Who>,
    from: Option<IpAddr>,
    what: &'a str,
    on: &'a str,
    decision: Decision,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'a str>,
}

/// Where the chain stands: after which line the next is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// The last line's number; 0 before the first.
    pub seq: u64,
    /// The last line's hash.
    pub hash: Hash,
}

impl Chain {
    /// The next line, with its line feed. `at` is RFC 3339.
    pub fn line(&mut self, at: &str, entry: &Entry) -> Vec<u8> {
        self.write(at, entry, None)
    }

    /// The first line of the file of that name.
    pub fn first_line(&mut self, at: &str, file: &str) -> Vec<u8> {
        let entry = Entry::of_log(BEGIN, file.to_owned(), "a new file".into());
        let previous = hex(&self.hash);
        self.write(at, &entry, Some(&previous))
    }

    fn write(&mut self, at: &str, entry: &Entry, previous: Option<&str>) -> Vec<u8> {
        let written = Written {
            seq: self.seq + 1,
            at,
            who: entry.who.as_ref(),
            from: entry.from,
            what: entry.what,
            on: cut(&entry.on),
            decision: entry.decision,
            reason: cut(&entry.reason),
            previous,
        };
        // Texts, numbers and addresses always have a JSON form.
        let mut line = serde_json::to_vec(&written).unwrap_or_default();
        line.pop();
        self.hash = hash(&self.hash, &line);
        self.seq += 1;
        line.extend_from_slice(HASH_HEAD);
        line.extend_from_slice(hex(&self.hash).as_bytes());
        line.extend_from_slice(HASH_TAIL);
        line.push(b'\n');
        line
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

fn hash(previous: &Hash, content: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous).update(content);
    hasher.finalize().into()
}

/// Lower-case hex.
#[must_use]
pub fn hex(hash: &Hash) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

fn unhex(text: &[u8]) -> Option<Hash> {
    let is_lower = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if text.len() != HEX_LEN || !text.iter().all(is_lower) {
        return None;
    }
    blake3::Hash::from_hex(text).ok().map(Hash::from)
}

/// Why a line does not follow the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// It is no line of this log.
    #[error("not a line of this log")]
    Form,
    /// Its number is not the next.
    #[error("its seq is {found}, not {expected}: lines are missing or moved")]
    Seq {
        /// The number it has.
        found: u64,
        /// The number it should have.
        expected: u64,
    },
    /// Its hash does not fit its bytes and the line before.
    #[error("its hash does not fit: it, or what stands before it, was changed")]
    Hash,
    /// A file begins with another hash than the file before ended with.
    #[error("the file does not follow the one before it: a file is missing or was changed")]
    Previous,
    /// The last line has no end.
    #[error("the last line is not finished: cut off by a crash, or by somebody")]
    Torn,
}

/// What is read of a line.
struct Read<'l> {
    content: &'l [u8],
    seq: u64,
    hash: Hash,
    previous: Option<Hash>,
}

#[derive(Deserialize)]
struct Numbered<'l> {
    seq: u64,
    #[serde(borrow)]
    what: Cow<'l, str>,
    #[serde(borrow, default)]
    previous: Option<Cow<'l, str>>,
}

/// Takes a line, without its line feed, apart.
fn read(line: &[u8]) -> Option<Read<'_>> {
    let tail_len = HASH_HEAD.len() + HEX_LEN + HASH_TAIL.len();
    let content = &line[..line.len().checked_sub(tail_len)?];
    let tail = &line[content.len()..];
    let hex = tail.strip_prefix(HASH_HEAD)?.strip_suffix(HASH_TAIL)?;
    let hash = unhex(hex)?;
    let json = [content, b"}"].concat();
    let numbered: Numbered<'_> = serde_json::from_slice(&json).ok()?;
    let previous = match numbered.previous {
        Some(previous) if numbered.what == BEGIN => Some(unhex(previous.as_bytes())?),
        None if numbered.what != BEGIN => None,
        _ => return None,
    };
    Some(Read { content, seq: numbered.seq, hash, previous })
}

/// Where a chain stands after this last line of a file, as the line itself says.
///
/// # Errors
/// [`Broken::Form`]. Whether it follows from what stands before it is for [`Check`] to say.
pub fn after(line: &[u8]) -> Result<Chain, Broken> {
    let read = read(line).ok_or(Broken::Form)?;
    Ok(Chain { seq: read.seq, hash: read.hash })
}

/// Follows a chain through its files, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Check {
    chain: Option<Chain>,
    is_at_start: bool,
}

impl Check {
    /// The next file begins.
    pub fn file(&mut self) {
        self.is_at_start = true;
    }

    /// Takes the next line, without its line feed.
    ///
    /// # Errors
    /// The first thing that is wrong with it; the check is over then.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Broken> {
        let read = read(line).ok_or(Broken::Form)?;
        let before = match (std::mem::take(&mut self.is_at_start), read.previous) {
            (true, Some(previous)) => self.begun(&read, previous)?,
            (false, None) => self.chain.ok_or(Broken::Form)?,
            _ => return Err(Broken::Form),
        };
        if read.seq != before.seq + 1 {
            return Err(Broken::Seq { found: read.seq, expected: before.seq + 1 });
        }
        if hash(&before.hash, read.content) != read.hash {
            return Err(Broken::Hash);
        }
        self.chain = Some(Chain { seq: read.seq, hash: read.hash });
        Ok(())
    }

    /// What a file's first line has to follow: the file before; for the oldest that is kept, what
    /// it says itself.
    fn begun(&self, read: &Read<'_>, previous: Hash) -> Result<Chain, Broken> {
        let Some(chain) = self.chain else {
            let is_whole = read.seq != 1 || previous == Hash::default();
            let seq = read.seq.checked_sub(1).filter(|_| is_whole).ok_or(Broken::Previous)?;
            return Ok(Chain { seq, hash: previous });
        };
        if chain.hash == previous { Ok(chain) } else { Err(Broken::Previous) }
    }

    /// Where the chain stands after what was taken.
    #[must_use]
    pub fn chain(&self) -> Option<Chain> {
        self.chain
    }
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
