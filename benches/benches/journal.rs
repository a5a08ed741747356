//! The embedded store: `echo` tasks committed as a shard commits them, in two transactions for each
//! batch (taken in and started; succeeded), by tasks in a batch. Beside it the bare disk, in the
//! same run: the same bytes, written and synced twice as well. The elements are tasks.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use no_benches::disk::Disk;
use no_benches::shard::{Asked, LoneShard};
use no_engine::event::Batch;
use no_engine::id::ShardId;
use no_engine::port::Journal as _;
use no_storage::{OpenOptions, Store};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where `target` is: the disk that is measured.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// The batches that so many `echo` tasks come to: one with their starts, one with their ends.
fn batches(shard: &mut LoneShard, tasks: usize) -> Vec<Batch> {
    let commands = shard.submissions(tasks, Asked::ECHO);
    let mut batches = Vec::new();
    shard.run_with(commands, |batch| batches.push(batch.clone()), drop);
    assert_eq!(batches.len(), 2, "starts and ends");
    batches
}

/// Bytes of what must be kept of a batch at least: its events as JSON, each with its task and
/// number.
fn bytes_of(batch: &Batch) -> usize {
    let of_event = |event: &_| serde_json::to_vec(event).expect("an event is JSON").len();
    batch.records.iter().map(|record| 28 + of_event(&*record.event)).sum()
}

fn store(group: &mut BenchmarkGroup<'_, WallTime>, tasks: usize) {
    let folder = tempfile::tempdir_in(FOLDER).expect("a temporary folder");
    let mut store = Store::open(folder.path(), &OpenOptions::default()).expect("a new store");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let checkpoints = store.checkpoints().expect("a thread");
    let mut shard = LoneShard::new();
    group.bench_function(format!("store/{tasks}"), |bencher| {
        bencher.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                let batches = batches(&mut shard, tasks);
                let start = Instant::now();
                for batch in batches {
                    journal.commit(&[batch]).expect("committed");
                }
                took += start.elapsed();
            }
            took
        });
    });
    drop((journal, checkpoints));
}

fn disk(group: &mut BenchmarkGroup<'_, WallTime>, tasks: usize) {
    let lens: Vec<usize> = batches(&mut LoneShard::new(), tasks).iter().map(bytes_of).collect();
    let mut disk = Disk::new(Path::new(FOLDER)).expect("a file");
    group.bench_function(format!("disk/{tasks}"), |bencher| {
        bencher.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                for len in &lens {
                    took += disk.write(*len).expect("written");
                }
            }
            took
        });
    });
}

fn journals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    group.sample_size(20).warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(3));
    for tasks in [1, 16, 64, 256, 1_024] {
        group.throughput(Throughput::Elements(tasks as u64));
        store(&mut group, tasks);
        disk(&mut group, tasks);
    }
}

criterion_group!(benches, journals);
criterion_main!(benches);
