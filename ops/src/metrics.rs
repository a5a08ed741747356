//! Every metric, once: name, type, labels, meaning, and where its samples come from.
//!
//! The net cores and shards count by themselves; a scrape gathers their figures into a [`Snapshot`]
//! and `exposition` writes it. Labels are bounded: shard, agent, route, model, never a task, a
//! principal or a tenant. All families are there from the start, so that a dashboard or an alert
//! never meets a name that does not exist yet.

mod cluster;
mod cost;
mod inputs;
mod life;
mod security;
mod tally;
#[cfg(test)]
mod tests;

pub use cost::CostCounts;
pub use inputs::{HttpSeries, HttpStats, Snapshot};
pub use life::Life;
pub use security::{AuditLines, AuthCounts};
pub use tally::AuthTally;

use crate::exposition::{Distribution, Samples};
use no_engine::stats::{AgentStats, CallStats, Latency};
use no_engine::task::{STATES, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A metric's type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values by bucket.
    Histogram,
    /// A sum and a count.
    Summary,
    /// Always 1, tells by its labels.
    Info,
}

/// One metric family.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its labels, in the order in which readers give them.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// Writes its samples.
    pub read: fn(&Snapshot, &mut Samples),
}

/// Bounds for latencies that people or clients feel, in s.
pub const LATENCY_S: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0, 3_600.0,
];
/// Bounds for what happens inside, in s.
pub const INSIDE_S: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 1.0, 10.0,
];
/// Bounds for sizes of batches.
pub const BATCH_LEN: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

type Read = fn(&Snapshot, &mut Samples);
type Labels = &'static [&'static str];

const fn counter(name: &'static str, labels: Labels, help: &'static str, read: Read) -> Family {
    Family { name, kind: Type::Counter, labels, help, read }
}

const fn gauge(name: &'static str, labels: Labels, help: &'static str, read: Read) -> Family {
    Family { name, kind: Type::Gauge, labels, help, read }
}

const fn histogram(name: &'static str, labels: Labels, help: &'static str, read: Read) -> Family {
    Family { name, kind: Type::Histogram, labels, help, read }
}

/// All families.
pub const FAMILIES: &[Family] = &[
    life::READY,
    life::CHECKS,
    life::CERTIFICATE,
    counter(
        "no_http_requests_total",
        &["method", "route", "status"],
        "HTTP requests answered.",
        |now, out| {
            for series in &now.http.series {
                for (status, count) in &series.by_status {
                    out.count(&[&series.method, &series.route, &status_name(*status)], *count);
                }
            }
        },
    ),
    histogram(
        "no_http_request_duration_seconds",
        &["method", "route"],
        "From the head of a request to its answer, of those that do not ask to wait (wait_ms).",
        |now, out| {
            for series in &now.http.series {
                out.distribution(&[&series.method, &series.route], &series.duration);
            }
        },
    ),
    gauge("no_http_requests_in_flight", &[], "HTTP requests under way.", |now, out| {
        out.count(&[], now.http.in_flight);
    }),
    gauge("no_http_connections", &[], "Open HTTP connections.", |now, out| {
        out.count(&[], now.http.connections);
    }),
    counter(
        "no_http_connections_refused_total",
        &[],
        "HTTP connections refused because there were too many.",
        |now, out| out.count(&[], now.http.connections_refused),
    ),
    counter(
        "no_admission_refused_total",
        &["reason"],
        "New work refused before anything was done for it.",
        |now, out| {
            for (why, count) in no_net::admit::REFUSED.into_iter().zip(now.http.refused) {
                out.count(&[why.name()], count);
            }
        },
    ),
    gauge(
        "no_admission_wait_seconds",
        &[],
        "How long the last submission was foretold to wait for its shard.",
        |now, out| out.value(&[], now.http.foretold_us as f64 / 1e6),
    ),
    gauge("no_agent_pool_size", &[], "Slots for running work.", |now, out| {
        out.count(&[], slots(now));
    }),
    gauge("no_agent_pool_active", &["agent"], "Slots in use.", |now, out| {
        each_agent(now, |agent, stats| out.count(&[agent], stats.active));
    }),
    gauge("no_agent_pool_idle", &[], "Free slots.", |now, out| {
        let active: u64 = now.shards.iter().map(|shard| shard.slots_active).sum();
        out.count(&[], slots(now).saturating_sub(active));
    }),
    gauge("no_agent_pool_failed", &["agent"], "Dead letters kept for inspection.", |now, out| {
        each_agent(now, |agent, stats| out.count(&[agent], stats.live_in(State::Failed)));
    }),
    gauge(
        "no_agent_pool_healthy_ratio",
        &[],
        "Share of the slots whose shard can acknowledge work.",
        |now, out| {
            let healthy = now.shards.iter().filter(|shard| !shard.is_halted);
            let healthy: u64 = healthy.map(|shard| shard.slots).sum();
            out.value(&[], ratio(healthy as f64, slots(now) as f64, 1.0));
        },
    ),
    histogram(
        "no_loop_iteration_duration_seconds",
        &["shard"],
        "One turn of a shard's master loop, drain to act.",
        |now, out| each_shard_hdr(now, out, |shard| &shard.turn_us),
    ),
    life::QUEUE_AGE,
    gauge("no_task_queue_depth", &["agent", "state"], "Tasks that wait to start.", |now, out| {
        each_agent(now, |agent, stats| {
            for state in [State::Scheduled, State::Queued] {
                out.count(&[agent, state.name()], stats.live_in(state));
            }
        });
    }),
    gauge("no_tasks_live", &["agent", "state"], "Tasks in memory by state.", |now, out| {
        each_agent(now, |agent, stats| {
            for state in STATES.into_iter().filter(|s| !s.is_ended() || *s == State::Failed) {
                out.count(&[agent, state.name()], stats.live_in(state));
            }
        });
    }),
    counter("no_tasks_total", &["agent", "state"], "Tasks ended.", |now, out| {
        each_agent(now, |agent, stats| {
            for state in STATES.into_iter().filter(|state| state.is_ended()) {
                out.count(&[agent, state.name()], stats.ended[state as usize]);
            }
        });
    }),
    histogram(
        "no_task_duration_seconds",
        &["agent"],
        "From a task's submission to its end.",
        |now, out| each_agent_hdr(now, out, |stats| &stats.duration_us),
    ),
    histogram(
        "no_task_queue_wait_seconds",
        &["agent"],
        "From a task's being ready to its start.",
        |now, out| each_agent_hdr(now, out, |stats| &stats.queue_wait_us),
    ),
    counter("no_commands_refused_total", &["reason"], "Commands refused.", |now, out| {
        let mut all = BTreeMap::<&str, u64>::new();
        for (reason, count) in now.shards.iter().flat_map(|shard| &shard.refused) {
            *all.entry(reason).or_default() += count;
        }
        all.into_iter().for_each(|(reason, count)| out.count(&[reason], count));
    }),
    counter("no_stale_reports_total", &["shard"], "Reports with a stale fence.", |now, out| {
        each_shard(now, |shard, stats| out.count(&[shard], stats.stale));
    }),
    counter(
        "no_task_history_warnings_total",
        &["shard"],
        "Tasks whose history grew to a fifth of its bound.",
        |now, out| each_shard(now, |shard, stats| out.count(&[shard], stats.long_histories)),
    ),
    gauge("no_shard_payload_bytes", &["shard"], "Payload in a shard's memory.", |now, out| {
        each_shard(now, |shard, stats| out.count(&[shard], stats.live_bytes));
    }),
    gauge("no_shard_keys", &["shard"], "Idempotency keys in a shard's memory.", |now, out| {
        each_shard(now, |shard, stats| out.count(&[shard], stats.keys));
    }),
    gauge("no_shard_keys_max", &["shard"], "Keys that a shard may remember.", |now, out| {
        each_shard(now, |shard, stats| out.count(&[shard], stats.keys_max));
    }),
    life::HEARTBEAT,
    gauge("no_shard_halted", &["shard"], "1 when the shard's journal failed.", |now, out| {
        each_shard(now, |shard, stats| out.count(&[shard], u64::from(stats.is_halted)));
    }),
    gauge("no_cache_hit_ratio", &["layer"], "Hits among all requests of a layer.", |_, out| {
        CACHE_LAYERS.iter().for_each(|layer| out.value(&[layer], 0.0));
    }),
    counter("no_cache_requests_total", &["layer", "result"], "Cache requests.", |_, out| {
        for layer in CACHE_LAYERS {
            ["hit", "miss"].iter().for_each(|result| out.count(&[layer, result], 0));
        }
    }),
    gauge(
        "no_agent_performance_score",
        &["agent"],
        "0 to 1: success rate times share of tasks within the latency objective, last 5 minutes.",
        |now, out| {
            each_agent(now, |agent, stats| {
                stats.recent.score().iter().for_each(|score| out.value(&[agent], *score));
            });
        },
    ),
    gauge(
        "no_agent_breaker_open",
        &["agent"],
        "1 while an agent's starts are held back, as its attempts keep failing.",
        |now, out| {
            each_agent(now, |agent, stats| out.count(&[agent], u64::from(stats.is_held_back)));
        },
    ),
    gauge(
        "no_loop_efficiency_ratio",
        &["shard"],
        "Time deciding and acting, of the time awake.",
        |now, out| {
            each_shard(now, |shard, stats| {
                out.value(&[shard], ratio(stats.busy_us as f64, stats.awake_us as f64, 1.0));
            });
        },
    ),
    gauge(
        "no_customer_satisfaction_index",
        &["agent"],
        "0 to 1: mean feedback of the last 24 hours.",
        |now, out| {
            each_agent(now, |agent, stats| {
                if let Some(index) = stats.feedback.index() {
                    out.value(&[agent], index);
                }
            });
        },
    ),
    security::AUTH_ATTEMPTS,
    security::AUTH_FAILURES,
    security::TOKEN_VALIDATIONS,
    security::RBAC_DECISIONS,
    security::RBAC_DENIALS,
    security::VIOLATIONS,
    security::SUSPICIOUS,
    security::RATE_LIMITED,
    security::AUDIT_LINES,
    security::AUDIT_SUPPRESSED,
    security::AUDIT_ERRORS,
    security::REDIS_REQUESTS,
    security::REDIS_BREAKER,
    cluster::NODES,
    cluster::PARTITIONS,
    cluster::LEASE,
    cluster::MOVES,
    cluster::FORWARDED,
    histogram(
        "no_journal_commit_duration_seconds",
        &["shard"],
        "From a batch's being sent to its being durable.",
        |now, out| each_shard_hdr(now, out, |shard| &shard.commit_us),
    ),
    histogram("no_journal_batch_records", &["shard"], "Events in a batch.", |now, out| {
        each_shard(now, |shard, stats| {
            out.distribution(&[shard], &Distribution::of_hdr(&stats.batch_records, 1.0, BATCH_LEN));
        });
    }),
    counter("no_journal_bytes_total", &["shard"], "Bytes written to the journal.", |now, out| {
        for (shard, store) in now.store.iter().enumerate() {
            out.count(&[&shard.to_string()], store.written_bytes);
        }
    }),
    gauge("no_index_behind_bytes", &["shard"], "Durable, not yet in the index.", |now, out| {
        for (shard, store) in now.store.iter().enumerate() {
            out.count(&[&shard.to_string()], store.behind_bytes);
        }
    }),
    counter("no_journal_errors_total", &["shard"], "Commits that failed.", |now, out| {
        each_shard(now, |shard, stats| out.count(&[shard], stats.journal_errors));
    }),
    life::SPANS,
    gauge("no_ring_depth", &["shard", "ring"], "Items waiting in a ring.", |now, out| {
        for stats in &now.shards {
            let shard = stats.shard.0.to_string();
            stats.ring_depth.iter().for_each(|(ring, depth)| out.count(&[&shard, ring], *depth));
        }
    }),
    counter(
        "no_ring_full_total",
        &["shard", "ring"],
        "Sends that found a ring full.",
        |now, out| {
            for stats in &now.shards {
                let shard = stats.shard.0.to_string();
                stats.ring_full.iter().for_each(|(ring, count)| out.count(&[&shard, ring], *count));
            }
        },
    ),
    counter("no_model_calls_total", &["model", "outcome"], "Model calls ended.", |now, out| {
        each_call(now.models(), |model, calls| {
            out.count(&[model, "ok"], calls.ok);
            out.count(&[model, "failed"], calls.failed);
        });
    }),
    counter("no_model_tokens_total", &["model", "direction"], "Tokens used.", |now, out| {
        each_call(now.models(), |model, calls| {
            out.count(&[model, "input"], calls.input_tokens);
            out.count(&[model, "output"], calls.output_tokens);
        });
    }),
    counter("no_model_cost_usd_total", &["model"], "Cost in US dollars.", |now, out| {
        each_call(now.models(), |model, calls| {
            out.value(&[model], calls.cost_micro_usd as f64 / 1e6);
        });
    }),
    histogram(
        "no_model_call_duration_seconds",
        &["model"],
        "From a model call's being ordered to its answer.",
        |now, out| {
            each_call(now.models(), |model, calls| {
                let values = Distribution::of_hdr(&calls.duration_us, 1e-6, LATENCY_S);
                out.distribution(&[model], &values);
            });
        },
    ),
    counter("no_tool_calls_total", &["tool", "outcome"], "Tool calls ended.", |now, out| {
        each_call(now.tools(), |tool, calls| {
            out.count(&[tool, "ok"], calls.ok);
            out.count(&[tool, "failed"], calls.failed);
        });
    }),
    Family {
        name: "no_task_cost_seconds",
        kind: Type::Summary,
        labels: &["layer"],
        help: "Work by layer, of all tasks accepted: sum by count is the cost of a task. The wall \
               clock's time at work; waiting is not in it.",
        read: |now, out| {
            for (layer, seconds) in cost::by_layer(now) {
                out.summary(&[layer], seconds, now.cost.tasks);
            }
        },
    },
    counter("no_thread_cpu_seconds_total", &["thread"], "CPU time by thread.", |now, out| {
        for (thread, seconds) in &now.process.thread_cpu_seconds {
            out.value(&[thread], *seconds);
        }
    }),
    gauge("no_cpu_usage_ratio", &[], "CPU used, of what we may.", |now, out| {
        out.value(&[], now.process.cpu_ratio.unwrap_or(0.0));
    }),
    gauge("no_memory_usage_ratio", &[], "Memory used, of what we may.", |now, out| {
        out.value(&[], now.process.memory_ratio.unwrap_or(0.0));
    }),
    gauge("no_disk_usage_ratio", &[], "Used part of the data folder's disk.", |now, out| {
        out.value(&[], now.process.disk_ratio.unwrap_or(0.0));
    }),
    gauge("no_disk_free_bytes", &[], "Free bytes of the data folder's disk.", |now, out| {
        now.process.disk_free_bytes.iter().for_each(|bytes| out.count(&[], *bytes));
    }),
    gauge("no_db_pool_connections", &["state"], "Connections to the database.", |_, out| {
        ["active", "idle"].iter().for_each(|state| out.count(&[state], 0));
    }),
    counter("process_cpu_seconds_total", &[], "CPU time used.", |now, out| {
        now.process.cpu_seconds.iter().for_each(|seconds| out.value(&[], *seconds));
    }),
    gauge("process_resident_memory_bytes", &[], "Resident memory.", |now, out| {
        now.process.resident_bytes.iter().for_each(|bytes| out.count(&[], *bytes));
    }),
    gauge("process_open_fds", &[], "Open files.", |now, out| {
        now.process.open_fds.iter().for_each(|count| out.count(&[], *count));
    }),
    gauge("process_start_time_seconds", &[], "Start, since 1970.", |now, out| {
        now.process.start_time_seconds.iter().for_each(|at| out.value(&[], *at));
    }),
    Family {
        name: "no_build_info",
        kind: Type::Info,
        labels: &["version"],
        help: "The version that runs.",
        read: |_, out| out.value(&[env!("CARGO_PKG_VERSION")], 1.0),
    },
];

const CACHE_LAYERS: [&str; 2] = ["memory", "redis"];

fn status_name(status: u16) -> String {
    if status == 0 { "other".to_owned() } else { status.to_string() }
}

fn slots(now: &Snapshot) -> u64 {
    now.shards.iter().map(|shard| shard.slots).sum()
}

fn ratio(part: f64, whole: f64, of_nothing: f64) -> f64 {
    if 0.0 < whole { part / whole } else { of_nothing }
}

fn each_shard(now: &Snapshot, mut show: impl FnMut(&str, &no_engine::stats::ShardStats)) {
    for stats in &now.shards {
        show(&stats.shard.0.to_string(), stats);
    }
}

fn each_shard_hdr(
    now: &Snapshot,
    out: &mut Samples,
    of: impl Fn(&no_engine::stats::ShardStats) -> &Latency,
) {
    each_shard(now, |shard, stats| {
        out.distribution(&[shard], &Distribution::of_hdr(of(stats), 1e-6, INSIDE_S));
    });
}

fn each_agent(now: &Snapshot, mut show: impl FnMut(&str, &AgentStats)) {
    now.agents().iter().for_each(|(agent, stats)| show(agent, stats));
}

fn each_agent_hdr(now: &Snapshot, out: &mut Samples, of: impl Fn(&AgentStats) -> &Latency) {
    each_agent(now, |agent, stats| {
        out.distribution(&[agent], &Distribution::of_hdr(of(stats), 1e-6, LATENCY_S));
    });
}

fn each_call(calls: &BTreeMap<Arc<str>, CallStats>, mut show: impl FnMut(&str, &CallStats)) {
    calls.iter().for_each(|(name, stats)| show(name, stats));
}
