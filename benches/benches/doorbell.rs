//! What it costs to wake somebody: a ring at an open door, a ring that wakes a sleeper by the
//! eventfd that shards use, and a message there and back between two that sleep, or spin for a
//! while before they do.

use criterion::{Criterion, criterion_group, criterion_main};
use no_benches::cores;
use no_engine::doorbell::{Sleeper, doorbell};
use no_engine::port::Wake;
use no_engine::ring::{Receiver, Sender, ring};
use no_ops::cores::Eventfd;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How one side waits for its ring.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// Spins so long in µs, then sleeps on an eventfd, as a shard does.
    Eventfd { spin_us: u64 },
    /// Likewise, on the standard library's parking.
    Park { spin_us: u64 },
}

/// What a thread sleeps on.
enum Bed {
    Eventfd(Eventfd),
    Park(Arc<Parked>),
}

/// Wakes a thread that names itself once it runs.
#[derive(Default)]
struct Parked(std::sync::OnceLock<Thread>);

impl Wake for Parked {
    fn wake(&self) {
        self.0.get().expect("a sleeper has run").unpark();
    }
}

/// Wakes by what several share.
struct Shared(Arc<Parked>);

impl Wake for Shared {
    fn wake(&self) {
        self.0.wake();
    }
}

/// The receiving side of a link.
struct Door {
    receiver: Receiver<u64>,
    sleeper: Sleeper,
    bed: Bed,
    spin: Duration,
}

fn link(waiting: Waiting) -> (Sender<u64>, Door) {
    let (bell, sleeper, bed, spin_us) = match waiting {
        Waiting::Eventfd { spin_us } => {
            let eventfd = Eventfd::new().expect("a descriptor is free");
            let (bell, sleeper) = doorbell(Box::new(eventfd.clone()));
            (bell, sleeper, Bed::Eventfd(eventfd), spin_us)
        }
        Waiting::Park { spin_us } => {
            let parked = Arc::new(Parked::default());
            let (bell, sleeper) = doorbell(Box::new(Shared(Arc::clone(&parked))));
            (bell, sleeper, Bed::Park(parked), spin_us)
        }
    };
    let (sender, receiver) = ring(64, bell);
    (sender, Door { receiver, sleeper, bed, spin: Duration::from_micros(spin_us) })
}

impl Door {
    /// The next message, however long it takes.
    fn wait(&mut self) -> u64 {
        if let Bed::Park(parked) = &self.bed {
            parked.0.get_or_init(std::thread::current);
        }
        loop {
            let start = Instant::now();
            loop {
                if let Some(message) = self.receiver.try_recv() {
                    return message;
                }
                if self.spin <= start.elapsed() {
                    break;
                }
                spin_loop();
            }
            let is_idle = || self.receiver.is_empty();
            match &self.bed {
                Bed::Eventfd(eventfd) => self.sleeper.park(is_idle, || eventfd.block(None)),
                Bed::Park(_) => self.sleeper.park(is_idle, std::thread::park),
            }
        }
    }
}

fn round_trip(waiting: Waiting, count: u64) -> Duration {
    let (mut there, mut their_door) = link(waiting);
    let (mut back, mut door) = link(waiting);
    let cores = cores::available();
    let theirs = cores.clone();
    let echo = std::thread::spawn(move || {
        cores::pin(&theirs, 1);
        for _ in 0..count {
            let message = their_door.wait();
            back.try_send(message).expect("one message finds room");
        }
    });
    cores::pin(&cores, 0);
    let start = Instant::now();
    for number in 0..count {
        there.try_send(number).expect("one message finds room");
        assert_eq!(door.wait(), number);
    }
    let took = start.elapsed();
    echo.join().expect("it echoes all");
    took
}

/// What the sender alone pays to wake a sleeper.
fn ring_asleep(count: u64) -> Duration {
    let (mut sender, mut door) = link(Waiting::Eventfd { spin_us: 0 });
    let cores = cores::available();
    let theirs = cores.clone();
    let seen = Arc::new(AtomicU64::new(0));
    let their_seen = Arc::clone(&seen);
    let sleeper = std::thread::spawn(move || {
        cores::pin(&theirs, 1);
        for _ in 0..count {
            door.wait();
            their_seen.fetch_add(1, Ordering::Release);
        }
    });
    cores::pin(&cores, 0);
    let mut took = Duration::ZERO;
    for number in 0..count {
        // Once it has the last message it sleeps within a few µs.
        while seen.load(Ordering::Acquire) < number {
            spin_loop();
        }
        let since = Instant::now();
        while since.elapsed() < Duration::from_micros(50) {
            spin_loop();
        }
        let start = Instant::now();
        sender.try_send(number).expect("one message finds room");
        took += start.elapsed();
    }
    sleeper.join().expect("it hears all");
    took
}

fn bells(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("doorbell");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    let (bell, _sleeper) = doorbell(Box::new(Eventfd::new().expect("a descriptor is free")));
    group.bench_function("ring_awake", |bencher| bencher.iter(|| black_box(&bell).ring()));
    group.bench_function("ring_asleep", |bencher| bencher.iter_custom(ring_asleep));
    for (name, waiting) in [
        ("eventfd", Waiting::Eventfd { spin_us: 0 }),
        ("eventfd_spin_20us", Waiting::Eventfd { spin_us: 20 }),
        ("eventfd_spin_100us", Waiting::Eventfd { spin_us: 100 }),
        ("park", Waiting::Park { spin_us: 0 }),
        ("park_spin_20us", Waiting::Park { spin_us: 20 }),
    ] {
        group.bench_function(format!("round_trip/{name}"), |bencher| {
            bencher.iter_custom(|count| round_trip(waiting, count));
        });
    }
}

criterion_group!(benches, bells);
criterion_main!(benches);
