//! nO's stores: commits what the engine decided and reads it back; decides nothing.
//!
//! `rows` is the one mapping between the engine's values and table rows. `sqlite` keeps them in one
//! file per shard. `writer` is the loop of a journal thread, the same for every store: it groups
//! what waits into one transaction and says when that is durable. `blob` names large payloads.
//!
//! Invariants: a file is written by one connection of one thread (checkpoints aside); a failed sync
//! is never tried again; what cannot be read back is not acknowledged.

pub mod blob;
pub mod error;
mod rows;
pub mod sqlite;
pub mod writer;

#[cfg(test)]
mod samples;

pub use error::{Error, Result};
pub use sqlite::{OpenOptions, Store};
