//! The outbound guard: which URLs and addresses a call may go to (DESIGN §7).
//!
//! A URL is parsed once, strictly; the parsed form is what is checked and what is called, so that
//! no two parsers can disagree (O. Tsai, "A New Era of SSRF", 2017). Numeric hosts in any spelling
//! become the address they mean. Names are checked again by every address they resolve to: see
//! `connect.rs`.
//!
//! Ports: one that a definition's own URL names is open unless it belongs to a service that does
//! not speak HTTP; where somebody else leads (a redirect, a model that fills a template's host) it
//! must be the definition's or one of the web. Entries of the allow-list open others.

use super::address::{Class, classify};
use super::allow::AllowList;
use super::port::{is_service, is_web};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 16 * 1024;

/// What `localhost` and all names below it mean, whatever a resolver says (RFC 6761, section 6.3).
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Why the guard refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The URL is not one that we call.
    #[error("{0}")]
    Url(&'static str),
    /// The address is not public, and nothing allows it.
    #[error("{host} is a {} address", class.name())]
    Address {
        /// As the URL names it.
        host: String,
        /// What it is.
        class: Class,
    },
    /// The port is not one for HTTP, or not one that the definition names, and nothing allows it.
    #[error("{}:{port} is no port of the web: security.outbound.allow may name it", shown(host))]
    Port {
        /// As the URL names it.
        host: String,
        /// The port.
        port: u16,
    },
}

/// The guard with its allow-list.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: AllowList,
}

impl Guard {
    /// Reads the allow-list: hosts, `host:port`, addresses, CIDR blocks.
    ///
    /// # Errors
    /// The place of the first bad entry, and what is wrong with it.
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Guard, (usize, &'static str)> {
        AllowList::parse(list).map(|allow| Guard { allow })
    }

    /// This guard, and all that the other one allows: for an agent with a list of its own.
    #[must_use]
    pub fn with(&self, other: &Guard) -> Guard {
        let mut guard = self.clone();
        guard.allow.extend(&other.allow);
        guard
    }

    /// This guard, and the host and port of `url` allowed on top: for a model's own `baseUrl`.
    #[must_use]
    pub fn with_origin(&self, url: &Url) -> Guard {
        let mut guard = self.clone();
        let port = url.port_or_known_default().unwrap_or(0);
        match url.host() {
            Some(Host::Domain(host)) => guard.allow.push_host(host.to_owned(), port),
            Some(Host::Ipv4(ip)) => guard.allow.push_address(ip.into(), port),
            Some(Host::Ipv6(ip)) => guard.allow.push_address(ip.into(), port),
            None => {}
        }
        guard
    }

    /// Parses and checks a URL whose port a definition names; a numeric host's address too.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check_url(&self, text: &str) -> Result<Url, Refused> {
        let url = parse_url(text)?;
        let port = url.port_or_known_default().unwrap_or(0);
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_address(&ip.to_string(), port, ip.into())?,
            Some(Host::Ipv6(ip)) => self.check_address(&ip.to_string(), port, ip.into())?,
            Some(Host::Domain(host)) => {
                if is_local(host) {
                    self.loopbacks(host, port)?;
                }
                self.check_port(host, port, None)?;
            }
            None => {}
        }
        Ok(url)
    }

    /// The same for a URL that somebody else led to: its port must be `named`, that of the URL it
    /// came from, or one of the web.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check_led(&self, text: &str, named: Option<u16>) -> Result<Url, Refused> {
        let url = self.check_url(text)?;
        let port = url.port_or_known_default().unwrap_or(0);
        let (host, ip) = match url.host() {
            Some(Host::Ipv4(ip)) => (ip.to_string(), Some(ip.into())),
            Some(Host::Ipv6(ip)) => (ip.to_string(), Some(ip.into())),
            Some(Host::Domain(host)) => (host.to_owned(), None),
            None => return Ok(url),
        };
        if named == Some(port) || is_web(port) || self.allow.names_host(&host, port, ip) {
            return Ok(url);
        }
        Err(Refused::Port { host, port })
    }

    /// Whether a connection for `host` may go to this address of it.
    ///
    /// # Errors
    /// [`Refused::Address`], [`Refused::Port`].
    pub fn check_address(&self, host: &str, port: u16, ip: IpAddr) -> Result<(), Refused> {
        let class = classify(ip);
        if class != Class::Public && !self.allow.covers(host, port, ip, class) {
            return Err(Refused::Address { host: host.to_owned(), class });
        }
        self.check_port(host, port, Some(ip))
    }

    /// The addresses that a local name means, as far as they are allowed: no resolver is asked.
    ///
    /// # Errors
    /// [`Refused::Address`] when none is.
    pub fn loopbacks(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, Refused> {
        assert!(is_local(host), "other names are resolved");
        let class = Class::Loopback;
        let is_allowed = |ip: &IpAddr| self.allow.covers(host, port, *ip, class);
        let allowed: Vec<_> = LOOPBACKS.into_iter().filter(is_allowed).collect();
        let refused = || Refused::Address { host: host.to_owned(), class };
        if allowed.is_empty() { Err(refused()) } else { Ok(allowed) }
    }

    fn check_port(&self, host: &str, port: u16, ip: Option<IpAddr>) -> Result<(), Refused> {
        if is_service(port) && !self.allow.names_port(host, port, ip) {
            return Err(Refused::Port { host: host.to_owned(), port });
        }
        Ok(())
    }
}

/// A host as an entry of the allow-list names it before a port.
fn shown(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Whether the name means this machine by definition.
#[must_use]
pub fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Parses a URL that we may call: http or https, a plain host, no user, no tricks.
///
/// # Errors
/// [`Refused::Url`].
pub fn parse_url(text: &str) -> Result<Url, Refused> {
    let refuse = |why| Err(Refused::Url(why));
    if URL_BYTES_MAX < text.len() {
        return refuse("the url is too long");
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return refuse("the url has a blank, a control character or a backslash");
    }
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let Some(start) = ["https://", "http://"].iter().find(|s| lower.starts_with(**s)) else {
        return refuse("the url must start with http:// or https://");
    };
    let rest = &text[start.len()..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if authority.is_empty() {
        return refuse("the url has no host");
    }
    if authority.contains('@') {
        return refuse("the url carries a user or password");
    }
    if !authority.is_ascii() || authority.contains('%') {
        return refuse("the host must be plain ASCII (an international name in its xn-- form)");
    }
    let Ok(mut url) = Url::parse(text) else { return refuse("the url is malformed") };
    if let Some(Host::Domain(name)) = url.host()
        && !is_name(name)
    {
        return refuse("the host is not a name that we resolve");
    }
    if url.port() == Some(0) {
        return refuse("the url has port 0");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the url carries a user or password");
    }
    url.set_fragment(None);
    Ok(url)
}

/// Whether it is a plain DNS name: no trailing dot, no empty label, not all digits at the end.
pub(super) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or("");
    name.len() <= 253
        && name.split('.').all(label)
        && !last.bytes().all(|c| c.is_ascii_digit())
        && !last.starts_with("0x")
}

#[cfg(test)]
mod tests;
