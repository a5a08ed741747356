//! The pure machine on one core: `echo` tasks from submission to success through a shard's turns,
//! with a journal that is done at once. For profilers: all that is measured happens in `rounds`.
//!
//! `turn steps` instead takes tasks of an outside worker through 3,200 steps each and prints ns a
//! step around the 10th and the 3,000th.
//!
//! `turn [TASKS_IN_A_TURN] [ROUNDS] [PARKED] [FAIRNESS_KEYS]`; prints ns a task, the median and the
//! least of the rounds.

#![expect(clippy::disallowed_types, reason = "it measures")]

use no_engine::agent::definition::{Agent, Budget, Kind};
use no_engine::command::{Answer, AnswerWhen, Command, Holder, Report};
use no_engine::doorbell::{Bell, doorbell};
use no_engine::effect::Effect;
use no_engine::event::Batch;
use no_engine::id::{NetId, PartitionId, ReplyTo, ShardId, TaskId, Token};
use no_engine::limits::{Limits, RING_LEN};
use no_engine::machine::{LastStop, Machine};
use no_engine::payload::Payload;
use no_engine::permit::Permits;
use no_engine::port::{Ack, Loaded, Wake};
use no_engine::ring::{Receiver, Sender, ring};
use no_engine::rng::Rng;
use no_engine::shard::{Links, Shard};
use no_engine::task::NewTask;
use no_engine::time::{Millis, Mono, Now};
use std::sync::Arc;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u16 = 64;

struct Silent;
impl Wake for Silent {
    fn wake(&self) {}
}

fn bell() -> Bell {
    doorbell(Box::new(Silent)).0
}

struct World {
    shard: Shard,
    links: Links,
    commands: Sender<Command>,
    effects: Receiver<Effect>,
    batches: Receiver<Batch>,
    acks: Sender<Ack>,
    now: Now,
    rng: Rng,
    tenant: Arc<str>,
    keys: Vec<Arc<str>>,
    made: u64,
    leases: Vec<Holder>,
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("steps") {
        return steps(&mut World::new(0));
    }
    let number = |at: usize, default: usize| {
        std::env::args().nth(at).map_or(default, |text| text.parse().expect("a number"))
    };
    let (tasks, count) = (number(1, 64), number(2, 1_000));
    let mut world = World::new(number(4, 0));
    let parked = number(3, 0);
    for some in (0..parked).step_by(1_000) {
        let commands = world.submissions(1_000.min(parked - some), "sleep", r#"{"ms":86400000}"#);
        world.run(commands);
    }
    let warm: Vec<Vec<Command>> =
        (0..10_000 / tasks + 1).map(|_| world.submissions(tasks, "echo", "{}")).collect();
    for commands in warm {
        world.run(commands);
    }
    let inputs = (0..count).map(|_| world.submissions(tasks, "echo", "{}")).collect();
    let mut took = rounds(&mut world, inputs);
    took.sort_unstable();
    let per_task = |ns: u64| ns as f64 / tasks as f64;
    println!(
        "{tasks} tasks a turn, {parked} parked: {:.0} ns a task (median), {:.0} (least)",
        per_task(took[took.len() / 2]),
        per_task(took[0]),
    );
}

/// Steps that are looked at around a place.
const AROUND: u32 = 200;

/// The median ns of a step, by where in its task's history it is.
fn steps(world: &mut World) {
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let holder = world.leased();
        for number in 1..3_000 + AROUND {
            let result = Payload::inline(format!("{{\"step\":{number}}}").as_bytes());
            let report = Report::Step { name: "step".into(), result };
            let reply = ReplyTo { net: NetId(0), token: Token(0) };
            let tenant = Arc::clone(&world.tenant);
            let command = Command::Report { reply, tenant, reports: vec![(holder, report)] };
            let start = Instant::now();
            world.run(vec![command]);
            let took = start.elapsed().as_nanos() as u64;
            match number {
                10..210 => early.push(took),
                3_000.. => late.push(took),
                _ => {}
            }
        }
    }
    for (name, mut took) in [("step 10 and on", early), ("step 3,000 and on", late)] {
        took.sort_unstable();
        println!("{name}: {} ns a step (median), {} (least)", took[took.len() / 2], took[0]);
    }
}

#[inline(never)]
fn rounds(world: &mut World, inputs: Vec<Vec<Command>>) -> Vec<u64> {
    let mut took = Vec::with_capacity(inputs.len());
    for commands in inputs {
        let start = Instant::now();
        world.run(commands);
        took.push(start.elapsed().as_nanos() as u64);
    }
    took
}

impl World {
    fn new(keys: usize) -> World {
        let now = Now { wall: Millis(1_800_000_000_000), mono: Mono(1) };
        let limits = Limits { live_tasks_max: usize::MAX, ..Limits::default() };
        let mut machine = Machine::new(ShardId(0), limits.clone(), now, 1);
        for (name, kind) in [("echo", Kind::Echo), ("sleep", Kind::Sleep), ("work", Kind::Worker)] {
            let known = (Arc::new(Agent::of_kind(kind)), false, Arc::new(Permits::new(None)));
            machine.know_agent(&name.into(), Some(known));
        }
        for partition in (0..PARTITIONS).map(PartitionId) {
            machine.load(now, partition, Loaded::default(), LastStop::Clean);
        }
        let (commands, inbox) = ring(RING_LEN, bell());
        let (outbox, effects) = ring(RING_LEN, bell());
        let (batches_out, batches) = ring(limits.batches_in_flight_max, bell());
        let (acks, acks_in) = ring(limits.batches_in_flight_max, bell());
        let (inbox, outbox) = (vec![inbox], vec![outbox]);
        let links = Links { inbox, outbox, batches: batches_out, acks: acks_in };
        World {
            shard: Shard::new(machine, &limits),
            links,
            commands,
            effects,
            batches,
            acks,
            now,
            rng: Rng::new(2),
            tenant: "default".into(),
            keys: (0..keys).map(|key| format!("key-{key}").into()).collect(),
            made: 0,
            leases: Vec::new(),
        }
    }

    fn submissions(&mut self, count: usize, agent: &str, input: &str) -> Vec<Command> {
        let agent: Arc<str> = agent.into();
        (0..count).map(|_| self.submission(&agent, input)).collect()
    }

    fn submission(&mut self, agent: &Arc<str>, input: &str) -> Command {
        let partition = PartitionId((self.made % u64::from(PARTITIONS)) as u16);
        let key = self.made.checked_rem(self.keys.len() as u64);
        let new = NewTask {
            id: TaskId::new(self.now.wall.0, self.rng.next_u64(), partition),
            agent: Arc::clone(agent),
            tenant: Arc::clone(&self.tenant),
            input: Payload::inline(input.as_bytes()),
            priority: 5,
            fairness_key: key.map(|key| Arc::clone(&self.keys[key as usize])),
            tags: None,
            run_at: None,
            timeout_ms: None,
            deadline: None,
            max_attempts: None,
            budget: Budget::default(),
            key: None,
        };
        self.made += 1;
        let reply = ReplyTo { net: NetId(0), token: Token(self.made) };
        Command::Submit { reply, tasks: vec![new], when: AnswerWhen::Durable }
    }

    /// Submits a task for an outside worker and leases it.
    fn leased(&mut self) -> Holder {
        let commands = self.submissions(1, "work", "{}");
        self.run(commands);
        let reply = ReplyTo { net: NetId(0), token: Token(0) };
        let (agents, tenant) = (vec!["work".into()], Arc::clone(&self.tenant));
        let (max_tasks, lease_ms, waits) = (1, 3_600_000, false);
        self.leases.clear();
        self.run(vec![Command::Lease { reply, agents, tenant, max_tasks, lease_ms, waits }]);
        self.leases.pop().expect("a task was there to lease")
    }

    /// Hands commands in and takes turns until all is done and durable.
    fn run(&mut self, commands: Vec<Command>) {
        for command in commands {
            assert!(self.commands.try_send(command).is_ok(), "the ring has room");
        }
        self.now = Now { wall: self.now.wall + 1, mono: self.now.mono + 1 };
        loop {
            let turn = self.shard.turn(self.now, &mut self.links, || 0);
            let mut last = None;
            while let Some(batch) = self.batches.try_recv() {
                last = Some(batch.seq);
            }
            if let Some(through) = last {
                let ack = Ack::Durable { through, commit_us: 100 };
                assert!(self.acks.try_send(ack).is_ok(), "an ack a batch");
            }
            while let Some(effect) = self.effects.try_recv() {
                if let Effect::Reply { answer: Answer::Leases(grants), .. } = effect {
                    self.leases.extend(grants.iter().map(|grant| grant.holder));
                }
            }
            if last.is_none() && !turn.has_more && self.shard.is_settled() {
                return;
            }
        }
    }
}
