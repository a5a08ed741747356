//! What the benches and the table of goals share.
//!
//! `shard` is one shard with its outside played in memory, `disk` the bare disk, `cores` pins
//! threads. The criterion
//! benches stand in `benches/`, one file and one idea each.

pub mod cores;
pub mod disk;
pub mod shard;
