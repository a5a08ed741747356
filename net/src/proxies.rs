//! Whose address a request counts for: the other end of the connection, or, behind proxies that
//! are trusted, what they say.
//!
//! A header is only as good as who wrote it, so it is read from the right: each proxy appends whom
//! it has seen, and the first address that is no trusted proxy's is the client's. What stands left
//! of it the client may have made up. One header is read, the one that is configured: a proxy that
//! writes one of them passes the other through as the client sent it.

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use std::net::{IpAddr, SocketAddr};

/// Blocks of addresses that may be trusted.
pub const PROXIES_LEN_MAX: usize = 1_024;
/// Hops that are looked at, from the right.
const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header that trusted proxies write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Block {
    bits: u128,
    mask: u128,
}

/// The proxies that are trusted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Proxies {
    blocks: Vec<Block>,
    header: ForwardedHeader,
}

/// An address as a number; IPv4 in its mapped form, so that there is one kind.
fn bits_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn block(text: &str) -> Option<Block> {
    let (ip, len) = match text.split_once('/') {
        Some((ip, len)) => (ip.parse::<IpAddr>().ok()?, Some(len.parse::<u32>().ok()?)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let (len_max, before) = if ip.is_ipv4() { (32, 96) } else { (128, 0) };
    let len = len.unwrap_or(len_max);
    if len_max < len {
        return None;
    }
    let mask = u128::MAX.checked_shl(128 - before - len).unwrap_or(0);
    let bits = bits_of(ip);
    (bits & !mask == 0).then_some(Block { bits, mask })
}

impl Proxies {
    /// Reads a list of addresses and CIDR blocks.
    ///
    /// # Errors
    /// The place of the first bad entry, and what is wrong with it.
    pub fn parse<S: AsRef<str>>(
        list: &[S],
        header: ForwardedHeader,
    ) -> Result<Proxies, (usize, &'static str)> {
        if PROXIES_LEN_MAX < list.len() {
            return Err((PROXIES_LEN_MAX, "too many entries"));
        }
        let wrong = "must be an address or a CIDR block without bits behind its prefix";
        let entry = |(i, text): (usize, &S)| block(text.as_ref()).ok_or((i, wrong));
        let blocks = list.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
        Ok(Proxies { blocks, header })
    }

    /// Whether none is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        let bits = bits_of(ip);
        self.blocks.iter().any(|block| bits & block.mask == block.bits)
    }

    /// The address that a request of `peer` counts for. Costs nothing without proxies.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if self.blocks.is_empty() || !self.trusts(peer) {
            return peer;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        };
        let mut nearest = peer;
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let lines = lines.into_iter().rev().map(|line| line.to_str().unwrap_or("?"));
        for hop in lines.flat_map(|line| line.rsplit(',')).take(HOPS_MAX) {
            let ip = match self.header {
                ForwardedHeader::XForwardedFor => address(hop.trim()),
                ForwardedHeader::Forwarded => forwarded_for(hop).and_then(address),
            };
            // A hop without an address ("unknown", a made-up name): we know nobody beyond it.
            let Some(ip) = ip else { return nearest };
            nearest = ip;
            if !self.trusts(ip) {
                return ip;
            }
        }
        nearest
    }
}

/// The node of the `for` of one element of a `Forwarded` header.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok();
    ip.or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(list: &[&str], header: ForwardedHeader, lines: &[&str], peer: &str) -> String {
        let proxies = Proxies::parse(list, header).expect("a list");
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = match header {
                ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
                ForwardedHeader::Forwarded => FORWARDED,
            };
            headers.append(name, line.parse().expect("a value"));
        }
        proxies.client(&headers, peer.parse().expect("an address")).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        let check = |lines: &[&str], peer: &str, expected: &str| {
            let list = ["10.0.0.0/8", "fd00::/8"];
            let found = client(&list, ForwardedHeader::XForwardedFor, lines, peer);
            assert_eq!(found, expected, "{lines:?} from {peer}");
        };
        check(&["192.0.2.7"], "203.0.113.1", "203.0.113.1");
        check(&["192.0.2.7"], "10.0.0.1", "192.0.2.7");
        check(&["198.51.100.1, 192.0.2.7"], "10.0.0.1", "192.0.2.7");
        check(&["192.0.2.7, 10.2.0.1"], "10.0.0.1", "192.0.2.7");
        check(&["198.51.100.1", "192.0.2.7, 10.2.0.1"], "10.0.0.1", "192.0.2.7");
        check(&["10.3.0.1, 10.2.0.1"], "10.0.0.1", "10.3.0.1");
        check(&["192.0.2.7, unknown"], "10.0.0.1", "10.0.0.1");
        check(&["192.0.2.7, junk, 10.2.0.1"], "10.0.0.1", "10.2.0.1");
        check(&["[2001:db8::1]:443"], "fd00::1", "2001:db8::1");
        check(&["192.0.2.7:80"], "::ffff:10.0.0.1", "192.0.2.7");
        check(&[], "10.0.0.1", "10.0.0.1");
        check(&[""], "10.0.0.1", "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_when_it_is_the_configured_one() {
        let check = |line: &str, expected: &str| {
            let found = client(&["10.0.0.1"], ForwardedHeader::Forwarded, &[line], "10.0.0.1");
            assert_eq!(found, expected, "{line}");
        };
        check("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60");
        check("for=198.51.100.1, For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17");
        check("for=192.0.2.60, for=_hidden", "10.0.0.1");
        check("proto=http", "10.0.0.1");
    }

    #[test]
    fn lists_are_checked() {
        let parse = |list: &[&str]| Proxies::parse(list, ForwardedHeader::default()).err();
        assert_eq!(parse(&["127.0.0.1", "::1/128", "0.0.0.0/0", "::/0"]), None);
        for bad in ["", "proxy", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/-1"] {
            assert_eq!(parse(&["::1", bad]).map(|(place, _)| place), Some(1), "{bad}");
        }
    }
}
