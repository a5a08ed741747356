//! The pure machine: `echo` tasks from submission to success through a shard's turns, with a
//! journal that is done at once. By tasks in a turn, with many parked tasks beside, with many
//! fairness keys, and one step of a long loop. The elements are events, three a task, and one a
//! step.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use no_benches::shard::{Asked, LoneShard};
use no_engine::command::Report;
use no_engine::payload::Payload;
use std::time::{Duration, Instant};

/// What the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of an `echo` task: submitted, started, succeeded.
const EVENTS_PER_TASK: u64 = 3;
/// Tasks of a full turn.
const FULL: usize = 1_024;
/// Steps that are timed together.
const STEPS: u32 = 16;

/// Fewer parked tasks when the benches are only tried out.
fn parked(count: usize) -> usize {
    if std::env::args().any(|arg| arg == "--test") { count.min(10_000) } else { count }
}

/// How long so many turns' worth of `echo` tasks take.
fn echo(shard: &mut LoneShard, tasks: usize, asked: Asked<'_>, count: u64) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..count {
        let commands = shard.submissions(tasks, asked);
        let start = Instant::now();
        let answers = shard.run(commands);
        took += start.elapsed();
        assert_eq!(answers, tasks);
    }
    took
}

fn by_tasks_in_a_turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn/echo");
    for tasks in [1, 64, FULL] {
        let mut shard = LoneShard::new();
        group.throughput(Throughput::Elements(tasks as u64 * EVENTS_PER_TASK));
        group.bench_function(BenchmarkId::from_parameter(tasks), |bencher| {
            bencher.iter_custom(|count| echo(&mut shard, tasks, Asked::ECHO, count));
        });
    }
}

fn by_parked_tasks_beside(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn/parked_beside");
    for count in [10_000, 1_000_000] {
        let mut shard = LoneShard::new();
        shard.park(parked(count));
        for tasks in [64, FULL] {
            group.throughput(Throughput::Elements(tasks as u64 * EVENTS_PER_TASK));
            group.bench_function(format!("{count}/{tasks}"), |bencher| {
                bencher.iter_custom(|count| echo(&mut shard, tasks, Asked::ECHO, count));
            });
        }
    }
}

fn by_fairness_keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn/fairness_keys");
    for fairness_keys in [1, 10_000] {
        let mut shard = LoneShard::new();
        let asked = Asked { fairness_keys, ..Asked::ECHO };
        group.throughput(Throughput::Elements(FULL as u64 * EVENTS_PER_TASK));
        group.bench_function(BenchmarkId::from_parameter(fairness_keys), |bencher| {
            bencher.iter_custom(|count| echo(&mut shard, FULL, asked, count));
        });
    }
}

/// How long steps after the `number`th of a task take, a new task each time.
fn steps_from(shard: &mut LoneShard, number: u32, count: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = count;
    while 0 < left {
        let holder = shard.leased();
        for step in 1..number {
            let step = shard.step(holder, step);
            shard.take(step);
        }
        let some = left.min(u64::from(STEPS)) as u32;
        let steps: Vec<_> = (0..some).map(|step| shard.step(holder, number + step)).collect();
        let start = Instant::now();
        for step in steps {
            shard.take(step);
        }
        took += start.elapsed();
        left -= u64::from(some);
        let done = shard.report(holder, Report::Complete { output: Payload::null() });
        shard.take(done);
    }
    took
}

fn by_steps_before(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn/step");
    group.throughput(Throughput::Elements(1));
    for number in [10, 3_000] {
        let mut shard = LoneShard::new();
        group.bench_function(BenchmarkId::from_parameter(number), |bencher| {
            bencher.iter_custom(|count| steps_from(&mut shard, number, count));
        });
    }
}

fn short() -> Criterion {
    let time = Duration::from_secs(2);
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(time)
}

criterion_group! {
    name = benches;
    config = short();
    targets = by_tasks_in_a_turn, by_parked_tasks_beside, by_fairness_keys, by_steps_before
}
criterion_main!(benches);
