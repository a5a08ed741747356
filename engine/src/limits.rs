//! Every bound in nO. Being full is a normal answer, so each queue, loop and payload has a number
//! here.
//!
//! Constants are hard; what an operator may configure is [`Limits`], whose defaults are the
//! constants'.

use crate::breaker::BreakerRules;

/// Largest payload that travels inside events and rows, in bytes; larger ones are stored by hash.
pub const PAYLOAD_INLINE_BYTES_MAX: usize = 16 * 1024;
/// Largest input of a task, in bytes (default).
pub const INPUT_BYTES_MAX: usize = 1024 * 1024;
/// Largest output of a task or a step, in bytes (default).
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Partitions of a new store (default) and at most.
pub const PARTITIONS: u16 = 64;
/// Most partitions a store may have.
pub const PARTITIONS_MAX: u16 = 4096;
/// Most shards on a node.
pub const SHARDS_MAX: u16 = 256;
/// Live tasks of one shard (default).
pub const LIVE_TASKS_MAX: usize = 1_000_000;
/// Bytes of payload that one shard keeps in memory (default).
pub const LIVE_BYTES_MAX: usize = 1 << 30;
/// Idempotency keys that one shard remembers.
pub const KEYS_MAX: usize = 2_000_000;
/// Tasks in one batch submission.
pub const BATCH_TASKS_MAX: usize = 1_000;
/// Priorities: 0 to this.
pub const PRIORITY_MAX: u8 = 9;
/// That of a task which names none.
pub const PRIORITY_DEFAULT: u8 = 5;
/// Tags of one task.
pub const TAGS_MAX: usize = 16;
/// Longest tag, fairness key, agent or tenant name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// Agents of a node.
pub const AGENTS_MAX: usize = 1_000;
/// Tools of one agent.
pub const TOOLS_MAX: usize = 128;
/// Most attempts that may be asked for.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Tool calls that one model answer may ask for.
pub const TOOL_CALLS_MAX: usize = 64;
/// Tool calls of one loop under way at once.
pub const TOOL_CALLS_PARALLEL_MAX: usize = 8;
/// Longest arguments of one tool call, in bytes.
pub const TOOL_ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// Iterations of a loop without a budget of its own.
pub const ITERATIONS_DEFAULT: u32 = 50;
/// Most iterations a budget may allow.
pub const ITERATIONS_MAX: u32 = 100_000;
/// The same tool call with the same arguments this often ends the attempt as `loop_detected`.
pub const LOOP_REPEATS_MAX: u32 = 5;
/// Tool calls that the loop detector looks back at.
pub const LOOP_WINDOW: usize = 32;
/// Answers in a row with neither text nor tool call before `loop_detected`.
pub const LOOP_EMPTY_MAX: u32 = 2;
/// Events of one task's history.
pub const HISTORY_EVENTS_MAX: u32 = 50_000;
/// Bytes of one task's history.
pub const HISTORY_BYTES_MAX: u64 = 50 * 1024 * 1024;
/// A history that grew to this part of either bound is warned of: one of so many.
pub const HISTORY_WARNED_AT: u32 = 5;
/// Long polls and event streams waiting on one task.
pub const WATCHERS_PER_TASK_MAX: usize = 64;
/// Long polls and event streams of one shard.
pub const WATCHERS_MAX: usize = 100_000;
/// Long polls for leases on one shard.
pub const LEASE_WAITERS_MAX: usize = 10_000;
/// Leases granted by one call.
pub const LEASES_PER_CALL_MAX: usize = 100;
/// Shortest and longest lease, in ms.
pub const LEASE_MS_MIN: u64 = 100;
/// Longest lease, in ms.
pub const LEASE_MS_MAX: u64 = 3_600_000;
/// Default lease, in ms.
pub const LEASE_MS: u64 = 30_000;
/// Longest long poll, in ms.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Longest timer or delay, in ms: ten years.
pub const TIMER_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;
/// One attempt's time-out when none is given, in ms.
pub const TIMEOUT_MS: u64 = 300_000;
/// A key is kept this long after its task ended, in ms.
pub const KEY_KEPT_MS: u64 = 24 * 3_600_000;
/// Finished tasks are kept this long (default), in ms.
pub const RETENTION_MS: u64 = 7 * 24 * 3_600_000;
/// A waiting task's priority rises by one each time this passes, in ms.
pub const AGEING_MS: u64 = 30_000;
/// From a task's first start to its end, this long is in time (default), in ms.
pub const LATENCY_OBJECTIVE_MS: u64 = 30_000;
/// Crashes of the process in a row that make a running task `poison`.
pub const CRASHES_MAX: u32 = 3;
/// Commands drained in one turn.
pub const TURN_COMMANDS_MAX: usize = 1_024;
/// Timers fired in one turn.
pub const TURN_TIMERS_MAX: usize = 1_024;
/// Tasks started in one turn.
pub const TURN_STARTS_MAX: usize = 1_024;
/// Dead letters sent round again in one turn.
pub const TURN_REDRIVES_MAX: usize = 256;
/// Events in one batch before the turn stops deciding.
pub const BATCH_EVENTS_MAX: usize = 16_384;
/// Batches under way between a shard and its journal.
pub const BATCHES_IN_FLIGHT_MAX: usize = 64;
/// Released effects that may wait for room in a ring before the turn stops draining.
pub const EFFECTS_WAITING_MAX: usize = 65_536;
/// Places in a ring between a net core and a shard.
pub const RING_LEN: usize = 4_096;
/// Places in the reserved ring for ops, heartbeats and completions.
pub const RING_RESERVED_LEN: usize = 1_024;
/// Slots for running work on a node (default).
pub const SLOTS: usize = 50;
/// Most slots on a node.
pub const SLOTS_MAX: usize = 100_000;
/// Page of a list, at most.
pub const LIST_LEN_MAX: usize = 500;
/// Rows that one list call looks at before it answers with what it has.
pub const LIST_ROWS_SCANNED_MAX: usize = 50_000;

const _: () = {
    assert!(PAYLOAD_INLINE_BYTES_MAX < INPUT_BYTES_MAX);
    assert!(INPUT_BYTES_MAX <= OUTPUT_BYTES_MAX);
    assert!(OUTPUT_BYTES_MAX < u32::MAX as usize);
    assert!(PARTITIONS <= PARTITIONS_MAX);
    assert!(TOOL_CALLS_PARALLEL_MAX <= TOOL_CALLS_MAX);
    assert!(TURN_COMMANDS_MAX <= RING_LEN);
    assert!(TURN_COMMANDS_MAX < BATCH_EVENTS_MAX);
    assert!(LEASE_MS_MIN < LEASE_MS && LEASE_MS < LEASE_MS_MAX);
};

/// The bounds that a configuration may set, per shard unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live (not ended) tasks and dead letters.
    pub live_tasks_max: usize,
    /// Bytes of payload in memory.
    pub live_bytes_max: usize,
    /// Idempotency keys.
    pub keys_max: usize,
    /// Slots of this shard.
    pub slots: usize,
    /// How long a key is kept after its task ended, in ms.
    pub key_kept_ms: u64,
    /// How long dead letters are kept, in ms.
    pub retention_ms: u64,
    /// Waiting that raises a priority by one, in ms.
    pub ageing_ms: u64,
    /// From a task's first start to its end, this long is in time, in ms.
    pub latency_objective_ms: u64,
    /// When an agent whose attempts keep failing is held back; `None`: never.
    pub breaker: Option<BreakerRules>,
    /// Commands in one turn.
    pub turn_commands_max: usize,
    /// Batches between shard and journal.
    pub batches_in_flight_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            live_tasks_max: LIVE_TASKS_MAX,
            live_bytes_max: LIVE_BYTES_MAX,
            keys_max: KEYS_MAX,
            slots: SLOTS,
            key_kept_ms: KEY_KEPT_MS,
            retention_ms: RETENTION_MS,
            ageing_ms: AGEING_MS,
            latency_objective_ms: LATENCY_OBJECTIVE_MS,
            breaker: Some(BreakerRules::default()),
            turn_commands_max: TURN_COMMANDS_MAX,
            batches_in_flight_max: BATCHES_IN_FLIGHT_MAX,
        }
    }
}
