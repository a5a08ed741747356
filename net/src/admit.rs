//! Refusal before work: what a submission or a lease must pass before its body is read.
//!
//! A queue has a bound, and past it new work is refused, so that accepted work keeps its latency
//! (DESIGN §6). The shard has bounds of its own (live tasks, bytes, keys) and refuses by them.

use crate::core::Core;
use crate::problem::{Code, Problem};
use no_engine::command::Intake;

/// Whether new tasks are taken.
///
/// # Errors
/// 503 or 507, with `Retry-After`.
pub fn new_tasks(core: &Core) -> Result<(), Problem> {
    match core.intake.get() {
        Intake::Open => room(core),
        Intake::DiskFull => Err(Problem::new(Code::DiskFull, "")),
        Intake::Draining => Err(Problem::new(Code::Draining, "")),
    }
}

/// Whether tasks are leased: also while the disk is full, as what is done frees room in the end.
///
/// # Errors
/// 503, with `Retry-After`.
pub fn leases(core: &Core) -> Result<(), Problem> {
    match core.intake.get() {
        Intake::Open | Intake::DiskFull => room(core),
        Intake::Draining => Err(Problem::new(Code::Draining, "")),
    }
}

fn room(core: &Core) -> Result<(), Problem> {
    if core.pending.is_full() {
        return Err(Problem::new(Code::QueueFull, "too many requests are waiting"));
    }
    if core.shards.is_full() {
        return Err(Problem::new(Code::QueueFull, "the rings to the shards are full"));
    }
    Ok(())
}
