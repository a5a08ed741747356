//! Steer one task: cancel, retry, resolve; and say what its result was worth.

use super::tasks::{read, task_of};
use crate::extract::Request;
use crate::problem::Problem;
use crate::render::task_response;
use crate::route::Outcome;
use crate::wire;
use hyper::StatusCode;
use no_engine::command::{Answer, Command, Refusal, Resolution};
use no_engine::id::ReplyTo;
use no_engine::limits::OUTPUT_BYTES_MAX;
use no_engine::machine::SCORES;
use serde::Deserialize;
use serde_json::value::RawValue;

/// `POST /v1/tasks/{id}/cancel`.
pub(super) async fn cancel(mut request: Request) -> Outcome {
    no_body(&mut request).await?;
    let task = request.task_id()?;
    control(&request, |reply| Command::Cancel { reply, task }).await
}

/// `POST /v1/tasks/{id}/retry`: a dead letter goes round again.
pub(super) async fn retry(mut request: Request) -> Outcome {
    no_body(&mut request).await?;
    let task = request.task_id()?;
    control(&request, |reply| Command::Retry { reply, task }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve<'a> {
    outcome: ResolveOutcome,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum ResolveOutcome {
    Done,
    Retry,
    Fail,
}

/// `POST /v1/tasks/{id}/resolve`: somebody says what came of a call of unknown outcome.
pub(super) async fn resolve(mut request: Request) -> Outcome {
    request.no_query()?;
    let task = request.task_id()?;
    let body = request.json().await?;
    let sent: Resolve<'_> = wire::parse(&body)?;
    let resolution = match (sent.outcome, sent.result) {
        (ResolveOutcome::Done, Some(result)) if OUTPUT_BYTES_MAX < result.get().len() => {
            return Err(Problem::invalid("/result", "has at most 4 MiB"));
        }
        (ResolveOutcome::Done, Some(result)) => Resolution::Done(wire::payload(result, "/result")?),
        (ResolveOutcome::Done, None) => Resolution::Done(no_engine::payload::Payload::null()),
        (ResolveOutcome::Retry | ResolveOutcome::Fail, Some(_)) => {
            return Err(Problem::invalid("/result", "belongs to the outcome done"));
        }
        (ResolveOutcome::Retry, None) => Resolution::Retry,
        (ResolveOutcome::Fail, None) => Resolution::Fail,
    };
    control(&request, |reply| Command::Resolve { reply, task, resolution }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    score: u8,
}

/// `POST /v1/tasks/{id}/feedback`: what somebody says of the result; a later score replaces it.
pub(super) async fn feedback(mut request: Request) -> Outcome {
    request.no_query()?;
    let id = request.task_id()?;
    let body = request.json().await?;
    let Feedback { score } = wire::parse(&body)?;
    if !SCORES.contains(&score) {
        return Err(Problem::invalid("/score", "must be a whole number from 1 to 5"));
    }
    let core = &request.core;
    let task = read(core, &request.tenant(), id).await?;
    if !task.state.is_ended() {
        return Err(Refusal::WrongState { task: id, state: task.state }.into());
    }
    let agent = std::sync::Arc::clone(&task.agent);
    let ask = |reply| Command::Feedback { reply, task: id, agent, score };
    match core.answer(core.shard_of(id)?, ask).await? {
        Answer::Done => task_response(core, StatusCode::OK, task).await,
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err(Problem::internal("a shard answered another question")),
    }
}

/// Asks the shard about a task that must be the tenant's, and renders the task after it.
async fn control(request: &Request, make: impl FnOnce(ReplyTo) -> Command) -> Outcome {
    let (core, id) = (&request.core, request.task_id()?);
    let tenant = request.tenant();
    read(core, &tenant, id).await?;
    let task = match core.answer(core.shard_of(id)?, make).await? {
        Answer::Refused(Refusal::NotLive(_)) => {
            // It ended before the command came; only the store has it, and can say how.
            let state = read(core, &tenant, id).await?.state;
            return Err(Refusal::TaskEnded { task: id, state }.into());
        }
        answer => task_of(answer)?,
    };
    if let Some(principal) = &request.principal {
        let (path, subject) = (request.parts.uri.path(), &*principal.subject);
        let trace_id = task.trace();
        tracing::info!(target: "task", task = %id, %trace_id, path, subject, "controlled");
    }
    task_response(core, StatusCode::OK, task).await
}

/// An empty body, or an empty object.
async fn no_body(request: &mut Request) -> Result<(), Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    request.no_query()?;
    let body = request.whole_body().await?;
    if !body.is_empty() {
        wire::parse::<Nothing>(&body)?;
    }
    Ok(())
}
