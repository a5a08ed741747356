//! nO's stores: commits what the engine decided and reads it back; decides nothing.
//!
//! `rows` is the one mapping between the engine's values and table rows. `journal` is the
//! append-only file that a commit goes to first, `sqlite` the index behind it, a file per shard,
//! which is read and loaded; `postgres` is the store that nodes share. `work` is what commits come
//! to and `retention` what goes when, whatever the database. `writer` is the loop of a journal
//! thread, the same for every store: it groups what waits into one commit and says when that is
//! durable. `blob` names large payloads.
//!
//! Invariants: a file is written by one connection of one thread (checkpoints aside); a failed sync
//! is never tried again; what cannot be read back is not acknowledged.

pub mod blob;
pub mod error;
mod journal;
pub mod postgres;
mod retention;
mod rows;
pub mod sqlite;
pub mod transfer;
mod work;
pub mod writer;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod samples;

pub use error::{Error, Result};
pub use postgres::{PgOptions, PgStore};
pub use sqlite::{OpenOptions, Store};
