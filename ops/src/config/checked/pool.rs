//! What `performance` says of autoscaling and of breakers.

use super::{flag, size, whole};
use crate::config::raw::{Raw, parts};
use no_engine::breaker::BreakerRules;
use no_engine::control::pool::Aims;

/// Slots of the node, and what they are scaled by; `None` where they stay as they are.
pub(super) fn pool(raw: &Raw, shards: u16) -> (usize, Option<Aims>) {
    // No shard is without a slot.
    let slots_max = size(raw, "performance.autoscaling.maxAgents").max(usize::from(shards));
    if !flag(raw, "performance.autoscaling.enabled") {
        return (slots_max, None);
    }
    let slots_min = size(raw, "performance.autoscaling.minAgents");
    let ratio = |path| whole(raw, path) as f64 / 100.0;
    let aims = Aims {
        slots_min: slots_min.max(usize::from(shards)).min(slots_max),
        slots_max,
        cpu_ratio: ratio("performance.autoscaling.targetCpu"),
        memory_ratio: ratio("performance.autoscaling.targetMemory"),
        up_cooldown_ms: whole(raw, "performance.autoscaling.scaleUpCooldown"),
        down_cooldown_ms: whole(raw, "performance.autoscaling.scaleDownCooldown"),
    };
    (aims.slots_min, Some(aims))
}

/// When agents that keep failing are held back, if at all.
pub(super) fn breaker(raw: &Raw) -> Option<BreakerRules> {
    let count = |path| u32::try_from(whole(raw, path)).unwrap_or(u32::MAX);
    flag(raw, "performance.breaker.enabled").then(|| BreakerRules {
        attempts_min: count("performance.breaker.minAttempts"),
        good_percent_min: count("performance.breaker.minSuccess"),
        pause_ms: whole(raw, "performance.breaker.pause"),
        pause_ms_max: whole(raw, "performance.breaker.maxPause"),
    })
}

/// The least is not above the most. Without autoscaling the default of the least binds nobody.
pub(super) fn check_bounds(raw: &mut Raw) {
    let path = parts("performance.autoscaling.minAgents");
    let is_said = raw.said().any(|(said, _)| *said == path);
    let least = size(raw, "performance.autoscaling.minAgents");
    if is_said && size(raw, "performance.autoscaling.maxAgents") < least {
        raw.fault(&path, "must not be above maxAgents", None);
    }
}
