//! The simulator: the real machine, turn and rings under a virtual clock, with a store in memory
//! that crashes, clients and workers that repeat themselves and come late, and outside calls that
//! fail.
//!
//! One seed decides everything. After every step the invariants of `check.rs` are looked at; at the
//! end the world is healed and everything that was taken in must come to its end.

mod check;
mod clients;
mod moves;
mod node;
mod outside;
mod store;
mod workload;
mod world;

pub use store::Mirror;
pub use world::{Report, World, run, run_mirrored, shape};
