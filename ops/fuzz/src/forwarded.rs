//! Whose address a request counts for: nobody who is no proxy says it, and what a client made up
//! left of what a proxy wrote changes nothing.

use crate::chosen;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use no_net::proxies::{ForwardedHeader, Proxies};
use std::net::IpAddr;

/// Reads an input: the kind of header; in its first line the trusted proxies, in its second the
/// other end of the connection, then a header's value in each.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, text)) = chosen(data) else { return };
    let mut lines = text.split('\n');
    let list: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let Some(peer) = lines.next().and_then(|peer| peer.parse::<IpAddr>().ok()) else { return };
    let values: Vec<&str> = lines.collect();
    let (header, made_up) = match choice % 2 {
        0 => (ForwardedHeader::XForwardedFor, "192.0.2.99, "),
        _ => (ForwardedHeader::Forwarded, "for=192.0.2.99, "),
    };
    let Ok(proxies) = Proxies::parse(&list, header) else { return };
    let client = |values: &[String], peer: IpAddr| {
        let name = match header {
            ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedHeader::Forwarded => HeaderName::from_static("forwarded"),
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).ok()?);
        }
        Some(proxies.client(&headers, peer))
    };
    let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
    let Some(found) = client(&values, peer) else { return };

    // One is trusted whose word counts.
    let probe: IpAddr = [203, 0, 113, 250].into();
    let word = match header {
        ForwardedHeader::XForwardedFor => "203.0.113.250".to_owned(),
        ForwardedHeader::Forwarded => "for=203.0.113.250".to_owned(),
    };
    let trusts = |ip: IpAddr| client(std::slice::from_ref(&word), ip) == Some(probe) && ip != probe;
    if !trusts(peer) {
        assert_eq!(found, peer, "a stranger was believed");
    }
    let written: Vec<String> = values.iter().map(|value| value.to_ascii_lowercase()).collect();
    let is_written = found == peer || found == peer.to_canonical() || stands_in(&written, found);
    assert!(is_written, "nobody named {found}");

    // What somebody puts left of it matters only where all to the right are proxies.
    if trusts(peer) && !trusts(found) && found != probe {
        let mut more = values.clone();
        if let Some(first) = more.first_mut() {
            first.insert_str(0, made_up);
        }
        more.insert(0, made_up.trim_end_matches(", ").to_owned());
        assert_eq!(client(&more, peer), Some(found), "made up, and believed");
    }
}

/// Whether an address stands in one of these in any spelling.
fn stands_in(values: &[String], ip: IpAddr) -> bool {
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
    values.iter().flat_map(|value| value.split(|c| !is_part(c))).any(|word| {
        let host = word.rsplit_once(':').map_or(word, |(host, _)| host);
        let reads = |text: &str| text.parse::<IpAddr>().is_ok_and(|read| read.to_canonical() == ip);
        reads(word) || reads(host)
    })
}
