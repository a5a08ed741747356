//! The worker protocol: lease tasks, then report on them, one by one or many at once.

mod lease;
mod report;

pub(super) use lease::lease;
pub(super) use report::{complete, fail, heartbeat, step};
