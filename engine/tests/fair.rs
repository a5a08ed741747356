//! The fair queue against deficit round robin, walked round by round.

use no_engine::fair::Fair;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

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
