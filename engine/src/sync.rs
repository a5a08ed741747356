//! The primitives of the doorbell, in one place so that its source can be checked against others.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
