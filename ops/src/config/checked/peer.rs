//! Another server that the configuration names: where it is, and whether TLS is spoken with it.

use super::{flag, small, text};
use crate::config::raw::{Raw, parts};

/// Where it is.
pub(super) struct Peer {
    /// A name, an address, or the path of a Unix socket or of its folder.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// Whether TLS is spoken.
    pub(super) is_tls: bool,
}

/// Reads `<part>.host`, `.port` and `.tls`; `None` without a host, whatever else is said.
pub(super) fn peer(raw: &mut Raw, part: &str) -> Option<Peer> {
    let key = |name: &str| format!("{part}.{name}");
    let host = text(raw, &key("host"));
    if host.is_empty() {
        return None;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = host.chars().all(is_name) || host.parse::<std::net::IpAddr>().is_ok();
    if !is_host && !host.starts_with('/') {
        let problem =
            format!("must be a host name, an address or the path of a socket, not {host:?}");
        let hint = format!("the port goes into {part}.port, TLS into {part}.tls");
        raw.fault(&parts(&key("host")), problem, Some(hint));
    }
    let is_tls = flag(raw, &key("tls"));
    if is_tls && host.starts_with('/') {
        let problem = "means nothing over a Unix socket";
        raw.fault(&parts(&key("tls")), problem, Some("remove it".to_owned()));
    }
    Some(Peer { host, port: small(raw, &key("port")), is_tls })
}
