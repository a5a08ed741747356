//! The performance monitor's part of the master controller: it reads what runs, what waits and what
//! the machine gives, has the controller decide (`no_engine::control::pool`), and keeps the last
//! decisions for whoever asks. Driven by the watch over the node.

use crate::cores::SystemClock;
use crate::health::text_of;
use crate::process::ProcessReader;
use crate::vitals::Vitals;
use no_engine::control::pool::{Aims, Decision, Pool, Seen};
use no_engine::port::Clock as _;
use no_engine::time::{Millis, Mono};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Time between two readings, in ms.
const PAUSE_MS: u64 = 1_000;
/// Decisions that are kept.
const DECISIONS_MAX: usize = 32;

/// The pool as operators see it. Shared by the watch and the net cores.
#[derive(Debug)]
pub struct PoolView {
    aims: Option<Aims>,
    now: Mutex<View>,
}

#[derive(Debug)]
struct View {
    slots: usize,
    seen: Seen,
    /// The newest last.
    decisions: VecDeque<(Millis, Decision)>,
}

impl PoolView {
    /// A pool of so many slots, scaled by `aims` if at all.
    #[must_use]
    pub fn new(slots: usize, aims: Option<Aims>) -> PoolView {
        let now = View { slots, seen: Seen::default(), decisions: VecDeque::new() };
        PoolView { aims, now: Mutex::new(now) }
    }

    fn now(&self) -> MutexGuard<'_, View> {
        // Each field stands for itself.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, at: Millis, decision: Decision) {
        let mut now = self.now();
        now.slots = decision.to;
        if DECISIONS_MAX <= now.decisions.len() {
            now.decisions.pop_front();
        }
        now.decisions.push_back((at, decision));
    }

    /// For `/admin/status`: the size, its bounds, what was last seen, and the last decisions, the
    /// newest first.
    #[must_use]
    pub fn shown(&self) -> Value {
        let now = self.now();
        let decisions: Vec<Value> = now.decisions.iter().rev().map(shown_decision).collect();
        json!({
            "autoscaling": self.aims.is_some(),
            "slots": now.slots,
            "slots_min": self.aims.map_or(now.slots, |aims| aims.slots_min),
            "slots_max": self.aims.map_or(now.slots, |aims| aims.slots_max),
            "seen": shown_seen(&now.seen),
            "decisions": decisions,
        })
    }
}

fn shown_seen(seen: &Seen) -> Value {
    json!({
        "slots_used": seen.used,
        "tasks_without_slot": seen.queued,
        "cpu_ratio": seen.cpu_ratio,
        "memory_ratio": seen.memory_ratio,
    })
}

fn shown_decision((at, decision): &(Millis, Decision)) -> Value {
    let mut shown = shown_seen(&decision.seen);
    shown["at"] = text_of(*at).into();
    shown["from"] = decision.from.into();
    shown["to"] = decision.to.into();
    shown["reason"] = decision.reason.name().into();
    shown
}

/// What keeps a node's pool. One owner.
pub struct PoolKeeper {
    pool: Option<Pool>,
    view: Arc<PoolView>,
    process: ProcessReader,
    clock: SystemClock,
    look_at: Mono,
}

impl PoolKeeper {
    /// Keeps the pool that `view` shows.
    #[must_use]
    pub fn new(view: Arc<PoolView>, vitals: &Vitals, clock: SystemClock) -> PoolKeeper {
        let process = ProcessReader::new(vitals.data_dir());
        let pool = view.aims.map(Pool::new);
        PoolKeeper { pool, view, process, clock, look_at: Mono(0) }
    }

    /// Takes a reading if it is time; the pool's new size where that changes.
    pub fn look(&mut self, vitals: &Vitals) -> Option<usize> {
        let now = self.clock.now();
        if now.mono < self.look_at {
            return None;
        }
        self.look_at = now.mono + PAUSE_MS;
        let lives = vitals.shards();
        let usage = self.process.read_usage();
        let seen = Seen {
            now: now.mono,
            used: lives.iter().map(|life| life.reading.calls).sum(),
            queued: lives.iter().map(|life| life.reading.slots_missing).sum(),
            cpu_ratio: usage.cpu_ratio,
            memory_ratio: usage.memory_ratio,
        };
        self.view.now().seen = seen;
        let decision = self.pool.as_mut()?.decide(seen)?;
        self.view.remember(now.wall, decision);
        let Decision { from, to, reason, .. } = decision;
        let Seen { used, queued, .. } = seen;
        let (cpu, memory) = (seen.cpu_ratio, seen.memory_ratio);
        let reason = reason.name();
        tracing::info!(target: "pool", reason, from, to, used, queued, cpu, memory, "scaled");
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::Bounds;
    use no_engine::shard::Pulse;
    use no_engine::shard::pulse::Reading;

    const AIMS: Aims = Aims {
        slots_min: 1,
        slots_max: 1_000,
        cpu_ratio: 1.0,
        memory_ratio: 1.0,
        up_cooldown_ms: 0,
        down_cooldown_ms: 0,
    };

    fn keeper(aims: Option<Aims>, reading: impl Fn(&mut Reading)) -> (PoolKeeper, Vitals) {
        let pulse = Arc::new(Pulse::default());
        let mut now = pulse.read();
        reading(&mut now);
        pulse.write(now);
        let clock = SystemClock::start();
        let bounds = Bounds { disk_reserve_bytes: 0, memory_max_bytes: u64::MAX };
        let vitals = Vitals::new(vec![pulse], clock, std::path::Path::new("/"), bounds);
        let view = Arc::new(PoolView::new(aims.map_or(7, |aims| aims.slots_min), aims));
        (PoolKeeper::new(view, &vitals, clock), vitals)
    }

    /// Looks so often, as if a second had passed before each.
    fn look(keeper: &mut PoolKeeper, vitals: &Vitals, times: usize) -> Vec<usize> {
        let looks = (0..times).filter_map(|_| {
            keeper.look_at = Mono(0);
            keeper.look(vitals)
        });
        looks.collect()
    }

    #[test]
    fn a_decision_is_made_of_what_shards_say_and_shown() {
        let busy = |now: &mut Reading| (now.calls, now.slots_missing) = (1, 2);
        let (mut keeper, vitals) = keeper(Some(AIMS), busy);
        assert_eq!(look(&mut keeper, &vitals, 3).len(), 1);
        assert_eq!(keeper.look(&vitals), None, "not before a second has passed");
        let shown = keeper.view.shown();
        let decision = &shown["decisions"][0];
        assert_eq!((&decision["from"], &decision["reason"]), (&json!(1), &json!("busy")));
        assert_eq!(decision["to"], shown["slots"]);
        assert_eq!(shown["seen"]["tasks_without_slot"], 2);
        assert_eq!((&shown["slots_min"], &shown["slots_max"]), (&json!(1), &json!(1_000)));
    }

    #[test]
    fn so_many_decisions_are_kept() {
        let (keeper, _) = keeper(Some(AIMS), |_| {});
        for to in 0..40 {
            let seen = Seen::default();
            let reason = no_engine::control::pool::Reason::Busy;
            let decision = Decision { from: 0, to, reason, seen };
            keeper.view.remember(Millis(0), decision);
        }
        let shown = keeper.view.shown();
        let decisions = shown["decisions"].as_array().expect("a list");
        assert_eq!((decisions.len(), &decisions[0]["to"]), (DECISIONS_MAX, &json!(39)));
    }

    #[test]
    fn without_autoscaling_it_stays() {
        let busy = |now: &mut Reading| (now.calls, now.slots_missing) = (7, 90);
        let (mut keeper, vitals) = keeper(None, busy);
        assert_eq!(look(&mut keeper, &vitals, 40), [] as [usize; 0]);
        let shown = keeper.view.shown();
        assert_eq!((&shown["slots"], &shown["autoscaling"]), (&json!(7), &json!(false)));
        assert_eq!(shown["seen"]["slots_used"], 7);
    }
}
