//! The ring between two cores, with its doorbell, beside the bare rtrb that is in it.

use crate::bench::{Bench, median};
use crate::cores;
use crate::error::Result;
use crate::figure::Figure;
use crate::shard::bell_of_nobody;
use no_engine::ring::ring;
use std::hint::spin_loop;
use std::time::Instant;

type Message = [u64; 8];

const LEN: usize = 4_096;
const MESSAGES: usize = 4_000_000;
const ROUNDS: usize = 5;

/// Messages a second from one core to another.
fn rate(
    mut send: impl FnMut(Message) -> bool,
    mut receive: impl FnMut() -> Option<Message> + Send + 'static,
    count: usize,
) -> f64 {
    let cores = cores::available();
    let theirs = cores.clone();
    let receiver = std::thread::spawn(move || {
        cores::pin(&theirs, 1);
        let mut left = count;
        while 0 < left {
            match receive() {
                Some(_) => left -= 1,
                None => spin_loop(),
            }
        }
    });
    let start = Instant::now();
    for number in 0..count {
        while !send([number as u64; 8]) {
            spin_loop();
        }
    }
    // It ends when it has had them all; a thread that panicked would not have.
    let is_done = receiver.join().is_ok();
    assert!(is_done, "the receiver takes what comes");
    count as f64 / start.elapsed().as_secs_f64()
}

fn ours(count: usize) -> f64 {
    let (mut sender, mut receiver) = ring(LEN, bell_of_nobody());
    rate(move |message| sender.try_send(message).is_ok(), move || receiver.try_recv(), count)
}

fn bare(count: usize) -> f64 {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(LEN);
    rate(move |message| producer.push(message).is_ok(), move || consumer.pop().ok(), count)
}

pub(super) fn link(bench: &mut Bench) -> Result<Vec<Figure>> {
    let count = bench.count(MESSAGES);
    let measured = std::thread::spawn(move || {
        cores::pin(&cores::available(), 0);
        let rounds: Vec<_> = (0..ROUNDS).map(|_| (ours(count), bare(count))).collect();
        let (ours, bare): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        (median(ours), median(bare))
    });
    let (ours, bare) = measured.join().expect("it only counts");
    let figure = Figure::new("link_per_second", "64 B messages, core to core", ours, "/s");
    Ok(vec![figure.beside("bare rtrb", bare).note("medians of five rounds by turns; no goal")])
}
