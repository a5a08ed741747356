//! The machine by hand: bounds that the simulator's small worlds do not reach.

use no_engine::agent::definition::{Agent, Kind};
use no_engine::command::{Answer, AnswerWhen, Command, Holder, Refusal, Report, Reported};
use no_engine::effect::Effect;
use no_engine::id::{Fence, NetId, PartitionId, ReplyTo, Seq, ShardId, TaskId, Token};
use no_engine::limits::{HISTORY_BYTES_MAX, Limits, OUTPUT_BYTES_MAX};
use no_engine::machine::{Gated, LastStop, Machine};
use no_engine::payload::{Payload, hash};
use no_engine::permit::Permits;
use no_engine::port::Loaded;
use no_engine::task::{NewTask, State};
use no_engine::time::{Millis, Mono, Now};
use std::sync::Arc;

const REPLY: ReplyTo = ReplyTo { net: NetId(0), token: Token(1) };
const NOW: Now = Now { wall: Millis(1_000_000), mono: Mono(1) };

/// A machine with one partition and one agent of kind `worker`.
fn machine() -> Machine {
    let mut machine = Machine::new(ShardId(0), Limits::default(), NOW, 1);
    let agent = Arc::new(Agent::of_kind(Kind::Worker));
    machine.know_agent(&"work".into(), Some((agent, false, Arc::new(Permits::new(None)))));
    machine.load(NOW, PartitionId(0), Loaded::default(), LastStop::Clean);
    machine
}

fn task() -> NewTask {
    NewTask {
        id: TaskId::new(NOW.wall.0, 7, PartitionId(0)),
        agent: "work".into(),
        tenant: "a".into(),
        input: Payload::null(),
        priority: 5,
        fairness_key: None,
        tags: None,
        run_at: None,
        timeout_ms: None,
        deadline: None,
        max_attempts: None,
        budget: no_engine::agent::definition::Budget::default(),
        key: None,
        caller: None,
    }
}

/// Decides about one command and gives its answer.
fn ask(machine: &mut Machine, command: Command) -> Answer {
    machine.decide(NOW, command);
    machine.go_on_all(NOW);
    let (_, gated) = machine.close(Seq(1));
    let answers = gated.into_iter().filter_map(|gated| match gated {
        Gated::Effect(Effect::Reply { answer, .. }) => Some(answer),
        _ => None,
    });
    answers.last().expect("an answer")
}

fn leased(machine: &mut Machine) -> Holder {
    let (tasks, when) = (vec![task()], AnswerWhen::Durable);
    ask(machine, Command::Submit { reply: REPLY, tasks, when });
    let lease = Command::Lease {
        reply: REPLY,
        agents: vec!["work".into()],
        tenant: "a".into(),
        max_tasks: 1,
        lease_ms: 1_000,
        waits: false,
    };
    match ask(machine, lease) {
        Answer::Leases(grants) => grants[0].holder,
        other => panic!("{other:?}"),
    }
}

fn report(machine: &mut Machine, holder: Holder, report: Report) -> Result<Reported, Refusal> {
    let (tenant, reports) = ("a".into(), vec![(holder, report)]);
    match ask(machine, Command::Report { reply: REPLY, tenant, reports }) {
        Answer::Reports(mut results) => results.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_history_is_warned_of_once_and_full_at_its_bound() {
    let mut machine = machine();
    let holder = leased(&mut machine);
    let mut taken = 0;
    let refused = loop {
        let text = format!("\"{taken}{}\"", "x".repeat(OUTPUT_BYTES_MAX - 16));
        let result = Payload::new(text.as_bytes(), hash);
        let step = Report::Step { name: "big".into(), result };
        if let Err(refusal) = report(&mut machine, holder, step) {
            break refusal;
        }
        taken += 1;
        let is_long = HISTORY_BYTES_MAX / 5 <= taken * OUTPUT_BYTES_MAX as u64;
        assert_eq!(machine.stats().long_histories, u64::from(is_long), "after {taken} steps");
    };
    assert_eq!(refused, Refusal::HistoryFull);
    assert_eq!(taken, HISTORY_BYTES_MAX / OUTPUT_BYTES_MAX as u64);
    let output = Payload::null();
    let done = report(&mut machine, holder, Report::Complete { output });
    assert_eq!(done, Ok(Reported::Taken), "a full history does not keep a task from its end");
}

#[test]
fn a_step_that_is_sent_again_is_taken_once() {
    let mut machine = machine();
    let holder = leased(&mut machine);
    let step = || Report::Step { name: "one".into(), result: Payload::inline(b"1") };
    assert_eq!(report(&mut machine, holder, step()), Ok(Reported::Taken));
    assert_eq!(report(&mut machine, holder, step()), Ok(Reported::Taken));
    let partition = machine.partition(PartitionId(0)).expect("loaded");
    assert_eq!(partition.tasks.get(holder.task).expect("held").task.steps, 1);
}

#[test]
fn a_bound_that_comes_later_counts_what_runs() {
    let mut machine = machine();
    let holder = leased(&mut machine);
    let permits = Arc::new(Permits::new(Some(1)));
    let bounded = Agent { max_concurrency: Some(1), ..Agent::of_kind(Kind::Worker) };
    machine.know_agent(&"work".into(), Some((Arc::new(bounded), false, Arc::clone(&permits))));
    assert_eq!(permits.used(), 1);
    let unbounded = Arc::new(Agent::of_kind(Kind::Worker));
    machine.know_agent(&"work".into(), Some((Arc::clone(&unbounded), false, permits.clone())));
    assert_eq!(permits.used(), 0);
    let bounded = Agent { max_concurrency: Some(1), ..Agent::of_kind(Kind::Worker) };
    machine.know_agent(&"work".into(), Some((Arc::new(bounded), false, Arc::clone(&permits))));
    let output = Payload::null();
    let done = report(&mut machine, holder, Report::Complete { output });
    assert_eq!((done, permits.used()), (Ok(Reported::Taken), 0));
}

#[test]
fn a_stream_of_a_task_that_ends_in_the_same_turn_is_told_so() {
    let mut machine = machine();
    let holder = leased(&mut machine);
    let (task, output) = (holder.task, Payload::null());
    let reports = vec![(holder, Report::Complete { output })];
    machine.decide(NOW, Command::Report { reply: REPLY, tenant: "a".into(), reports });
    let told = ask(&mut machine, Command::Subscribe { reply: REPLY, task });
    let ended = Refusal::TaskEnded { task, state: State::Succeeded };
    assert!(matches!(&told, Answer::Refused(refusal) if *refusal == ended), "{told:?}");
    let later = ask(&mut machine, Command::Subscribe { reply: REPLY, task });
    assert!(matches!(later, Answer::Refused(Refusal::NotLive(_))), "{later:?}");
}

#[test]
fn after_a_restore_no_lease_of_before_is_good_not_even_one_given_after_the_backup() {
    let mut before = machine();
    let holder = leased(&mut before);
    let partition = before.partition(PartitionId(0)).expect("loaded");
    let task = partition.tasks.get(holder.task).expect("held").task.clone();

    let mut after = Machine::new(ShardId(0), Limits::default(), NOW, 2);
    after.set_fences_from(Fence(1 << 40));
    let agent = Arc::new(Agent::of_kind(Kind::Worker));
    after.know_agent(&"work".into(), Some((agent, false, Arc::new(Permits::new(None)))));
    let tasks = vec![task];
    let loaded = Loaded { tasks, ..Loaded::default() };
    after.load(NOW, PartitionId(0), loaded, LastStop::Clean);
    let done = |machine: &mut Machine, holder| {
        report(machine, holder, Report::Complete { output: Payload::null() })
    };
    assert_eq!(done(&mut after, holder), Err(Refusal::LeaseLost), "who had it at the backup");
    let lease = Command::Lease {
        reply: REPLY,
        agents: vec!["work".into()],
        tenant: "a".into(),
        max_tasks: 1,
        lease_ms: 1_000,
        waits: false,
    };
    let Answer::Leases(grants) = ask(&mut after, lease) else { panic!("leases") };
    let fresh = grants[0].holder;
    assert_eq!(fresh.attempt, holder.attempt.next());
    // What the lost store may have given to another worker meanwhile.
    let lost = (1..10).map(|n| Holder { fence: Fence(holder.fence.0 + n), ..fresh });
    for lost in lost {
        assert_eq!(done(&mut after, lost), Err(Refusal::LeaseLost), "{lost:?}");
    }
    assert_eq!(done(&mut after, fresh), Ok(Reported::Taken));
}
