//! Where two walks over the same ids meet, one from each end.
//!
//! A walk reads a piece, and claims it before it hands it on: what the other has claimed by then
//! falls away. Claims are made one after the other, so each id is claimed once; and neither walk
//! ends before it comes to what the other has, so none is left out.

use no_engine::id::TaskId;
use std::sync::{Mutex, PoisonError};

/// In which order a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the least id.
    Up,
    /// From the greatest.
    Down,
}

impl Way {
    /// As an order of SQL.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Way::Up => "ASC",
            Way::Down => "DESC",
        }
    }
}

/// How far both have come.
#[derive(Debug, Default)]
pub(super) struct Meeting(Mutex<Claimed>);

#[derive(Debug, Default)]
struct Claimed {
    /// The greatest id that the walk up has claimed.
    up: Option<TaskId>,
    /// The least that the walk down has.
    down: Option<TaskId>,
}

impl Meeting {
    /// Claims a piece, in the walk's order; what the other walk has falls away. True when there was
    /// any of that: then the walk is at its end.
    pub(super) fn claim<T>(&self, way: Way, piece: &mut Vec<T>, id: impl Fn(&T) -> TaskId) -> bool {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |one: &T| match way {
            Way::Up => claimed.down.is_none_or(|down| id(one) < down),
            Way::Down => claimed.up.is_none_or(|up| up < id(one)),
        };
        let free = piece.partition_point(is_free);
        let has_met = free < piece.len();
        piece.truncate(free);
        if let Some(last) = piece.last().map(id) {
            match way {
                Way::Up => claimed.up = Some(last),
                Way::Down => claimed.down = Some(last),
            }
        }
        has_met
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_engine::id::PartitionId;
    use no_engine::rng::Rng;

    fn id(n: usize) -> TaskId {
        TaskId::new(1, n as u64, PartitionId(0))
    }

    /// Two walks over `len` ids in pieces of `piece`, whose turns a seed chooses.
    fn walk(len: usize, piece: usize, seed: u64) -> Vec<TaskId> {
        let meeting = Meeting::default();
        let up: Vec<TaskId> = (0..len).map(id).collect();
        let down: Vec<TaskId> = up.iter().rev().copied().collect();
        let mut walks = [(Way::Up, up.chunks(piece)), (Way::Down, down.chunks(piece))].map(Some);
        let (mut taken, mut rng) = (Vec::new(), Rng::new(seed));
        while walks.iter().any(Option::is_some) {
            let walk = &mut walks[(rng.next_u64() % 2) as usize];
            let Some((way, chunks)) = walk else { continue };
            let Some(chunk) = chunks.next() else {
                *walk = None;
                continue;
            };
            let mut chunk = chunk.to_vec();
            let has_met = meeting.claim(*way, &mut chunk, |id| *id);
            taken.extend(chunk);
            if has_met {
                *walk = None;
            }
        }
        taken.sort();
        taken
    }

    #[test]
    fn each_id_is_claimed_once_wherever_they_meet() {
        for seed in 0..200 {
            for (len, piece) in [(0, 1), (1, 1), (2, 5), (7, 3), (64, 4), (100, 7)] {
                let all: Vec<TaskId> = (0..len).map(id).collect();
                assert_eq!(walk(len, piece, seed), all, "{len} ids, pieces of {piece}, {seed}");
            }
        }
    }
}
