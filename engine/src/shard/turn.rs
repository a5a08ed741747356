//! One bounded turn of the master loop: drain, decide, commit, act.
//!
//! Batches go to the journal as they are closed and several may be under way; what a batch lets
//! happen hangs on its number and is released when the journal says that it is durable. So while
//! batch n is being synced, batch n+1 is being decided, and nothing leaves before the events it
//! rests on.

use crate::command::{Answer, Command, Refusal};
use crate::effect::Effect;
use crate::event::Batch;
use crate::id::{Seq, TaskId};
use crate::limits::{BATCH_EVENTS_MAX, EFFECTS_WAITING_MAX};
use crate::machine::{Bug, Gated, Machine};
use crate::port::Ack;
use crate::ring::{Full, Receiver, Sender};
use crate::time::Now;
use std::collections::VecDeque;

/// The ends of the rings that one shard holds.
pub struct Links {
    /// Commands from each net core; the reserved lanes first.
    pub inbox: Vec<Receiver<Command>>,
    /// Effects to each net core, in the order of their numbers.
    pub outbox: Vec<Sender<Effect>>,
    /// Batches to the journal thread.
    pub batches: Sender<Batch>,
    /// What the journal thread says.
    pub acks: Receiver<Ack>,
}

/// A machine and what it waits for.
pub struct Shard {
    machine: Machine,
    last_seq: Seq,
    durable_seq: Seq,
    /// What each batch under way lets happen, oldest first. Never empty lists of equal numbers.
    in_flight: VecDeque<InFlight>,
    /// What may leave, by net core.
    released: Vec<VecDeque<Effect>>,
    released_len: usize,
    batches_in_flight_max: usize,
    turn_commands_max: usize,
    is_halted: bool,
    is_full: bool,
}

struct InFlight {
    seq: Seq,
    gated: Vec<Gated>,
}

/// What a turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    /// Whether anything was drained, decided or released.
    pub did_work: bool,
    /// Whether there is more to do at once.
    pub has_more: bool,
    /// What deciding and closing batches took, in the unit of the clock that was handed in.
    pub decide_us: u64,
}

impl Shard {
    /// A shard around a machine, with the bounds that the machine was given.
    #[must_use]
    pub fn new(machine: Machine, limits: &crate::limits::Limits) -> Shard {
        Shard {
            machine,
            last_seq: Seq(0),
            durable_seq: Seq(0),
            in_flight: VecDeque::new(),
            released: Vec::new(),
            released_len: 0,
            batches_in_flight_max: limits.batches_in_flight_max,
            turn_commands_max: limits.turn_commands_max,
            is_halted: false,
            is_full: false,
        }
    }

    /// One turn at `now`. `micros` is a monotonic clock in µs, asked only to measure.
    pub fn turn(&mut self, now: Now, links: &mut Links, micros: impl Fn() -> u64) -> Turn {
        self.released.resize_with(links.outbox.len(), VecDeque::new);
        let acked = self.take_acks(now, links);
        let began_us = micros();
        let drained = self.drain(now, links);
        let mut has_more = self.turn_commands_max <= drained;
        if !self.is_halted && self.has_room_to_decide() {
            has_more |= self.machine.fire_timers(now);
            has_more |= self.machine.go_on_all(now);
        }
        let committed = self.commit(now, links);
        let decide_us = micros().saturating_sub(began_us);
        let acted = self.act(links);
        Turn { did_work: acked || 0 < drained || committed || acted, has_more, decide_us }
    }

    /// Beat one: what became durable, and with it what may happen.
    fn take_acks(&mut self, now: Now, links: &mut Links) -> bool {
        let mut any = false;
        while let Some(ack) = links.acks.try_recv() {
            any = true;
            match ack {
                Ack::Durable { through, commit_us } => {
                    self.machine.stats_mut().commit_us.record(commit_us);
                    self.durable_up_to(now, through);
                }
                Ack::Full => self.set_full(true),
                Ack::Roomy => self.set_full(false),
                Ack::Failed(_) if self.machine.has_bug(Bug::FailedCommitTaken) => {
                    self.durable_up_to(now, self.last_seq);
                }
                Ack::Failed(_) => self.halt(),
            }
        }
        any
    }

    fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.machine.set_journal_full(is_full);
    }

    /// Nothing that is not durable by now will ever be acknowledged by this shard.
    fn halt(&mut self) {
        self.is_halted = true;
        let stats = self.machine.stats_mut();
        stats.journal_errors += 1;
        stats.is_halted = true;
        for in_flight in std::mem::take(&mut self.in_flight) {
            self.refuse_gated(in_flight.gated);
        }
        let (_, gated) = self.machine.close(self.last_seq);
        self.refuse_gated(gated);
    }

    fn refuse_gated(&mut self, gated: Vec<Gated>) {
        for gated in gated {
            if let Gated::Effect(Effect::Reply { to, .. }) = gated {
                let answer = Answer::Refused(Refusal::Halted);
                self.push_released(Effect::Reply { to, answer });
            }
        }
    }

    fn durable_up_to(&mut self, now: Now, through: Seq) {
        assert!(through <= self.last_seq, "the journal names a batch that it was not given");
        assert!(self.durable_seq <= through, "what is durable stays durable");
        self.durable_seq = through;
        while self.in_flight.front().is_some_and(|first| first.seq <= through) {
            let first = self.in_flight.pop_front().expect("looked at above");
            self.release(now, first.gated);
        }
    }

    fn release(&mut self, now: Now, mut gated: Vec<Gated>) {
        for gated in gated.drain(..) {
            match gated {
                Gated::Effect(effect) => self.push_released(effect),
                Gated::Echo { task, fence } => self.machine.finish_echo(now, task, fence),
            }
        }
        self.machine.give_back(gated);
    }

    /// Beat two: what came in, decided one by one. Every ring has the same bound of its own, so
    /// that the reserved lanes come first and the others come too. Returns how many.
    fn drain(&mut self, now: Now, links: &mut Links) -> usize {
        let mut drained = 0;
        for inbox in &mut links.inbox {
            for _ in 0..self.turn_commands_max {
                if !self.has_room_to_decide() {
                    return drained;
                }
                let Some(command) = inbox.try_recv() else { break };
                drained += 1;
                if self.is_halted {
                    self.refuse_halted(&command);
                } else {
                    self.machine.decide(now, command);
                }
            }
        }
        drained
    }

    fn refuse_halted(&mut self, command: &Command) {
        if let Command::Stats { .. } = command {
            let now = Now::default();
            return self.machine.decide(now, command.clone());
        }
        if let Some(to) = command.reply() {
            let answer = Answer::Refused(Refusal::Halted);
            self.push_released(Effect::Reply { to, answer });
        }
    }

    /// Whether another decision's events and effects find a place.
    fn has_room_to_decide(&self) -> bool {
        self.machine.open_batch().records.len() < BATCH_EVENTS_MAX
            && self.released_len < EFFECTS_WAITING_MAX
    }

    /// Beat three: what was decided goes to the journal, or waits in the open batch for room there.
    fn commit(&mut self, now: Now, links: &mut Links) -> bool {
        if self.is_halted || !self.machine.has_open() {
            return false;
        }
        if self.machine.open_batch().is_empty() {
            let (_, gated) = self.machine.close(self.last_seq);
            self.hang(now, self.last_seq, gated);
            return true;
        }
        let under_way = (self.last_seq.0 - self.durable_seq.0) as usize;
        if self.batches_in_flight_max <= under_way || links.batches.free() == 0 {
            return false;
        }
        let seq = self.last_seq.next();
        let (batch, gated) = self.machine.close(seq);
        let stats = self.machine.stats_mut();
        stats.batch_records.record(batch.records.len() as u64);
        self.last_seq = seq;
        let sent = links.batches.try_send(batch);
        assert!(sent.is_ok(), "the journal's ring had a free place");
        self.hang(now, seq, gated);
        true
    }

    /// Hangs what may happen on the batch that it rests on.
    fn hang(&mut self, now: Now, seq: Seq, gated: Vec<Gated>) {
        if seq <= self.durable_seq || self.machine.has_bug(Bug::ActBeforeCommit) {
            return self.release(now, gated);
        }
        match self.in_flight.back_mut() {
            Some(last) if last.seq == seq => last.gated.extend(gated),
            _ => self.in_flight.push_back(InFlight { seq, gated }),
        }
    }

    /// Beat four: what was released leaves, as far as the rings have room. A full ring holds back
    /// what goes to that net core only; the order to each one is kept.
    fn act(&mut self, links: &mut Links) -> bool {
        for mut effect in self.machine.take_at_once() {
            if let Effect::Reply { answer: Answer::Stats(stats), .. } = &mut effect {
                stats.ring_depth = ring_depth(links);
            }
            self.push_released(effect);
        }
        let before = self.released_len;
        for (released, outbox) in self.released.iter_mut().zip(&mut links.outbox) {
            while let Some(effect) = released.pop_front() {
                if let Err(Full(effect)) = outbox.try_send(effect) {
                    released.push_front(effect);
                    *self.machine.stats_mut().ring_full.entry("effects").or_default() += 1;
                    break;
                }
                self.released_len -= 1;
            }
        }
        self.released_len < before
    }

    fn push_released(&mut self, effect: Effect) {
        let net = net_of(&effect, self.released.len());
        self.released[net].push_back(effect);
        self.released_len += 1;
    }

    /// Whether nothing waits for the disk or for room in a ring.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsaved() == 0
    }

    /// Batches and effects that wait.
    #[must_use]
    pub fn unsaved(&self) -> usize {
        let under_way = (self.last_seq.0 - self.durable_seq.0) as usize;
        let under_way = if self.is_halted { 0 } else { under_way };
        under_way + self.released_len + usize::from(self.machine.has_open() && !self.is_halted)
    }

    /// Whether effects wait for room in a ring: then nobody rings when there is some.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        0 < self.released_len
    }

    /// Whether the journal failed.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.is_halted
    }

    /// Whether the journal has no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The last batch that is durable.
    #[must_use]
    pub fn durable_seq(&self) -> Seq {
        self.durable_seq
    }

    /// The machine, to look at.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The machine, for what the loop around the turn measures, and to load partitions.
    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

/// Items that wait in the rings at this shard.
fn ring_depth(links: &Links) -> std::collections::BTreeMap<&'static str, u64> {
    let commands: usize = links.inbox.iter().map(Receiver::waiting).sum();
    let effects: usize = links.outbox.iter().map(|ring| ring.capacity() - ring.free()).sum();
    let batches = links.batches.capacity() - links.batches.free();
    let rings = [("commands", commands), ("effects", effects), ("batches", batches)];
    rings.into_iter().map(|(name, depth)| (name, depth as u64)).collect()
}

/// The net core that an effect goes to. Calls of one task, and their abort, go to the same one.
fn net_of(effect: &Effect, nets: usize) -> usize {
    assert!(0 < nets, "a shard without net cores");
    let by_task = |task: TaskId| (task.to_u128() >> 16) as usize % nets;
    let net = match effect {
        Effect::Reply { to, .. } | Effect::Offer { to } | Effect::Publish { to, .. } => {
            usize::from(to.net.0)
        }
        Effect::Call(call) => by_task(call.task),
        Effect::Abort { task, .. } => by_task(*task),
    };
    assert!(net < nets, "no such net core");
    net
}
