//! A shard: the machine with its links, run in turns by one thread.

pub mod lone;
pub mod pulse;
pub mod run;
pub mod turn;

pub use pulse::Pulse;
pub use turn::{Links, Shard};
