//! All rings and doorbells of a node, made before any thread: who talks to whom stands here.
//!
//! ```text
//! net core ⇄ shard: a normal and a reserved lane there, one ring of effects back
//! shard ⇄ journal thread: batches there, acks back
//! net core ⇄ reader thread: made by `no_net::reads`, on the net core's thread
//! ```

use crate::cores::Eventfd;
use no_engine::command::Command;
use no_engine::doorbell::{Bell, Sleeper, doorbell};
use no_engine::effect::Effect;
use no_engine::event::Batch;
use no_engine::limits::{BATCHES_IN_FLIGHT_MAX, RING_LEN, RING_RESERVED_LEN};
use no_engine::port::Ack;
use no_engine::ring::{Receiver, Sender, ring};
use no_engine::shard::{Links, Pulse};
use no_net::ShardLink;
use no_net::shards::Lanes;
use std::io;
use std::sync::Arc;

/// Answers of a journal thread that may wait for its shard.
const ACKS_LEN: usize = 256;

/// A thread's doorbell with what wakes it.
pub(super) struct Door {
    pub(super) bell: Bell,
    pub(super) sleeper: Sleeper,
    pub(super) eventfd: Eventfd,
}

impl Door {
    pub(super) fn new() -> io::Result<Door> {
        let eventfd = Eventfd::new()?;
        let (bell, sleeper) = doorbell(Box::new(eventfd.clone()));
        Ok(Door { bell, sleeper, eventfd })
    }
}

/// One shard's ends, and those of its journal thread.
pub(super) struct ShardEnds {
    pub(super) links: Links,
    pub(super) door: Door,
    pub(super) batches: Receiver<Batch>,
    pub(super) acks: Sender<Ack>,
    pub(super) journal_door: Door,
    pub(super) pulse: Arc<Pulse>,
}

/// One net core's ends.
pub(super) struct NetEnds {
    pub(super) shards: Vec<ShardLink>,
    pub(super) door: Door,
    /// Of the shards, to be rung once the net core is gone.
    pub(super) shard_bells: Vec<Bell>,
}

/// Makes everything for so many shards and net cores.
///
/// # Errors
/// When the process has no file descriptor left.
pub(super) fn make(shards: u16, nets: u16) -> io::Result<(Vec<ShardEnds>, Vec<NetEnds>)> {
    let mut net_ends = Vec::new();
    for _ in 0..nets {
        net_ends.push(NetEnds { shards: Vec::new(), door: Door::new()?, shard_bells: Vec::new() });
    }
    let mut shard_ends = Vec::new();
    for _ in 0..shards {
        shard_ends.push(make_shard(&mut net_ends)?);
    }
    Ok((shard_ends, net_ends))
}

fn make_shard(nets: &mut [NetEnds]) -> io::Result<ShardEnds> {
    let pulse = Arc::new(Pulse::default());
    let (door, journal_door) = (Door::new()?, Door::new()?);
    let (mut reserved_lanes, mut normal_lanes, mut outbox) = (Vec::new(), Vec::new(), Vec::new());
    for net in nets {
        let (reserved, reserved_in) = ring::<Command>(RING_RESERVED_LEN, door.bell.clone());
        let (normal, normal_in) = ring::<Command>(RING_LEN, door.bell.clone());
        let (effects_out, effects) = ring::<Effect>(RING_LEN, net.door.bell.clone());
        reserved_lanes.push(reserved_in);
        normal_lanes.push(normal_in);
        outbox.push(effects_out);
        let pulse = Arc::clone(&pulse);
        net.shards.push(ShardLink { lanes: Lanes { normal, reserved }, effects, pulse });
        net.shard_bells.push(door.bell.clone());
    }
    let (batches_out, batches) = ring(BATCHES_IN_FLIGHT_MAX, journal_door.bell.clone());
    let (acks, acks_in) = ring(ACKS_LEN, door.bell.clone());
    let inbox = reserved_lanes.into_iter().chain(normal_lanes).collect();
    let links = Links { inbox, outbox, batches: batches_out, acks: acks_in };
    Ok(ShardEnds { links, door, batches, acks, journal_door, pulse })
}
