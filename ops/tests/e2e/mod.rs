//! What the end-to-end tests stand on: a real `no serve` in a folder of its own, clients that speak
//! HTTP to it, and servers that count what it calls.
//!
//! Nothing here sleeps: whoever waits reads a pipe or a socket, or stands at a condition variable,
//! and gives up at a deadline. Ports are the system's choice. Only children of the test are ever
//! signalled.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

pub(crate) mod chromium;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod cut;
pub(crate) mod folder;
pub(crate) mod forward;
pub(crate) mod node;
pub(crate) mod pipe;
pub(crate) mod postgres;
pub(crate) mod server;
pub(crate) mod shim;
pub(crate) mod sse;

pub(crate) use chromium::Chromium;
pub(crate) use client::{Client, Reply};
pub(crate) use folder::{Home, no};
pub(crate) use node::Node;
pub(crate) use server::{Act, Seen, Server};
pub(crate) use sse::Events;

use std::time::Duration;

/// The longest that anything here may take before a test is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A small seeded generator (Steele, Lea, Flood, "SplitMix", 2014): enough to choose moments by.
pub(crate) struct Dice(u64);

impl Dice {
    /// The generator of this seed.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}
