//! What the world's clients ask for: the agents there are, and tasks drawn from the seed.

use crate::agent::definition::{Agent, Budget, Kind, Rate, Tool, ToolEffect, ToolKind};
use crate::command::partition_of_key;
use crate::id::{PartitionId, TaskId};
use crate::map::stable_hash;
use crate::payload::Payload;
use crate::permit::Permits;
use crate::retry::Retry;
use crate::rng::Rng;
use crate::task::{Key, NewTask};
use crate::time::Now;
use std::sync::Arc;

/// Names, definitions and permits of the world's agents.
pub(super) type Agents = Vec<(Arc<str>, Arc<Agent>, Arc<Permits>)>;

/// The tools of the loop agent, by their place.
const TOOLS: [(&str, ToolKind, ToolEffect); 4] = [
    ("look", ToolKind::Http, ToolEffect::Pure),
    ("book", ToolKind::Http, ToolEffect::Idempotent),
    ("pay", ToolKind::Http, ToolEffect::Unsafe),
    ("wait", ToolKind::Wait, ToolEffect::Pure),
];

/// One agent of each kind, some of them bounded.
pub(super) fn agents() -> Agents {
    let retry = Retry { base_ms: 20, factor: 2.0, cap_ms: 500 };
    let of = |kind| Agent { retry, ..Agent::of_kind(kind) };
    let tools = TOOLS.into_iter().map(|(name, kind, effect)| Tool {
        kind,
        name: (kind == ToolKind::Http).then(|| Arc::from(name)),
        description: None,
        url: (kind == ToolKind::Http).then(|| Arc::from("http://tool.test/")),
        method: None,
        effect: Some(effect),
        parameters: None,
    });
    let model = Agent {
        model: Some(Arc::from("m")),
        tools: tools.collect(),
        budget: Budget { max_iterations: Some(6) },
        ..of(Kind::Model)
    };
    let http = Agent {
        url: Some(Arc::from("http://agent.test/")),
        timeout_ms: Some(400),
        max_concurrency: Some(2),
        ..of(Kind::Http)
    };
    let rate = Rate { per_second: 200.0, burst: 4 };
    let worker =
        Agent { max_attempts: Some(3), max_concurrency_per_key: Some(2), ..of(Kind::Worker) };
    let all = [
        ("echo", of(Kind::Echo)),
        ("sleep", of(Kind::Sleep)),
        ("hook", http),
        ("pace", Agent { rate: Some(rate), ..of(Kind::Echo) }),
        ("work", worker),
        ("loop", model),
    ];
    all.into_iter()
        .map(|(name, agent)| {
            agent.check().expect("the world's agents are in order");
            let permits = Arc::new(Permits::new(agent.max_concurrency));
            (Arc::from(name), Arc::new(agent), permits)
        })
        .collect()
}

/// A task drawn from the seed; keyed ones come again and again.
pub(super) fn new_task(rng: &mut Rng, now: Now, partitions: u16) -> NewTask {
    let agents = ["echo", "sleep", "hook", "pace", "work", "work", "loop", "loop", "loop"];
    let agent = agents[rng.index(agents.len())];
    let key = rng.chance(30).then(|| {
        let name = rng.up_to(40);
        Key { hash: u128::from(stable_hash(&[&name.to_le_bytes()])), fingerprint: name / 20 }
    });
    let partition = match key {
        Some(key) => partition_of_key(key.hash, partitions),
        None => PartitionId(rng.up_to(u64::from(partitions) - 1) as u16),
    };
    let input = if agent == "sleep" {
        format!("{{\"ms\":{}}}", rng.up_to(300))
    } else {
        format!("{{\"n\":{}}}", rng.up_to(1_000))
    };
    NewTask {
        id: TaskId::new(now.wall.0, rng.next_u64(), partition),
        agent: Arc::from(agent),
        tenant: Arc::from(if rng.chance(70) { "a" } else { "b" }),
        input: Payload::inline(input.as_bytes()),
        priority: rng.up_to(9) as u8 / 3 * 3,
        fairness_key: rng.chance(50).then(|| Arc::from(format!("k{}", rng.up_to(3)).as_str())),
        tags: None,
        run_at: rng.chance(15).then(|| now.wall + rng.up_to(400)),
        timeout_ms: None,
        deadline: rng.chance(5).then(|| now.wall + rng.up_to(2_000)),
        max_attempts: rng.chance(20).then(|| 1 + rng.up_to(3) as u32),
        budget: Budget::default(),
        key,
        caller: None,
    }
}
