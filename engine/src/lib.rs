//! nO's state machine: what happens to tasks, and nothing else.
//!
//! This crate reads no clock, no file, no socket and no randomness that it was not handed.
//! `machine` decides and applies, `shard` runs the turn (drain, decide, commit, act), `agent` is
//! one iteration of the agent loop, `sim` drives all of it through crashes. Other crates speak to a
//! shard by a [`command::Command`] and carry out its [`effect::Effect`]s.

pub mod agent;
pub mod breaker;
pub mod command;
pub mod control;
pub mod dedup;
pub mod doorbell;
pub mod effect;
pub mod error;
pub mod event;
pub mod fair;
pub mod id;

pub mod limits;
pub mod machine;
pub mod map;
pub mod partition;
pub mod payload;
pub mod permit;
pub mod port;
pub mod queue;
pub mod retry;
pub mod ring;
pub mod rng;
pub mod satisfaction;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod slab;
pub mod slot;
pub mod stats;
mod sync;
pub mod task;
pub mod time;
pub mod trace;
pub mod wheel;

pub use error::{Error, Result};
