//! The ready queue against a plain list.

use no_engine::id::{PartitionId, TaskId};
use no_engine::queue::{KeyId, LaneId, Ready, ReadyQueue};
use no_engine::time::Millis;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const AGEING_MS: u64 = 1_000;

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
fn the_longest_waiting_is_known_and_the_forgotten_do_not_count() {
    let mut queue = ReadyQueue::new(1_000);
    assert_eq!(queue.waiting_since(), None);
    for number in 0..4 {
        queue.push(ready(number, 0, 0, 5, 100 + number));
    }
    queue.push(ready(9, 1, 0, 0, 50));
    assert_eq!(queue.waiting_since(), Some(Millis(50)));
    assert_eq!(queue.pop_lane(LaneId(1), |_| true).map(|ready| ready.ready_at), Some(Millis(50)));
    let first = ready(0, 0, 0, 5, 100);
    queue.forget(first.task, first.ready_seq);
    assert_eq!(queue.waiting_since(), Some(Millis(101)));
    while queue.pop(|_, _| true).is_some() {}
    assert_eq!(queue.waiting_since(), None);
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
