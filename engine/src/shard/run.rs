//! The loop around the turn: turns while there is work, spins for as long as configured, then
//! sleeps on the doorbell until something comes or a timer is due. Ends when everybody who could
//! send is gone and all is durable.

use super::pulse::{Pulse, Reading};
use super::turn::{Links, Shard, Turn};
use crate::doorbell::Sleeper;
use crate::port::Clock;
use std::time::Duration;

/// A shard looks again after this while effects wait for room in a ring, whose reader rings nobody.
const ROOM_RECHECK: Duration = Duration::from_millis(1);
/// What is not counted as it changes is looked at this often, in ms.
const LOOK_PAUSE_MS: u64 = 250;
/// The longest sleep: a sign of life at least this often.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// Runs a loaded shard to its end.
///
/// `block` waits for the doorbell's wake-up, at most so long.
pub fn run(
    shard: &mut Shard,
    links: &mut Links,
    clock: &impl Clock,
    sleeper: &Sleeper,
    mut block: impl FnMut(Duration),
    pulse: &Pulse,
    busy_poll_us: u64,
) {
    let mut woke_us = clock.micros();
    let mut worked_us = woke_us;
    let (mut look_at, mut slots_missing) = (clock.now().mono, 0);
    loop {
        let began_us = clock.micros();
        let now = clock.now();
        let Turn { did_work, has_more, decide_us } = shard.turn(now, links, || clock.micros());
        let ended_us = clock.micros();
        if look_at <= now.mono {
            slots_missing = shard.machine().slots_missing();
            look_at = now.mono + LOOK_PAUSE_MS;
        }
        pulse.write(Reading { slots_missing, ..reading(shard, now.mono.0) });
        if did_work {
            worked_us = ended_us;
            let stats = shard.machine_mut().stats_mut();
            stats.turns += 1;
            stats.turn_us.record(ended_us - began_us);
            stats.busy_us += ended_us - began_us;
            stats.decide_us += decide_us;
            stats.act_us += (ended_us - began_us).saturating_sub(decide_us);
        }
        if did_work || has_more || ended_us < worked_us + busy_poll_us {
            continue;
        }
        if is_over(shard, links) {
            return;
        }
        shard.machine_mut().stats_mut().awake_us += ended_us - woke_us;
        sleeper.park(|| is_idle(links), || block(sleep(shard, clock)));
        woke_us = clock.micros();
        worked_us = woke_us;
    }
}

fn reading(shard: &Shard, beat_mono_ms: u64) -> Reading {
    Reading {
        beat_mono_ms,
        calls: shard.machine().calling(),
        unsaved: shard.unsaved(),
        is_halted: shard.is_halted(),
        is_full: shard.is_full(),
        room: shard.machine().room(),
        slots_missing: 0,
    }
}

fn is_idle(links: &Links) -> bool {
    links.acks.is_empty() && links.inbox.iter().all(|inbox| inbox.is_empty())
}

fn is_over(shard: &Shard, links: &Links) -> bool {
    let is_alone = links.inbox.iter().all(|inbox| inbox.is_abandoned() && inbox.is_empty());
    let is_unheard = links.outbox.iter().all(crate::ring::Sender::is_abandoned);
    is_alone && (shard.is_settled() || (is_unheard && shard.waits_for_room()))
}

fn sleep(shard: &Shard, clock: &impl Clock) -> Duration {
    if shard.waits_for_room() {
        return ROOM_RECHECK;
    }
    let timer = shard.machine().sleep_ms(clock.now()).map(Duration::from_millis);
    // A timer due now fires in the next turn; a pause of 0 would spin while the clock ticks over.
    timer.map_or(SLEEP_MAX, |timer| timer.max(ROOM_RECHECK).min(SLEEP_MAX))
}
