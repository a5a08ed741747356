//! The timing wheel against a sorted map.

use no_engine::limits::TIMER_MS_MAX;
use no_engine::wheel::{TimerId, Wheel};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum WheelAct {
    InsertAhead(u64),
    InsertBehind(u64),
    Cancel(usize),
    Forward(u64, usize),
    Back(u64, usize),
}

/// Distances that reach every level, the near ones often.
fn distance() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..3_u64,
        0..100_u64,
        0..5_000_u64,
        0..300_000_u64,
        0..=TIMER_MS_MAX * 2,
        any::<u64>(),
    ]
}

/// How many may fire: mostly few, so that advances are cut off.
fn fired_max() -> impl Strategy<Value = usize> {
    prop_oneof![0..4_usize, Just(1_000)]
}

fn wheel_act() -> impl Strategy<Value = WheelAct> {
    prop_oneof![
        4 => distance().prop_map(WheelAct::InsertAhead),
        1 => distance().prop_map(WheelAct::InsertBehind),
        2 => any::<usize>().prop_map(WheelAct::Cancel),
        3 => (distance(), fired_max()).prop_map(|(ms, max)| WheelAct::Forward(ms, max)),
        1 => (distance(), fired_max()).prop_map(|(ms, max)| WheelAct::Back(ms, max)),
    ]
}

/// A wheel and what it should hold: time and number of insertion.
struct WheelPair {
    wheel: Wheel<u64>,
    model: BTreeSet<(u64, u64)>,
    ids: Vec<(TimerId, u64)>,
    now_ms: u64,
}

impl WheelPair {
    fn insert(&mut self, at_ms: u64) {
        let number = self.ids.len() as u64;
        self.ids.push((self.wheel.insert(at_ms, number), at_ms));
        self.model.insert((at_ms, number));
    }

    fn advance(&mut self, now_ms: u64, max: usize) {
        self.now_ms = now_ms;
        let mut out = Vec::new();
        let more = self.wheel.advance(now_ms, max, &mut out);
        let due: Vec<_> =
            self.model.iter().copied().take_while(|key| key.0 <= now_ms).take(max).collect();
        due.iter().for_each(|key| assert!(self.model.remove(key)));
        assert_eq!(out, due.iter().map(|key| key.1).collect::<Vec<_>>());
        let left = self.model.first().is_some_and(|key| key.0 <= now_ms);
        assert!(more || !left, "more are due and it was not said");
        assert!(!more || out.len() == max, "it stopped early");
    }

    fn act(&mut self, act: &WheelAct) {
        match *act {
            WheelAct::InsertAhead(ms) => self.insert(self.now_ms.saturating_add(ms)),
            WheelAct::InsertBehind(ms) => self.insert(self.now_ms.saturating_sub(ms)),
            WheelAct::Cancel(pick) => {
                let Some(number) = pick.checked_rem(self.ids.len()) else { return };
                let (id, at_ms) = self.ids[number];
                let held = self.model.remove(&(at_ms, number as u64));
                assert_eq!(self.wheel.cancel(id), held.then_some(number as u64));
            }
            WheelAct::Forward(ms, max) => self.advance(self.now_ms.saturating_add(ms), max),
            WheelAct::Back(ms, max) => self.advance(self.now_ms.saturating_sub(ms), max),
        }
        self.wheel.assert_valid();
        assert_eq!(self.wheel.len(), self.model.len());
        assert_eq!(self.wheel.is_empty(), self.model.is_empty());
        let first = self.model.first().map(|key| key.0);
        assert_eq!(self.wheel.next_at_ms().is_some(), first.is_some());
        assert!(self.wheel.next_at_ms() <= first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_wheel_fires_as_a_sorted_map_would(
        start in prop_oneof![Just(0), Just(1_764_000_000_000_u64), any::<u64>()],
        acts in prop::collection::vec(wheel_act(), 0..200),
    ) {
        let (model, ids) = (BTreeSet::new(), Vec::new());
        let mut pair = WheelPair { wheel: Wheel::new(start), model, ids, now_ms: start };
        acts.iter().for_each(|act| pair.act(act));
        // Nothing is lost: at the end of time all that is left comes out, in order.
        pair.advance(u64::MAX, usize::MAX);
        prop_assert!(pair.wheel.is_empty());
    }
}

#[test]
fn a_huge_slot_comes_down_in_pieces_and_in_order() {
    let mut wheel = Wheel::new(0);
    let at_ms = |number: u64| 1_000_000 + number % 700;
    let mut expected: Vec<u64> = (0..20_000).collect();
    let ids: Vec<_> = expected.iter().map(|&n| wheel.insert(at_ms(n), n)).collect();
    let (mut out, mut calls) = (Vec::new(), 0);
    // Between the pieces more timers of the same times come in and some are cancelled.
    while wheel.advance(1_000_000 + 2_000, 100, &mut out) {
        if calls < 50 {
            let number = expected.len() as u64;
            wheel.insert(at_ms(699), 1_000_000 + number);
            expected.push(1_000_000 + number);
        }
        if calls == 3 {
            assert_eq!(wheel.cancel(ids[19_000]), Some(19_000));
            expected.retain(|&n| n != 19_000);
        }
        calls += 1;
        assert!(calls < 1_000, "an advance makes progress");
    }
    expected.sort_by_key(|&n| (if n < 1_000_000 { n % 700 } else { 699 }, n));
    assert_eq!(out, expected);
    assert!(wheel.is_empty());
}

#[test]
fn a_clock_set_back_in_the_middle_of_a_huge_slot_loses_nothing() {
    let mut wheel = Wheel::new(0);
    for number in 0..10_000_u64 {
        wheel.insert(300_000 + number % 100, number);
    }
    let mut out = Vec::new();
    assert!(wheel.advance(400_000, 10, &mut out));
    wheel.advance(1_000, 10, &mut out);
    assert!(out.len() <= 10, "nothing fires before its time by the new clock");
    let before = out.len();
    while wheel.advance(300_050, 1_000, &mut out) {}
    assert!(out[before..].iter().all(|n| n % 100 <= 50));
    while wheel.advance(400_000, 1_000, &mut out) {}
    assert!(out[before..].is_sorted_by_key(|n| (n % 100, *n)));
    out.sort();
    assert_eq!(out, (0..10_000).collect::<Vec<_>>());
}
