//! Backups of a data folder: made while nO runs or not, checked, and brought back.
//!
//! A backup is one file: a tar of parts, compressed by zstd, with a frame behind it that zstd's own
//! tools skip and that holds the BLAKE3 hash of everything before it. A part is a shard's index
//! with all of its journal taken over, the ledger of tokens, a file of the audit log, or, on
//! demand, the key that signs tokens. The last part, `manifest.json`, names the others with their
//! lengths and hashes. Never in it: `admin.token`, which the next start makes anew.
//!
//! `create` says what is in a backup of a running node, `file` how it stands in the file,
//! `manifest` what the manifest says, `restore` how one is checked and brought back.
//!
//! Each backup is whole. Large payloads are stored by their content, but inside of a shard's file:
//! leaving out those that an earlier backup has would make both needed for a restore.

mod create;
mod file;
mod manifest;
mod restore;

pub use create::{Created, Plan, create};
pub use manifest::{Manifest, PartNote};
pub use restore::{restore, verify};

use crate::error::Error;
use std::path::Path;

/// Told how many bytes are done, of about how many.
pub type OnBytes<'a> = dyn FnMut(u64, u64) + 'a;

fn unfit(path: &Path, why: impl Into<String>) -> Error {
    Error::Backup { path: path.to_owned(), why: why.into() }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::File { path: path.to_owned(), source }
}

fn store_error(error: no_storage::Error) -> Error {
    Error::Store { why: error.to_string() }
}
