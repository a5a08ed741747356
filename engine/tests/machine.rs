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
use no_engine::task::{NewTask, State, TaskError};
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
        budget: no_engine::agent::definition::Budget::default(),
        ..NewTask::plain(
            TaskId::new(NOW.wall.0, 7, PartitionId(0)),
            "work".into(),
            "a".into(),
            Payload::null(),
        )
    }
}

/// Decides about one command and gives its answer.
fn ask(machine: &mut Machine, command: Command) -> Answer {
    ask_at(machine, NOW, command)
}

/// The same at another time.
fn ask_at(machine: &mut Machine, now: Now, command: Command) -> Answer {
    machine.decide(now, command);
    machine.go_on_all(now);
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

/// So many ms after [`NOW`].
fn later(ms: u64) -> Now {
    Now { wall: NOW.wall + ms, mono: NOW.mono + ms }
}

/// A lease of the oldest task that may start.
fn lease_at(machine: &mut Machine, now: Now) -> Option<Holder> {
    let lease = Command::Lease {
        reply: REPLY,
        agents: vec!["work".into()],
        tenant: "a".into(),
        max_tasks: 1,
        lease_ms: 60_000,
        waits: false,
    };
    match ask_at(machine, now, lease) {
        Answer::Leases(grants) => grants.first().map(|grant| grant.holder),
        other => panic!("{other:?}"),
    }
}

fn report_at(machine: &mut Machine, now: Now, holder: Holder, report: Report) {
    let (tenant, reports) = ("a".into(), vec![(holder, report)]);
    match ask_at(machine, now, Command::Report { reply: REPLY, tenant, reports }) {
        Answer::Reports(results) => assert_eq!(results, [Ok(Reported::Taken)]),
        other => panic!("{other:?}"),
    }
}

fn failure(code: &str) -> Report {
    let (code, message) = (code.into(), "no".into());
    Report::Fail { error: TaskError { code, message, retryable: false } }
}

/// The machine with 100 tasks, of which the first 20 have failed with `code`.
fn after_failures(code: &str) -> (Machine, Arc<Permits>) {
    let mut machine = machine();
    let permits = Arc::new(Permits::new(None));
    let agent = Arc::new(Agent::of_kind(Kind::Worker));
    machine.know_agent(&"work".into(), Some((agent, false, Arc::clone(&permits))));
    for number in 0..100 {
        let new = NewTask { id: TaskId::new(NOW.wall.0, number, PartitionId(0)), ..task() };
        let (tasks, when) = (vec![new], AnswerWhen::Durable);
        ask(&mut machine, Command::Submit { reply: REPLY, tasks, when });
    }
    for attempt in 0..20 {
        assert_eq!(permits.held_back(), 0, "{attempt} failures are too few");
        let holder = lease_at(&mut machine, NOW).expect("it may start");
        report_at(&mut machine, NOW, holder, failure(code));
    }
    (machine, permits)
}

fn count(machine: &Machine, state: State) -> usize {
    let tasks = machine.partition(PartitionId(0)).expect("loaded").tasks.values();
    tasks.filter(|held| held.task.state == state).count()
}

#[test]
fn an_agent_that_keeps_failing_is_held_back_and_nothing_is_lost() {
    let (mut machine, permits) = after_failures("broken");
    assert_eq!((permits.held_back(), lease_at(&mut machine, later(9_999))), (1, None));
    assert_eq!((count(&machine, State::Failed), count(&machine, State::Queued)), (20, 80));
    // One probe at a time; it fails, so the pause is twice as long.
    let probe = lease_at(&mut machine, later(10_000)).expect("one may probe");
    assert_eq!(lease_at(&mut machine, later(10_000)), None);
    report_at(&mut machine, later(11_000), probe, failure("broken"));
    assert_eq!(lease_at(&mut machine, later(30_999)), None);
    let probe = lease_at(&mut machine, later(31_000)).expect("one may probe");
    let output = Payload::null();
    report_at(&mut machine, later(32_000), probe, Report::Complete { output });
    assert_eq!(permits.held_back(), 0);
    let rest = std::iter::from_fn(|| lease_at(&mut machine, later(32_000))).count();
    assert_eq!(rest, 78, "all others start");
}

#[test]
fn what_clients_do_holds_no_agent_back() {
    let (mut machine, permits) = after_failures("budget_exhausted");
    assert_eq!(permits.held_back(), 0);
    for _ in 0..30 {
        let holder = lease_at(&mut machine, NOW).expect("it may start");
        ask(&mut machine, Command::Cancel { reply: REPLY, task: holder.task });
    }
    assert_eq!(permits.held_back(), 0);
    assert!(lease_at(&mut machine, NOW).is_some());
}

#[test]
fn an_agent_that_is_changed_or_resumed_is_held_back_no_more() {
    let (mut machine, permits) = after_failures("broken");
    let agent = Arc::new(Agent::of_kind(Kind::Worker));
    machine.know_agent(&"work".into(), Some((agent, false, Arc::clone(&permits))));
    assert_eq!(permits.held_back(), 0);
    assert!(lease_at(&mut machine, NOW).is_some());
}

#[test]
fn workers_hear_of_a_probe_when_the_pause_is_over() {
    let (mut machine, _permits) = after_failures("broken");
    let lease = Command::Lease {
        reply: REPLY,
        agents: vec!["work".into()],
        tenant: "a".into(),
        max_tasks: 1,
        lease_ms: 60_000,
        waits: true,
    };
    ask_at(&mut machine, later(5_000), lease);
    assert_eq!(machine.sleep_ms(later(5_000)).map(|ms| ms <= 5_000), Some(true));
    let mut offers = |now: Now| {
        machine.go_on_all(now);
        let (_, gated) = machine.close(Seq(2));
        let offers =
            gated.iter().filter(|gated| matches!(gated, Gated::Effect(Effect::Offer { .. })));
        offers.count()
    };
    assert_eq!((offers(later(9_999)), offers(later(10_000)), offers(later(10_001))), (0, 1, 0));
}

#[test]
fn figures_tell_the_score_and_who_is_held_back() {
    let (mut machine, _permits) = after_failures("broken");
    let stats = |machine: &mut Machine, now: Now| {
        machine.decide(now, Command::Stats { reply: REPLY });
        match machine.take_at_once().pop() {
            Some(Effect::Reply { answer: Answer::Stats(stats), .. }) => {
                stats.agents["work"].clone()
            }
            other => panic!("{other:?}"),
        }
    };
    let now = stats(&mut machine, NOW);
    assert_eq!((now.recent.score(), now.is_held_back), (Some(0.0), true));
    let probe = lease_at(&mut machine, later(10_000)).expect("one may probe");
    report_at(&mut machine, later(11_000), probe, Report::Complete { output: Payload::null() });
    let now = stats(&mut machine, later(11_000));
    let score = now.recent.score().expect("tasks ended");
    assert!((score - 1.0 / 21.0).abs() < 1e-9, "{score}");
    assert!(!now.is_held_back);
    assert_eq!(stats(&mut machine, later(400_000)).recent.score(), None, "forgotten");
}

#[test]
fn slots_are_missed_by_what_would_take_them_alone() {
    let mut machine = machine();
    machine.set_shares(1, 2);
    let permits = Arc::new(Permits::new(Some(5)));
    let url = Some("http://x.test/".into());
    let http = Agent { url, max_concurrency: Some(5), ..Agent::of_kind(Kind::Http) };
    machine.know_agent(&"hook".into(), Some((Arc::new(http), false, permits)));
    for (number, agent) in (0..).zip(["hook", "work"].into_iter().cycle().take(20)) {
        let id = TaskId::new(NOW.wall.0, number, PartitionId(0));
        let tasks = vec![NewTask { id, agent: agent.into(), ..task() }];
        ask(&mut machine, Command::Submit { reply: REPLY, tasks, when: AnswerWhen::Durable });
    }
    // 10 want a slot, 2 have one, and the agent's own bound lets 3 more.
    assert_eq!((machine.slots_used(), machine.slots_missing()), (2, 3));
    machine.decide(NOW, Command::SetPool { slots: 9 });
    machine.go_on_all(NOW);
    assert_eq!((machine.slots_used(), machine.slots_missing()), (5, 0));
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
