//! The timing wheel with few and many timers in it: set and cancel one, as most timers end, and
//! set one and let it fire.

use criterion::{Criterion, criterion_group, criterion_main};
use no_engine::rng::Rng;
use no_engine::wheel::Wheel;
use std::hint::black_box;
use std::time::Duration;

/// Timers stand within the next hour, in ms.
const SPAN_MS: u64 = 3_600_000;
/// Timers fired by one call, at most: as a turn has it.
const FIRED_MAX: usize = 1_024;

/// A wheel with so many timers of loops that sleep for an hour or less, and a generator of times.
fn wheel(timers: u64) -> (Wheel<u64>, Rng) {
    let (mut wheel, mut rng) = (Wheel::new(0), Rng::new(1));
    for timer in 0..timers {
        wheel.insert(SPAN_MS + rng.up_to(SPAN_MS), timer);
    }
    (wheel, rng)
}

fn wheels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for timers in [1_000, 1_000_000] {
        let (mut filled, mut rng) = wheel(timers);
        group.bench_function(format!("set_and_cancel/{timers}"), |bencher| {
            bencher.iter(|| {
                let id = filled.insert(rng.up_to(SPAN_MS), 0);
                black_box(filled.cancel(id))
            });
        });
        let (mut filled, mut rng) = wheel(timers);
        let (mut now_ms, mut fired) = (0, Vec::new());
        group.bench_function(format!("set_and_fire/{timers}"), |bencher| {
            bencher.iter(|| {
                filled.insert(now_ms + 1 + rng.up_to(60), 0);
                now_ms += 1;
                fired.clear();
                black_box(filled.advance(now_ms, FIRED_MAX, &mut fired))
            });
        });
    }
}

criterion_group!(benches, wheels);
criterion_main!(benches);
