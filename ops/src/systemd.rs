//! What systemd is told when it started nO as a service of type `notify`: ready, alive, stopping.
//! Where there is no such socket (`NOTIFY_SOCKET`) nothing is sent.
//!
//! The watchdog is fed only while every shard gives signs of life: a node that answers its health
//! but whose shard is stuck is started anew.

use crate::shutdown;
use crate::vitals::ShardLife;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// So often within the time that the watchdog allows it is fed.
const PER_ALLOWED: u32 = 3;
/// What the watchdog allows beyond the time of all handlers of a stop.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// The watchdog, if systemd waits for its being fed.
#[derive(Debug)]
pub struct Watchdog {
    period: Option<Duration>,
    fed_at: Option<Instant>,
}

impl Watchdog {
    /// That of the environment (`WATCHDOG_USEC`, `WATCHDOG_PID`), where it is meant for us.
    #[must_use]
    pub fn of_environment() -> Watchdog {
        let allowed = sd_notify::watchdog_enabled();
        Watchdog { period: allowed.map(|allowed| allowed / PER_ALLOWED), fed_at: None }
    }

    /// Feeds it when it is time, unless a shard is stuck or halted. Called at each look at the
    /// node, four times a second: what it allows must be a second at least.
    pub fn feed(&mut self, shards: &[ShardLife], now: Instant) {
        if self.is_fed(shards, now) {
            tell(&[NotifyState::Watchdog]);
        }
    }

    fn is_fed(&mut self, shards: &[ShardLife], now: Instant) -> bool {
        let Some(period) = self.period else { return false };
        let is_due = self.fed_at.is_none_or(|at| period <= now.duration_since(at));
        let is_fed = is_due && shards.iter().all(ShardLife::is_alive);
        if is_fed {
            self.fed_at = Some(now);
        }
        is_fed
    }

    /// Says that the node stops, within the time that its handlers have: they are watched over by
    /// ourselves, so that neither the watchdog nor `TimeoutStopSec` shall end them before.
    pub fn stopping(&self, drain_timeout: Duration) {
        let handlers = shutdown::handlers(drain_timeout);
        let all: Duration = handlers.iter().map(|handler| handler.timeout).sum();
        let us = (all + STOP_SLACK).as_micros();
        let timeout = format!("EXTEND_TIMEOUT_USEC={us}");
        let watchdog = self.period.map(|_| format!("WATCHDOG_USEC={us}"));
        let mut states = vec![NotifyState::Stopping, NotifyState::Custom(&timeout)];
        states.extend(watchdog.as_deref().map(NotifyState::Custom));
        states.push(NotifyState::Status("draining"));
        tell(&states);
    }
}

/// Says that the node takes work at `url`.
pub fn ready(url: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving {url}"))]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(target: "no", %error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_engine::shard::Pulse;

    const SECOND: Duration = Duration::from_secs(1);

    fn life(beat_age_ms: u64, is_halted: bool) -> ShardLife {
        let mut reading = Pulse::default().read();
        reading.is_halted = is_halted;
        ShardLife { reading, beat_age_ms }
    }

    #[test]
    fn it_is_fed_in_time_while_all_shards_live() {
        let start = Instant::now();
        let mut watchdog = Watchdog { period: Some(SECOND), fed_at: None };
        let alive = [life(0, false), life(250, false)];
        let fed: Vec<bool> =
            (0..5).map(|n| watchdog.is_fed(&alive, start + SECOND / 2 * n)).collect();
        assert_eq!(fed, [true, false, true, false, true]);
        let later = start + SECOND * 10;
        assert!(!watchdog.is_fed(&[life(0, false), life(60_000, false)], later), "one is stuck");
        assert!(!watchdog.is_fed(&[life(0, true)], later), "one is halted");
        assert!(watchdog.is_fed(&alive, later), "all live again");
    }

    #[test]
    fn nobody_waits_and_nothing_is_fed() {
        let mut watchdog = Watchdog { period: None, fed_at: None };
        assert!(!watchdog.is_fed(&[life(0, false)], Instant::now()));
    }
}
