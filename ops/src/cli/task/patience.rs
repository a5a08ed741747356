//! How long a command that waits bears with a nO that does not answer: it may be restarting.

use super::super::Console;
use crate::error::{Error, Result};
use std::time::Duration;

/// Tries in a row before we give up.
const AWAY_MAX: u32 = 60;
/// Wait before another try.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Counts the tries; a fresh one after each answer.
#[derive(Default)]
pub(super) struct Patience {
    away: u32,
}

impl Patience {
    /// Pauses before another try, or gives the error back when there is no use in one.
    pub(super) fn pause_after(&mut self, error: Error, console: &mut Console) -> Result<()> {
        if !is_passing(&error) || AWAY_MAX <= self.away {
            return Err(error);
        }
        if self.away == 0 {
            console.complain("nO does not answer; trying again");
        }
        self.away += 1;
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

/// Whether nO may be back soon: it is starting, draining, or not there.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        _ => false,
    }
}
