//! The agents as operators see them: which are held back by their breakers, told once in the log,
//! and whether so many are well that the node is.

use no_net::Registry;
use no_net::agents::is_builtin;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Of the agents that can fail, in percent, so many must be well.
const WELL_PERCENT_MIN: usize = 90;
/// Names that a fault gives.
const NAMES_MAX: usize = 5;

/// Agents that are held back on some shard, by name.
#[must_use]
pub fn held_back(registry: &Registry) -> Vec<Arc<str>> {
    let all = registry.all().into_iter();
    all.filter(|(_, known)| 0 < known.permits.held_back()).map(|(name, _)| name).collect()
}

/// What is wrong with the agents as a whole: too many are held back.
#[must_use]
pub fn fault(registry: &Registry) -> Option<String> {
    let all = registry.all();
    let all = all.iter().filter(|(name, _)| !is_builtin(name)).count();
    let held_back = held_back(registry);
    if all * WELL_PERCENT_MIN <= all.saturating_sub(held_back.len()) * 100 {
        return None;
    }
    let names: Vec<&str> = held_back.iter().take(NAMES_MAX).map(|name| &**name).collect();
    let more = if NAMES_MAX < held_back.len() { ", …" } else { "" };
    let count = held_back.len();
    Some(format!("{count} of {all} agents are held back by failures: {}{more}", names.join(", ")))
}

/// Watches for agents that come to be held back, and for those that are let go. One owner.
pub struct AgentsWatch {
    registry: Arc<Registry>,
    held_back: BTreeSet<Arc<str>>,
}

impl AgentsWatch {
    /// The watch over these.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> AgentsWatch {
        AgentsWatch { registry, held_back: BTreeSet::new() }
    }

    /// Looks, and logs what changed.
    pub fn look(&mut self) {
        let now: BTreeSet<Arc<str>> = held_back(&self.registry).into_iter().collect();
        for agent in now.difference(&self.held_back) {
            let so =
                "its attempts keep failing; tasks wait until a probe succeeds or it is resumed";
            tracing::warn!(target: "agent", %agent, so, "held back");
        }
        for agent in self.held_back.difference(&now) {
            tracing::info!(target: "agent", %agent, "let go");
        }
        self.held_back = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use no_engine::agent::definition::{Agent, Kind};
    use no_engine::event::AgentRow;

    fn registry(agents: usize) -> Registry {
        let row = |number| AgentRow {
            name: format!("agent-{number}").into(),
            agent: Arc::new(Agent::of_kind(Kind::Worker)),
            paused: false,
        };
        Registry::new(BTreeSet::new(), (0..agents).map(row).collect())
    }

    fn check(agents: usize, failing: usize, expected: Option<&str>) {
        let registry = registry(agents);
        for number in 0..failing {
            let known = registry.get(&format!("agent-{number}")).expect("is there");
            known.permits.hold_back();
        }
        assert_eq!(fault(&registry).as_deref(), expected, "{failing} of {agents}");
        assert_eq!(held_back(&registry).len(), failing);
    }

    #[test]
    fn a_tenth_may_be_held_back() {
        check(0, 0, None);
        check(1, 0, None);
        check(1, 1, Some("1 of 1 agents are held back by failures: agent-0"));
        check(20, 2, None);
        let named = "3 of 20 agents are held back by failures: agent-0, agent-1, agent-2";
        check(20, 3, Some(named));
        let all = "agent-0, agent-1, agent-2, agent-3, agent-4, …";
        check(9, 9, Some(&format!("9 of 9 agents are held back by failures: {all}")));
    }

    #[test]
    fn who_is_let_go_is_forgotten() {
        let registry = Arc::new(registry(2));
        let mut watch = AgentsWatch::new(Arc::clone(&registry));
        let permits = registry.get("agent-1").expect("is there").permits;
        permits.hold_back();
        watch.look();
        assert_eq!(watch.held_back.iter().map(|name| &**name).collect::<Vec<_>>(), ["agent-1"]);
        permits.let_go();
        watch.look();
        assert!(watch.held_back.is_empty());
    }
}
