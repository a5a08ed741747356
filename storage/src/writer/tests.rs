//! The loop, with a journal that does as it is told and with a real one.

use super::*;
use crate::samples;
use no_engine::doorbell::{Bell, doorbell};
use no_engine::id::{PartitionId, Seq, ShardId, TaskId};
use no_engine::port::{Load, Wake};
use no_engine::ring::ring;
use std::collections::VecDeque;

/// Says what it is told to, and notes what it was asked.
#[derive(Default)]
struct Told {
    answers: VecDeque<Result<(), CommitError>>,
    committed: Vec<Vec<u64>>,
    tidied: usize,
    finished: bool,
}

impl Journal for Told {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError> {
        self.answers.pop_front().unwrap_or(Ok(()))?;
        self.committed.push(batches.iter().map(|batch| batch.seq.0).collect());
        Ok(())
    }

    fn tidy(&mut self, _: Millis) -> Result<bool, CommitError> {
        self.tidied += 1;
        Ok(self.tidied < 3)
    }
}

impl Finish for Told {
    fn finish(&mut self) -> Result<(), CommitError> {
        self.finished = true;
        Ok(())
    }
}

struct Unparker(std::thread::Thread);

impl Wake for Unparker {
    fn wake(&self) {
        self.0.unpark();
    }
}

fn own_doorbell() -> (Bell, Sleeper) {
    doorbell(Box::new(Unparker(std::thread::current())))
}

fn batch(seq: u64) -> Batch {
    let id = TaskId::new(seq, seq, PartitionId(0));
    let (record, task) = samples::submitted(id, &Payload::null());
    samples::batch(seq, vec![record], &[(&task, true)])
}

fn quick() -> WriterOptions {
    WriterOptions { full_pause: Duration::ZERO, ..WriterOptions::default() }
}

/// Answers without the time that they took.
fn drain(acks: &mut Receiver<Ack>) -> Vec<Ack> {
    let mut all = Vec::new();
    while let Some(ack) = acks.try_recv() {
        all.push(match ack {
            Ack::Durable { through, .. } => durable(through.0),
            other => other,
        });
    }
    all
}

fn durable(seq: u64) -> Ack {
    Ack::Durable { through: Seq(seq), commit_us: 0 }
}

/// Runs the loop over `batches` batches whose sender is gone when it parks first, or at once.
fn check(
    answers: &[Result<(), CommitError>],
    batches: u64,
    options: &WriterOptions,
    expected: (Ended, &[Ack], &[&[u64]]),
) -> Told {
    let (bell, sleeper) = own_doorbell();
    let (mut sender, mut receiver) = ring(64, bell.clone());
    let (mut acks, mut answered) = ring(64, bell);
    for seq in 1..=batches {
        sender.try_send(batch(seq)).expect("room");
    }
    let mut sender = Some(sender);
    let mut told = Told { answers: answers.to_vec().into(), ..Told::default() };
    let ended = run(
        &mut told,
        &mut receiver,
        &mut acks,
        &sleeper,
        |_| drop(sender.take()),
        || Millis(0),
        options,
    );
    assert_eq!((ended, &drain(&mut answered)[..]), (expected.0, expected.1));
    assert_eq!(told.committed, expected.2);
    told
}

#[test]
fn what_waits_is_one_commit_and_one_answer() {
    let told = check(&[], 3, &quick(), (Ended::Clean, &[durable(3)], &[&[1, 2, 3]]));
    assert!(told.finished);
    assert_eq!(told.tidied, 3, "while nothing waits, until there is no more");
}

#[test]
fn a_group_is_bounded() {
    let options = WriterOptions { records_max: 2, ..quick() };
    let answers = [durable(2), durable(4), durable(5)];
    check(&[], 5, &options, (Ended::Clean, &answers, &[&[1, 2], &[3, 4], &[5]]));
    let options = WriterOptions { bytes_max: 1, ..quick() };
    check(&[], 2, &options, (Ended::Clean, &[durable(1), durable(2)], &[&[1], &[2]]));
}

#[test]
fn batches_without_room_are_held_until_there_is_some() {
    let full = || Err(CommitError::Full);
    let options = WriterOptions { records_max: 1, ..quick() };
    let answers = [Ack::Full, Ack::Roomy, durable(1), durable(2)];
    check(&[full(), full(), full()], 2, &options, (Ended::Clean, &answers, &[&[1], &[2]]));
}

#[test]
fn a_stop_without_room_ends_without_an_answer_for_what_is_not_written() {
    let (bell, sleeper) = own_doorbell();
    let (mut sender, mut receiver) = ring(4, bell.clone());
    let (mut acks, mut answered) = ring(4, bell);
    sender.try_send(batch(1)).expect("room");
    drop(sender);
    let answers = vec![Err(CommitError::Full); 5].into();
    let mut told = Told { answers, ..Told::default() };
    let block = |_| panic!("nobody will ring");
    let options = WriterOptions::default();
    let ended = run(&mut told, &mut receiver, &mut acks, &sleeper, block, || Millis(0), &options);
    assert_eq!((ended, drain(&mut answered)), (Ended::Full, vec![Ack::Full]));
    assert!(!told.finished, "the next start must not take it for a clean stop");
}

#[test]
fn a_failure_is_told_once_and_nothing_is_committed_after_it() {
    let options = WriterOptions { records_max: 1, ..quick() };
    let failed = CommitError::Failed("gone".into());
    let told = check(
        &[Ok(()), Err(failed)],
        3,
        &options,
        (Ended::Failed("gone".into()), &[durable(1), Ack::Failed("gone".into())], &[&[1]]),
    );
    assert!(!told.finished);
}

#[test]
fn an_answer_waits_for_a_place_in_its_ring() {
    let (bell, sleeper) = own_doorbell();
    let (mut sender, mut receiver) = ring(8, bell.clone());
    let (mut acks, mut answered) = ring(1, bell);
    for seq in 1..=3 {
        sender.try_send(batch(seq)).expect("room");
    }
    let mut sender = Some(sender);
    let mut got = Vec::new();
    let options = WriterOptions { records_max: 1, ..quick() };
    let mut told = Told::default();
    let block = |_| match drain(&mut answered) {
        none if none.is_empty() => drop(sender.take()),
        some => got.extend(some),
    };
    let ended = run(&mut told, &mut receiver, &mut acks, &sleeper, block, || Millis(0), &options);
    assert_eq!((ended, got), (Ended::Clean, vec![durable(1), durable(2), durable(3)]));
}

#[test]
fn two_threads_and_a_real_store() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = crate::OpenOptions::default();
    let mut store = crate::Store::open(dir.path(), &options).expect("a new folder");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let checkpoints = store.checkpoints().expect("a thread");
    let (ack_bell, ack_sleeper) = own_doorbell();
    let (acks, mut answered) = ring::<Ack>(64, ack_bell);
    let (links, got_links) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        let (bell, sleeper) = own_doorbell();
        let (sender, mut batches) = ring(64, bell.clone());
        links.send((sender, bell)).expect("the other side waits");
        let (mut acks, options) = (acks, WriterOptions::default());
        let block = |pause: Option<Duration>| std::thread::park_timeout(pause.expect("bounded"));
        run(&mut journal, &mut batches, &mut acks, &sleeper, block, || Millis(0), &options)
    });
    let (mut sender, bell) = got_links.recv().expect("the writer is up");
    let (total, mut sent, mut through) = (500, 0, 0);
    while through < total {
        while sent < total && 0 < sender.free() {
            sent += 1;
            sender.try_send(batch(sent)).expect("room");
        }
        while let Some(ack) = answered.try_recv() {
            let Ack::Durable { through: seq, .. } = ack else { panic!("{ack:?}") };
            assert!(through < seq.0 && seq.0 <= sent, "in order, and not before it was sent");
            through = seq.0;
        }
        if through < total {
            ack_sleeper.park(|| answered.is_empty(), std::thread::park);
        }
    }
    drop(sender);
    bell.ring();
    assert_eq!(writer.join().expect("no panic"), Ended::Clean);
    drop((checkpoints, store));
    let store = crate::Store::open(dir.path(), &options).expect("opens");
    assert!(store.was_clean());
    let loaded = store.loader(ShardId(0)).expect("a loader").load(PartitionId(0));
    assert_eq!(loaded.expect("sound").tasks.len() as u64, total);
}
