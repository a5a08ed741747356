//! Builds the store, the rings, the shards and the net cores in order.
//!
//! This thin form stands in for the engine, which is put together elsewhere: it has the signatures
//! that the commands call, and says so when it is asked to start.

use crate::config::Config;
use crate::error::{Error, Result};

/// Runs nO until it is told to stop, and has drained.
///
/// # Errors
/// Why it could not start, or which part failed; each has its exit code.
pub fn serve(config: &Config) -> Result<()> {
    let _ = config;
    Err(Error::NotWired)
}

/// Runs nO on loopback with a sample agent, and one task of it to its answer.
///
/// # Errors
/// As [`serve`].
pub fn dev(config: &Config) -> Result<()> {
    let _ = config;
    Err(Error::NotWired)
}
