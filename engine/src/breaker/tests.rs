//! The window slides, the breaker goes its way, and only the agent's own failures count.

use super::*;
use crate::id::PartitionId;

const RULES: BreakerRules =
    BreakerRules { attempts_min: 4, good_percent_min: 50, pause_ms: 1_000, pause_ms_max: 3_000 };

fn task(number: u64) -> TaskId {
    TaskId::new(number, number, PartitionId(0))
}

fn opened() -> Breaker {
    let mut breaker = Breaker::default();
    for number in 0..4 {
        assert!(!breaker.is_open(), "{number} attempts say nothing");
        breaker.ended(Mono(0), task(number), Verdict::Bad, &RULES);
    }
    assert_eq!(breaker.gate(Mono(999)), Gate::Until(Mono(1_000)));
    breaker
}

#[test]
fn what_ended_is_forgotten_after_five_minutes() {
    let mut window = Window::default();
    for minute in 0..20 {
        window.now(Mono(minute * 60_000)).good += 1;
        let sum = window.sum(Mono(minute * 60_000)).good;
        assert_eq!(sum, (minute + 1).min(5), "minute {minute}");
    }
    let last = 19 * 60_000;
    assert_eq!(window.sum(Mono(last + 269_999)).good, 1);
    assert_eq!(window.sum(Mono(last + 300_000)).good, 0);
    assert_eq!(window.sum(Mono(u64::MAX)).good, 0);
    // A clock that was read earlier finds what is there.
    assert_eq!(window.sum(Mono(0)).good, 5);
    window.now(Mono(u64::MAX)).good += 1;
    assert_eq!(window.sum(Mono(u64::MAX)).good, 1);
}

#[test]
fn the_score_is_the_good_share_times_the_share_in_time() {
    assert_eq!(Recent::default().score(), None);
    assert_eq!(Recent { bad: 9, ..Recent::default() }.score(), None, "no task ended");
    let check = |good, failed, in_time, expected: f64| {
        let score = Recent { good, bad: 0, failed, in_time }.score().expect("tasks ended");
        assert!((score - expected).abs() < 1e-9, "{good} {failed} {in_time}: {score}");
    };
    check(10, 0, 10, 1.0);
    check(8, 2, 10, 0.8);
    check(8, 2, 5, 0.4);
    check(0, 3, 3, 0.0);
}

#[test]
fn it_opens_when_too_few_are_good() {
    let check = |verdicts: &[Verdict], expected: bool| {
        let mut breaker = Breaker::default();
        for (number, verdict) in (0..).zip(verdicts) {
            breaker.ended(Mono(0), task(number), *verdict, &RULES);
        }
        assert_eq!(breaker.is_open(), expected, "{verdicts:?}");
    };
    use Verdict::{Bad, Good, None};
    check(&[Bad, Bad, Bad], false);
    check(&[Bad, Bad, Bad, Bad], true);
    check(&[Good, Good, Bad, Bad], false);
    check(&[Good, Good, Bad, Bad, Bad], true);
    check(&[None, Bad, None, Bad, None, Bad, None], false);
}

#[test]
fn one_attempt_probes_and_closes_it() {
    let mut breaker = opened();
    assert_eq!(breaker.gate(Mono(1_000)), Gate::Passes);
    breaker.started(task(9));
    assert_eq!(breaker.gate(Mono(9_000)), Gate::Probing);
    // What started before has no say.
    breaker.ended(Mono(1_100), task(1), Verdict::Good, &RULES);
    breaker.progressed(task(1));
    assert!(breaker.is_open());
    breaker.ended(Mono(1_200), task(9), Verdict::Good, &RULES);
    assert_eq!((breaker.is_open(), breaker.gate(Mono(1_200))), (false, Gate::Passes));
    // What failed before it opened is forgotten.
    breaker.ended(Mono(1_300), task(10), Verdict::Bad, &RULES);
    assert!(!breaker.is_open());
}

#[test]
fn a_probe_that_gets_somewhere_is_enough() {
    let mut breaker = opened();
    breaker.started(task(9));
    breaker.progressed(task(9));
    assert!(!breaker.is_open());
}

#[test]
fn pauses_grow_to_their_bound() {
    let mut breaker = opened();
    let mut now = Mono(1_000);
    for pause_ms in [2_000, 3_000, 3_000] {
        breaker.started(task(9));
        breaker.ended(now, task(9), Verdict::Bad, &RULES);
        assert_eq!(breaker.gate(now), Gate::Until(now + pause_ms));
        now = now + pause_ms;
        assert_eq!(breaker.gate(now), Gate::Passes);
    }
}

#[test]
fn a_probe_without_a_verdict_makes_place_for_the_next() {
    let mut breaker = opened();
    breaker.started(task(9));
    breaker.ended(Mono(5_000), task(9), Verdict::None, &RULES);
    assert_eq!((breaker.is_open(), breaker.gate(Mono(5_000))), (true, Gate::Passes));
}

#[test]
fn only_the_agents_own_failures_count() {
    let error = |code: &str| TaskError { code: code.into(), message: "".into(), retryable: true };
    let check = |state, code: &str, expected| {
        assert_eq!(Verdict::of(state, Some(&error(code))), expected, "{state:?} {code}");
    };
    check(State::Failed, "http_status", Verdict::Bad);
    check(State::Scheduled, "timeout", Verdict::Bad);
    check(State::Failed, "budget_exhausted", Verdict::None);
    check(State::Failed, "deadline_exceeded", Verdict::None);
    check(State::Failed, "invalid_input", Verdict::None);
    check(State::Cancelled, "http_status", Verdict::None);
    check(State::Waiting, "http_status", Verdict::None);
    assert_eq!(Verdict::of(State::Succeeded, None), Verdict::Good);
}
