//! Allow-lists of the outbound guard: what an operator names although it is private.
//!
//! An entry is a host, `host:port`, an address, `address:port` or a CIDR block. It means what it
//! says and no more: no wildcards, no spellings of an address but its own.

use super::address::Class;
use super::guard::is_name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Entries of one list.
pub const ALLOW_LEN_MAX: usize = 1_024;

/// A list, of `security.outbound.allow` or of one agent in `security.outbound.agents`.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<Entry>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Entry {
    /// This name, on this port or any.
    Name { host: String, port: Option<u16> },
    /// The addresses with these first bits, on this port or any.
    Net { ip: IpAddr, bits: u8, port: Option<u16> },
}

impl AllowList {
    /// Reads a list.
    ///
    /// # Errors
    /// The place of the first bad entry, and what is wrong with it.
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<AllowList, (usize, &'static str)> {
        if ALLOW_LEN_MAX < list.len() {
            return Err((ALLOW_LEN_MAX, "there are too many entries: at most 1024"));
        }
        let entry = |(i, text): (usize, &S)| parse_entry(text.as_ref()).map_err(|e| (i, e));
        list.iter().enumerate().map(entry).collect::<Result<_, _>>().map(AllowList)
    }

    /// Allows this host on this port as well.
    pub fn push_host(&mut self, host: String, port: u16) {
        self.0.push(Entry::Name { host, port: Some(port) });
    }

    /// Allows this address on this port as well.
    pub fn push_address(&mut self, ip: IpAddr, port: u16) {
        self.0.push(Entry::Net { ip, bits: bits_max(ip), port: Some(port) });
    }

    /// Allows all that the other list allows as well.
    pub fn extend(&mut self, other: &AllowList) {
        self.0.extend_from_slice(&other.0);
    }

    /// Whether a connection for `host` may go to this address of it, which is of this class.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16, ip: IpAddr, class: Class) -> bool {
        self.0.iter().any(|entry| {
            entry.port().is_none_or(|only| only == port)
                && match entry {
                    Entry::Name { host: name, .. } => class.allowed_by_name() && name == host,
                    Entry::Net { ip: net, bits, .. } => is_within(ip, *net, *bits),
                }
        })
    }

    /// Whether an entry with this very port is for the host, or for the address where it is known.
    /// While it is not, an entry for any address may turn out to be.
    #[must_use]
    pub fn names_port(&self, host: &str, port: u16, ip: Option<IpAddr>) -> bool {
        self.0.iter().any(|entry| entry.port() == Some(port) && entry.may_be_for(host, ip))
    }

    /// Whether an entry is for the host, or the address that stands for it, on this port or any.
    #[must_use]
    pub fn names_host(&self, host: &str, port: u16, ip: Option<IpAddr>) -> bool {
        self.0.iter().any(|entry| {
            let is_known = ip.is_some() || matches!(entry, Entry::Name { .. });
            entry.port().is_none_or(|only| only == port) && is_known && entry.may_be_for(host, ip)
        })
    }
}

impl Entry {
    fn port(&self) -> Option<u16> {
        match self {
            Entry::Name { port, .. } | Entry::Net { port, .. } => *port,
        }
    }

    fn may_be_for(&self, host: &str, ip: Option<IpAddr>) -> bool {
        match self {
            Entry::Name { host: name, .. } => name == host,
            Entry::Net { ip: net, bits, .. } => ip.is_none_or(|ip| is_within(ip, *net, *bits)),
        }
    }
}

fn parse_entry(text: &str) -> Result<Entry, &'static str> {
    if text.contains("://") {
        return Err("give the host alone, without http:// and path");
    }
    if text.contains('*') {
        return Err("there are no wildcards: name each host, or give a CIDR block");
    }
    if text.contains('%') {
        return Err("an address has no zone here");
    }
    if let Some((ip, bits)) = text.split_once('/') {
        return parse_block(ip, bits);
    }
    if let Ok(ip) = unbracketed(text).parse::<IpAddr>() {
        return Ok(Entry::Net { ip, bits: bits_max(ip), port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if 0 < port => (host, Some(port)),
            _ => return Err("the port must be a number from 1 to 65535"),
        },
        None => (text, None),
    };
    if let Ok(ip) = unbracketed(host).parse::<IpAddr>() {
        // `::1:80` without brackets was an address of its own above.
        return Ok(Entry::Net { ip, bits: bits_max(ip), port });
    }
    let host = host.to_ascii_lowercase();
    if is_name(&host) {
        return Ok(Entry::Name { host, port });
    }
    Err(match host.strip_suffix('.') {
        Some(name) if is_name(name) => "leave the dot at the host's end out",
        _ if !host.is_ascii() => "give an international name in its xn-- form",
        _ if host.starts_with(|c: char| c.is_ascii_digit()) => {
            "write an address in full, such as 127.0.0.1"
        }
        _ => "must be a host, host:port, address or CIDR block",
    })
}

fn parse_block(ip: &str, bits: &str) -> Result<Entry, &'static str> {
    let malformed = "not a CIDR block, such as 10.0.0.0/8 or fd00::/8";
    if bits.contains(':') {
        return Err("a CIDR block has no port: name hosts or addresses with it");
    }
    let ip = unbracketed(ip).parse::<IpAddr>().map_err(|_| malformed)?;
    let bits = bits.parse::<u8>().map_err(|_| malformed)?;
    if bits_max(ip) < bits {
        return Err("a CIDR block has at most 32 bits, or 128 for IPv6");
    }
    if mask(ip, bits) != bits_of(ip) {
        return Err("a CIDR block has bits set behind its prefix");
    }
    Ok(Entry::Net { ip, bits, port: None })
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

fn bits_max(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
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
mod tests {
    use super::*;

    #[test]
    fn bad_entries_are_named_with_what_is_wrong() {
        for (bad, piece) in [
            ("", "must be a host"),
            ("http://x", "without http://"),
            ("http://x/y", "without http://"),
            ("x/y", "not a CIDR block"),
            ("10.0.0.1/8", "bits set behind"),
            ("10.0.0.0/33", "at most 32 bits"),
            ("10.0.0.0/8:80", "has no port"),
            ("::/129", "at most 32 bits, or 128"),
            ("10.0.0.0/-1", "not a CIDR block"),
            ("x:0", "1 to 65535"),
            ("x:65536", "1 to 65535"),
            ("x:y", "1 to 65535"),
            ("x:", "1 to 65535"),
            ("a b", "must be a host"),
            ("user@x", "must be a host"),
            ("*", "no wildcards"),
            ("*.internal", "no wildcards"),
            ("fe80::1%eth0", "no zone"),
            ("internal.", "the dot"),
            ("b\u{fc}cher.example", "xn--"),
            ("127.1", "in full"),
            ("0x7f000001", "in full"),
            ("2130706433", "in full"),
        ] {
            let (place, why) = AllowList::parse(&["ok", bad]).expect_err(bad);
            assert!(place == 1 && why.contains(piece), "{bad:?}: {place}, {why}");
        }
        for good in ["0.0.0.0/0", "::/0", "[::1]:80", "::1", "a-b.c_d:1", "LOCALHOST", "1.2.3.4:5"]
        {
            assert!(AllowList::parse(&[good]).is_ok(), "{good}");
        }
        let many = vec!["ok"; ALLOW_LEN_MAX + 1];
        assert!(AllowList::parse(&many).is_err_and(|(_, why)| why.contains("too many")));
    }

    #[test]
    fn a_port_is_named_by_an_entry_with_it() {
        let list = AllowList::parse(&["db:6379", "cache", "10.0.0.9:25", "10.1.0.0/16"]);
        let list = list.expect("a good list");
        let check = |host: &str, port: u16, ip: Option<&str>, port_is: bool, host_is: bool| {
            let ip = ip.map(|ip| ip.parse().expect(ip));
            let got = (list.names_port(host, port, ip), list.names_host(host, port, ip));
            assert_eq!(got, (port_is, host_is), "{host}:{port} at {ip:?}");
        };
        check("db", 6379, Some("1.1.1.1"), true, true);
        check("db", 6380, None, false, false);
        check("cache", 6379, None, false, true);
        check("other", 6379, None, false, false);
        check("other", 25, None, true, false);
        check("other", 25, Some("10.0.0.9"), true, true);
        check("other", 25, Some("10.0.0.8"), false, false);
        check("10.1.2.3", 9000, Some("10.1.2.3"), false, true);
        check("10.1.2.3", 25, Some("10.1.2.3"), false, true);
    }
}
