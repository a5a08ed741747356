//! The ready queue, a task in and a task out, while so many tasks of so many fairness keys stand in
//! it.

use criterion::{Criterion, criterion_group, criterion_main};
use no_engine::id::{PartitionId, TaskId};
use no_engine::limits::AGEING_MS;
use no_engine::queue::{KeyId, LaneId, Ready, ReadyQueue};
use no_engine::time::Millis;
use std::hint::black_box;
use std::time::Duration;

/// Tasks that stand in the queue.
const STANDING: u64 = 100_000;

fn ready(number: u64, keys: u32) -> Ready {
    Ready {
        task: TaskId::new(number, number, PartitionId(0)),
        lane: LaneId(0),
        key: KeyId((number % u64::from(keys)) as u32),
        priority: 5,
        ready_seq: number,
        ready_at: Millis(number),
    }
}

fn queues(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for keys in [1, 10, 10_000] {
        let mut queue = ReadyQueue::new(AGEING_MS);
        let mut number = 0;
        while number < STANDING {
            queue.push(ready(number, keys));
            number += 1;
        }
        group.bench_function(format!("push_and_pop/{keys}_keys"), |bencher| {
            bencher.iter(|| {
                queue.push(ready(number, keys));
                number += 1;
                black_box(queue.pop(|_, _| true))
            });
        });
    }
}

criterion_group!(benches, queues);
criterion_main!(benches);
