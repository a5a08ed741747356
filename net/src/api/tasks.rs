//! Submit one task, and look at one.

use crate::admit;
use crate::core::Core;
use crate::extract::Request;
use crate::problem::Problem;
use crate::render::task_response;
use crate::route::{Outcome, Response};
use crate::wire;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use no_engine::command::{Answer, AnswerWhen, Command, Refusal};
use no_engine::id::TaskId;
use no_engine::task::{NewTask, Task};
use std::sync::Arc;

/// Partitions that a submission without a key is tried in.
const TRIES_MAX: u32 = 4;

/// `POST /v1/tasks[?wait_ms=N]`: 202 with the task once it is durable, 200 when it has ended.
pub(super) async fn submit(mut request: Request) -> Outcome {
    let mut query = request.query()?;
    let wait_ms = query.take_wait_ms()?;
    query.done()?;
    admit::new_tasks(&request.core)?;
    let body = request.json().await?;
    let tenant = request.tenant();
    let name = request.idempotency_key()?;
    let key = name.map(|name| wire::key(&tenant, name, None, &body));
    let core = &request.core;
    // A key may lead to another task than this one, so the wait begins once we know which.
    let waits_at_once = 0 < wait_ms && key.is_none();
    let wait_at_once_ms = waits_at_once.then_some(wait_ms);
    let mut tries = 1;
    let answer = loop {
        let new = wire::new_task(core, &tenant, &body, key, request.caller())?;
        match send(core, new, wait_at_once_ms).await? {
            // Its partition has just gone to another node: without a key any other will do.
            Answer::Refused(Refusal::Moved(_)) if key.is_none() && tries < TRIES_MAX => tries += 1,
            answer => break answer,
        }
    };
    let mut task = match answer {
        // The key had made a task that has ended: the store has it.
        Answer::Refused(Refusal::NotLive(first)) => read(core, &tenant, first).await?,
        answer => task_of(answer)?,
    };
    if 0 < wait_ms && !task.state.is_ended() && !waits_at_once {
        task = wait(core, &tenant, task.id, wait_ms).await?;
    }
    submitted(core, task).await
}

/// Submits a task, and waits until it is durable, or ended within a time.
async fn send(core: &Core, new: NewTask, wait_ms: Option<u64>) -> Result<Answer, Problem> {
    let shard = core.shards.of_partition(new.id.partition());
    admit::shard(core, shard)?;
    let when = if wait_ms.is_some() { AnswerWhen::Ended } else { AnswerWhen::Durable };
    let asked = core.ask(shard, |reply| Command::Submit { reply, tasks: vec![new], when })?;
    if let Some(wait_ms) = wait_ms {
        return Ok(asked.answer_within(&core.phase, wait_ms).await);
    }
    let sent = core.admission.sent(shard, 1);
    let answer = asked.answer().await;
    sent.answered();
    Ok(answer)
}

async fn submitted(core: &Core, task: Task) -> Outcome {
    core.costs.accepted(1);
    let id = task.id;
    let status = if task.state.is_ended() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let trace_id = task.trace();
    tracing::debug!(target: "task", task = %id, %trace_id, agent = &*task.agent, "submitted");
    let mut response: Response = task_response(core, status, task).await?;
    let location = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("/v1/tasks/{id}")));
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /v1/tasks/{id}[?wait_ms=N]`: the task as it is, or as it ended within N ms.
pub(super) async fn get(request: Request) -> Outcome {
    let id = request.task_id()?;
    let mut query = request.query()?;
    let wait_ms = query.take_wait_ms()?;
    query.done()?;
    let (core, tenant) = (&request.core, request.tenant());
    let mut task = read(core, &tenant, id).await?;
    if 0 < wait_ms && !task.state.is_ended() {
        task = wait(core, &tenant, id, wait_ms).await?;
    }
    task_response(core, StatusCode::OK, task).await
}

/// Waits for the end of a task that is the tenant's.
async fn wait(core: &Core, tenant: &Arc<str>, id: TaskId, wait_ms: u64) -> Result<Task, Problem> {
    let asked = core.ask(core.shard_of(id)?, |reply| Command::Watch { reply, task: id })?;
    match asked.answer_within(&core.phase, wait_ms).await {
        // It ended in between: the store has it.
        Answer::Refused(Refusal::NotLive(_)) => read(core, tenant, id).await,
        answer => task_of(answer),
    }
}

/// The tenant's task of that id, as it is durable.
///
/// # Errors
/// 404 when there is none, or it is another tenant's.
pub(super) async fn read(core: &Core, tenant: &str, id: TaskId) -> Result<Task, Problem> {
    core.shard_of(id)?;
    let read = core.reads.task(id).await.map_err(|why| Problem::internal(&why))?;
    read.filter(|task| *task.tenant == *tenant).ok_or_else(Problem::task_unknown)
}

/// The task in an answer.
///
/// # Errors
/// What the shard refused.
pub(super) fn task_of(answer: Answer) -> Result<Task, Problem> {
    match answer {
        Answer::Task(task) => Ok(*task),
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err(Problem::internal("a shard answered another question")),
    }
}
