//! How long a start takes and what it costs in memory: makes parked sleeps through the machine and
//! the embedded store, or loads what stands there.
//!
//! `start make DIR TASKS` leaves a store as a crash does (nothing is finished); `start load DIR`
//! loads it and prints times and resident memory.

use no_engine::agent::definition::{Agent, Budget, Kind};
use no_engine::command::{AnswerWhen, Command};
use no_engine::control::partitions_of;
use no_engine::id::{NetId, ReplyTo, Seq, ShardId, TaskId, Token};
use no_engine::limits::Limits;
use no_engine::machine::{LastStop, Machine};
use no_engine::payload::Payload;
use no_engine::permit::Permits;
use no_engine::port::{Journal as _, Load as _};
use no_engine::task::NewTask;
use no_engine::time::{Millis, Mono, Now};
use no_storage::{OpenOptions, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Now = Now { wall: Millis(1_790_000_000_000), mono: Mono(1) };
const BATCH: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["make", dir, tasks] => make(Path::new(dir), tasks.parse().expect("a number of tasks")),
        ["load", dir] => load(Path::new(dir)),
        _ => eprintln!("usage: start make DIR TASKS | start load DIR"),
    }
}

fn machine() -> Machine {
    let limits = Limits { live_tasks_max: 10_000_000, ..Limits::default() };
    let mut machine = Machine::new(ShardId(0), limits, NOW, 1);
    let sleep = Arc::new(Agent::of_kind(Kind::Sleep));
    machine.know_agent(&"sleep".into(), Some((sleep, false, Arc::new(Permits::new(None)))));
    machine
}

fn make(dir: &Path, tasks: u64) {
    let mut store = Store::open(dir, &OpenOptions::default()).expect("a new store");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let mut machine = machine();
    let mut loader = store.loader(ShardId(0)).expect("a loader");
    let partitions = partitions_of(ShardId(0), store.partitions(), 1);
    machine.load_all(NOW, &partitions, &mut loader, LastStop::Clean).expect("loaded");
    for first in (0..tasks).step_by(BATCH as usize) {
        let tasks = (first..first + BATCH).map(|i| new(i, store.partitions())).collect();
        let reply = ReplyTo { net: NetId(0), token: Token(0) };
        machine.decide(NOW, Command::Submit { reply, tasks, when: AnswerWhen::Durable });
        machine.go_on_all(NOW);
        let (batch, _) = machine.close(Seq(first / BATCH + 1));
        journal.commit(&[batch]).expect("committed");
    }
    println!("{tasks} tasks made; resident {} MiB", resident_mib());
}

fn new(i: u64, partitions: u16) -> NewTask {
    let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let partition = no_engine::id::PartitionId((i % u64::from(partitions)) as u16);
    let input = format!("{{\"ms\":{}}}", 86_400_000 + mixed % 3_600_000);
    NewTask {
        id: TaskId::new(NOW.wall.0 + i / 100, mixed, partition),
        agent: "sleep".into(),
        tenant: "default".into(),
        input: Payload::inline(input.as_bytes()),
        priority: 5,
        fairness_key: None,
        tags: None,
        run_at: None,
        timeout_ms: None,
        deadline: None,
        max_attempts: None,
        budget: Budget::default(),
        key: None,
    }
}

fn load(dir: &Path) {
    let began = Times::now();
    let store = Store::open(dir, &OpenOptions::default()).expect("a store");
    let opened = began.elapsed();
    let mut loader = store.loader(ShardId(0)).expect("a loader");
    let partitions = partitions_of(ShardId(0), store.partitions(), 1);
    let began = Times::now();
    let mut read = 0_u64;
    loader.tasks(&partitions, &mut |task| read += u64::from(task.steps)).expect("read");
    let read_only = began.elapsed();
    let began = Times::now();
    let mut machine = machine();
    machine.load_all(NOW, &partitions, &mut loader, LastStop::Crash).expect("loaded");
    let loaded = began.elapsed();
    drop(loader);
    let tasks: usize =
        partitions.iter().map(|id| machine.partition(*id).expect("loaded").tasks.len()).sum();
    println!(
        "{tasks} tasks; open {opened}; rows alone {read_only} ({read} steps); rows and \
         machine {loaded}; resident {} MiB, at most {} MiB",
        resident_mib(),
        status_mib("VmHWM:"),
    );
}

/// The wall clock and this thread's own time on a core: on a busy machine only that compares.
struct Times {
    wall: Instant,
    core_ns: u64,
}

impl Times {
    fn now() -> Times {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let core_ns = stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        Times { wall: Instant::now(), core_ns }
    }

    fn elapsed(&self) -> String {
        let now = Times::now();
        let core_s = (now.core_ns - self.core_ns) as f64 / 1e9;
        format!("{:.2} s ({core_s:.2} s on the core)", (now.wall - self.wall).as_secs_f64())
    }
}

fn resident_mib() -> u64 {
    status_mib("VmRSS:")
}

fn status_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}
