//! Events as clients see them: an SSE frame each.
//!
//! ```text
//! id: 3
//! event: step_ended
//! data: {"n":3,"at":"…","event":"step_ended","step":1,…}
//! ```
//! The stored form of an event is for ever and ours alone; this one is for clients, and shows
//! neither fences nor hashes.

use crate::deltas::Delta;
use crate::json::{push_opt_str, push_str, push_u64, push_value};
use crate::problem::Problem;
use crate::reads::Reads;
use crate::render::{
    push_error, push_id, push_key, push_opt_waiting, push_payload, push_usage, resolve,
};
use crate::time::{push_opt_time, push_time};
use no_engine::event::{Event, Record};
use no_engine::payload::Payload;

/// Appends the frame of an event.
///
/// # Errors
/// 500 when a large payload cannot be read.
pub async fn push_frame(reads: &Reads, out: &mut Vec<u8>, record: Record) -> Result<(), Problem> {
    let mut payload = record.event.payload().cloned();
    if let Some(payload) = &mut payload {
        resolve(reads, record.task, payload).await?;
    }
    out.extend_from_slice(b"id: ");
    push_u64(out, u64::from(record.n));
    out.extend_from_slice(b"\nevent: ");
    out.extend_from_slice(record.event.name().as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let data = out.len();
    push_record(out, &record, payload.as_ref());
    flatten(&mut out[data..]);
    out.extend_from_slice(b"\n\n");
    Ok(())
}

/// Appends the frame of a piece of a model's answer. It has no id: it is in no journal.
pub fn push_delta_frame(out: &mut Vec<u8>, delta: &Delta) {
    out.extend_from_slice(b"event: delta\ndata: {\"step\":");
    push_u64(out, u64::from(delta.step.0));
    push_key(out, "text");
    push_str(out, &delta.text);
    out.extend_from_slice(b"}\n\n");
}

/// A payload may have line ends between its tokens, where any white space does as well; a frame
/// must not.
fn flatten(data: &mut [u8]) {
    for byte in data {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Appends the event as JSON.
fn push_record(out: &mut Vec<u8>, record: &Record, payload: Option<&Payload>) {
    out.extend_from_slice(br#"{"n":"#);
    push_u64(out, u64::from(record.n));
    push_key(out, "at");
    push_time(out, record.at);
    push_key(out, "event");
    push_str(out, record.event.name());
    push_fields(out, record, payload);
    out.push(b'}');
}

fn push_step(out: &mut Vec<u8>, step: no_engine::id::Step) {
    push_key(out, "step");
    push_u64(out, u64::from(step.0));
}

fn push_fields(out: &mut Vec<u8>, record: &Record, payload: Option<&Payload>) {
    match &*record.event {
        Event::Submitted { new, timeout_ms, max_attempts, .. } => {
            push_key(out, "id");
            push_id(out, record.task);
            push_key(out, "agent");
            push_str(out, &new.agent);
            push_key(out, "input");
            push_payload(out, payload);
            push_key(out, "timeout_ms");
            match timeout_ms {
                // No time-out of its own.
                &u64::MAX => push_value(out, &()),
                ms => push_u64(out, *ms),
            }
            push_key(out, "max_attempts");
            push_u64(out, u64::from(*max_attempts));
        }
        Event::Started { attempt, .. } => {
            push_key(out, "attempt");
            push_u64(out, u64::from(attempt.0));
        }
        Event::StepStarted { .. } | Event::StepEnded { .. } => {
            push_step_fields(out, &record.event, payload);
        }
        Event::StepFailed { step, error } => {
            push_step(out, *step);
            push_key(out, "error");
            push_error(out, error);
        }
        Event::StepUnknown { step } | Event::StepReset { step } => push_step(out, *step),
        Event::Waited { waiting } => {
            push_key(out, "waiting");
            push_opt_waiting(out, Some(waiting));
        }
        Event::Succeeded { .. } => {
            push_key(out, "output");
            push_payload(out, payload);
        }
        Event::RetryScheduled { error, run_at } => {
            push_key(out, "error");
            push_error(out, error);
            push_key(out, "run_at");
            push_time(out, *run_at);
        }
        Event::DeadLettered { error } => {
            push_key(out, "error");
            push_error(out, error);
        }
        Event::Interrupted { crashes, .. } => {
            push_key(out, "crashes");
            push_value(out, crashes);
        }
        Event::Queued { .. }
        | Event::Woken
        | Event::Cancelled
        | Event::Retried { .. }
        | Event::Removed => {}
    }
}

/// The fields of a step's begin and end.
fn push_step_fields(out: &mut Vec<u8>, event: &Event, payload: Option<&Payload>) {
    match event {
        Event::StepStarted { step, kind, name, until, .. } => {
            push_step(out, *step);
            push_key(out, "kind");
            push_str(out, kind.name());
            push_key(out, "name");
            push_str(out, name);
            push_key(out, "input");
            push_payload(out, payload);
            push_key(out, "until");
            push_opt_time(out, *until);
        }
        Event::StepEnded { step, kind, name, usage, call_id, .. } => {
            push_step(out, *step);
            push_key(out, "kind");
            push_str(out, kind.name());
            push_key(out, "name");
            push_str(out, name);
            push_key(out, "call_id");
            push_opt_str(out, call_id.as_deref());
            push_key(out, "output");
            push_payload(out, payload);
            push_key(out, "usage");
            push_usage(out, usage);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use no_engine::agent::state::StepKind;
    use no_engine::id::{PartitionId, Step, TaskId};
    use no_engine::task::{TaskError, Usage};
    use no_engine::time::Millis;

    fn check(event: Event, expected: Expect) {
        let task = TaskId::new(1_764_038_329_007, 42, PartitionId(7));
        let record = Record { task, n: 3, at: Millis(1_764_038_329_007), event: event.into() };
        let payload = record.event.payload().cloned();
        let mut out = Vec::new();
        push_record(&mut out, &record, payload.as_ref());
        flatten(&mut out);
        expected.assert_eq(&String::from_utf8_lossy(&out));
    }

    #[test]
    fn events_in_their_client_form() {
        check(
            Event::Succeeded { output: Payload::inline(b"{\n \"a\": \"\\n\"\r\n}") },
            expect![[
                r#"{"n":3,"at":"2025-11-25T02:38:49.007Z","event":"succeeded","output":{  "a": "\n"  }}"#
            ]],
        );
        check(
            Event::StepEnded {
                step: Step(2),
                kind: StepKind::Tool,
                name: "search".into(),
                call_id: Some("c1".into()),
                output: Payload::inline(b"[1]"),
                usage: Usage::default(),
                planned: Vec::new(),
                empty: false,
                reported: 0,
            },
            expect![[
                r#"{"n":3,"at":"2025-11-25T02:38:49.007Z","event":"step_ended","step":2,"kind":"tool","name":"search","call_id":"c1","output":[1],"usage":{"iterations":0,"input_tokens":0,"output_tokens":0,"cost_usd":0}}"#
            ]],
        );
        let error = TaskError { code: "timeout".into(), message: "late".into(), retryable: true };
        check(
            Event::DeadLettered { error: error.into() },
            expect![[
                r#"{"n":3,"at":"2025-11-25T02:38:49.007Z","event":"dead_lettered","error":{"code":"timeout","message":"late","retryable":true}}"#
            ]],
        );
        check(
            Event::Woken,
            expect![[r#"{"n":3,"at":"2025-11-25T02:38:49.007Z","event":"woken"}"#]],
        );
    }

    #[test]
    fn deltas_have_no_id() {
        let mut out = Vec::new();
        push_delta_frame(&mut out, &Delta { step: Step(1), text: "a\nb".into() });
        expect![[r#"
            event: delta
            data: {"step":1,"text":"a\nb"}

        "#]]
        .assert_eq(&String::from_utf8_lossy(&out));
    }
}
