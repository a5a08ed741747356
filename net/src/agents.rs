//! All agents, as the net cores know them: for the check before a submission, and as the place
//! where each agent's permits live.
//!
//! A change is kept durably first, then told to every shard, then seen here; one change at a time
//! on the whole node, so that all shards end with the same definition.

use crate::core::Core;
use crate::problem::{Code, Problem};
use no_engine::agent::definition::{Agent, Kind};
use no_engine::command::{Answer, Command};
use no_engine::event::AgentRow;
use no_engine::id::{ReplyTo, ShardId};
use no_engine::limits::AGENTS_MAX;
use no_engine::permit::Permits;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// One agent.
#[derive(Clone, Debug)]
pub struct Known {
    /// The definition.
    pub agent: Arc<Agent>,
    /// Whether its tasks are held back.
    pub paused: bool,
    /// What bounds its concurrency over all shards.
    pub permits: Arc<Permits>,
}

/// All agents of the node; shared by its net cores.
pub struct Registry {
    agents: RwLock<BTreeMap<Arc<str>, Known>>,
    /// Of the nodes that share out `max_concurrency`: our place, and how many.
    nodes: RwLock<(u32, u32)>,
    models: BTreeSet<Arc<str>>,
    changing: tokio::sync::Mutex<()>,
}

/// Whether an agent is always there and never changes.
#[must_use]
pub fn is_builtin(name: &str) -> bool {
    matches!(name, "echo" | "sleep")
}

impl Registry {
    /// The built-in agents and `rows`; later rows of one name replace earlier ones.
    #[must_use]
    pub fn new(models: BTreeSet<Arc<str>>, rows: Vec<AgentRow>) -> Registry {
        let builtin = [("echo", Kind::Echo), ("sleep", Kind::Sleep)].map(|(name, kind)| AgentRow {
            name: name.into(),
            agent: Arc::new(Agent::of_kind(kind)),
            paused: false,
        });
        let rows = rows.into_iter().filter(|row| !is_builtin(&row.name)).chain(builtin);
        let known = |row: AgentRow| {
            let permits = Arc::new(Permits::new(row.agent.max_concurrency));
            (row.name, Known { agent: row.agent, paused: row.paused, permits })
        };
        Registry {
            agents: RwLock::new(rows.map(known).collect()),
            nodes: RwLock::new((0, 1)),
            models,
            changing: tokio::sync::Mutex::new(()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Arc<str>, Known>> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent of that name, as the shared name and its kind: all that a submission needs.
    #[must_use]
    pub fn kind_of(&self, name: &str) -> Option<(Arc<str>, Kind)> {
        self.read().get_key_value(name).map(|(name, known)| (Arc::clone(name), known.agent.kind))
    }

    /// The agent of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Known> {
        self.read().get(name).cloned()
    }

    /// All, by name. At start the shards are told of them.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, Known)> {
        self.read().iter().map(|(name, known)| (Arc::clone(name), known.clone())).collect()
    }

    /// Whether a model of that name is configured.
    #[must_use]
    pub fn has_model(&self, name: &str) -> bool {
        self.models.contains(name)
    }

    /// This node's part of a bound: the parts of all nodes add up to it, where it is no less than
    /// their number; each has 1 at least.
    fn share(&self, max: Option<u32>) -> Option<u32> {
        let (place, nodes) = *self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        max.map(|max| (max / nodes + u32::from(place < max % nodes)).max(1))
    }

    /// The bounds are shared out among so many nodes from now on, of which this one has that place.
    pub(crate) fn set_nodes(&self, place: u32, nodes: u32) {
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = (place, nodes.max(1));
        for known in self.read().values() {
            known.permits.set_max(self.share(known.agent.max_concurrency));
        }
    }

    fn put(&self, name: &Arc<str>, known: Option<Known>) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => agents.insert(Arc::clone(name), known),
            None => agents.remove(name),
        };
    }
}

/// A change of one agent.
#[derive(Clone, Debug)]
pub enum Change {
    /// Define it, new or anew.
    Define(Box<Agent>),
    /// Hold its tasks back.
    Pause,
    /// Let them go on.
    Resume,
    /// Forget it.
    Delete,
}

/// Makes a change: durable, then known to every shard, then here. Gives the agent after it.
///
/// Runs to its end even when whoever asked is gone, as half a change would stay.
///
/// # Errors
/// 404, 409, 422, or what a shard refused.
pub async fn change(
    core: &Rc<Core>,
    name: Arc<str>,
    change: Change,
) -> Result<Option<Known>, Problem> {
    let core = Rc::clone(core);
    let made = tokio::task::spawn_local(async move { make(&core, &name, change).await });
    made.await.unwrap_or_else(|error| Err(Problem::internal(&error.to_string())))
}

async fn make(core: &Core, name: &Arc<str>, change: Change) -> Result<Option<Known>, Problem> {
    if is_builtin(name) {
        return Err(Problem::invalid("/name", "the built-in agents do not change"));
    }
    let _one_at_a_time = core.agents.changing.lock().await;
    let before = core.agents.get(name);
    let after = after(core, before.as_ref(), &change)?;
    if after.is_none() {
        refuse_if_live(core, name).await?;
    }
    let kept = after.as_ref().map(|known| (Arc::clone(&known.agent), known.paused));
    let keeper = ShardId(0);
    let keep = |reply| Command::KeepAgent { reply, name: Arc::clone(name), kept };
    done(core.answer(keeper, keep).await?)?;
    make_known(core, name, after.clone()).await?;
    Ok(after)
}

/// Makes agents known as they are kept, by changes that other nodes have made.
///
/// # Errors
/// What a shard refused.
pub(crate) async fn set_all(
    core: &Core,
    changes: Vec<crate::orders::AgentChange>,
) -> Result<(), Problem> {
    let _one_at_a_time = core.agents.changing.lock().await;
    for (name, kept) in changes.into_iter().filter(|(name, _)| !is_builtin(name)) {
        let permits = core.agents.get(&name).map(|known| known.permits);
        let after = kept.map(|(agent, paused)| {
            let permits = permits.unwrap_or_else(|| {
                Arc::new(Permits::new(core.agents.share(agent.max_concurrency)))
            });
            Known { agent, paused, permits }
        });
        make_known(core, &name, after).await?;
    }
    Ok(())
}

/// Tells every shard of an agent that is kept, and then all net cores.
async fn make_known(core: &Core, name: &Arc<str>, after: Option<Known>) -> Result<(), Problem> {
    // From here on there is no way back, and a full lane is waited for.
    let set = after
        .as_ref()
        .map(|known| (Arc::clone(&known.agent), known.paused, Arc::clone(&known.permits)));
    let tell =
        |reply: ReplyTo| Command::SetAgent { reply, name: Arc::clone(name), set: set.clone() };
    let told: Vec<_> =
        core.shards.all().map(|shard| core.ask_surely(shard, tell)).collect::<Result<_, _>>()?;
    if let Some(known) = &after {
        known.permits.set_max(core.agents.share(known.agent.max_concurrency));
    }
    core.agents.put(name, after);
    for asked in told {
        done(asked.answer().await)?;
    }
    Ok(())
}

fn after(core: &Core, before: Option<&Known>, change: &Change) -> Result<Option<Known>, Problem> {
    let unknown = || Problem::new(Code::AgentUnknown, "");
    match change {
        Change::Define(agent) => {
            if before.is_none() && AGENTS_MAX <= core.agents.read().len() {
                return Err(Problem::new(Code::OverLimit, "a node has at most 1000 agents"));
            }
            let permits = before.map(|known| Arc::clone(&known.permits));
            Ok(Some(Known {
                permits: permits.unwrap_or_else(|| {
                    Arc::new(Permits::new(core.agents.share(agent.max_concurrency)))
                }),
                paused: before.is_some_and(|known| known.paused),
                agent: Arc::new((**agent).clone()),
            }))
        }
        Change::Pause | Change::Resume => {
            let mut known = before.cloned().ok_or_else(unknown)?;
            known.paused = matches!(change, Change::Pause);
            Ok(Some(known))
        }
        Change::Delete => before.map(|_| None).ok_or_else(unknown),
    }
}

/// Refuses to forget an agent whose tasks have not all ended; dead letters do not count.
async fn refuse_if_live(core: &Core, name: &str) -> Result<(), Problem> {
    for stats in core.shard_stats().await {
        let stats = stats.ok_or_else(|| Problem::new(Code::ShardHalted, "no figures came"))?;
        let Some(agent) = stats.agents.get(name) else { continue };
        let states = no_engine::task::STATES.into_iter().filter(|state| !state.is_ended());
        let live: u64 = states.map(|state| agent.live_in(state)).sum();
        if 0 < live {
            return Err(Problem::new(Code::AgentInUse, "cancel its tasks or let them end"));
        }
    }
    Ok(())
}

fn done(answer: Answer) -> Result<(), Problem> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err(Problem::internal("a shard answered another question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_shared_out_and_nobody_has_none() {
        let registry = Registry::new(BTreeSet::new(), Vec::new());
        let shares = |max: Option<u32>, nodes: u32| -> Vec<Option<u32>> {
            let share = |place| {
                registry.set_nodes(place, nodes);
                registry.share(max)
            };
            (0..nodes).map(share).collect()
        };
        assert_eq!(shares(Some(7), 3), [Some(3), Some(2), Some(2)]);
        assert_eq!(shares(Some(2), 3), [Some(1), Some(1), Some(1)]);
        assert_eq!(shares(None, 2), [None, None]);
        assert_eq!(shares(Some(7), 1), [Some(7)]);
    }
}
