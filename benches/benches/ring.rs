//! 64 B messages from one core to another: our ring with its doorbell against the bare rtrb under
//! it and what else there is. Throughput of a one-way stream, and one message there and back.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use no_benches::cores;
use no_benches::shard::bell_of_nobody;
use std::hint::spin_loop;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As long as a cache line.
type Message = [u64; 8];

/// Places of each ring: what a net core and a shard have.
const LEN: usize = 4_096;

/// Both ends of something between two threads; the other end may spin.
type Ends<S, R> = (S, R);

fn rtrb() -> Ends<impl FnMut(Message) -> bool + Send, impl FnMut() -> Option<Message> + Send> {
    let (mut producer, mut consumer) = ::rtrb::RingBuffer::new(LEN);
    (move |message| producer.push(message).is_ok(), move || consumer.pop().ok())
}

fn ours() -> Ends<impl FnMut(Message) -> bool + Send, impl FnMut() -> Option<Message> + Send> {
    let (mut sender, mut receiver) = no_engine::ring::ring(LEN, bell_of_nobody());
    (move |message| sender.try_send(message).is_ok(), move || receiver.try_recv())
}

fn queue() -> Ends<impl FnMut(Message) -> bool + Send, impl FnMut() -> Option<Message> + Send> {
    let queue = Arc::new(ArrayQueue::new(LEN));
    let other = Arc::clone(&queue);
    (move |message| queue.push(message).is_ok(), move || other.pop())
}

fn channel() -> Ends<impl FnMut(Message) -> bool + Send, impl FnMut() -> Option<Message> + Send> {
    let (sender, receiver) = crossbeam_channel::bounded(LEN);
    (move |message| sender.try_send(message).is_ok(), move || receiver.try_recv().ok())
}

/// How long it takes until `count` messages have been received on the other core.
fn stream<S, R>((mut send, mut receive): Ends<S, R>, count: u64) -> Duration
where
    S: FnMut(Message) -> bool + Send + 'static,
    R: FnMut() -> Option<Message> + Send + 'static,
{
    let cores = cores::available();
    let theirs = cores.clone();
    let receiver = std::thread::spawn(move || {
        cores::pin(&theirs, 1);
        for expected in 0..count {
            let message = loop {
                match receive() {
                    Some(message) => break message,
                    None => spin_loop(),
                }
            };
            assert_eq!(message[0], expected);
        }
    });
    cores::pin(&cores, 0);
    let start = Instant::now();
    for number in 0..count {
        while !send([number; 8]) {
            spin_loop();
        }
    }
    receiver.join().expect("it receives all");
    start.elapsed()
}

/// How long `count` messages take there and back, one at a time.
fn round_trip<S, R>(there: Ends<S, R>, back: Ends<S, R>, count: u64) -> Duration
where
    S: FnMut(Message) -> bool + Send + 'static,
    R: FnMut() -> Option<Message> + Send + 'static,
{
    let cores = cores::available();
    let theirs = cores.clone();
    let (mut send, mut receive_there) = there;
    let (mut send_back, mut receive) = back;
    let echo = std::thread::spawn(move || {
        cores::pin(&theirs, 1);
        for _ in 0..count {
            let message = loop {
                match receive_there() {
                    Some(message) => break message,
                    None => spin_loop(),
                }
            };
            assert!(send_back(message), "one message finds room");
        }
    });
    cores::pin(&cores, 0);
    let start = Instant::now();
    for number in 0..count {
        assert!(send([number; 8]), "one message finds room");
        while receive().is_none() {
            spin_loop();
        }
    }
    let took = start.elapsed();
    echo.join().expect("it echoes all");
    took
}

fn bench<S, R>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, make: fn() -> Ends<S, R>)
where
    S: FnMut(Message) -> bool + Send + 'static,
    R: FnMut() -> Option<Message> + Send + 'static,
{
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("stream/{name}"), |bencher| {
        bencher.iter_custom(|count| stream(make(), count));
    });
    group.bench_function(format!("round_trip/{name}"), |bencher| {
        bencher.iter_custom(|count| round_trip(make(), make(), count));
    });
}

fn rings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    bench(&mut group, "ours", ours);
    bench(&mut group, "rtrb", rtrb);
    bench(&mut group, "array_queue", queue);
    bench(&mut group, "channel", channel);
}

criterion_group!(benches, rings);
criterion_main!(benches);
