//! Why a call out failed, by what follows from it: may it be made again, and may it have happened.

use super::guard::Refused;
use no_engine::command::Outcome;
use no_engine::task::TaskError;

/// Longest piece of an answer's body that an error quotes, in bytes.
pub const QUOTE_BYTES_MAX: usize = 512;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The guard refused the address; the operator may allow it.
    #[error("refused by the outbound guard: {why}")]
    Refused {
        /// Why.
        why: Refused,
        /// Whether a redirect after an acted request led here.
        maybe_done: bool,
    },
    /// No connection came about, so nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke before the answer was complete.
    #[error("the connection broke: {why}")]
    Broken {
        /// Why.
        why: String,
        /// Whether the request may have been sent.
        maybe_done: bool,
    },
    /// The answer is larger than what is taken.
    #[error("the answer is larger than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The other side redirects without end, or where we do not follow.
    #[error("{why}")]
    Redirect {
        /// What it is.
        why: &'static str,
        /// Whether a request before the redirect was acted on.
        maybe_done: bool,
    },
    /// The other side answered with a failure.
    #[error("status {status}{}{quote}", if quote.is_empty() { "" } else { ": " })]
    Status {
        /// Its status.
        status: u16,
        /// The start of its body.
        quote: String,
        /// It asked to wait so long, in ms.
        retry_after_ms: Option<u64>,
    },
    /// A failure with a code of its own.
    #[error("{message}")]
    Coded {
        /// The stable code.
        code: &'static str,
        /// For a person.
        message: String,
        /// Whether another try may succeed.
        retryable: bool,
        /// Whether the other side may have acted.
        maybe_done: bool,
        /// The other side asked to wait so long, in ms.
        retry_after_ms: Option<u64>,
    },
    /// It took too long.
    #[error("no answer within {timeout_ms} ms")]
    Timeout {
        /// The bound, in ms.
        timeout_ms: u64,
        /// Whether the request may have been sent.
        maybe_done: bool,
    },
    /// A payload could not be read from the store.
    #[error("cannot read from the store: {0}")]
    Store(String),
    /// What the call needs is not configured.
    #[error("{0}")]
    Unconfigured(String),
}

impl CallError {
    /// The stable code that the task's error carries.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            CallError::Refused { .. } => "outbound_refused",
            CallError::Connect(_) => "connect_failed",
            CallError::Broken { .. } => "connection_broken",
            CallError::TooLarge { .. } => "too_large",
            CallError::Redirect { .. } => "redirect_refused",
            CallError::Status { .. } => "http_status",
            CallError::Coded { code, .. } => code,
            CallError::Timeout { .. } => "timeout",
            CallError::Store(_) => "store_failed",
            CallError::Unconfigured(_) => "not_configured",
        }
    }

    /// Whether another try may succeed.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            CallError::Connect(_)
            | CallError::Broken { .. }
            | CallError::Timeout { .. }
            | CallError::Store(_) => true,
            CallError::Status { status, .. } => status_is_retryable(*status),
            CallError::Coded { retryable, .. } => *retryable,
            CallError::Refused { .. }
            | CallError::TooLarge { .. }
            | CallError::Redirect { .. }
            | CallError::Unconfigured(_) => false,
        }
    }

    /// Whether the other side may have acted all the same.
    #[must_use]
    pub fn maybe_done(&self) -> bool {
        match self {
            CallError::Refused { maybe_done, .. }
            | CallError::Broken { maybe_done, .. }
            | CallError::Redirect { maybe_done, .. }
            | CallError::Coded { maybe_done, .. }
            | CallError::Timeout { maybe_done, .. } => *maybe_done,
            CallError::TooLarge { .. } => true,
            CallError::Status { status, .. } => status_is_doubtful(*status),
            CallError::Connect(_) | CallError::Store(_) | CallError::Unconfigured(_) => false,
        }
    }

    /// The same error where an earlier request of the same call was acted on.
    #[must_use]
    pub fn after_acting(self) -> CallError {
        match self {
            CallError::Refused { why, .. } => CallError::Refused { why, maybe_done: true },
            CallError::Connect(why) => CallError::Broken { why, maybe_done: true },
            CallError::Redirect { why, .. } => CallError::Redirect { why, maybe_done: true },
            other => other,
        }
    }

    /// How long the other side asked to wait, in ms.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            CallError::Status { retry_after_ms, .. } | CallError::Coded { retry_after_ms, .. } => {
                *retry_after_ms
            }
            _ => None,
        }
    }

    /// The outcome that the shard gets.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome::Failed {
            error: TaskError {
                code: self.code().into(),
                message: self.to_string().into(),
                retryable: self.retryable(),
            },
            retry_after_ms: self.retry_after_ms(),
            maybe_done: self.maybe_done(),
        }
    }
}

/// Whether a request may be made again after this status.
#[must_use]
pub fn status_is_retryable(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// Whether the other side may have acted although it answered with this status.
///
/// A gateway that got no answer (502, 504, and what content networks add) does not know itself; any
/// other complete answer is the server's own word that it failed.
#[must_use]
pub fn status_is_doubtful(status: u16) -> bool {
    matches!(status, 502 | 504 | 520..=527 | 598 | 599)
}

/// The start of a body, fit for an error message: one line, at most [`QUOTE_BYTES_MAX`] bytes.
#[must_use]
pub fn quote(body: &[u8]) -> String {
    let start = &body[..body.len().min(QUOTE_BYTES_MAX)];
    let mut text: String = String::from_utf8_lossy(start)
        .trim_end_matches(char::REPLACEMENT_CHARACTER)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    while QUOTE_BYTES_MAX < text.len() {
        text.pop();
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_try_again_and_whether_it_may_have_happened() {
        for (status, retryable, doubtful) in [
            (400, false, false),
            (404, false, false),
            (408, true, false),
            (425, true, false),
            (429, true, false),
            (500, true, false),
            (501, true, false),
            (502, true, true),
            (503, true, false),
            (504, true, true),
        ] {
            assert_eq!(status_is_retryable(status), retryable, "{status}");
            assert_eq!(status_is_doubtful(status), doubtful, "{status}");
        }
    }

    #[test]
    fn quotes_are_short_and_of_one_line() {
        assert_eq!(quote(b" a\r\nb\0 "), "a  b");
        assert_eq!(quote("ä".repeat(400).as_bytes()).len(), 512);
        assert!(quote(&[0xff; 2000]).len() <= QUOTE_BYTES_MAX);
        let split = format!("x{}", "ä".repeat(400));
        assert_eq!(quote(split.as_bytes()).len(), 511);
    }
}
