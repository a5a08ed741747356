//! The families about whether the node lives and takes work: what alerts rest on beside rates.

use super::{Family, counter, gauge, inputs::Snapshot};
use no_engine::time::Millis;

/// A node's signs of life at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// The moment, by the wall clock.
    pub now: Millis,
    /// Whether it takes work.
    pub is_ready: bool,
    /// How long ago each shard gave a sign of life, in ms, in the order of the shards.
    pub beat_age_ms: Vec<u64>,
    /// Each check, and whether it finds something wrong.
    pub checks: Vec<(&'static str, bool)>,
    /// The last second of the certificate that is served, since 1970.
    pub certificate_ends_at_s: Option<i64>,
}

pub(super) const READY: Family =
    gauge("no_node_ready", &[], "1 when the node takes work.", |now, out| {
        out.count(&[], u64::from(now.life.is_ready));
    });

pub(super) const CHECKS: Family = gauge(
    "no_health_check_failing",
    &["check"],
    "1 when a check finds something wrong.",
    |now, out| {
        for (check, is_failing) in &now.life.checks {
            out.count(&[check], u64::from(*is_failing));
        }
    },
);

pub(super) const HEARTBEAT: Family = gauge(
    "no_shard_heartbeat_age_seconds",
    &["shard"],
    "Since a shard's last sign of life.",
    |now, out| {
        for (shard, age_ms) in now.life.beat_age_ms.iter().enumerate() {
            out.value(&[&shard.to_string()], *age_ms as f64 / 1e3);
        }
    },
);

pub(super) const QUEUE_AGE: Family = gauge(
    "no_task_queue_age_seconds",
    &["shard"],
    "How long the longest waiting task has been ready to start; 0 when none waits.",
    |now, out| {
        for stats in &now.shards {
            let age_ms = stats.waiting_since.map_or(0, |since| age_ms(now, since));
            out.value(&[&stats.shard.0.to_string()], age_ms as f64 / 1e3);
        }
    },
);

pub(super) const CERTIFICATE: Family = gauge(
    "no_tls_certificate_expiry_seconds",
    &[],
    "When the certificate that is served ends, since 1970; absent without TLS.",
    |now, out| now.life.certificate_ends_at_s.iter().for_each(|at| out.value(&[], *at as f64)),
);

pub(super) const SPANS: Family = counter(
    "no_spans_total",
    &["outcome"],
    "Spans of traces: exported, dropped as the queue was full, failed to be sent.",
    |now, out| {
        for (outcome, count) in now.spans {
            out.count(&[outcome], count);
        }
    },
);

/// A clock that was set back makes nothing older.
fn age_ms(now: &Snapshot, since: Millis) -> u64 {
    now.life.now.0.saturating_sub(since.0)
}
