//! Lease tasks, with a long poll over all shards.
//!
//! Each shard is asked in turn, beginning with another one each time, so that no shard's tasks are
//! always last. When none has anything, every shard is told to remember us; the first that gets
//! something offers, and is asked first.

use crate::admit;
use crate::api::steps;
use crate::core::{Asked, Core, Phase, until};
use crate::extract::{Request, check_name};
use crate::json::{push_str, push_u64};
use crate::opaque::{self, StepsCursor};
use crate::problem::{Code, Problem};
use crate::render::{json, push_id, push_key, push_payload, resolve};
use crate::route::Outcome;
use crate::time::push_time;
use crate::wire;
use hyper::StatusCode;
use no_engine::agent::definition::Kind;
use no_engine::command::{Answer, Command, Grant};
use no_engine::id::{ShardId, Step};
use no_engine::limits::{
    LEASE_MS, LEASE_MS_MAX, LEASE_MS_MIN, LEASES_PER_CALL_MAX, LIST_LEN_MAX, WAIT_MS_MAX,
};
use serde::Deserialize;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Agents that one call may name.
const AGENTS_PER_CALL_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseBody {
    agents: Vec<String>,
    #[serde(default)]
    max_tasks: Option<usize>,
    #[serde(default)]
    wait_ms: Option<u64>,
    #[serde(default)]
    lease_ms: Option<u64>,
}

struct Wanted {
    agents: Vec<Arc<str>>,
    tenant: Arc<str>,
    max_tasks: usize,
    lease_ms: u64,
    wait_ms: u64,
}

/// `POST /v1/worker/lease`: `{"leases":[…]}`, perhaps none.
pub(in crate::api) async fn lease(mut request: Request) -> Outcome {
    request.no_query()?;
    admit::leases(&request.core)?;
    let body = request.json().await?;
    let core = &request.core;
    let wanted = wanted(core, wire::parse(&body)?, request.tenant())?;
    let deadline = Instant::now() + Duration::from_millis(wanted.wait_ms);
    let mut first = core.rng.borrow_mut().index(usize::from(core.shards.len())) as u16;
    let grants = loop {
        let grants = ask_each(core, &wanted, first).await?;
        if !grants.is_empty() || deadline <= Instant::now() {
            break grants;
        }
        match wait(core, &wanted, deadline).await? {
            Waited::Granted(grants) => break grants,
            Waited::Offered(shard) => first = shard.0,
            Waited::InVain => break Vec::new(),
        }
    };
    render(core, grants).await
}

fn wanted(core: &Core, sent: LeaseBody, tenant: Arc<str>) -> Result<Wanted, Problem> {
    if !matches!(sent.agents.len(), 1..=AGENTS_PER_CALL_MAX) {
        return Err(Problem::invalid("/agents", "must name 1 to 64 agents"));
    }
    let mut agents = Vec::with_capacity(sent.agents.len());
    for (i, name) in sent.agents.iter().enumerate() {
        check_name(name).map_err(|why| Problem::invalid(format!("/agents/{i}"), why))?;
        match core.agents.kind_of(name) {
            None => return Err(Problem::new(Code::AgentUnknown, format!("no agent {name}"))),
            Some((name, Kind::Worker)) => agents.push(name),
            Some(_) => {
                return Err(Problem::invalid(format!("/agents/{i}"), "is not of kind worker"));
            }
        }
    }
    let max_tasks = sent.max_tasks.unwrap_or(1);
    if !matches!(max_tasks, 1..=LEASES_PER_CALL_MAX) {
        return Err(Problem::invalid("/max_tasks", "must be between 1 and 100"));
    }
    let lease_ms = lease_ms_of(sent.lease_ms)?.unwrap_or(LEASE_MS);
    let wait_ms = sent.wait_ms.unwrap_or(0);
    if WAIT_MS_MAX < wait_ms {
        return Err(Problem::invalid("/wait_ms", "must be at most 60000"));
    }
    Ok(Wanted { agents, tenant, max_tasks, lease_ms, wait_ms })
}

/// Checks a lease's time.
pub(super) fn lease_ms_of(lease_ms: Option<u64>) -> Result<Option<u64>, Problem> {
    if lease_ms.is_some_and(|ms| !matches!(ms, LEASE_MS_MIN..=LEASE_MS_MAX)) {
        return Err(Problem::invalid("/lease_ms", "must be between 100 and 3600000"));
    }
    Ok(lease_ms)
}

enum Waits {
    No,
    Yes,
}

fn ask(
    core: &Core,
    shard: ShardId,
    wanted: &Wanted,
    max_tasks: usize,
    waits: Waits,
) -> Result<Asked, Problem> {
    core.ask(shard, |reply| Command::Lease {
        reply,
        agents: wanted.agents.clone(),
        tenant: Arc::clone(&wanted.tenant),
        max_tasks,
        lease_ms: wanted.lease_ms,
        waits: matches!(waits, Waits::Yes),
    })
}

async fn granted(asked: &Asked) -> Result<Vec<Grant>, Problem> {
    match asked.answer().await {
        Answer::Leases(grants) => Ok(grants),
        Answer::Refused(refusal) => {
            asked.settled();
            Err(refusal.into())
        }
        _ => Err(Problem::internal("a shard answered another question")),
    }
}

/// Asks the shards in turn until there are enough. What was granted is never dropped for a refusal.
async fn ask_each(core: &Core, wanted: &Wanted, first: u16) -> Result<Vec<Grant>, Problem> {
    let mut grants: Vec<Grant> = Vec::new();
    let shards = core.shards.len();
    for i in 0..shards {
        let shard = ShardId((first + i) % shards);
        let more = wanted.max_tasks - grants.len();
        let came = match ask(core, shard, wanted, more, Waits::No) {
            Ok(asked) => granted(&asked).await,
            Err(problem) => Err(problem),
        };
        match came {
            Ok(came) => grants.extend(came),
            Err(problem) if grants.is_empty() => return Err(problem),
            Err(_) => break,
        }
        if wanted.max_tasks <= grants.len() {
            break;
        }
    }
    Ok(grants)
}

enum Waited {
    Granted(Vec<Grant>),
    Offered(ShardId),
    InVain,
}

/// Has every shard remember us, and waits for the first offer. Dropping what was asked takes it
/// back.
async fn wait(core: &Core, wanted: &Wanted, deadline: Instant) -> Result<Waited, Problem> {
    let mut waiting = Vec::with_capacity(usize::from(core.shards.len()));
    for shard in core.shards.all() {
        let asked = ask(core, shard, wanted, wanted.max_tasks, Waits::Yes)?;
        let grants = granted(&asked).await?;
        if !grants.is_empty() {
            asked.settled();
            return Ok(Waited::Granted(grants));
        }
        waiting.push(asked);
    }
    tokio::select! {
        biased;
        shard = first_offer(&waiting) => Ok(Waited::Offered(shard)),
        () = tokio::time::sleep_until(deadline) => Ok(Waited::InVain),
        () = until(&core.phase, Phase::Draining) => Ok(Waited::InVain),
    }
}

async fn first_offer(waiting: &[Asked]) -> ShardId {
    let mut offers: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> =
        waiting.iter().map(|asked| Box::pin(asked.offered()) as _).collect();
    let place = poll_fn(|cx| {
        let ready = offers.iter_mut().position(|offer| offer.as_mut().poll(cx).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    waiting[place].settled();
    ShardId(place as u16)
}

async fn render(core: &Core, grants: Vec<Grant>) -> Outcome {
    let mut body = br#"{"leases":["#.to_vec();
    for (i, mut grant) in grants.into_iter().enumerate() {
        if 0 < i {
            body.push(b',');
        }
        let id = grant.holder.task;
        resolve(&core.reads, id, &mut grant.input).await?;
        body.extend_from_slice(br#"{"lease":"#);
        push_str(&mut body, &opaque::lease(&grant.holder));
        push_key(&mut body, "task");
        push_id(&mut body, id);
        push_key(&mut body, "agent");
        push_str(&mut body, &grant.agent);
        push_key(&mut body, "attempt");
        push_u64(&mut body, u64::from(grant.holder.attempt.0));
        push_key(&mut body, "input");
        push_payload(&mut body, Some(&grant.input));
        body.extend_from_slice(br#","steps":["#);
        if 0 < grant.steps {
            let steps_max = (grant.steps as usize).max(LIST_LEN_MAX);
            let mut fold = steps::fold(core, id, StepsCursor::default(), steps_max).await?;
            steps::push_steps(core, id, &mut fold, &mut body).await?;
        }
        body.push(b']');
        push_key(&mut body, "expires_at");
        push_time(&mut body, grant.expires_at);
        // What the worker calls is then a part of the task's trace.
        let trace = grant.trace.under(core.sampling);
        push_key(&mut body, "traceparent");
        push_str(&mut body, &trace.traceparent(grant.holder.attempt, Step(0)));
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    Ok(json(StatusCode::OK, body))
}
