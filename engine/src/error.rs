//! The engine's errors: what a caller of this crate may have to act on.

/// Why something in the engine was refused.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Error {
    /// A text is no task id, or no hash; the sender's fault.
    #[error("not a valid id")]
    IdMalformed,
    /// A text is no W3C `traceparent`; it is ignored.
    #[error("not a valid traceparent")]
    TraceMalformed,
    /// The store's rows do not make a state; the operator must restore a backup.
    #[error("the store cannot be loaded: {why}")]
    LoadFailed {
        /// What was wrong, in the store's words.
        why: String,
    },
}

/// A result with the engine's error.
pub type Result<T> = std::result::Result<T, Error>;
