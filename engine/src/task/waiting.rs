//! What a parked task waits for, as it is shown and as a header holds it.

use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a parked task waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// `timer` or `outcome_unknown`.
    pub reason: WaitReason,
    /// The tool whose outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// When the timer fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
}

/// Kinds of waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A durable timer.
    Timer,
    /// A call that was under way in a crash and may not be repeated: `resolve` says what happened.
    OutcomeUnknown,
}

impl WaitReason {
    /// The name in the API and in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WaitReason::Timer => "timer",
            WaitReason::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// What a parked task waits for. A timer, as most do, costs no box.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Waits {
    Nothing,
    Timer(Millis),
    Other(Box<Waiting>),
}

impl Waits {
    pub(super) fn new(waiting: Option<&Waiting>) -> Waits {
        match waiting {
            None => Waits::Nothing,
            Some(Waiting { reason: WaitReason::Timer, name: None, until: Some(until) }) => {
                Waits::Timer(*until)
            }
            Some(other) => Waits::Other(Box::new(other.clone())),
        }
    }

    pub(super) fn get(&self) -> Option<Waiting> {
        match self {
            Waits::Nothing => None,
            Waits::Timer(until) => {
                Some(Waiting { reason: WaitReason::Timer, name: None, until: Some(*until) })
            }
            Waits::Other(waiting) => Some(Waiting::clone(waiting)),
        }
    }
}
