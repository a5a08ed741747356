//! The loop detector: tells a loop that goes round in circles from one that works.
//!
//! It remembers a hash of each of the last tool calls. The same call with the same arguments
//! [`limits::LOOP_REPEATS_MAX`] times among them, or answers without anything in them, is no
//! progress.

use crate::agent::state::LoopState;
use crate::limits;

/// Why the loop is stuck, if it is.
#[must_use]
pub fn stuck(run: &LoopState) -> Option<String> {
    assert!(run.calls.len() <= limits::LOOP_WINDOW);
    if limits::LOOP_EMPTY_MAX <= u32::from(run.empty) {
        return Some(format!("{} answers in a row had neither text nor tool call", run.empty));
    }
    let last = run.calls.last()?;
    let repeats = run.calls.iter().filter(|call| *call == last).count();
    (limits::LOOP_REPEATS_MAX as usize <= repeats)
        .then(|| format!("the same tool call with the same arguments came {repeats} times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(calls: &[u64], empty: u16, expected: bool) {
        let run = LoopState { calls: calls.to_vec().into(), empty, ..LoopState::default() };
        assert_eq!(stuck(&run).is_some(), expected, "{calls:?} {empty}");
    }

    #[test]
    fn repeats_and_empty_answers_are_found() {
        check(&[], 0, false);
        check(&[1, 1, 1, 1], 0, false);
        check(&[1, 1, 1, 1, 1], 0, true);
        check(&[1, 2, 1, 2, 1, 2, 1, 2, 1], 0, true);
        check(&[1, 2, 3, 4, 5, 6], 0, false);
        check(&[], 2, true);
    }
}
