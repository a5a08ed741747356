//! Dead letters: send them round again. They are listed as tasks in state `failed`.

use crate::extract::{Request, check_name};
use crate::problem::{Code, Problem};
use crate::render::json;
use crate::route::Outcome;
use crate::wire;
use hyper::StatusCode;
use no_engine::command::{Answer, Command};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Redrive {
    #[serde(default)]
    agent: Option<Arc<str>>,
}

/// `POST /v1/dead-letters/redrive`: all of the tenant's, or one agent's; `{"redriven":N}`.
pub(super) async fn redrive(mut request: Request) -> Outcome {
    request.no_query()?;
    let body = request.whole_body().await?;
    let sent = if body.is_empty() { Redrive::default() } else { wire::parse(&body)? };
    let (core, tenant) = (&request.core, request.tenant());
    if let Some(agent) = &sent.agent {
        check_name(agent).map_err(|why| Problem::invalid("/agent", why))?;
        if core.agents.get(agent).is_none() {
            return Err(Problem::new(Code::AgentUnknown, ""));
        }
    }
    let asked: Vec<_> = core
        .shards
        .all()
        .map(|shard| {
            core.ask(shard, |reply| Command::Redrive {
                reply,
                tenant: Some(Arc::clone(&tenant)),
                agent: sent.agent.clone(),
            })
        })
        .collect::<Result<_, _>>()?;
    let mut redriven = 0;
    for asked in asked {
        match asked.answer().await {
            Answer::Count(count) => redriven += count,
            Answer::Refused(refusal) => return Err(refusal.into()),
            _ => return Err(Problem::internal("a shard answered another question")),
        }
    }
    Ok(json(StatusCode::OK, format!("{{\"redriven\":{redriven}}}").into_bytes()))
}
