//! Opaque texts that clients carry back: cursors and leases. Base64url without padding, a version
//! in front, a check byte behind, so that a text that was cut or typed is told from one of ours.
//!
//! ```text
//! list cursor   1 | task 16                                   | check
//! steps cursor  2 | step 4 | event 4 | attempt 4              | check
//! lease         3 | task 16 | attempt 4 | fence 8             | check
//! ```
//! The check is no signature: a lease is a right within its tenant, and the shard looks at the
//! fence.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use no_engine::command::Holder;
use no_engine::id::{Attempt, Fence, TaskId};
use no_engine::map::stable_hash;

const LIST: u8 = 1;
const STEPS: u8 = 2;
const LEASE: u8 = 3;

/// Where a page of steps goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StepsCursor {
    /// After this step.
    pub after: u32,
    /// No event up to this one is of a later step.
    pub event: u32,
    /// The attempt at that event.
    pub attempt: u32,
}

fn sealed(version: u8, parts: &[&[u8]]) -> String {
    let mut bytes = vec![version];
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.push(stable_hash(&[&bytes]) as u8);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn opened<const LEN: usize>(version: u8, text: &str) -> Option<[u8; LEN]> {
    // Decoding gives 3 bytes for 4 characters; longer texts are not even looked at.
    if (LEN + 2).div_ceil(3) * 4 < text.len() {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (check, bytes) = bytes.split_last()?;
    if *check != stable_hash(&[bytes]) as u8 || bytes.first() != Some(&version) {
        return None;
    }
    bytes.get(1..)?.try_into().ok()
}

fn part<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..at + LEN)?.try_into().ok()
}

/// The cursor of a list that goes on below `id`.
#[must_use]
pub fn list_cursor(id: TaskId) -> String {
    sealed(LIST, &[&id.to_bytes()])
}

/// Reads a list's cursor.
#[must_use]
pub fn parse_list_cursor(text: &str) -> Option<TaskId> {
    TaskId::from_bytes(opened(LIST, text)?)
}

/// The cursor of a page of steps.
#[must_use]
pub fn steps_cursor(cursor: StepsCursor) -> String {
    let StepsCursor { after, event, attempt } = cursor;
    sealed(STEPS, &[&after.to_be_bytes(), &event.to_be_bytes(), &attempt.to_be_bytes()])
}

/// Reads the cursor of a page of steps.
#[must_use]
pub fn parse_steps_cursor(text: &str) -> Option<StepsCursor> {
    let bytes: [u8; 12] = opened(STEPS, text)?;
    Some(StepsCursor {
        after: u32::from_be_bytes(part(&bytes, 0)?),
        event: u32::from_be_bytes(part(&bytes, 4)?),
        attempt: u32::from_be_bytes(part(&bytes, 8)?),
    })
}

/// A lease as a worker carries it.
#[must_use]
pub fn lease(holder: &Holder) -> String {
    let (attempt, fence) = (holder.attempt.0.to_be_bytes(), holder.fence.0.to_be_bytes());
    sealed(LEASE, &[&holder.task.to_bytes(), &attempt, &fence])
}

/// Reads a lease.
#[must_use]
pub fn parse_lease(text: &str) -> Option<Holder> {
    let bytes: [u8; 28] = opened(LEASE, text)?;
    Some(Holder {
        task: TaskId::from_bytes(part(&bytes, 0)?)?,
        attempt: Attempt(u32::from_be_bytes(part(&bytes, 16)?)),
        fence: Fence(u64::from_be_bytes(part(&bytes, 20)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_engine::id::PartitionId;

    #[test]
    fn they_read_back_and_nothing_else_does() {
        let task = TaskId::new(1_764_000_000_000, 42, PartitionId(7));
        let holder = Holder { task, attempt: Attempt(3), fence: Fence(u64::MAX) };
        assert_eq!(parse_lease(&lease(&holder)), Some(holder));
        assert_eq!(lease(&holder).len(), 40);
        let text = list_cursor(task);
        assert_eq!(parse_list_cursor(&text), Some(task));
        let cursor = StepsCursor { after: 1, event: 2, attempt: 3 };
        assert_eq!(parse_steps_cursor(&steps_cursor(cursor)), Some(cursor));

        assert_eq!(parse_lease(&text), None, "a cursor is no lease");
        assert_eq!(parse_list_cursor(&text[..text.len() - 1]), None);
        for junk in ["", "x", "====", "é", &"A".repeat(10_000)] {
            assert_eq!(parse_list_cursor(junk), None);
            assert_eq!(parse_lease(junk), None);
        }
    }
}
