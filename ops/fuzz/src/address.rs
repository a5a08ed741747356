//! The outbound guard: no URL and no address that it accepts leads into a private network.

use crate::chosen;
use no_net::out::guard::{Guard, parse_url};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// Blocks of IPv4 that are nobody's on the internet (the IANA registry of RFC 6890): written down
/// here by themselves, so that a slip in the guard's own table is seen.
const NOT_PUBLIC_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let is_in = |(net, len): &([u8; 4], u32)| {
        (ip.to_bits() ^ Ipv4Addr::from(*net).to_bits()).leading_zeros() >= *len
    };
    !NOT_PUBLIC_V4.iter().any(is_in) && ip != Ipv4Addr::new(100, 100, 100, 200)
}

/// The IPv4 address in one of IPv6, for the ways that need nothing but a prefix.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = ip.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    match ip.segments() {
        [0x2002, high, middle, ..] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(middle)))
        }
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => {
            Some(low)
        }
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(low),
        _ => None,
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inside) => is_public_v4(inside),
            None => ip.segments()[0] & 0xe000 == 0x2000 && !ip.to_string().starts_with("2001:db8:"),
        },
    }
}

/// Reads an input: what it is, then it.
pub(crate) fn check(data: &[u8]) {
    match data.split_first() {
        Some((choice, bytes)) if choice % 4 == 3 => ip(bytes),
        _ => {
            let Some((choice, text)) = chosen(data) else { return };
            match choice % 4 {
                0 => url(text),
                1 => address(text),
                _ => allowed(text),
            }
        }
    }
}

fn url(text: &str) {
    let Ok(url) = Guard::default().check_url(text) else { return };
    let to = match url.host().expect("a host") {
        Host::Ipv4(ip) => Some(IpAddr::from(ip)),
        Host::Ipv6(ip) => Some(IpAddr::from(ip)),
        Host::Domain(name) => {
            assert!(name.parse::<IpAddr>().is_err(), "{name} is an address");
            assert!(name.is_ascii() && !name.ends_with('.') && !name.is_empty(), "{name}");
            None
        }
    };
    assert!(to.is_none_or(is_public), "{text:?} leads to {url}");
    assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    // What is called is what was checked: it reads the same once more.
    assert_eq!(Guard::default().check_url(url.as_str()), Ok(url.clone()), "{text:?}");
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url));
    assert_eq!(url.fragment(), None);
}

fn address(text: &str) {
    if let Ok(ip) = text.parse::<IpAddr>() {
        judge(ip);
    }
}

fn ip(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<16>() {
        judge(Ipv6Addr::from(*bytes).into());
    }
    if let Some(bytes) = bytes.first_chunk::<4>() {
        judge(Ipv4Addr::from(*bytes).into());
    }
}

fn judge(ip: IpAddr) {
    if Guard::default().check_address("host", 443, ip).is_ok() {
        assert!(is_public(ip), "{ip} is reached");
    }
}

/// A list of what is allowed in the first line, a URL in the second.
fn allowed(text: &str) {
    let (list, url) = text.split_once('\n').unwrap_or((text, ""));
    let list: Vec<&str> = list.split(',').map(str::trim).collect();
    let Ok(guard) = Guard::parse(&list) else { return };
    let metadata = IpAddr::from([169, 254, 169, 254]);
    let is_name = |entry: &&str| {
        !entry.contains(['/', '[']) && !entry.starts_with(|c: char| c.is_ascii_digit() || c == ':')
    };
    if list.iter().all(is_name) && !list.iter().any(|entry| entry.matches(':').count() > 1) {
        for host in &list {
            let host = host.rsplit_once(':').map_or(*host, |(host, _)| host);
            assert!(guard.check_address(host, 80, metadata).is_err(), "{host} opens the metadata");
        }
    }
    // Allowing makes nothing unreachable, and no other form of URL.
    if let Ok(url) = parse_url(url)
        && Guard::default().check_url(url.as_str()).is_ok()
    {
        assert!(guard.check_url(url.as_str()).is_ok(), "{url}");
    }
    assert_eq!(guard.check_url(url).is_ok(), guard.check_url(url).is_ok());
}
