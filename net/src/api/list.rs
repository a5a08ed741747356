//! Lists of tasks, newest first, a page at a time.

use crate::extract::Request;
use crate::json::push_str;
use crate::opaque;
use crate::problem::{Code, Problem};
use crate::render::{PAGE_BYTES_MAX, json, push_task, resolve_task, task_bytes};
use crate::route::Outcome;
use hyper::StatusCode;
use no_engine::port::Filter;
use no_engine::task::{STATES, State};

/// Items of a page when the client names no number.
pub(super) const LIMIT: usize = 50;

/// `GET /v1/tasks?agent&state&tag&fairness_key&limit&cursor`.
pub(super) async fn list(request: Request) -> Outcome {
    let core = &request.core;
    let mut query = request.query()?;
    let limit = query.take_limit(LIMIT)?;
    let before = match query.take("cursor") {
        None => None,
        Some(text) => Some(opaque::parse_list_cursor(&text).ok_or_else(bad_cursor)?),
    };
    let state = query.take("state").map(|name| State::of_name(&name).ok_or_else(bad_state));
    let filter = Filter {
        tenant: Some(request.tenant()),
        agent: query.take("agent").map(Into::into),
        state: state.transpose()?,
        tag: query.take("tag").map(Into::into),
        fairness_key: query.take("fairness_key").map(Into::into),
    };
    query.done()?;
    let page = core.reads.list(filter, before, limit).await;
    let page = page.map_err(|why| Problem::internal(&why))?;
    let mut body = Vec::with_capacity(1_024 + page.tasks.len() * 768);
    body.extend_from_slice(br#"{"items":["#);
    let (mut next, mut last) = (page.next, None);
    for mut task in page.tasks {
        if let Some(last) = last {
            if PAGE_BYTES_MAX < body.len() + task_bytes(&task) {
                next = Some(last);
                break;
            }
            body.push(b',');
        }
        resolve_task(&core.reads, &mut task).await?;
        push_task(&mut body, &task);
        last = Some(task.id);
    }
    push_next(&mut body, next.map(opaque::list_cursor).as_deref());
    Ok(json(StatusCode::OK, body))
}

/// Ends a list.
pub(super) fn push_next(body: &mut Vec<u8>, cursor: Option<&str>) {
    body.extend_from_slice(br#"],"next_cursor":"#);
    match cursor {
        Some(cursor) => push_str(body, cursor),
        None => body.extend_from_slice(b"null"),
    }
    body.push(b'}');
}

/// A cursor that none of our lists gave out.
pub(super) fn bad_cursor() -> Problem {
    Problem::new(Code::BadRequest, "the cursor is not one that a list of this kind gave")
}

fn bad_state() -> Problem {
    let names = STATES.map(State::name).join(", ");
    Problem::invalid("?state", format!("must be one of {names}"))
}
