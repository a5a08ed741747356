//! A submission: what a client asked for, checked and complete.

use crate::agent::definition::Budget;
use crate::id::TaskId;
use crate::limits::PRIORITY_DEFAULT;
use crate::payload::Payload;
use crate::time::Millis;
use crate::trace::Caller;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A client's name for a submission.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Hash of tenant and key.
    pub hash: u128,
    /// Hash of the submitted body: the same key with another body is refused.
    pub fingerprint: u64,
}

/// A task to be submitted, checked and complete.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NewTask {
    /// Its id, made at the edge. A keyed task's partition comes from the key's hash.
    pub id: TaskId,
    /// The agent's name.
    pub agent: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Any JSON.
    pub input: Payload,
    /// 0 to 9, 9 first.
    pub priority: u8,
    /// Shares turns evenly with other keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness_key: Option<Arc<str>>,
    /// Short strings to find it by.
    #[serde(default, skip_serializing_if = "tags_absent")]
    pub tags: Tags,
    /// Not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Millis>,
    /// One attempt's time-out, in ms; the agent's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// All attempts end by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// The agent's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The agent's where absent.
    #[serde(default)]
    pub budget: Budget,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The span of the request, when it came with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Box<Caller>>,
}

impl NewTask {
    /// A task that asks for nothing but its agent: at once, [`PRIORITY_DEFAULT`], all else
    /// as the agent has it.
    #[must_use]
    pub fn plain(id: TaskId, agent: Arc<str>, tenant: Arc<str>, input: Payload) -> NewTask {
        NewTask {
            id,
            agent,
            tenant,
            input,
            priority: PRIORITY_DEFAULT,
            fairness_key: None,
            tags: None,
            run_at: None,
            timeout_ms: None,
            deadline: None,
            max_attempts: None,
            budget: Budget::default(),
            key: None,
            caller: None,
        }
    }
}

/// A task's tags; most have none, so none costs a word.
pub type Tags = Option<Arc<[Box<str>]>>;

fn tags_absent(tags: &Tags) -> bool {
    tags.is_none()
}
