//! Partitions that go from one shard to another while both run, as they do between nodes: left,
//! loaded from the store once the leave is durable, adopted.

use super::node::Node;
use super::store::Store;
use crate::command::{Answer, Command};
use crate::control::placement;
use crate::event::Record;
use crate::id::{NetId, PartitionId, ReplyTo, TaskId, Token};
use crate::machine::LastStop;
use crate::rng::Rng;
use crate::task::State;
use std::collections::BTreeSet;

/// Who asks: no client has this token.
const MOVER: ReplyTo = ReplyTo { net: NetId(0), token: Token(u64::MAX) };

/// How far the move under way is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The shard was told to let it go.
    Leaving,
    /// It has: all of it is in the store.
    Left,
    /// The other one was told to take it.
    Adopting,
}

/// Which shard has which partition, and the move under way.
pub(super) struct Moves {
    /// Of its own, so that worlds which were noted down before stay as they are but for this.
    rng: Rng,
    homes: Vec<usize>,
    under_way: Option<(PartitionId, usize, Stage)>,
    /// Events that interrupt what ran when its partition moved: task and number.
    cut: BTreeSet<(TaskId, u32)>,
    pub(super) made: usize,
}

impl Moves {
    pub(super) fn new(seed: u64) -> Moves {
        let rng = Rng::new(seed ^ 0x6d6f_7665);
        Moves { rng, homes: Vec::new(), under_way: None, cut: BTreeSet::new(), made: 0 }
    }

    /// All shards start anew.
    pub(super) fn begin(&mut self, partitions: u16, shards: u16, store: &Store) {
        let home = |id| usize::from(placement(PartitionId(id), partitions, shards).0);
        self.homes = (0..partitions).map(home).collect();
        self.under_way = None;
        // What did not become durable did not happen.
        let durable = |id: &TaskId| store.histories.get(id).map_or(0, Vec::len);
        self.cut.retain(|(id, n)| (*n as usize) <= durable(id));
    }

    /// Whether an event interrupts a task for no other reason than that its partition moved.
    pub(super) fn has_cut(&self, record: &Record) -> bool {
        self.cut.contains(&(record.task, record.n))
    }

    /// The shard that is asked about a partition.
    pub(super) fn home(&self, id: PartitionId) -> usize {
        self.homes[usize::from(id.0)]
    }

    pub(super) fn is_theirs(to: ReplyTo) -> bool {
        to == MOVER
    }

    /// Perhaps tells a shard to let a partition go.
    pub(super) fn begin_one(&mut self, nodes: &mut [Node]) {
        if self.under_way.is_some() || !self.rng.chance(3) {
            return;
        }
        let partition = PartitionId(self.rng.index(self.homes.len()) as u16);
        let to = self.rng.index(nodes.len());
        let within_ms = self.rng.up_to(300);
        let leave = Command::Leave { reply: MOVER, partition, within_ms };
        if nodes[self.home(partition)].send(leave) {
            self.under_way = Some((partition, to, Stage::Leaving));
        }
    }

    /// A shard did as it was told, or has halted: then the process ends soon.
    pub(super) fn answered(&mut self, answer: &Answer) {
        let Some((partition, to, stage)) = self.under_way else { return };
        if !matches!(answer, Answer::Done) {
            return;
        }
        self.under_way = match stage {
            Stage::Leaving => Some((partition, to, Stage::Left)),
            Stage::Left => panic!("nobody was asked"),
            Stage::Adopting => {
                self.made += 1;
                None
            }
        };
    }

    /// Has the other shard take what was left, as the store has it.
    pub(super) fn go_on(&mut self, nodes: &mut [Node], store: &Store) {
        let Some((partition, to, Stage::Left)) = self.under_way else { return };
        let from = self.home(partition);
        let loaded = Box::new(store.load(partition));
        let runs = loaded.tasks.iter().filter(|task| task.state == State::Running);
        let cut: Vec<_> = runs.map(|task| (task.id, task.events + 1)).collect();
        let last_stop = LastStop::Clean;
        let adopt = Command::Adopt { reply: MOVER, partition, loaded, last_stop };
        if nodes[to].send(adopt) {
            self.cut.extend(cut);
            nodes[from].partitions.retain(|id| *id != partition);
            nodes[to].partitions.push(partition);
            self.homes[usize::from(partition.0)] = to;
            self.under_way = Some((partition, to, Stage::Adopting));
        }
    }
}
