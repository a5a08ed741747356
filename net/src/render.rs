//! What clients get: tasks and usage in the shapes of DESIGN §6, written straight into one buffer.

use crate::body::OutBody;
use crate::core::Core;
use crate::cost::Layer;
use crate::json::{push_micros, push_opt_str, push_str, push_u64};
use crate::problem::Problem;
use crate::reads::Reads;
use crate::route::Response;
use crate::time::{push_opt_time, push_time};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use no_engine::id::TaskId;
use no_engine::payload::Payload;
use no_engine::task::{Task, TaskError, Usage, Waiting};

/// Largest answer that a list or a page of steps is filled to, in bytes, unless its first item
/// alone is larger.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A JSON response.
#[must_use]
pub fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(OutBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A task as a JSON response.
///
/// # Errors
/// 500 when a large payload cannot be read.
pub async fn task_response(
    core: &Core,
    status: StatusCode,
    mut task: Task,
) -> Result<Response, Problem> {
    resolve_task(&core.reads, &mut task).await?;
    Ok(core.costs.part(Layer::Render, || {
        let mut body = Vec::with_capacity(task_bytes(&task));
        push_task(&mut body, &task);
        json(status, body)
    }))
}

/// Roughly how long a task is in JSON.
#[must_use]
pub fn task_bytes(task: &Task) -> usize {
    640 + task.input.bytes_len() + task.output().map_or(0, Payload::bytes_len)
}

/// Reads in the bytes of large payloads.
///
/// # Errors
/// 500 when they cannot be read.
pub async fn resolve_task(reads: &Reads, task: &mut Task) -> Result<(), Problem> {
    let id = task.id;
    resolve(reads, id, &mut task.input).await?;
    if let Some(output) = task.output_mut() {
        resolve(reads, id, output).await?;
    }
    Ok(())
}

/// Reads in the bytes of a payload, if they are not at hand.
///
/// # Errors
/// 500 when they cannot be read.
pub async fn resolve(reads: &Reads, id: TaskId, payload: &mut Payload) -> Result<(), Problem> {
    if payload.bytes().is_some() {
        return Ok(());
    }
    let read = reads.resolve(id, payload).await.map_err(|why| Problem::internal(&why))?;
    if let Payload::Blob(blob) = payload {
        blob.bytes = Some(read);
    }
    Ok(())
}

/// Appends a payload as it came; the caller has resolved it.
pub fn push_payload(out: &mut Vec<u8>, payload: Option<&Payload>) {
    out.extend_from_slice(payload.and_then(Payload::bytes).unwrap_or(b"null"));
}

/// Appends a name and a colon, after a comma.
pub fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a task.
pub fn push_task(out: &mut Vec<u8>, task: &Task) {
    out.extend_from_slice(br#"{"id":"#);
    push_id(out, task.id);
    push_key(out, "agent");
    push_str(out, &task.agent);
    push_key(out, "state");
    push_str(out, task.state.name());
    push_key(out, "input");
    push_payload(out, Some(&task.input));
    push_key(out, "output");
    push_payload(out, task.output());
    push_key(out, "error");
    push_opt_error(out, task.error.as_deref());
    push_key(out, "waiting");
    push_opt_waiting(out, task.waiting().as_ref());
    push_key(out, "attempt");
    push_u64(out, u64::from(task.attempt.0));
    push_key(out, "max_attempts");
    push_u64(out, u64::from(task.max_attempts));
    push_key(out, "priority");
    push_u64(out, u64::from(task.priority));
    push_key(out, "fairness_key");
    push_opt_str(out, task.fairness_key().map(|key| &**key));
    push_key(out, "tags");
    push_tags(out, task.tags());
    push_key(out, "tenant");
    push_str(out, &task.tenant);
    push_key(out, "usage");
    push_usage(out, &task.usage());
    push_key(out, "created_at");
    push_time(out, task.created_at);
    push_key(out, "run_at");
    push_time(out, task.run_at);
    push_key(out, "started_at");
    push_opt_time(out, task.started_at());
    push_key(out, "ended_at");
    push_opt_time(out, task.ended_at());
    out.push(b'}');
}

/// Appends an id.
pub fn push_id(out: &mut Vec<u8>, id: TaskId) {
    let hex = b"0123456789abcdef";
    out.push(b'"');
    for (i, byte) in id.to_bytes().into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(hex[usize::from(byte >> 4)]);
        out.push(hex[usize::from(byte & 0xf)]);
    }
    out.push(b'"');
}

/// Appends `{code,message,retryable}`.
pub fn push_error(out: &mut Vec<u8>, error: &TaskError) {
    out.extend_from_slice(br#"{"code":"#);
    push_str(out, &error.code);
    push_key(out, "message");
    push_str(out, &error.message);
    push_key(out, "retryable");
    push_bool(out, error.retryable);
    out.push(b'}');
}

/// Appends an error, or `null`.
pub fn push_opt_error(out: &mut Vec<u8>, error: Option<&TaskError>) {
    match error {
        Some(error) => push_error(out, error),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends `{reason,name,until}`, or `null`.
pub fn push_opt_waiting(out: &mut Vec<u8>, waiting: Option<&Waiting>) {
    let Some(waiting) = waiting else {
        out.extend_from_slice(b"null");
        return;
    };
    out.extend_from_slice(br#"{"reason":"#);
    push_str(out, waiting.reason.name());
    push_key(out, "name");
    push_opt_str(out, waiting.name.as_deref());
    push_key(out, "until");
    push_opt_time(out, waiting.until);
    out.push(b'}');
}

/// Appends `{iterations,input_tokens,output_tokens,cost_usd}`.
pub fn push_usage(out: &mut Vec<u8>, usage: &Usage) {
    out.extend_from_slice(br#"{"iterations":"#);
    push_u64(out, u64::from(usage.iterations));
    push_key(out, "input_tokens");
    push_u64(out, usage.input_tokens);
    push_key(out, "output_tokens");
    push_u64(out, usage.output_tokens);
    push_key(out, "cost_usd");
    push_micros(out, usage.cost_micro_usd);
    out.push(b'}');
}

/// Appends `true` or `false`.
pub fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn push_tags(out: &mut Vec<u8>, tags: &[Box<str>]) {
    out.push(b'[');
    for (i, tag) in tags.iter().enumerate() {
        if 0 < i {
            out.push(b',');
        }
        push_str(out, tag);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{AT, late, task_of};
    use expect_test::{Expect, expect};
    use no_engine::id::{Attempt, PartitionId};
    use no_engine::task::{NewTask, State, WaitReason};

    fn new() -> NewTask {
        NewTask::plain(
            TaskId::new(AT.0, 42, PartitionId(7)),
            "helper".into(),
            "t".into(),
            Payload::inline(b"{\"q\": 1}"),
        )
    }

    fn check(task: &Task, expected: Expect) {
        let mut out = Vec::new();
        push_task(&mut out, task);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!(value["id"], task.id.to_string());
        expected.assert_eq(&String::from_utf8_lossy(&out));
    }

    #[test]
    fn a_new_task_has_every_field() {
        check(
            &task_of(&new()),
            expect![[
                r#"{"id":"019ab8e0-c2af-702a-8000-000000000007","agent":"helper","state":"queued","input":{"q": 1},"output":null,"error":null,"waiting":null,"attempt":0,"max_attempts":3,"priority":5,"fairness_key":null,"tags":[],"tenant":"t","usage":{"iterations":0,"input_tokens":0,"output_tokens":0,"cost_usd":0},"created_at":"2025-11-25T02:38:49.007Z","run_at":"2025-11-25T02:38:49.007Z","started_at":null,"ended_at":null}"#
            ]],
        );
    }

    #[test]
    fn a_task_with_everything() {
        let mut task = task_of(&new());
        task.state = State::Waiting;
        task.error = Some(late().into());
        let (name, until) = (Some("search".into()), Some(AT + 1));
        task.set_waiting(Some(&Waiting { reason: WaitReason::Timer, name, until }));
        task.attempt = Attempt(2);
        task.change(|task| {
            task.output = Some(Payload::inline(b"[]"));
            task.fairness_key = Some("a\"b".into());
            task.tags = Some(vec!["x".into(), "y".into()].into());
            task.usage = Usage {
                iterations: 1,
                input_tokens: 2,
                output_tokens: 3,
                cost_micro_usd: 1_250_000,
            };
            (task.started_at, task.ended_at) = (Some(AT), Some(AT + 5));
        });
        check(
            &task,
            expect![[
                r#"{"id":"019ab8e0-c2af-702a-8000-000000000007","agent":"helper","state":"waiting","input":{"q": 1},"output":[],"error":{"code":"timeout","message":"late","retryable":true},"waiting":{"reason":"timer","name":"search","until":"2025-11-25T02:38:49.008Z"},"attempt":2,"max_attempts":3,"priority":5,"fairness_key":"a\"b","tags":["x","y"],"tenant":"t","usage":{"iterations":1,"input_tokens":2,"output_tokens":3,"cost_usd":1.25},"created_at":"2025-11-25T02:38:49.007Z","run_at":"2025-11-25T02:38:49.007Z","started_at":"2025-11-25T02:38:49.007Z","ended_at":"2025-11-25T02:38:49.012Z"}"#
            ]],
        );
    }
}
