//! Builds the store, the rings, the shards and the net cores in order, and waits for the end.
//!
//! This file only calls: `links` makes the rings, `shards` and `nets` start the threads, `listen`
//! takes the address, `run` waits for a reason to stop; `drain` stops everything in reverse.

mod guards;
mod joined;
mod kept;
mod links;
mod listen;
mod nets;
mod outside;
mod run;
mod shards;
mod store;

pub use guards::Guards;
pub use kept::Kept;
pub use nets::NetThread;
pub use run::{Node, ReaderThread};
pub use shards::ShardThreads;
pub(crate) use shards::spawn;

use crate::config::Config;
use crate::demo;
use crate::error::Result;

/// Runs nO until it is told to stop, and has drained.
///
/// # Errors
/// Why it could not start, or which part failed; each has its exit code.
pub fn serve(config: &Config) -> Result<()> {
    let listeners = listen::bind(config)?;
    Node::start(config, listeners, nets::Extra::None)?.run_until_stopped()
}

/// Runs nO on loopback with a sample agent, and one task of it to its answer.
///
/// # Errors
/// As [`serve`].
pub fn dev(config: &Config) -> Result<()> {
    let listeners = listen::bind(config)?;
    let address = listen::address(&listeners)?;
    let config = demo::with_sample(config, address);
    let node = Node::start(&config, listeners, nets::Extra::Demo)?;
    demo::show(&config, address)?;
    node.run_until_stopped()
}
