//! Wheel, fair queue and ready queue against plain models.

use no_engine::fair::Fair;
use no_engine::id::{PartitionId, TaskId};
use no_engine::limits::TIMER_MS_MAX;
use no_engine::queue::{KeyId, LaneId, Ready, ReadyQueue};
use no_engine::time::Millis;
use no_engine::wheel::{TimerId, Wheel};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const AGEING_MS: u64 = 1_000;

// The wheel.

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

// The fair queue.

type ModelKey = (u8, VecDeque<(u32, u64)>, u32);

/// Deficit round robin as its authors wrote it: every turn is walked.
#[derive(Default)]
struct FairModel {
    ring: VecDeque<ModelKey>,
}

impl FairModel {
    fn push(&mut self, key: u8, cost: u32, item: u64) {
        match self.ring.iter_mut().find(|entry| entry.0 == key) {
            Some(entry) => entry.1.push_back((cost, item)),
            None => self.ring.push_back((key, VecDeque::from([(cost, item)]), 0)),
        }
    }

    fn pop_aged(&mut self, is_aged: impl Fn(u64) -> bool) -> Vec<(u8, u32, u64)> {
        let mut out = Vec::new();
        for (key, items, _) in &mut self.ring {
            while let Some((cost, item)) = items.pop_front_if(|first| is_aged(first.1)) {
                out.push((*key, cost, item));
            }
        }
        self.ring.retain(|entry| !entry.1.is_empty());
        out
    }

    fn pop(&mut self, eligible: impl Fn(u8) -> bool) -> Option<(u8, u64)> {
        if !self.ring.iter().any(|entry| eligible(entry.0)) {
            return None;
        }
        let mut at = 0;
        loop {
            let (key, items, deficit) = &mut self.ring[at];
            if !eligible(*key) {
                at += 1;
                continue;
            }
            let (key, cost) = (*key, items[0].0);
            if *deficit < cost {
                *deficit += 1;
            }
            let affords = cost <= *deficit;
            let item = affords.then(|| items.pop_front().expect("active").1);
            *deficit -= if affords { cost } else { 0 };
            if items.front().is_none_or(|first| *deficit < first.0) {
                let entry = self.ring.remove(at).expect("is there");
                if !entry.1.is_empty() {
                    self.ring.push_back(entry);
                }
            }
            if let Some(item) = item {
                return Some((key, item));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_fair_queue_serves_as_deficit_round_robin_does(
        acts in prop::collection::vec(
            prop_oneof![
                (0..6_u8, prop_oneof![Just(1), 1..9_u32]).prop_map(Ok),
                any::<u8>().prop_map(Err),
                Just(Ok((9, 0))),
            ],
            0..300,
        ),
    ) {
        let (mut fair, mut model) = (Fair::new(), FairModel::default());
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                // Out of turn, which leaves a key with credit for more than one item.
                Ok((_, 0)) => {
                    let (before, mut out) = (number.saturating_sub(9) as u64, Vec::new());
                    fair.pop_aged(|&item| item % 2 == 0 && item < before, &mut out);
                    prop_assert_eq!(out, model.pop_aged(|item| item % 2 == 0 && item < before));
                }
                Ok((key, cost)) => {
                    fair.push(key, cost, number as u64);
                    model.push(key, cost, number as u64);
                }
                Err(mask) => {
                    let mut asked = BTreeSet::new();
                    let popped = fair.pop(|key| {
                        assert!(asked.insert(key), "a key is asked for once");
                        mask & (1 << key) != 0
                    });
                    prop_assert_eq!(popped, model.pop(|key| mask & (1 << key) != 0));
                }
            }
            let held: usize = model.ring.iter().map(|entry| entry.1.len()).sum();
            fair.assert_valid();
            prop_assert_eq!(fair.len(), held);
            for (key, items, _) in &model.ring {
                prop_assert_eq!(fair.front(*key), items.front().map(|item| &item.1));
            }
        }
    }
}

#[test]
fn aged_items_leave_from_the_fronts_alone() {
    let mut fair = Fair::new();
    for (key, cost, item) in [(1, 1, 10), (1, 2, 99), (1, 1, 11), (2, 3, 12), (3, 1, 98)] {
        fair.push(key, cost, item);
    }
    let mut out = Vec::new();
    fair.pop_aged(|&item| item < 50, &mut out);
    assert_eq!(out, [(1, 1, 10), (2, 3, 12)]);
    assert_eq!(fair.front(2), None);
    assert_eq!(fair.len(), 3);
    assert_eq!(fair.pop(|_| true), Some((3, 98)), "the cheaper is affordable first");
    assert_eq!(fair.pop(|_| true), Some((1, 99)));
    assert_eq!(fair.pop(|_| true), Some((1, 11)));
    assert!(fair.is_empty());
}

// The ready queue.

fn ready(number: u64, lane: u32, key: u32, priority: u8, now_ms: u64) -> Ready {
    Ready {
        task: TaskId::new(now_ms, number, PartitionId(0)),
        lane: LaneId(lane),
        key: KeyId(key),
        priority,
        ready_seq: number,
        ready_at: Millis(now_ms),
    }
}

#[derive(Clone, Debug)]
enum QueueAct {
    Push { lane: u32, key: u32, priority: u8 },
    Forget(usize),
    Pop { lanes: u8, keys: u8 },
    PopLane { lane: u32, keys: u8 },
    Age { ms: u64, max: usize },
}

fn queue_act() -> impl Strategy<Value = QueueAct> {
    let mask = || prop_oneof![Just(0xff_u8), any::<u8>()];
    prop_oneof![
        6 => (0..4_u32, 0..5_u32, 0..10_u8)
            .prop_map(|(lane, key, priority)| QueueAct::Push { lane, key, priority }),
        2 => any::<usize>().prop_map(QueueAct::Forget),
        3 => (mask(), mask()).prop_map(|(lanes, keys)| QueueAct::Pop { lanes, keys }),
        1 => (0..4_u32, mask()).prop_map(|(lane, keys)| QueueAct::PopLane { lane, keys }),
        1 => (0..AGEING_MS, 1..4_usize).prop_map(|(ms, max)| QueueAct::Age { ms, max }),
    ]
}

/// A task with its level, when it came there, and its number among all that came anywhere.
type Waiting = (Ready, u8, u64, u64);

/// A ready queue and a plain list of what it should hold.
struct QueuePair {
    queue: ReadyQueue,
    model: Vec<Waiting>,
    came: u64,
    number: u64,
    now_ms: u64,
    /// The last `ready_seq` that left, by lane, key and priority.
    left: BTreeMap<(LaneId, KeyId, u8), u64>,
}

impl QueuePair {
    fn popped(&mut self, popped: Option<Ready>, eligible: impl Fn(LaneId, KeyId) -> bool) {
        let top = self.model.iter().filter(|w| eligible(w.0.lane, w.0.key)).map(|w| w.1).max();
        assert_eq!(popped.is_some(), top.is_some());
        let Some(ready) = popped else { return };
        assert!(eligible(ready.lane, ready.key));
        let first = self
            .model
            .iter()
            .filter(|w| Some(w.1) == top && (w.0.lane, w.0.key) == (ready.lane, ready.key))
            .min_by_key(|w| w.3);
        assert_eq!(first.map(|w| w.0), Some(ready), "the first that came to the highest level");
        self.model.retain(|w| w.0.ready_seq != ready.ready_seq);
        let before = self.left.insert((ready.lane, ready.key, ready.priority), ready.ready_seq);
        assert!(before < Some(ready.ready_seq), "order within key and priority");
    }

    fn age(&mut self, now_ms: u64, max: usize) {
        self.now_ms = now_ms;
        let mut calls = 0;
        while self.queue.age(Millis(now_ms), max) {
            calls += 1;
            assert!(calls <= 1_000, "ageing makes progress");
        }
        let mut due: Vec<&mut Waiting> =
            self.model.iter_mut().filter(|w| w.1 < 9 && w.2 + AGEING_MS <= now_ms).collect();
        due.sort_by_key(|w| (9 - w.1, w.3));
        for waiting in due {
            (waiting.1, waiting.2, waiting.3) = (waiting.1 + 1, now_ms, self.came);
            self.came += 1;
        }
    }

    fn act(&mut self, act: &QueueAct) {
        match *act {
            QueueAct::Push { lane, key, priority } => {
                let ready = ready(self.number, lane, key, priority, self.now_ms);
                self.queue.push(ready);
                self.model.push((ready, priority, self.now_ms, self.came));
                (self.number, self.came) = (self.number + 1, self.came + 1);
            }
            QueueAct::Forget(pick) => {
                if let Some(at) = pick.checked_rem(self.model.len()) {
                    let waiting = self.model.remove(at);
                    self.queue.forget(waiting.0.task, waiting.0.ready_seq);
                }
            }
            QueueAct::Pop { lanes, keys } => {
                let eligible = |lane: LaneId, key: KeyId| {
                    lanes & (1 << lane.0) != 0 && keys & (1 << key.0) != 0
                };
                let popped = self.queue.pop(eligible);
                self.popped(popped, eligible);
            }
            QueueAct::PopLane { lane, keys } => {
                let eligible = |key: KeyId| keys & (1 << key.0) != 0;
                let popped = self.queue.pop_lane(LaneId(lane), eligible);
                self.popped(popped, |of, key| of.0 == lane && eligible(key));
            }
            QueueAct::Age { ms, max } => self.age(self.now_ms + ms, max),
        }
        self.queue.assert_valid();
        assert_eq!(self.queue.len(), self.model.len());
        assert_eq!(self.queue.is_empty(), self.model.is_empty());
        for lane in (0..4).map(LaneId) {
            let held = self.model.iter().filter(|w| w.0.lane == lane).count();
            let said = self.queue.lane_len(lane);
            assert!(held <= said && said <= held + self.model.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_ready_queue_serves_as_a_plain_list_would(
        acts in prop::collection::vec(queue_act(), 0..300),
    ) {
        let queue = ReadyQueue::new(AGEING_MS);
        let (model, left) = (Vec::new(), BTreeMap::new());
        let mut pair = QueuePair { queue, model, came: 0, number: 0, now_ms: 0, left };
        acts.iter().for_each(|act| pair.act(act));
        while !pair.queue.is_empty() {
            pair.act(&QueueAct::Pop { lanes: 0xff, keys: 0xff });
        }
        prop_assert_eq!(pair.queue.pop(|_, _| true), None);
    }
}

#[test]
fn each_of_ten_thousand_keys_is_served_once_in_a_round() {
    const KEYS: u64 = 10_000;
    let mut queue = ReadyQueue::new(AGEING_MS);
    // The first key puts in a thousand times as much as the others, and all of it first.
    for number in 0..3_000 {
        queue.push(ready(number, 1, 0, 5, 0));
    }
    for number in 0..3 * (KEYS - 1) {
        let key = 1 + (number * 7_919) % (KEYS - 1);
        queue.push(ready(3_000 + number, 1, key as u32, 5, 0));
    }
    for _ in 0..3 {
        let round: BTreeSet<KeyId> =
            (0..KEYS).filter_map(|_| queue.pop(|_, _| true)).map(|ready| ready.key).collect();
        assert_eq!(round.len() as u64, KEYS);
    }
    assert_eq!(queue.len(), 3_000 - 3);
    assert_eq!(queue.lane_len(LaneId(1)), 3_000 - 3);
}

#[test]
fn lanes_take_turns_and_a_blocked_one_keeps_its_turn() {
    let mut queue = ReadyQueue::new(AGEING_MS);
    for number in 0..30 {
        queue.push(ready(number, (number / 10) as u32, number as u32, 5, 0));
    }
    let mut next = |blocked: u32| queue.pop(|lane, _| lane.0 != blocked).map(|r| r.lane.0);
    let lanes: Vec<_> = [9, 9, 0, 0, 9, 9, 9].into_iter().filter_map(&mut next).collect();
    assert_eq!(lanes, [0, 1, 2, 1, 0, 2, 1]);
}

#[test]
fn a_closed_lane_costs_one_question() {
    let mut queue = ReadyQueue::new(AGEING_MS);
    for number in 0..1_000 {
        queue.push(ready(number, (number % 2) as u32, number as u32, 5, 0));
    }
    let (mut lanes, mut keys) = (0, 0);
    let popped = queue.pop_open(
        |lane| {
            lanes += 1;
            lane == LaneId(1)
        },
        |_, _| {
            keys += 1;
            true
        },
    );
    assert_eq!(popped.map(|ready| ready.lane), Some(LaneId(1)));
    assert_eq!((lanes, keys), (2, 1));
}

#[test]
fn nothing_starves_below_a_busy_level() {
    let mut queue = ReadyQueue::new(AGEING_MS);
    queue.push(ready(0, 0, 0, 0, 0));
    let mut number = 0;
    for now_ms in (0..).step_by(100) {
        assert!(now_ms < 12 * AGEING_MS, "the task of priority 0 starves");
        // More urgent work than is taken, of other keys and lanes.
        for _ in 0..2 {
            number += 1;
            queue.push(ready(number, (number % 3) as u32, 1 + (number % 7) as u32, 9, now_ms));
        }
        while queue.age(Millis(now_ms), 10) {}
        let popped = queue.pop(|_, _| true).expect("there is work");
        if popped.ready_seq == 0 {
            break;
        }
    }
}

#[test]
fn a_clock_set_back_delays_ageing_by_one_wait_at_most() {
    let mut queue = ReadyQueue::new(AGEING_MS);
    for number in 0..10 {
        queue.push(ready(number, 0, number as u32, 0, 3_600_000));
    }
    queue.push(ready(10, 0, 10, 1, 5_000));
    assert!(!queue.age(Millis(5_000), 100) && !queue.age(Millis(5_000 + AGEING_MS), 100));
    // All rose by one: ten to 1 and the other to 2.
    assert_eq!(queue.pop(|_, _| true).map(|ready| ready.ready_seq), Some(10));
    queue.push(ready(11, 0, 99, 1, 6_000));
    let order: Vec<_> =
        std::iter::from_fn(|| queue.pop(|_, _| true)).map(|r| r.ready_seq).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
}

#[test]
#[should_panic(expected = "forgotten that was not held")]
fn forgetting_what_is_not_held_is_a_broken_invariant() {
    let mut queue = ReadyQueue::new(AGEING_MS);
    queue.forget(TaskId::new(1, 1, PartitionId(0)), 1);
}
