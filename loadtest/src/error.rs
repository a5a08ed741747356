//! What can go wrong before a load runs. What goes wrong during it is counted, not returned.

use std::io;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan contradicts itself; the text says what to do.
    #[error("{0}")]
    Plan(String),
    /// The server could not be reached, or refused what the load needs; the text says what to do.
    #[error("{0}")]
    Server(String),
    /// The system refused a socket, a timer, a core or a file.
    #[error("{what}: {why}")]
    System {
        /// What was wanted.
        what: String,
        /// What the system said.
        why: io::Error,
    },
}

impl Error {
    /// Makes a system's refusal say what was wanted.
    pub fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |why| Error::System { what, why: why.into() }
    }

    /// The exit code: 2 for a plan that cannot be, 1 else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Plan(_) => 2,
            Error::Server(_) | Error::System { .. } => 1,
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
