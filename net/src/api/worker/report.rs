//! A worker's reports: heartbeat, step, completion, failure. One object gives one answer with its
//! status; an array gives rows, each with its own.

use super::lease::lease_ms_of;
use crate::api::batch::push_problem;
use crate::core::Core;
use crate::extract::{Request, check_name};
use crate::opaque;
use crate::problem::{Code, Problem};
use crate::render::{json, push_bool, push_key};
use crate::route::Outcome;
use crate::time::push_time;
use crate::wire;
use hyper::StatusCode;
use no_engine::command::{Answer, Command, Holder, Report, Reported};
use no_engine::id::ShardId;
use no_engine::limits::{BATCH_TASKS_MAX, OUTPUT_BYTES_MAX};
use no_engine::payload::Payload;
use no_engine::task::TaskError;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Longest message of an error, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

type Parsed = Result<(Holder, Report), Problem>;
/// The reports for one shard, and their places among all.
type ForShard = (Vec<usize>, Vec<(Holder, Report)>);
type Row = Option<Result<Reported, Problem>>;

/// `POST /v1/worker/heartbeat`: `{"cancelled":bool,"expires_at":…}`.
pub(in crate::api) async fn heartbeat(request: Request) -> Outcome {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent {
        lease: String,
        #[serde(default)]
        lease_ms: Option<u64>,
    }
    report(request, |body| {
        let sent: Sent = wire::parse(body)?;
        let lease_ms = lease_ms_of(sent.lease_ms)?;
        Ok((holder_of(&sent.lease)?, Report::Heartbeat { lease_ms }))
    })
    .await
}

/// `POST /v1/worker/step`: a result to be kept, so that it is not worked for again.
pub(in crate::api) async fn step(request: Request) -> Outcome {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent<'a> {
        lease: String,
        name: Arc<str>,
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
    }
    report(request, |body| {
        let sent: Sent<'_> = wire::parse(body)?;
        check_name(&sent.name).map_err(|why| Problem::invalid("/name", why))?;
        let result = payload_of(sent.result, "/result")?;
        Ok((holder_of(&sent.lease)?, Report::Step { name: sent.name, result }))
    })
    .await
}

/// `POST /v1/worker/complete`: the attempt is done.
pub(in crate::api) async fn complete(request: Request) -> Outcome {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent<'a> {
        lease: String,
        #[serde(borrow, default)]
        output: Option<&'a RawValue>,
    }
    report(request, |body| {
        let sent: Sent<'_> = wire::parse(body)?;
        let output = payload_of(sent.output, "/output")?;
        Ok((holder_of(&sent.lease)?, Report::Complete { output }))
    })
    .await
}

/// `POST /v1/worker/fail`: the attempt failed.
pub(in crate::api) async fn fail(request: Request) -> Outcome {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SentError {
        code: Box<str>,
        #[serde(default)]
        message: Box<str>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent {
        lease: String,
        #[serde(default)]
        retryable: bool,
        error: SentError,
    }
    report(request, |body| {
        let Sent { lease, retryable, error } = wire::parse(body)?;
        let SentError { code, message } = error;
        check_name(&code).map_err(|why| Problem::invalid("/error/code", why))?;
        if MESSAGE_BYTES_MAX < message.len() {
            return Err(Problem::invalid("/error/message", "has at most 8192 bytes"));
        }
        Ok((holder_of(&lease)?, Report::Fail { error: TaskError { code, message, retryable } }))
    })
    .await
}

fn holder_of(lease: &str) -> Result<Holder, Problem> {
    opaque::parse_lease(lease)
        .ok_or_else(|| Problem::invalid("/lease", "is not a lease that nO gave out"))
}

fn payload_of(raw: Option<&RawValue>, pointer: &str) -> Result<Payload, Problem> {
    match raw {
        None => Ok(Payload::null()),
        Some(raw) if OUTPUT_BYTES_MAX < raw.get().len() => {
            Err(Problem::new(Code::TooLarge, "an output has at most 4 MiB"))
        }
        Some(raw) => wire::payload(raw, pointer),
    }
}

/// Parses one report or an array of them, asks the shards, and renders in the same shape.
async fn report(mut request: Request, parse: impl Fn(&[u8]) -> Parsed) -> Outcome {
    request.no_query()?;
    let body = request.json().await?;
    let tenant = request.tenant();
    let core = &request.core;
    if !body.trim_ascii_start().starts_with(b"[") {
        let mut rows = send(core, &tenant, vec![parse(&body)]).await;
        let reported = rows.pop().flatten().unwrap_or_else(|| Err(no_row()))?;
        let mut body = Vec::with_capacity(64);
        body.push(b'{');
        push_reported(&mut body, &reported, Place::First);
        body.push(b'}');
        return Ok(json(StatusCode::OK, body));
    }
    let items = wire::parse_array(&body)?;
    if BATCH_TASKS_MAX < items.len() {
        return Err(Problem::new(Code::TooLarge, "at most 1000 reports at once"));
    }
    let parsed = items.iter().enumerate().map(|(i, item)| {
        parse(item.get().as_bytes()).map_err(|problem| problem.under(&format!("/{i}")))
    });
    let rows = send(core, &tenant, parsed.collect()).await;
    Ok(json(StatusCode::OK, rendered(rows)))
}

/// Reports to each shard what is its, and gathers the rows in order.
async fn send(core: &Core, tenant: &Arc<str>, parsed: Vec<Parsed>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::with_capacity(parsed.len());
    let mut by_shard: Vec<ForShard> = Vec::new();
    by_shard.resize_with(usize::from(core.shards.len()), Default::default);
    for (i, parsed) in parsed.into_iter().enumerate() {
        let routed = parsed.and_then(|report| Ok((core.shard_of(report.0.task)?, report)));
        match routed {
            Ok((shard, report)) => {
                let (places, reports) = &mut by_shard[usize::from(shard.0)];
                places.push(i);
                reports.push(report);
                rows.push(None);
            }
            Err(problem) => rows.push(Some(Err(problem))),
        }
    }
    let mut asked = Vec::new();
    for (shard, (places, reports)) in by_shard.into_iter().enumerate() {
        if reports.is_empty() {
            continue;
        }
        let tenant = Arc::clone(tenant);
        let make = |reply| Command::Report { reply, tenant, reports };
        asked.push((places, core.ask(ShardId(shard as u16), make)));
    }
    for (places, asked) in asked {
        match asked {
            Ok(asked) => fill(&mut rows, &places, asked.answer().await),
            Err(problem) => fill_all(&mut rows, &places, &problem),
        }
    }
    rows
}

fn fill(rows: &mut [Row], places: &[usize], answer: Answer) {
    match answer {
        Answer::Reports(results) if results.len() == places.len() => {
            for (place, result) in places.iter().zip(results) {
                rows[*place] = Some(result.map_err(Problem::from));
            }
        }
        Answer::Refused(refusal) => fill_all(rows, places, &refusal.into()),
        _ => fill_all(rows, places, &Problem::internal("a shard answered another question")),
    }
}

fn fill_all(rows: &mut [Row], places: &[usize], problem: &Problem) {
    for place in places {
        rows[*place] = Some(Err(problem.clone()));
    }
}

fn no_row() -> Problem {
    Problem::internal("a row was left open")
}

fn rendered(rows: Vec<Row>) -> Vec<u8> {
    let mut body = Vec::with_capacity(rows.len() * 64);
    body.push(b'[');
    for (i, row) in rows.into_iter().enumerate() {
        if 0 < i {
            body.push(b',');
        }
        body.extend_from_slice(br#"{"status":"#);
        match row.unwrap_or_else(|| Err(no_row())) {
            Ok(reported) => {
                body.extend_from_slice(b"200");
                push_reported(&mut body, &reported, Place::Later);
            }
            Err(problem) => push_problem(&mut body, &problem),
        }
        body.push(b'}');
    }
    body.push(b']');
    body
}

/// Whether a member is the first of its object.
enum Place {
    First,
    Later,
}

fn push_reported(body: &mut Vec<u8>, reported: &Reported, place: Place) {
    let Reported::Extended { cancelled, expires_at } = reported else { return };
    match place {
        Place::First => body.extend_from_slice(br#""cancelled":"#),
        Place::Later => push_key(body, "cancelled"),
    }
    push_bool(body, *cancelled);
    push_key(body, "expires_at");
    push_time(body, *expires_at);
}
