//! Submit many tasks at once. Each item stands by itself: a bad one is a row with its problem.

use super::tasks::read;
use crate::admit;
use crate::cluster::place::Inner;
use crate::core::Core;
use crate::cost::Layer;
use crate::extract::{BodyKind, Request};
use crate::json::push_u64;
use crate::problem::{Code, Problem};
use crate::render::{json, push_task, resolve_task, task_bytes};
use crate::route::Outcome;
use crate::wire::{self, Batch};
use hyper::StatusCode;
use no_engine::command::{Answer, AnswerWhen, Command, Refusal};
use no_engine::id::ShardId;
use no_engine::limits::BATCH_TASKS_MAX;
use no_engine::task::{NewTask, Task};

/// One item's result, until it is known a place to be filled.
type Row = Option<Result<Box<Task>, Problem>>;

/// `POST /v1/tasks/batch`: `{"items":[{"status":202,"task":…} | {"status":422,"problem":…}]}`.
pub(super) async fn submit(mut request: Request) -> Outcome {
    request.no_query()?;
    admit::new_tasks(&request.core)?;
    let kind = request.body_kind()?;
    let body = request.whole_body().await?;
    let (items, prefix) = match kind {
        BodyKind::Json => {
            let batch: Batch<'_> = wire::parse(&body)?;
            (batch.tasks.into_iter().map(|raw| raw.get().as_bytes()).collect(), "/tasks/")
        }
        BodyKind::Ndjson => (lines(&body), ""),
    };
    if items.is_empty() {
        return Err(Problem::invalid("/tasks", "must have at least one"));
    }
    if BATCH_TASKS_MAX < items.len() {
        return Err(Problem::new(Code::TooLarge, "a batch has at most 1000 tasks"));
    }
    let tenant = request.tenant();
    let (name, caller) = (request.idempotency_key()?, request.caller());
    // A part of a batch that was cut keeps the places that its items had.
    let places = request.parts.extensions.get::<Inner>().and_then(|inner| inner.places.clone());
    let place = |i: usize| places.as_ref().and_then(|places| places.get(i)).map_or(i, |at| *at);
    let new = |(i, item): (usize, &&[u8])| {
        let i = place(i);
        let key = name.map(|name| wire::key(&tenant, name, Some(i), item));
        wire::new_task(&request.core, &tenant, item, key, caller).map_err(|problem| match prefix {
            "" => problem,
            prefix => problem.under(&format!("{prefix}{i}")),
        })
    };
    let news = items.iter().enumerate().map(new).collect();
    let rows = send(&request.core, &tenant, news).await;
    render(&request.core, rows).await
}

/// The lines of an NDJSON body that are not blank.
pub(crate) fn lines(body: &[u8]) -> Vec<&[u8]> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).collect()
}

/// Submits what is good, one command for each shard, and gathers the rows in order.
async fn send(core: &Core, tenant: &str, news: Vec<Result<NewTask, Problem>>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::with_capacity(news.len());
    let mut by_shard: Vec<(Vec<usize>, Vec<NewTask>)> = Vec::new();
    by_shard.resize_with(usize::from(core.shards.len()), Default::default);
    for (i, new) in news.into_iter().enumerate() {
        match new {
            Ok(new) => {
                let shard = core.shards.of_partition(new.id.partition());
                let (places, tasks) = &mut by_shard[usize::from(shard.0)];
                places.push(i);
                tasks.push(new);
                rows.push(None);
            }
            Err(problem) => rows.push(Some(Err(problem))),
        }
    }
    let when = AnswerWhen::Durable;
    let mut asked = Vec::new();
    for (shard, (places, tasks)) in by_shard.into_iter().enumerate() {
        if tasks.is_empty() {
            continue;
        }
        let shard = ShardId(shard as u16);
        let has_room = admit::shard(core, shard);
        let submit = |reply| Command::Submit { reply, tasks, when };
        let sent = core.admission.sent(shard, places.len() as u64);
        asked.push((places, has_room.and_then(|()| core.ask(shard, submit)), sent));
    }
    for (places, asked, sent) in asked {
        match asked {
            Ok(asked) => {
                let answer = asked.answer().await;
                sent.answered();
                fill(core, tenant, &mut rows, &places, answer).await;
            }
            Err(problem) => fill_all(&mut rows, &places, &problem),
        }
    }
    rows
}

async fn fill(core: &Core, tenant: &str, rows: &mut [Row], places: &[usize], answer: Answer) {
    let results = match answer {
        Answer::Task(task) => vec![Ok(task)],
        Answer::Refused(refusal) if places.len() == 1 => vec![Err(refusal)],
        Answer::Many(results) => results,
        Answer::Refused(refusal) => return fill_all(rows, places, &refusal.into()),
        _ => Vec::new(),
    };
    if results.len() != places.len() {
        let problem = Problem::internal("a shard answered another question");
        return fill_all(rows, places, &problem);
    }
    for (place, result) in places.iter().zip(results) {
        rows[*place] = Some(match result {
            Ok(task) => Ok(task),
            // The key had made a task that has ended: the store has it.
            Err(Refusal::NotLive(first)) => read(core, tenant, first).await.map(Box::new),
            Err(refusal) => Err(refusal.into()),
        });
    }
}

fn fill_all(rows: &mut [Row], places: &[usize], problem: &Problem) {
    for place in places {
        rows[*place] = Some(Err(problem.clone()));
    }
}

async fn render(core: &Core, mut rows: Vec<Row>) -> Outcome {
    if let Some(problem) = refused_as_a_whole(&rows) {
        return Err(problem);
    }
    for row in &mut rows {
        if let Some(Ok(task)) = row {
            core.costs.accepted(1);
            resolve_task(&core.reads, task).await?;
        }
    }
    Ok(core.costs.part(Layer::Render, || json(StatusCode::OK, body_of(rows))))
}

/// The answer's bytes, of rows that are resolved.
fn body_of(rows: Vec<Row>) -> Vec<u8> {
    let mut body = Vec::with_capacity(rows.len() * 768);
    body.extend_from_slice(br#"{"items":["#);
    for (i, row) in rows.into_iter().enumerate() {
        if 0 < i {
            body.push(b',');
        }
        let row = row.unwrap_or_else(|| Err(Problem::internal("a row was left open")));
        body.extend_from_slice(br#"{"status":"#);
        match row {
            Ok(task) => {
                body.reserve(task_bytes(&task));
                push_u64(&mut body, if task.state.is_ended() { 200 } else { 202 });
                body.extend_from_slice(br#","task":"#);
                push_task(&mut body, &task);
            }
            Err(problem) => push_problem(&mut body, &problem),
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

/// Appends `STATUS,"problem":{…}` of a row.
pub(crate) fn push_problem(body: &mut Vec<u8>, problem: &Problem) {
    push_u64(body, u64::from(problem.code.parts().0));
    body.extend_from_slice(br#","problem":"#);
    problem.render(None, body);
}

/// When nothing was taken because the node is full or stopping, the whole answer says so: its
/// `Retry-After` is what holds clients back.
fn refused_as_a_whole(rows: &[Row]) -> Option<Problem> {
    let mut first = None;
    for row in rows {
        let Some(Err(problem)) = row else { return None };
        problem.code.retry_after_s()?;
        first = first.or(Some(problem));
    }
    first.cloned()
}
