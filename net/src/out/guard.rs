//! The outbound guard: which URLs and addresses a call may go to (DESIGN §7).
//!
//! A URL is parsed once, strictly; the parsed form is what is checked and what is called, so that
//! no two parsers can disagree (O. Tsai, "A New Era of SSRF", 2017). Numeric hosts in any spelling
//! become the address they mean. Names are checked again by every address they resolve to: see
//! `connect.rs`.

use super::address::{Class, classify};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 16 * 1024;
/// Entries of the allow-list.
pub const ALLOW_LEN_MAX: usize = 1_024;

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
}

/// One entry of `security.outbound.allow`.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Allow {
    /// This name, on this port or any.
    Name { host: String, port: Option<u16> },
    /// The addresses with these first bits, on this port or any.
    Net { ip: IpAddr, bits: u8, port: Option<u16> },
}

/// The guard with its allow-list.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Vec<Allow>,
}

impl Guard {
    /// Reads the allow-list: hosts, `host:port`, addresses, CIDR blocks.
    ///
    /// # Errors
    /// The place of the first bad entry, and what is wrong with it.
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Guard, (usize, &'static str)> {
        if ALLOW_LEN_MAX < list.len() {
            return Err((ALLOW_LEN_MAX, "too many entries"));
        }
        let entry = |(i, text): (usize, &S)| parse_allow(text.as_ref()).map_err(|e| (i, e));
        let allow = list.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
        Ok(Guard { allow })
    }

    /// This guard, and the host and port of `url` allowed on top: for a model's own `baseUrl`.
    #[must_use]
    pub fn with_origin(&self, url: &Url) -> Guard {
        let mut guard = self.clone();
        let port = url.port_or_known_default();
        match url.host() {
            Some(Host::Domain(host)) => {
                guard.allow.push(Allow::Name { host: host.to_owned(), port });
            }
            Some(Host::Ipv4(ip)) => guard.allow.push(Allow::Net { ip: ip.into(), bits: 32, port }),
            Some(Host::Ipv6(ip)) => guard.allow.push(Allow::Net { ip: ip.into(), bits: 128, port }),
            None => {}
        }
        guard
    }

    /// Parses and checks a URL; a numeric host's address too.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check_url(&self, text: &str) -> Result<Url, Refused> {
        let url = parse_url(text)?;
        let port = url.port_or_known_default().unwrap_or(0);
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_address(&ip.to_string(), port, ip.into())?,
            Some(Host::Ipv6(ip)) => self.check_address(&ip.to_string(), port, ip.into())?,
            Some(Host::Domain(_)) | None => {}
        }
        Ok(url)
    }

    /// Whether a connection for `host` may go to this address of it.
    ///
    /// # Errors
    /// [`Refused::Address`].
    pub fn check_address(&self, host: &str, port: u16, ip: IpAddr) -> Result<(), Refused> {
        let class = classify(ip);
        if class == Class::Public {
            return Ok(());
        }
        let allows = |allow: &Allow| match allow {
            Allow::Name { host: name, port: only } => {
                class.allowed_by_name() && name == host && only.is_none_or(|only| only == port)
            }
            Allow::Net { ip: net, bits, port: only } => {
                is_within(ip, *net, *bits) && only.is_none_or(|only| only == port)
            }
        };
        if self.allow.iter().any(allows) {
            return Ok(());
        }
        Err(Refused::Address { host: host.to_owned(), class })
    }
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
fn is_name(name: &str) -> bool {
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

fn parse_allow(text: &str) -> Result<Allow, &'static str> {
    if let Some((ip, bits)) = text.split_once('/') {
        let ip = unbracketed(ip).parse::<IpAddr>().map_err(|_| "not a CIDR block")?;
        let bits = bits.parse::<u8>().map_err(|_| "not a CIDR block")?;
        let bits_max = if ip.is_ipv4() { 32 } else { 128 };
        if bits_max < bits {
            return Err("a CIDR block has at most 32 bits, or 128 for IPv6");
        }
        if mask(ip, bits) != bits_of(ip) {
            return Err("a CIDR block has bits set behind its prefix");
        }
        return Ok(Allow::Net { ip, bits, port: None });
    }
    if let Ok(ip) = unbracketed(text).parse::<IpAddr>() {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        return Ok(Allow::Net { ip, bits, port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse::<u16>().map_err(|_| "not a port")?;
            if port == 0 {
                return Err("not a port");
            }
            (host, Some(port))
        }
        None => (text, None),
    };
    if let Ok(ip) = unbracketed(host).parse::<IpAddr>() {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        return Ok(Allow::Net { ip, bits, port });
    }
    let host = host.to_ascii_lowercase();
    if !is_name(&host) {
        return Err("neither a host, host:port, address nor CIDR block");
    }
    Ok(Allow::Name { host, port })
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// Whether the first `bits` of both are the same. A mapped IPv4 address counts as IPv4.
fn is_within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let (ip, net) = match net {
        IpAddr::V4(_) => (ip.to_canonical(), net),
        IpAddr::V6(_) => (ip, net),
    };
    ip.is_ipv4() == net.is_ipv4() && mask(ip, bits) == mask(net, bits)
}

fn mask(ip: IpAddr, bits: u8) -> u128 {
    let kept = u32::from(bits);
    let all = u128::MAX.checked_shl(128 - kept).unwrap_or(0);
    bits_of(ip) & all
}

/// The address as a number, left-aligned.
fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(Ipv4Addr::to_bits(ip)) << 96,
        IpAddr::V6(ip) => Ipv6Addr::to_bits(ip),
    }
}

#[cfg(test)]
mod tests;
