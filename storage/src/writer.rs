//! The loop of a journal thread: what waits in the ring becomes one transaction and one answer.
//!
//! Group commit: while one transaction is being synced the next batches gather, so the sync's cost
//! is shared under load and small when idle (DeWitt et al., "Implementation Techniques for Main
//! Memory Database Systems", 1984). The loop answers `Durable` only after the store said so, holds
//! batches that found no room until there is some, and after a failure answers `Failed` and nothing
//! more.
//!
//! Upkeep runs only when nothing waits, a small piece at a time.

use no_engine::doorbell::Sleeper;
use no_engine::event::Batch;
use no_engine::payload::Payload;
use no_engine::port::{Ack, CommitError, Journal};
use no_engine::ring::{Full, Receiver, Sender};
use no_engine::time::Millis;
use std::time::{Duration, Instant};

/// A journal that can be left in good order.
pub trait Finish: Journal {
    /// Notes durably that the stop was clean, and leaves the files tidy.
    ///
    /// # Errors
    /// See [`CommitError`]; the next start will take the stop for a crash.
    fn finish(&mut self) -> Result<(), CommitError>;
}

impl<J: Finish + ?Sized> Finish for Box<J> {
    fn finish(&mut self) -> Result<(), CommitError> {
        (**self).finish()
    }
}

/// Bounds of the loop.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Records after which a transaction takes no further batch.
    pub records_max: usize,
    /// Payload bytes likewise.
    pub bytes_max: usize,
    /// Pause before batches that found no room are tried again.
    pub full_pause: Duration,
    /// The longest sleep: how late the loop may see that its sender is gone, if nobody rings.
    pub idle_pause: Duration,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions {
            records_max: 65_536,
            bytes_max: 16 << 20,
            full_pause: Duration::from_millis(250),
            idle_pause: Duration::from_secs(1),
        }
    }
}

/// How the loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that was sent is durable, and the stop is noted as clean.
    Clean,
    /// The sender is gone while the disk is full: some batches were never written, nor
    /// acknowledged.
    Full,
    /// The journal failed; the process should leave and load anew.
    Failed(String),
}

/// Commits what comes in `batches` until their sender is gone and all is written.
///
/// Whoever drops the sender should ring the sleeper's bell after it; otherwise the end is seen
/// within `idle_pause`. `block` sleeps until the bell rings or the time is over, and may return
/// early.
/// `clock` tells the wall time, for retention. Call from the journal's own thread.
pub fn run<J: Finish>(
    journal: &mut J,
    batches: &mut Receiver<Batch>,
    acks: &mut Sender<Ack>,
    sleeper: &Sleeper,
    block: impl FnMut(Option<Duration>),
    mut clock: impl FnMut() -> Millis,
    options: &WriterOptions,
) -> Ended {
    let mut writer =
        Writer { journal, batches, acks, sleeper, block, options, group: Vec::new(), unsent: None };
    let failed = loop {
        if let Err(why) = writer.write_waiting() {
            break why;
        }
        // In this order: what the sender put in before it went is seen.
        let is_last = writer.batches.is_abandoned();
        if is_last && writer.batches.is_empty() {
            match writer.finish() {
                Ok(ended) => return ended,
                Err(why) => break why,
            }
        }
        if !writer.batches.is_empty() {
            continue;
        }
        match writer.journal.tidy(clock()) {
            Ok(true) => {}
            // No room for upkeep, which would make room: a commit that finds none will say so.
            Ok(false) | Err(CommitError::Full) => writer.park(),
            Err(CommitError::Failed(why)) => break why,
        }
    };
    tracing::error!(target: "journal", why = failed, "the journal failed and takes no more");
    writer.answer(Ack::Failed(failed.clone()));
    writer.deliver();
    Ended::Failed(failed)
}

struct Writer<'a, J, B> {
    journal: &'a mut J,
    batches: &'a mut Receiver<Batch>,
    acks: &'a mut Sender<Ack>,
    sleeper: &'a Sleeper,
    block: B,
    options: &'a WriterOptions,
    group: Vec<Batch>,
    /// An answer that found its ring full. There is at most one: nothing is committed before it
    /// left.
    unsent: Option<Ack>,
}

impl<J: Finish, B: FnMut(Option<Duration>)> Writer<'_, J, B> {
    /// Commits all that waits now, group by group. `Err` when the journal failed.
    fn write_waiting(&mut self) -> Result<(), String> {
        while self.take_group() {
            let started = Instant::now();
            match self.journal.commit(&self.group) {
                Ok(()) => self.durable(started),
                Err(CommitError::Full) => {
                    if !self.wait_for_room()? {
                        return Ok(());
                    }
                }
                Err(CommitError::Failed(why)) => return Err(why),
            }
        }
        Ok(())
    }

    /// Takes what waits, up to the bounds. Returns whether there is something to commit.
    fn take_group(&mut self) -> bool {
        let (mut records, mut bytes) = (0, 0);
        while records < self.options.records_max
            && bytes < self.options.bytes_max
            && let Some(batch) = self.batches.try_recv()
        {
            records += batch.records.len();
            let payloads = batch.records.iter().filter_map(|record| record.event.payload());
            bytes += payloads.map(Payload::bytes_len).sum::<usize>();
            self.group.push(batch);
        }
        !self.group.is_empty()
    }

    /// Tells that the group is durable, and forgets it.
    fn durable(&mut self, started: Instant) {
        let Some(last) = self.group.last() else { return };
        let commit_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let ack = Ack::Durable { through: last.seq, commit_us };
        self.group.clear();
        self.answer(ack);
    }

    /// Holds the group until it is written. `false` when the sender went away before there was
    /// room.
    fn wait_for_room(&mut self) -> Result<bool, String> {
        tracing::warn!(target: "journal", "no room on the disk; waiting for some");
        self.answer(Ack::Full);
        loop {
            let started = Instant::now();
            let is_last = self.batches.is_abandoned();
            while !is_last && started.elapsed() < self.options.full_pause {
                let left = self.options.full_pause.saturating_sub(started.elapsed());
                let block = &mut self.block;
                self.sleeper.park(|| true, || block(Some(left)));
            }
            let started = Instant::now();
            match self.journal.commit(&self.group) {
                Ok(()) => {
                    tracing::info!(target: "journal", "there is room on the disk again");
                    self.answer(Ack::Roomy);
                    self.durable(started);
                    return Ok(true);
                }
                Err(CommitError::Full) if is_last => return Ok(false),
                Err(CommitError::Full) => {}
                Err(CommitError::Failed(why)) => return Err(why),
            }
        }
    }

    /// Sends an answer, waiting for a place in the ring if it must.
    fn answer(&mut self, ack: Ack) {
        self.deliver();
        self.unsent = Some(ack);
        self.deliver();
    }

    /// Waits until the answer has left, or nobody is there to read it.
    fn deliver(&mut self) {
        while let Some(ack) = self.unsent.take() {
            let Err(Full(ack)) = self.acks.try_send(ack) else { return };
            if self.acks.is_abandoned() {
                return;
            }
            self.unsent = Some(ack);
            // The ring's reader rings no bell for a free place.
            let block = &mut self.block;
            self.sleeper.park(|| true, || block(Some(Duration::from_millis(1))));
        }
    }

    fn park(&mut self) {
        let (batches, block) = (&*self.batches, &mut self.block);
        let pause = self.options.idle_pause;
        let is_idle = || batches.is_empty() && !batches.is_abandoned();
        self.sleeper.park(is_idle, || block(Some(pause)));
    }

    fn finish(&mut self) -> Result<Ended, String> {
        if !self.group.is_empty() {
            return Ok(Ended::Full);
        }
        match self.journal.finish() {
            Ok(()) => Ok(Ended::Clean),
            Err(CommitError::Full) => Ok(Ended::Full),
            Err(CommitError::Failed(why)) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests;
