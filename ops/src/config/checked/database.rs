//! What `database` says: the store that nodes share, in place of the data folder's files.

use super::peer::{Peer, peer};
use super::{text, whole};
use crate::config::raw::{Raw, parts};
use no_auth::Secret;
use std::time::Duration;

/// How the database is reached and who the node is in it.
#[derive(Clone, Debug)]
pub struct Database {
    /// The server's name or address, or the folder of its Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub name: String,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// The longest that one answer may take.
    pub timeout: Duration,
    /// How long commits wait for a database that is away before the node ends.
    pub retry: Duration,
    /// The node's name, which no other node has.
    pub node: String,
}

/// Longest name of a node, in bytes.
const NODE_BYTES_MAX: usize = 128;

/// Reads it; `None` without a host, whatever else is said.
pub(super) fn database(raw: &mut Raw) -> Option<Database> {
    let Peer { host, port, is_tls } = peer(raw, "database")?;
    let timeout_ms = whole(raw, "database.timeout");
    if timeout_ms == 0 {
        raw.fault(&parts("database.timeout"), "must be a millisecond or more", None);
    }
    let mut node = text(raw, "service.node");
    if node.is_empty() {
        node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    if node.is_empty() || NODE_BYTES_MAX < node.len() || node.contains(char::is_control) {
        let problem = "must have 1 to 128 bytes and no control characters";
        raw.fault(&parts("service.node"), problem, None);
    }
    Some(Database {
        host,
        port,
        name: text(raw, "database.name"),
        user: text(raw, "database.user"),
        password: raw.secret("database.password"),
        is_tls,
        timeout: Duration::from_millis(timeout_ms),
        retry: Duration::from_millis(whole(raw, "database.retry")),
        node,
    })
}
