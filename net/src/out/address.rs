//! What an IP address is, from the outbound guard's point of view: a pure verdict.
//!
//! Everything that is not plainly a public unicast address is named here (the IANA special-purpose
//! registries of RFC 6890 and their updates). An address that carries an IPv4 address inside is
//! judged by both: a tunnel to a private network is one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Public: allowed.
    Public,
    /// This host.
    Loopback,
    /// A private network: RFC 1918, unique local, site-local.
    Private,
    /// One link, without a router.
    LinkLocal,
    /// A cloud's metadata service: never allowed by a host's name.
    Metadata,
    /// Shared by a carrier's customers (RFC 6598).
    Shared,
    /// No address at all: 0.0.0.0/8 or `::`.
    Unspecified,
    /// A group.
    Multicast,
    /// Everybody on the link.
    Broadcast,
    /// For examples in texts.
    Documentation,
    /// For benchmarks between devices (RFC 2544).
    Benchmarking,
    /// Kept for the future or for protocols.
    Reserved,
}

impl Class {
    /// The word for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Public => "public",
            Class::Loopback => "loopback",
            Class::Private => "private",
            Class::LinkLocal => "link-local",
            Class::Metadata => "metadata",
            Class::Shared => "carrier-grade NAT",
            Class::Unspecified => "unspecified",
            Class::Multicast => "multicast",
            Class::Broadcast => "broadcast",
            Class::Documentation => "documentation",
            Class::Benchmarking => "benchmarking",
            Class::Reserved => "reserved",
        }
    }

    /// Whether allowing a host by its name covers it. An operator who names a host means a machine
    /// of theirs, not that its name may one day point at the cloud's credentials.
    #[must_use]
    pub fn allowed_by_name(self) -> bool {
        matches!(self, Class::Public | Class::Loopback | Class::Private | Class::Shared)
    }
}

/// The class of `ip`.
#[must_use]
pub fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> Class {
    match ip.octets() {
        [169, 254, 169, 254] | [169, 254, 170, 2 | 23] => Class::Metadata,
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Class::Metadata,
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [169, 254, ..] => Class::LinkLocal,
        [100, 64..=127, ..] => Class::Shared,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        [198, 18..=19, ..] => Class::Benchmarking,
        // Protocol assignments, AS112, AMT and the abandoned 6to4 relay.
        [192, 0, 0, _] | [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _] => {
            Class::Reserved
        }
        [192, 88, 99, _] => Class::Reserved,
        [255, 255, 255, 255] => Class::Broadcast,
        [224..=239, ..] => Class::Multicast,
        [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    if ip.is_unspecified() {
        return Class::Unspecified;
    }
    if ip.is_loopback() {
        return Class::Loopback;
    }
    if let Some(class) = classify_embedded(ip) {
        return class;
    }
    match ip.segments() {
        // A whole block: metadata, credentials of containers, names and time of one cloud.
        [0xfd00, 0x0ec2, ..] => Class::Metadata,
        [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254] => Class::Metadata,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Documentation,
        [0x2001, 0x0002, 0, ..] => Class::Benchmarking,
        // Protocol assignments (Teredo among them was seen above), ORCHID, segment routing.
        [0x2001, 0..=0x01ff, ..] | [0x5f00, ..] | [0x2620, 0x004f, 0x8000, ..] => Class::Reserved,
        // Only 2000::/3 is given out for global unicast.
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// The class of the IPv4 address inside, for the forms that carry one.
fn classify_embedded(ip: Ipv6Addr) -> Option<Class> {
    let s = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        classify_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // Mapped ::ffff:0:0/96, translated ::ffff:0:0:0/96, compatible ::/96, NAT64 64:ff9b::/96.
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // 64:ff9b:1::/48 is NAT64 of one site: whatever it leads to is that site's own.
        [0x64, 0xff9b, 1, ..] => Some(Class::Private),
        // 6to4.
        [0x2002, high, low, ..] => Some(v4(high, low)),
        // Teredo: the server in clear, the client inverted. Both must be public.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            match v4(server_high, server_low) {
                Class::Public => Some(v4(!high, !low)),
                class => Some(class),
            }
        }
        // ISATAP: an interface identifier of 0:5efe or 200:5efe.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => match v4(high, low) {
            Class::Public => None,
            class => Some(class),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ip: &str, expected: Class) {
        assert_eq!(classify(ip.parse().expect(ip)), expected, "{ip}");
    }

    #[test]
    fn each_ipv4_form_has_its_class() {
        for (ip, class) in [
            ("1.1.1.1", Class::Public),
            ("8.8.8.8", Class::Public),
            ("9.255.255.255", Class::Public),
            ("11.0.0.0", Class::Public),
            ("172.15.255.255", Class::Public),
            ("172.32.0.0", Class::Public),
            ("192.167.255.255", Class::Public),
            ("192.169.0.0", Class::Public),
            ("100.63.255.255", Class::Public),
            ("100.128.0.0", Class::Public),
            ("198.17.255.255", Class::Public),
            ("198.20.0.0", Class::Public),
            ("223.255.255.255", Class::Public),
            ("0.0.0.0", Class::Unspecified),
            ("0.1.2.3", Class::Unspecified),
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("10.0.0.1", Class::Private),
            ("10.255.255.255", Class::Private),
            ("172.16.0.1", Class::Private),
            ("172.31.255.255", Class::Private),
            ("192.168.0.1", Class::Private),
            ("169.254.0.1", Class::LinkLocal),
            ("169.254.169.253", Class::LinkLocal),
            ("169.254.169.254", Class::Metadata),
            ("169.254.170.2", Class::Metadata),
            ("169.254.170.23", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("168.63.129.16", Class::Metadata),
            ("192.0.0.192", Class::Metadata),
            ("100.64.0.1", Class::Shared),
            ("100.127.255.255", Class::Shared),
            ("192.0.0.1", Class::Reserved),
            ("192.0.2.1", Class::Documentation),
            ("198.51.100.9", Class::Documentation),
            ("203.0.113.9", Class::Documentation),
            ("198.18.0.1", Class::Benchmarking),
            ("198.19.255.255", Class::Benchmarking),
            ("192.88.99.1", Class::Reserved),
            ("224.0.0.1", Class::Multicast),
            ("239.255.255.255", Class::Multicast),
            ("240.0.0.1", Class::Reserved),
            ("255.255.255.254", Class::Reserved),
            ("255.255.255.255", Class::Broadcast),
        ] {
            check(ip, class);
        }
    }

    #[test]
    fn each_ipv6_form_has_its_class() {
        for (ip, class) in [
            ("2606:4700:4700::1111", Class::Public),
            ("2001:4860:4860::8888", Class::Public),
            ("2a00::1", Class::Public),
            ("::", Class::Unspecified),
            ("::1", Class::Loopback),
            ("fc00::1", Class::Private),
            ("fdff:ffff::1", Class::Private),
            ("fd00:ec2::254", Class::Metadata),
            ("fd00:ec2::23", Class::Metadata),
            ("fd00:ec3::254", Class::Private),
            ("fd20:ce::254", Class::Metadata),
            ("fe80::1", Class::LinkLocal),
            ("febf::1", Class::LinkLocal),
            ("fec0::1", Class::Private),
            ("ff02::1", Class::Multicast),
            ("2001:db8::1", Class::Documentation),
            ("3fff:fff::1", Class::Documentation),
            ("2001:2::1", Class::Benchmarking),
            ("2001:20::1", Class::Reserved),
            ("100::1", Class::Reserved),
            ("2620:4f:8000::1", Class::Reserved),
            ("4000::1", Class::Reserved),
            ("5f00::1", Class::Reserved),
        ] {
            check(ip, class);
        }
    }

    #[test]
    fn an_ipv4_address_inside_decides() {
        for (ip, class) in [
            ("::ffff:127.0.0.1", Class::Loopback),
            ("::ffff:169.254.169.254", Class::Metadata),
            ("::ffff:8.8.8.8", Class::Public),
            ("::ffff:0:10.0.0.1", Class::Private),
            ("::127.0.0.1", Class::Loopback),
            ("::10.0.0.1", Class::Private),
            ("::2", Class::Unspecified),
            ("64:ff9b::10.0.0.1", Class::Private),
            ("64:ff9b::169.254.169.254", Class::Metadata),
            ("64:ff9b::8.8.8.8", Class::Public),
            ("64:ff9b:1::8.8.8.8", Class::Private),
            ("64:ff9b:1:ffff:ffff::1", Class::Private),
            ("64:ff9b:2::8.8.8.8", Class::Reserved),
            ("2002:7f00:1::", Class::Loopback),
            ("2002:a00:1::1", Class::Private),
            ("2002:808:808::1", Class::Public),
            // Teredo with server 65.54.227.120 and client 192.168.0.1, then a public client.
            ("2001:0:4136:e378:8000:63bf:3f57:fffe", Class::Private),
            ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", Class::Public),
            ("2001:0:a00:1:8000:63bf:f7f7:f7f7", Class::Private),
            ("2606:4700::5efe:10.0.0.1", Class::Private),
            ("2606:4700::200:5efe:8.8.8.8", Class::Public),
            ("2606:4700::200:5efe:169.254.169.254", Class::Metadata),
            ("fe80::5efe:8.8.8.8", Class::LinkLocal),
        ] {
            check(ip, class);
        }
    }
}
