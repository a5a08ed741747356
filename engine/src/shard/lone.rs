//! One shard with all that is outside it played in memory: the net core's rings, and a journal that
//! is done at once, or is what the caller makes of it. The machine's own cost, nothing else: for
//! benches, and for `no bench`.

use super::{Links, Shard};
use crate::agent::definition::{Agent, Kind};
use crate::command::{Answer, AnswerWhen, Command, Holder, Report, Reported};
use crate::doorbell::{Bell, doorbell};
use crate::effect::Effect;
use crate::event::Batch;
use crate::id::{NetId, PartitionId, ReplyTo, ShardId, TaskId, Token};
use crate::limits::{BATCHES_IN_FLIGHT_MAX, Limits, RING_LEN};
use crate::machine::{LastStop, Machine};
use crate::payload::Payload;
use crate::permit::Permits;
use crate::port::{Ack, Loaded, Wake};
use crate::ring::{Receiver, Sender, ring};
use crate::rng::Rng;
use crate::task::NewTask;
use crate::time::{Millis, Mono, Now};
use std::sync::Arc;

/// Partitions of the lone shard.
const PARTITIONS: u16 = 64;
/// A lease that outlives any bench, in ms.
const LEASE_MS: u64 = 3_600_000;

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// The bell of a thread that never sleeps.
#[must_use]
pub fn bell_of_nobody() -> Bell {
    doorbell(Box::new(Nobody)).0
}

/// The shard and the far ends of its rings.
pub struct LoneShard {
    shard: Shard,
    links: Links,
    commands: Sender<Command>,
    effects: Receiver<Effect>,
    batches: Receiver<Batch>,
    acks: Sender<Ack>,
    now: Now,
    rng: Rng,
    names: Names,
    /// Tasks made so far: keys and partitions take turns.
    made: usize,
}

/// Names that all tasks share.
struct Names {
    tenant: Arc<str>,
    input: Payload,
    keys: Vec<Arc<str>>,
}

/// What tasks are submitted.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The agent: `echo`, `sleep` or `work`.
    pub agent: &'a str,
    /// Spread over so many fairness keys; 0 for none.
    pub fairness_keys: usize,
}

impl Asked<'static> {
    /// `echo` tasks without a fairness key.
    pub const ECHO: Asked<'static> = Asked { agent: "echo", fairness_keys: 0 };
}

impl Default for LoneShard {
    fn default() -> LoneShard {
        LoneShard::new()
    }
}

impl LoneShard {
    /// An empty shard with the agents `echo`, `sleep` and `work`, that takes any number of tasks.
    #[must_use]
    pub fn new() -> LoneShard {
        let now = Now { wall: Millis(1_800_000_000_000), mono: Mono(1) };
        let limits = Limits { live_tasks_max: usize::MAX, ..Limits::default() };
        let mut machine = Machine::new(ShardId(0), limits.clone(), now, 1);
        machine.set_shares(1, limits.slots);
        for (name, kind) in [("echo", Kind::Echo), ("sleep", Kind::Sleep), ("work", Kind::Worker)] {
            let known = (Arc::new(Agent::of_kind(kind)), false, Arc::new(Permits::new(None)));
            machine.know_agent(&name.into(), Some(known));
        }
        for partition in 0..PARTITIONS {
            machine.load(now, PartitionId(partition), Loaded::default(), LastStop::Clean);
        }
        let (commands, inbox) = ring(RING_LEN, bell_of_nobody());
        let (outbox, effects) = ring(RING_LEN, bell_of_nobody());
        let (batches_out, batches) = ring(BATCHES_IN_FLIGHT_MAX, bell_of_nobody());
        let (acks, acks_in) = ring(BATCHES_IN_FLIGHT_MAX, bell_of_nobody());
        let links =
            Links { inbox: vec![inbox], outbox: vec![outbox], batches: batches_out, acks: acks_in };
        let names =
            Names { tenant: "default".into(), input: Payload::inline(b"{}"), keys: Vec::new() };
        let (shard, rng) = (Shard::new(machine, &limits), Rng::new(2));
        LoneShard { shard, links, commands, effects, batches, acks, now, rng, names, made: 0 }
    }

    /// So many submissions, of one task each.
    pub fn submissions(&mut self, count: usize, asked: Asked<'_>) -> Vec<Command> {
        let agent: Arc<str> = asked.agent.into();
        let input = match asked.agent {
            "sleep" => Payload::inline(br#"{"ms":3600000}"#),
            _ => self.names.input.clone(),
        };
        while self.names.keys.len() < asked.fairness_keys {
            self.names.keys.push(format!("key-{}", self.names.keys.len()).into());
        }
        let mut commands = Vec::with_capacity(count);
        for i in 0..count {
            let key = (0 < asked.fairness_keys).then(|| self.made % asked.fairness_keys);
            let fairness_key = key.map(|key| Arc::clone(&self.names.keys[key]));
            let tasks = vec![NewTask {
                fairness_key,
                ..NewTask::plain(
                    self.new_id(),
                    Arc::clone(&agent),
                    Arc::clone(&self.names.tenant),
                    input.clone(),
                )
            }];
            let reply = reply_to(i as u64);
            self.made += 1;
            commands.push(Command::Submit { reply, tasks, when: AnswerWhen::Durable });
        }
        commands
    }

    fn new_id(&mut self) -> TaskId {
        let partition = PartitionId((self.made % usize::from(PARTITIONS)) as u16);
        TaskId::new(self.now.wall.0, self.rng.next_u64(), partition)
    }

    /// Hands in commands, at most as many as the ring has places, and takes turns until all is
    /// done and durable. Returns the answers.
    pub fn run(&mut self, commands: Vec<Command>) -> usize {
        self.run_with(commands, |_| {}, drop)
    }

    /// Likewise; shows each batch that goes to the journal and each answer.
    pub fn run_with(
        &mut self,
        commands: Vec<Command>,
        mut on_batch: impl FnMut(&Batch),
        mut on_answer: impl FnMut(Answer),
    ) -> usize {
        for command in commands {
            let sent = self.commands.try_send(command);
            assert!(sent.is_ok(), "more commands than the ring has places");
        }
        self.now.wall = self.now.wall + 1;
        self.now.mono = self.now.mono + 1;
        let mut answers = 0;
        loop {
            let turn = self.shard.turn(self.now, &mut self.links, || 0);
            let mut last = None;
            while let Some(batch) = self.batches.try_recv() {
                on_batch(&batch);
                last = Some(batch.seq);
            }
            if let Some(through) = last {
                let sent = self.acks.try_send(Ack::Durable { through, commit_us: 100 });
                assert!(sent.is_ok(), "an ack for each batch at most");
            }
            while let Some(effect) = self.effects.try_recv() {
                if let Effect::Reply { answer, .. } = effect {
                    answers += 1;
                    on_answer(answer);
                }
            }
            if last.is_none() && !turn.has_more && self.shard.is_settled() {
                return answers;
            }
        }
    }

    /// Fills the shard with parked tasks: `sleep` for an hour.
    pub fn park(&mut self, count: usize) {
        let sleep = Asked { agent: "sleep", fairness_keys: 0 };
        let mut left = count;
        while 0 < left {
            let some = left.min(1_000);
            let commands = self.submissions(some, sleep);
            self.run(commands);
            left -= some;
        }
        assert_eq!(self.live(), count, "all sleep");
    }

    /// Tasks in memory.
    pub fn live(&mut self) -> usize {
        let mut live = 0;
        let ask = Command::Stats { reply: reply_to(0) };
        self.run_with(
            vec![ask],
            |_| {},
            |answer| {
                if let Answer::Stats(stats) = answer {
                    live = stats.live_tasks as usize;
                }
            },
        );
        live
    }

    /// Submits a task of agent `work` and leases it.
    pub fn leased(&mut self) -> Holder {
        let work = self.submissions(1, Asked { agent: "work", fairness_keys: 0 });
        self.run(work);
        let lease = Command::Lease {
            reply: reply_to(0),
            agents: vec!["work".into()],
            tenant: Arc::clone(&self.names.tenant),
            max_tasks: 1,
            lease_ms: LEASE_MS,
            waits: false,
        };
        let mut holder = None;
        self.run_with(
            vec![lease],
            |_| {},
            |answer| {
                if let Answer::Leases(grants) = answer {
                    holder = grants.first().map(|grant| grant.holder);
                }
            },
        );
        holder.expect("a task was there to lease")
    }

    /// What a worker says about its lease, as a command.
    #[must_use]
    pub fn report(&self, holder: Holder, report: Report) -> Command {
        let tenant = Arc::clone(&self.names.tenant);
        Command::Report { reply: reply_to(0), tenant, reports: vec![(holder, report)] }
    }

    /// Reports one step, whose result differs from the last one's.
    #[must_use]
    pub fn step(&self, holder: Holder, number: u32) -> Command {
        let result = Payload::inline(format!("{{\"step\":{number}}}").as_bytes());
        self.report(holder, Report::Step { name: "step".into(), result })
    }

    /// Hands in a report and checks that it was taken.
    pub fn take(&mut self, report: Command) {
        let mut is_taken = false;
        self.run_with(
            vec![report],
            |_| {},
            |answer| {
                is_taken =
                    matches!(answer, Answer::Reports(reports) if reports == [Ok(Reported::Taken)]);
            },
        );
        assert!(is_taken, "a report of the holder is taken");
    }
}

fn reply_to(token: u64) -> ReplyTo {
    ReplyTo { net: NetId(0), token: Token(token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_to_their_end_and_steps_are_taken() {
        let mut shard = LoneShard::new();
        let (mut events, mut tasks) = (0, 0);
        let commands = shard.submissions(100, Asked { fairness_keys: 10, ..Asked::ECHO });
        let on_batch = |batch: &Batch| {
            events += batch.records.len();
            tasks += batch.tasks.iter().filter(|image| image.task.state.is_ended()).count();
        };
        assert_eq!(shard.run_with(commands, on_batch, drop), 100);
        assert_eq!((events, tasks), (300, 100), "submitted, started, succeeded");
        assert_eq!(shard.live(), 0);
        shard.park(1_500);
        let holder = shard.leased();
        for number in 1..=20 {
            let step = shard.step(holder, number);
            shard.take(step);
        }
        let done = shard.report(holder, Report::Complete { output: Payload::null() });
        shard.take(done);
        assert_eq!(shard.live(), 1_500);
    }
}
