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
    /// The name of the cluster that has the database.
    pub cluster: String,
    /// How long a node lives that does not count.
    pub lease: Duration,
    /// The URL that other nodes reach this one at; where it listens when absent.
    pub advertise: Option<String>,
}

/// The shortest lease: a node counts six times in it, and a commit may come between.
const LEASE_MS_MIN: u64 = 1_000;

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
    let lease_ms = whole(raw, "database.lease");
    if lease_ms < LEASE_MS_MIN {
        raw.fault(&parts("database.lease"), "must be 1000 ms or more", None);
    }
    let advertise = text(raw, "service.advertise");
    let is_url = |url: &str| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        rest.is_some_and(|rest| {
            !rest.is_empty() && !rest.trim_end_matches('/').contains(['/', '?', '#', '@'])
        })
    };
    if !advertise.is_empty() && !is_url(&advertise) {
        let hint = "for example http://no-0.no.svc:3000".to_owned();
        raw.fault(&parts("service.advertise"), "must be a URL without a path", Some(hint));
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
        cluster: text(raw, "database.cluster"),
        lease: Duration::from_millis(lease_ms),
        advertise: (!advertise.is_empty()).then_some(advertise),
    })
}
