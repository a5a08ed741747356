//! Whom an address counts for.

use std::net::IpAddr;

/// Whom an address stands for: all of a /64 for IPv6, as one host may choose any address in its.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddressKey(u128);

impl AddressKey {
    /// The key of an address; an IPv4 address in IPv6's clothes is IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> AddressKey {
        match ip.to_canonical() {
            IpAddr::V4(ip) => AddressKey(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => AddressKey(ip.to_bits() >> 64 << 64),
        }
    }

    /// As bytes that are the same on all nodes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}
