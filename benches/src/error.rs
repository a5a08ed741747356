//! What can go wrong while measuring. A figure that misses its goal is not an error.

use std::io;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for what cannot be; the text says what to do.
    #[error("{0}")]
    Usage(String),
    /// The system refused a file, a process or a thread.
    #[error("{what}: {why}")]
    System {
        /// What was wanted.
        what: String,
        /// What the system said.
        why: io::Error,
    },
    /// A server or a tool did not do what it should; the text says which and what.
    #[error("{0}")]
    Failed(String),
    /// A runtime cannot run on this machine; the text is its own.
    #[error("{0}")]
    Refused(String),
    /// The load driver.
    #[error(transparent)]
    Load(#[from] no_loadtest::Error),
    /// A call to a server.
    #[error("a call to the server: {0}")]
    Call(#[from] Box<ureq::Error>),
    /// JSON that is not what it should be.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Makes a system's refusal say what was wanted.
    pub fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |why| Error::System { what, why: why.into() }
    }

    /// The exit code: 2 for wrong usage, 1 else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Error::Usage(_)) { 2 } else { 1 }
    }
}

impl From<ureq::Error> for Error {
    fn from(error: ureq::Error) -> Error {
        Error::Call(Box::new(error))
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
