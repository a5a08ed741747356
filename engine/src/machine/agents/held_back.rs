//! Agents that are held back by their breakers.

use super::{Agents, Gate};
use crate::breaker::{Breaker, Window};
use crate::queue::LaneId;
use crate::time::Mono;

impl Agents {
    /// What ended lately of a lane's agent.
    pub(in crate::machine) fn window_mut(&mut self, lane: LaneId) -> &mut Window {
        &mut self.entries[self.lanes[lane.0 as usize].entry].window
    }

    /// Agents whose breaker is open.
    pub(in crate::machine) fn held_back_len(&self) -> usize {
        self.held_back.len()
    }

    /// Whether the breaker of a lane's agent is open.
    pub(in crate::machine) fn is_held_back(&self, lane: LaneId) -> bool {
        self.entries[self.lanes[lane.0 as usize].entry].breaker.is_open()
    }

    /// Changes the breaker of a lane's agent; whether it closed by that.
    pub(in crate::machine) fn change_breaker(
        &mut self,
        lane: LaneId,
        change: impl FnOnce(&mut Breaker),
    ) -> bool {
        self.move_breaker(self.lanes[lane.0 as usize].entry, change)
    }

    /// The same by the agent's place.
    pub(super) fn move_breaker(&mut self, at: usize, change: impl FnOnce(&mut Breaker)) -> bool {
        let entry = &mut self.entries[at];
        let was_open = entry.breaker.is_open();
        change(&mut entry.breaker);
        let is_open = entry.breaker.is_open();
        match (was_open, is_open) {
            (false, true) => entry.permits.hold_back(),
            (true, false) => entry.permits.let_go(),
            (true, true) | (false, false) => {}
        }
        if is_open {
            let tell_at = match entry.breaker.gate(Mono(0)) {
                Gate::Until(at) => Some(at),
                Gate::Passes => Some(Mono(0)),
                Gate::Probing => None,
            };
            self.held_back.insert(at, tell_at);
        } else if was_open {
            self.held_back.remove(&at);
        }
        was_open && !is_open
    }

    /// All lanes of a lane's agent.
    pub(in crate::machine) fn lanes_beside(&self, lane: LaneId) -> Vec<LaneId> {
        self.entries[self.lanes[lane.0 as usize].entry].lanes.values().copied().collect()
    }

    /// A lane of each agent of which an attempt may probe now; each is given once for a pause.
    pub(in crate::machine) fn take_probes_due(&mut self, now: Mono) -> Vec<LaneId> {
        let mut due = Vec::new();
        for (at, tell_at) in &mut self.held_back {
            if tell_at.is_some_and(|tell_at| tell_at <= now) {
                *tell_at = None;
                due.extend(self.entries[*at].lanes.values().next());
            }
        }
        due
    }
}
