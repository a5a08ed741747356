//! What `performance.autoscaling` says.

use super::{flag, size, whole};
use crate::config::raw::{Raw, parts};
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

/// The least is not above the most. Without autoscaling the default of the least binds nobody.
pub(super) fn check_bounds(raw: &mut Raw) {
    let path = parts("performance.autoscaling.minAgents");
    let is_said = raw.said().any(|(said, _)| *said == path);
    let least = size(raw, "performance.autoscaling.minAgents");
    if is_said && size(raw, "performance.autoscaling.maxAgents") < least {
        raw.fault(&path, "must not be above maxAgents", None);
    }
}
