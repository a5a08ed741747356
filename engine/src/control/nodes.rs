//! Which partitions a node takes and which it gives away, when several share a store. Each node
//! decides for itself, from the rows that all of them read: what two decide from the same rows
//! fits together, and where the rows differ the fences in the store let one of them win.
//!
//! Whether a node lives is told by a number that it counts up: one that did not move for a lease,
//! by the clock of who looks, is dead. No clock is compared with another's. A node that could not
//! look for a while begins anew: what kept it from looking may have kept the others from counting.

use crate::id::{Fence, PartitionId};
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node's name, which no other has.
pub type NodeName = Arc<str>;

/// A node as the store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRow {
    /// Its name.
    pub name: NodeName,
    /// Which start under that name it is.
    pub incarnation: i64,
    /// What it counts up.
    pub beat: i64,
    /// Whether it is on its way out and gives all that it has away.
    pub is_draining: bool,
}

/// A partition as the store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRow {
    /// Which.
    pub id: PartitionId,
    /// Whose it is; `None` when it was left in good order and nobody has it.
    pub owner: Option<NodeName>,
    /// Counts its owners.
    pub fence: Fence,
}

/// What one node has seen of the others.
#[derive(Debug)]
pub struct NodeWatch {
    lease_ms: u64,
    seen: BTreeMap<NodeName, Seen>,
    looked_at: Option<Mono>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    incarnation: i64,
    beat: i64,
    since: Mono,
}

impl NodeWatch {
    /// Nothing seen yet; a node is dead when it does not count for `lease_ms`.
    #[must_use]
    pub fn new(lease_ms: u64) -> NodeWatch {
        NodeWatch { lease_ms, seen: BTreeMap::new(), looked_at: None }
    }

    /// Looks at all nodes' rows, which were read after `now`. Gives the names of the dead.
    pub fn look(&mut self, now: Mono, nodes: &[NodeRow]) -> BTreeSet<NodeName> {
        let is_late = self.looked_at.is_none_or(|at| at + self.lease_ms / 2 < now);
        self.looked_at = Some(now);
        self.seen.retain(|name, _| nodes.iter().any(|node| node.name == *name));
        let mut dead = BTreeSet::new();
        for node in nodes {
            let NodeRow { name, incarnation, beat, .. } = node;
            let new = Seen { incarnation: *incarnation, beat: *beat, since: now };
            let seen = self.seen.entry(Arc::clone(name)).or_insert(new);
            if is_late || (seen.incarnation, seen.beat) != (*incarnation, *beat) {
                *seen = new;
            }
            if seen.since + self.lease_ms <= now {
                dead.insert(Arc::clone(name));
            }
        }
        dead
    }
}

/// What a node should do about its partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Moves {
    /// To be taken, each with the row that this was decided from.
    pub take: Vec<PartitionRow>,
    /// To be given to that node.
    pub give: Vec<(PartitionId, NodeName)>,
}

/// Partitions that a node gives away at a time, unless it drains.
pub const GIVES_MAX: usize = 8;

/// What `me`, which holds `held`, should do. `dead` are nodes that count for none.
///
/// Every node that stays has as many partitions as any other, or one more; what has no living owner
/// goes to those that lack some, in the order of names, and only then others give what they have
/// too much of.
#[must_use]
pub fn moves(
    me: &str,
    held: &BTreeSet<PartitionId>,
    nodes: &[NodeRow],
    dead: &BTreeSet<NodeName>,
    partitions: &[PartitionRow],
) -> Moves {
    let living = |name: &str| nodes.iter().any(|node| &*node.name == name) && !dead.contains(name);
    let staying: BTreeSet<&NodeName> = nodes
        .iter()
        .filter(|node| !node.is_draining && !dead.contains(&node.name))
        .map(|node| &node.name)
        .collect();
    let owner = |row: &PartitionRow| row.owner.clone().filter(|owner| living(owner));
    let mut wants: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for (place, name) in staying.iter().enumerate() {
        let (each, more) = (partitions.len() / staying.len(), partitions.len() % staying.len());
        let owned = partitions.iter().filter(|row| owner(row).as_ref() == Some(name)).count();
        wants.insert(name, (each + usize::from(place < more)).saturating_sub(owned));
    }
    let mut moves = Moves::default();
    for row in partitions {
        let to = match owner(row) {
            // Given to us, or an earlier start of ours had it.
            Some(owner) if *owner == *me && !held.contains(&row.id) => Some(owner),
            Some(_) => None,
            None => next_wanting(&mut wants),
        };
        if to.is_some_and(|to| *to == *me) {
            moves.take.push(row.clone());
        }
    }
    let too_many = surplus(partitions, &staying, owner);
    let is_draining = nodes.iter().any(|node| *node.name == *me && node.is_draining);
    for (from, row) in too_many {
        let Some(to) = next_wanting(&mut wants) else { break };
        if *from == *me && (is_draining || moves.give.len() < GIVES_MAX) {
            moves.give.push((row, to));
            moves.take.retain(|taken| taken.id != row);
        }
    }
    moves
}

/// The next node that lacks a partition, which it then lacks no more.
fn next_wanting(wants: &mut BTreeMap<&NodeName, usize>) -> Option<NodeName> {
    let (name, want) = wants.iter_mut().find(|(_, want)| 0 < **want)?;
    *want -= 1;
    Some(Arc::clone(name))
}

/// What living nodes have too much of, by owner; all of those that do not stay.
fn surplus(
    partitions: &[PartitionRow],
    staying: &BTreeSet<&NodeName>,
    owner: impl Fn(&PartitionRow) -> Option<NodeName>,
) -> Vec<(NodeName, PartitionId)> {
    let mut owned: BTreeMap<NodeName, Vec<PartitionId>> = BTreeMap::new();
    for row in partitions {
        if let Some(owner) = owner(row) {
            owned.entry(owner).or_default().push(row.id);
        }
    }
    let mut surplus = Vec::new();
    for (name, ids) in owned {
        let place = staying.iter().position(|staying| **staying == name);
        let target = place.map_or(0, |place| {
            let (each, more) = (partitions.len() / staying.len(), partitions.len() % staying.len());
            each + usize::from(place < more)
        });
        surplus.extend(ids.into_iter().skip(target).map(|id| (Arc::clone(&name), id)));
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, beat: i64) -> NodeRow {
        NodeRow { name: name.into(), incarnation: 1, beat, is_draining: false }
    }

    fn row(id: u16, owner: Option<&str>) -> PartitionRow {
        PartitionRow { id: PartitionId(id), owner: owner.map(Into::into), fence: Fence(1) }
    }

    fn held(rows: &[PartitionRow], me: &str) -> BTreeSet<PartitionId> {
        let mine = rows.iter().filter(|row| row.owner.as_deref() == Some(me));
        mine.map(|row| row.id).collect()
    }

    /// Lets all nodes decide and do it, until nobody has anything to do; the owned counts.
    fn settle(nodes: &[NodeRow], dead: &[&str], rows: &mut [PartitionRow]) -> Vec<usize> {
        let dead: BTreeSet<NodeName> = dead.iter().map(|name| (*name).into()).collect();
        for _ in 0..100 {
            let mut is_quiet = true;
            for node in nodes.iter().filter(|node| !dead.contains(&node.name)) {
                let mine = held(rows, &node.name);
                let Moves { take, give } = moves(&node.name, &mine, nodes, &dead, rows);
                is_quiet &= take.is_empty() && give.is_empty();
                for taken in take {
                    let at = &mut rows[usize::from(taken.id.0)];
                    assert_eq!(*at, taken, "two nodes take one partition");
                    at.owner = Some(Arc::clone(&node.name));
                    at.fence = at.fence.next();
                }
                for (id, to) in give {
                    assert_eq!(rows[usize::from(id.0)].owner.as_ref(), Some(&node.name));
                    rows[usize::from(id.0)].owner = Some(to);
                }
            }
            if is_quiet {
                return nodes.iter().map(|node| held(rows, &node.name).len()).collect();
            }
        }
        panic!("the nodes never come to rest");
    }

    #[test]
    fn partitions_are_spread_evenly_whoever_comes_and_goes() {
        let mut rows: Vec<PartitionRow> = (0..64).map(|id| row(id, None)).collect();
        let one = [node("a", 1)];
        assert_eq!(settle(&one, &[], &mut rows), [64]);
        let mut three = vec![node("a", 2), node("b", 1), node("c", 1)];
        assert_eq!(settle(&three, &[], &mut rows), [22, 21, 21]);
        assert_eq!(settle(&three, &["b"], &mut rows), [32, 0, 32], "its partitions are taken over");
        three[0].is_draining = true;
        assert_eq!(settle(&three, &["b"], &mut rows), [0, 0, 64]);
        three[2].is_draining = true;
        assert_eq!(settle(&three, &["b"], &mut rows), [0, 0, 64], "the last one keeps them");
    }

    #[test]
    fn what_moves_is_no_more_than_must() {
        let mut rows: Vec<PartitionRow> = (0..64).map(|id| row(id, None)).collect();
        settle(&[node("a", 1), node("b", 1)], &[], &mut rows);
        let before = rows.clone();
        settle(&[node("a", 1), node("b", 1), node("c", 1)], &[], &mut rows);
        let moved = before.iter().zip(&rows).filter(|(before, after)| before != after).count();
        assert_eq!(moved, 21);
    }

    #[test]
    fn an_earlier_start_is_inherited_and_a_gift_is_taken() {
        let rows = [row(0, Some("a")), row(1, Some("a"))];
        let held = BTreeSet::from([PartitionId(1)]);
        let Moves { take, give } = moves("a", &held, &[node("a", 1)], &BTreeSet::new(), &rows);
        assert_eq!((take, give), (vec![rows[0].clone()], vec![]));
    }

    #[test]
    fn who_does_not_count_for_a_lease_is_dead_and_a_blind_watch_begins_anew() {
        let mut watch = NodeWatch::new(1_000);
        let is_dead = |watch: &mut NodeWatch, at: u64, beat: i64| {
            !watch.look(Mono(at), &[node("a", beat)]).is_empty()
        };
        assert!(!is_dead(&mut watch, 0, 7));
        assert!(!is_dead(&mut watch, 400, 7));
        assert!(!is_dead(&mut watch, 800, 8), "it counted");
        assert!(!is_dead(&mut watch, 1_300, 8));
        assert!(!is_dead(&mut watch, 1_799, 8));
        assert!(is_dead(&mut watch, 1_800, 8));
        assert!(!is_dead(&mut watch, 1_900, 9), "it was only slow");
        assert!(!is_dead(&mut watch, 9_000, 9), "nobody looked for long: a whole lease again");
        assert!(!is_dead(&mut watch, 9_500, 9));
        assert!(is_dead(&mut watch, 10_000, 9));
    }

    #[test]
    fn another_start_under_the_name_counts_as_life() {
        let mut watch = NodeWatch::new(1_000);
        let mut again = node("a", 1);
        watch.look(Mono(0), &[again.clone()]);
        watch.look(Mono(500), &[again.clone()]);
        again.incarnation = 2;
        assert!(watch.look(Mono(1_000), &[again.clone()]).is_empty());
    }
}
