//! Why the program ends other than well, and the exit code of each: scripts and supervisors act on
//! the code, people on the text.

use crate::config::Fault;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Done.
pub const EXIT_DONE: u8 = 0;
/// It was tried and failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line makes no sense.
pub const EXIT_USAGE: u8 = 2;
/// The configuration, or a key file it names, is refused.
pub const EXIT_CONFIG: u8 = 3;
/// The store cannot be used: not ours, damaged, locked, newer.
pub const EXIT_STORE: u8 = 4;
/// Somebody else listens on the address.
pub const EXIT_ADDRESS: u8 = 5;
/// An invariant is broken; what is on disk is sound.
pub const EXIT_INVARIANT: u8 = 70;
/// The disk failed to keep what it was given.
pub const EXIT_DISK: u8 = 74;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line makes no sense beyond what its parser can see.
    #[error("{0}")]
    Usage(String),
    /// The configuration is refused; all faults found.
    #[error("configuration refused:\n{}", lines(.0))]
    Config(Vec<Fault>),
    /// The local key or a token file cannot be used.
    #[error(transparent)]
    Auth(#[from] no_auth::Error),
    /// The store cannot be used.
    #[error("store unusable: {why}")]
    Store {
        /// What is wrong and what to do, in the store's words.
        why: String,
    },
    /// The audit log cannot be used.
    #[error("audit log unusable: {why}")]
    Audit {
        /// What is wrong and what to do.
        why: String,
    },
    /// No token of that id was ever made here.
    #[error("{} knows no token {id}", path.display())]
    TokenUnknown {
        /// The id.
        id: String,
        /// The ledger.
        path: PathBuf,
    },
    /// The audit log has a line that does not follow; it was shown.
    #[error("the audit log is broken")]
    AuditBroken,
    /// A backup's file cannot be written, read or trusted.
    #[error("{}: {why}", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A store cannot be moved, or did not arrive as it was.
    #[error("not moved: {why}")]
    Transfer {
        /// What is wrong.
        why: String,
    },
    /// A journal is damaged; where was shown.
    #[error("damaged: bring back a backup with `no backup restore`")]
    JournalDamaged,
    /// A step of the smoke test failed; all were shown.
    #[error("{step} failed")]
    Smoke {
        /// The first that did.
        step: &'static str,
    },
    /// What was to be measured could not be.
    #[error("cannot be measured: {why}")]
    Bench {
        /// What failed.
        why: String,
    },
    /// Somebody else listens there.
    #[error("{addr} is in use; choose another with --port or NO_SERVICE_PORT")]
    AddressInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("{addr} cannot be listened on: {source}")]
    Address {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Calls out cannot be set up as configured.
    #[error("{why}")]
    Outbound {
        /// What is wrong, with the key.
        why: String,
    },
    /// A shard's journal failed, or its tasks are another node's by now; the others were drained.
    #[error("the store failed: shard {shard} is halted; the log says why")]
    Disk {
        /// The shard.
        shard: u16,
    },
    /// The node is none of its cluster any more; others have its partitions.
    #[error("this node has lost its place in the cluster: {why}")]
    Lost {
        /// How.
        why: String,
    },
    /// No nO answers there.
    #[error("no answer from {url}: {why}")]
    Unreachable {
        /// The address that was asked.
        url: String,
        /// What the connection said.
        why: String,
    },
    /// nO answered, and refused.
    #[error("{code}: {detail}{}", pointer.as_ref().map(|p| format!(" ({p})")).unwrap_or_default())]
    Refused {
        /// HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// For a person.
        detail: String,
        /// The offending field, as a JSON pointer.
        pointer: Option<String>,
    },
    /// Something answered that is not nO, or not a version that we know.
    #[error("{url} answered what nO would not: {why}")]
    Answer {
        /// The address that was asked.
        url: String,
        /// What was odd.
        why: String,
    },
    /// The task that was waited for did not succeed; its error was shown.
    #[error("task {id} is {state}")]
    TaskEnded {
        /// The task.
        id: String,
        /// `failed` or `cancelled`.
        state: String,
    },
    /// The service answered that it is not healthy.
    #[error("not healthy")]
    Unhealthy,
    /// A file of the user's, or the terminal, failed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The program's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => EXIT_USAGE,
            Error::Config(_) | Error::Auth(_) | Error::Address { .. } | Error::Outbound { .. } => {
                EXIT_CONFIG
            }
            Error::Store { .. } | Error::Audit { .. } | Error::JournalDamaged => EXIT_STORE,
            Error::AddressInUse { .. } => EXIT_ADDRESS,
            Error::Disk { .. } | Error::Lost { .. } => EXIT_DISK,
            Error::Unreachable { .. }
            | Error::Refused { .. }
            | Error::Answer { .. }
            | Error::TaskEnded { .. }
            | Error::AuditBroken
            | Error::Backup { .. }
            | Error::Transfer { .. }
            | Error::Smoke { .. }
            | Error::Bench { .. }
            | Error::TokenUnknown { .. }
            | Error::Unhealthy
            | Error::File { .. } => EXIT_FAILED,
        }
    }

    /// What to try next, when we know.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Config(_) => Some("`no config keys` lists every key"),
            Error::Unreachable { .. } => {
                Some("is nO running there? start it with `no dev`, or name it with --url or NO_URL")
            }
            Error::TokenUnknown { .. } => Some("`no token list` shows all, by their ids"),
            Error::Refused { code, .. } => hint_of_code(code),
            _ => None,
        }
    }
}

fn hint_of_code(code: &str) -> Option<&'static str> {
    match code {
        "unauthenticated" => {
            Some("give a token with --token or NO_TOKEN_FILE, or the data folder with --data-dir")
        }
        "forbidden" => Some("the token's role does not allow this; see `no token create --help`"),
        "agent_unknown" => Some("`no agent list` shows the agents"),
        "task_unknown" => Some("`no task list` shows the tasks of your tenant"),
        "key_reused" => Some("another body was submitted under this key; choose a new key"),
        "task_ended" => Some("an ended task stays ended; `no task retry` revives a failed one"),
        "over_limit" | "queue_full" => Some("wait a little and try again"),
        "draining" => Some("the node is shutting down; try again once it is back"),
        "audit_failed" => Some("the log of nO says what failed; start it anew once that is mended"),
        "issuer_unavailable" => {
            Some("the log of nO says what the OIDC issuer answers; `no health` shows check oidc")
        }
        "disk_full" => Some("make room on the disk of the data folder"),
        _ => None,
    }
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n")
}
