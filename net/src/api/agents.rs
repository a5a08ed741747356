//! Agents: read, define, delete, pause, resume.

use crate::agents::{Change, Known, change, is_builtin};
use crate::cluster;
use crate::core::Core;
use crate::extract::Request;
use crate::json::{is_shallow, push_str, push_u64, push_value};
use crate::problem::{Code, Problem};
use crate::render::{json, push_bool, push_key};
use crate::route::{Outcome, Response};
use crate::wire;
use hyper::StatusCode;
use no_engine::agent::definition::Agent;
use no_engine::task::{STATES, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tasks in memory by state, over all shards.
type Live = BTreeMap<Arc<str>, [u64; 7]>;

async fn live(core: &Core) -> Live {
    let mut live = Live::new();
    for stats in core.shard_stats().await.into_iter().flatten() {
        for (name, agent) in stats.agents {
            let sums = live.entry(name).or_default();
            sums.iter_mut().zip(agent.live).for_each(|(sum, more)| *sum += more);
        }
    }
    live
}

/// Appends `{"name",…definition…,"paused","builtin","live":{…}}`.
fn push_agent(out: &mut Vec<u8>, name: &str, known: &Known, live: &Live) {
    out.extend_from_slice(br#"{"name":"#);
    push_str(out, name);
    let mut definition = Vec::with_capacity(256);
    push_value(&mut definition, &*known.agent);
    out.push(b',');
    let inside = definition.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    out.extend_from_slice(inside.unwrap_or_default());
    push_key(out, "paused");
    push_bool(out, known.paused);
    push_key(out, "builtin");
    push_bool(out, is_builtin(name));
    push_key(out, "live");
    let counts = live.get(name).copied().unwrap_or_default();
    let shown = |state: &State| !state.is_ended() || *state == State::Failed;
    for (i, state) in STATES.into_iter().filter(shown).enumerate() {
        out.push(if i == 0 { b'{' } else { b',' });
        push_str(out, state.name());
        out.push(b':');
        push_u64(out, counts[state as usize]);
    }
    out.extend_from_slice(b"}}");
}

fn agent_response(name: &str, known: &Known, live: &Live) -> Response {
    let mut body = Vec::with_capacity(512);
    push_agent(&mut body, name, known, live);
    json(StatusCode::OK, body)
}

/// `GET /v1/agents`: all of them; there are never more than a page.
pub(super) async fn list(request: Request) -> Outcome {
    request.no_query()?;
    let live = live(&request.core).await;
    let mut body = br#"{"items":["#.to_vec();
    for (i, (name, known)) in request.core.agents.all().iter().enumerate() {
        if 0 < i {
            body.push(b',');
        }
        push_agent(&mut body, name, known, &live);
    }
    super::list::push_next(&mut body, None);
    Ok(json(StatusCode::OK, body))
}

/// `GET /v1/agents/{name}`.
pub(super) async fn get(request: Request) -> Outcome {
    request.no_query()?;
    let name = request.name()?;
    let known = request.core.agents.get(&name);
    let known = known.ok_or_else(|| Problem::new(Code::AgentUnknown, ""))?;
    Ok(agent_response(&name, &known, &live(&request.core).await))
}

/// `PUT /v1/agents/{name}`: answered once it is durable and every shard knows it.
pub(super) async fn put(mut request: Request) -> Outcome {
    request.no_query()?;
    let name = request.name()?;
    let body = request.json().await?;
    let agent: Agent = wire::parse(&body)?;
    if !std::str::from_utf8(&body).is_ok_and(is_shallow) {
        return Err(Problem::invalid("", "nests deeper than 128"));
    }
    agent.check().map_err(|(pointer, detail)| Problem::invalid(pointer, detail))?;
    if agent.model.as_ref().is_some_and(|model| !request.core.agents.has_model(model)) {
        return Err(Problem::invalid("/model", "is not among the configured models"));
    }
    changed(&request, name, Change::Define(Box::new(agent))).await
}

/// `POST /v1/agents/{name}/pause`: its tasks are held back; what runs goes on.
pub(super) async fn pause(request: Request) -> Outcome {
    request.no_query()?;
    let name = request.name()?;
    changed(&request, name, Change::Pause).await
}

/// `POST /v1/agents/{name}/resume`.
pub(super) async fn resume(request: Request) -> Outcome {
    request.no_query()?;
    let name = request.name()?;
    changed(&request, name, Change::Resume).await
}

/// `DELETE /v1/agents/{name}`: 409 while it has tasks that have not ended.
pub(super) async fn delete(request: Request) -> Outcome {
    request.no_query()?;
    let name = request.name()?;
    changed(&request, name, Change::Delete).await
}

async fn changed(request: &Request, name: Arc<str>, what: Change) -> Outcome {
    let core = &request.core;
    let after = change(core, Arc::clone(&name), what).await?;
    cluster::tell(core).await;
    if let Some(principal) = &request.principal {
        let (method, subject) = (request.parts.method.as_str(), &*principal.subject);
        tracing::info!(target: "agent", agent = &*name, method, subject, "changed");
    }
    match after {
        Some(known) => Ok(agent_response(&name, &known, &live(core).await)),
        None => {
            let mut response = Response::new(crate::body::OutBody::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
    }
}
