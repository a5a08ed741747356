//! A request of many items for many partitions: each part goes to the node that has it, all at
//! once, and the rows of the answers are put back in their order. What has moved meanwhile goes
//! round again.

use super::link::{Unreached, is_moved, says_moved, with_head};
use super::place::{Inner, Kept, PATIENCE, by_partition_surely, unowned};
use super::{Owner, PLACES, Peer};
use crate::api::push_problem;
use crate::body::OutBody;
use crate::extract::BodyKind;
use crate::opaque;
use crate::problem::{Code, Problem};
use crate::render::json;
use crate::route::Outcome;
use crate::wire::{self, Batch};
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use no_engine::command::partition_of_key;
use no_engine::id::PartitionId;
use no_engine::limits::BATCH_TASKS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause before what has moved is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// How items are written to a body, and rows to an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// `{"tasks":[…]}`, answered by `{"items":[…]}`.
    Tasks,
    /// A line each, answered likewise.
    Lines,
    /// `[…]`, answered by `[…]`.
    Array,
}

/// One item.
struct Item {
    bytes: Bytes,
    /// Where it has to go; anywhere when absent.
    partition: Option<PartitionId>,
}

/// What is for one node.
struct Part {
    /// `None` is this one.
    to: Option<Peer>,
    places: Vec<usize>,
}

/// What came of one part.
enum Came {
    /// A row each.
    Rows(Bytes),
    /// All of it was refused.
    Refused(StatusCode, HeaderMap, Bytes),
    /// It is to be sent again: that node has it no more, or was not reached.
    Moved,
}

/// `POST /v1/tasks/batch`.
pub(super) async fn batch(kept: &Rc<Kept>) -> Outcome {
    let outer = kept.kind();
    let name = kept.key_name();
    let (items, form) = match (&outer, &name) {
        (Ok(BodyKind::Json), Ok(_)) => {
            let sent: Batch<'_> = match wire::parse(&kept.body) {
                Ok(sent) => sent,
                Err(_) => return as_it_is(kept).await,
            };
            let items = sent.tasks.into_iter().map(|raw| raw.get().as_bytes());
            (items.map(|item| kept.body.slice_ref(item)).collect::<Vec<_>>(), Form::Tasks)
        }
        (Ok(BodyKind::Ndjson), Ok(_)) => {
            let lines = crate::api::lines(&kept.body);
            (lines.into_iter().map(|line| kept.body.slice_ref(line)).collect(), Form::Lines)
        }
        // The handler says what is wrong with it.
        _ => return as_it_is(kept).await,
    };
    if items.is_empty() || BATCH_TASKS_MAX < items.len() {
        return as_it_is(kept).await;
    }
    let name = name.unwrap_or_default();
    let partitions = kept.core.shards.partitions();
    let item = |(i, bytes): (usize, Bytes)| {
        let key =
            name.as_ref().map(|name| wire::key(&kept.principal.tenant, name, Some(i), &bytes));
        Item { bytes, partition: key.map(|key| partition_of_key(key.hash, partitions)) }
    };
    let items = items.into_iter().enumerate().map(item).collect();
    spread(kept, form, items, name.is_some()).await
}

/// `POST /v1/worker/heartbeat` and the others.
pub(super) async fn reports(kept: &Rc<Kept>) -> Outcome {
    #[derive(Deserialize)]
    struct Leased {
        lease: String,
    }
    let is_array = kept.body.trim_ascii_start().starts_with(b"[");
    let raw: Vec<Bytes> = match is_array {
        true => match wire::parse_array(&kept.body) {
            Ok(items) => {
                items.into_iter().map(|raw| kept.body.slice_ref(raw.get().as_bytes())).collect()
            }
            Err(_) => return as_it_is(kept).await,
        },
        false => vec![kept.body.clone()],
    };
    let partition_of = |bytes: &Bytes| {
        let leased: Leased = serde_json::from_slice(bytes).ok()?;
        let partition = opaque::parse_lease(&leased.lease)?.task.partition();
        (partition.0 < kept.core.shards.partitions()).then_some(partition)
    };
    let items: Vec<Item> =
        raw.into_iter().map(|bytes| Item { partition: partition_of(&bytes), bytes }).collect();
    if !is_array {
        return one(kept, items.first().and_then(|item| item.partition)).await;
    }
    if items.is_empty() || BATCH_TASKS_MAX < items.len() {
        return as_it_is(kept).await;
    }
    // A report has its fence: the second of two equal ones is refused or does nothing.
    spread(kept, Form::Array, items, true).await
}

/// One report, to whoever has its task.
async fn one(kept: &Rc<Kept>, partition: Option<PartitionId>) -> Outcome {
    match partition {
        None => as_it_is(kept).await,
        Some(partition) => by_partition_surely(kept, partition).await,
    }
}

/// Has the handler here answer, whatever it is.
async fn as_it_is(kept: &Rc<Kept>) -> Outcome {
    kept.here(kept.body.clone(), Inner::default()).await
}

/// Sends the items round until all have a row.
async fn spread(kept: &Rc<Kept>, form: Form, items: Vec<Item>, is_repeatable: bool) -> Outcome {
    let begun = Instant::now();
    let items = Rc::new(items);
    let mut rows: Vec<Option<Bytes>> = vec![None; items.len()];
    let mut refused = None;
    loop {
        let view = kept.cluster.view();
        let (parts, mut is_left) = parts_of(kept, &items, &rows);
        let is_whole = rows.iter().all(Option::is_none);
        if let [Part { to: None, places }] = &parts[..]
            && is_whole
            && places.len() == items.len()
        {
            // As most are: nothing is taken apart, unless something has moved.
            let answer = kept.here_whole(kept.body.clone(), Inner::default()).await;
            match answer {
                Ok(body) if !says_moved(&body) => return Ok(json(StatusCode::OK, body.to_vec())),
                Ok(body) => is_left |= fill(&mut rows, places, form, &body),
                Err(problem) if problem.code == Code::PartitionUnowned => is_left = true,
                Err(problem) => return Err(problem),
            }
        } else {
            let came = send_all(kept, form, &items, parts, is_repeatable).await;
            for (places, came) in came {
                match came {
                    Came::Rows(body) => is_left |= fill(&mut rows, &places, form, &body),
                    Came::Moved => is_left = true,
                    Came::Refused(status, headers, body) => {
                        refuse(&mut rows, &places, status, &body);
                        refused.get_or_insert((status, headers, body));
                    }
                }
            }
        }
        if !is_left {
            break;
        }
        if PATIENCE <= begun.elapsed() || kept.core.is_stopping() {
            let problem = unowned();
            rows.iter_mut()
                .filter(|row| row.is_none())
                .for_each(|row| *row = Some(row_of(&problem)));
            break;
        }
        kept.cluster.changed(&view, PAUSE).await;
    }
    match refused {
        Some((status, headers, body))
            if rows.iter().flatten().all(|row| is_refusal(row, status)) =>
        {
            Ok(with_head(status, &headers, OutBody::full(body)))
        }
        _ => Ok(json(StatusCode::OK, joined(form, &rows))),
    }
}

/// Who gets which of the items that have no row yet; whether some have to wait for an owner.
fn parts_of(kept: &Kept, items: &[Item], rows: &[Option<Bytes>]) -> (Vec<Part>, bool) {
    let (mut parts, mut is_left): (Vec<Part>, bool) = (Vec::new(), false);
    let mut anybody = None;
    for (place, item) in items.iter().enumerate().filter(|(place, _)| rows[*place].is_none()) {
        let owner = match item.partition {
            Some(partition) => kept.target(Some(partition)),
            None => anybody.get_or_insert_with(|| kept.target(None)).clone(),
        };
        let to = match owner {
            Owner::Here => None,
            Owner::There(peer) => Some(peer),
            Owner::Nobody => {
                is_left = true;
                continue;
            }
        };
        match parts.iter_mut().find(|part| part.to == to) {
            Some(part) => part.places.push(place),
            None => parts.push(Part { to, places: vec![place] }),
        }
    }
    (parts, is_left)
}

/// Sends all parts at once, and waits for all.
async fn send_all(
    kept: &Rc<Kept>,
    form: Form,
    items: &Rc<Vec<Item>>,
    parts: Vec<Part>,
    is_repeatable: bool,
) -> Vec<(Vec<usize>, Came)> {
    let under_way: Vec<_> = parts
        .into_iter()
        .map(|Part { to, places }| {
            let (kept, items) = (Rc::clone(kept), Rc::clone(items));
            let (body, theirs) = (body_of(form, &items, &places), places.clone());
            let sent = async move {
                match to {
                    None => {
                        let inner = Inner { places: Some(Arc::from(theirs)) };
                        came_here(kept.here_whole(body, inner).await)
                    }
                    Some(peer) => came_there(&kept, &peer, body, &theirs, is_repeatable).await,
                }
            };
            (places, tokio::task::spawn_local(sent))
        })
        .collect();
    let mut all = Vec::with_capacity(under_way.len());
    for (places, sent) in under_way {
        let came =
            sent.await.unwrap_or_else(|_| came_here(Err(Problem::internal("a part is gone"))));
        all.push((places, came));
    }
    all
}

fn came_here(answer: Result<Bytes, Problem>) -> Came {
    match answer {
        Ok(body) => Came::Rows(body),
        Err(problem) if problem.code == Code::PartitionUnowned => Came::Moved,
        Err(problem) => {
            let (head, body) = problem.response("").into_parts();
            drop(body);
            let mut text = Vec::new();
            problem.render(None, &mut text);
            Came::Refused(head.status, head.headers, text.into())
        }
    }
}

async fn came_there(
    kept: &Kept,
    peer: &Peer,
    body: Bytes,
    places: &[usize],
    is_repeatable: bool,
) -> Came {
    let places: Vec<String> = places.iter().map(usize::to_string).collect();
    let more = Some((PLACES, places.join(",")));
    match kept.whole_there(peer, body, more).await {
        Ok((StatusCode::OK, _, body)) => Came::Rows(body),
        Ok((status, _, body)) if is_moved(status, &body) => Came::Moved,
        Ok((status, headers, body)) => Came::Refused(status, headers, body),
        Err(Unreached::NotSent) => Came::Moved,
        Err(Unreached::MaybeDone) if is_repeatable => Came::Moved,
        Err(unreached) => came_here(Err(unreached.into())),
    }
}

fn body_of(form: Form, items: &[Item], places: &[usize]) -> Bytes {
    let (open, between, close): (&[u8], &[u8], &[u8]) = match form {
        Form::Tasks => (br#"{"tasks":["#, b",", b"]}"),
        Form::Lines => (b"", b"\n", b""),
        Form::Array => (b"[", b",", b"]"),
    };
    let mut body = open.to_vec();
    for (i, place) in places.iter().enumerate() {
        if 0 < i {
            body.extend_from_slice(between);
        }
        body.extend_from_slice(&items[*place].bytes);
    }
    body.extend_from_slice(close);
    body.into()
}

/// Puts the rows of an answer in their places; whether some have moved and are to be sent again.
fn fill(rows: &mut [Option<Bytes>], places: &[usize], form: Form, body: &Bytes) -> bool {
    #[derive(Deserialize)]
    struct Items<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    let parsed = match form {
        Form::Tasks | Form::Lines => {
            serde_json::from_slice::<Items<'_>>(body).map(|items| items.items)
        }
        Form::Array => serde_json::from_slice(body),
    };
    let parsed = parsed.unwrap_or_default();
    if parsed.len() != places.len() {
        let row = row_of(&Problem::internal("a node answered another question"));
        places.iter().for_each(|place| rows[*place] = Some(row.clone()));
        return false;
    }
    let mut is_left = false;
    for (place, row) in places.iter().zip(parsed) {
        let row = row.get().as_bytes();
        match row.starts_with(br#"{"status":503,"#) && says_moved(row) {
            true => is_left = true,
            false => rows[*place] = Some(body.slice_ref(row)),
        }
    }
    is_left
}

/// A problem as the row of each of these places.
fn refuse(rows: &mut [Option<Bytes>], places: &[usize], status: StatusCode, problem: &[u8]) {
    let mut row = format!(r#"{{"status":{},"problem":"#, status.as_u16()).into_bytes();
    row.extend_from_slice(problem);
    row.push(b'}');
    let row = Bytes::from(row);
    places.iter().for_each(|place| rows[*place] = Some(row.clone()));
}

fn row_of(problem: &Problem) -> Bytes {
    let mut row = br#"{"status":"#.to_vec();
    push_problem(&mut row, problem);
    row.push(b'}');
    row.into()
}

fn is_refusal(row: &[u8], status: StatusCode) -> bool {
    row.starts_with(format!(r#"{{"status":{},"problem":"#, status.as_u16()).as_bytes())
}

fn joined(form: Form, rows: &[Option<Bytes>]) -> Vec<u8> {
    let (open, close): (&[u8], &[u8]) = match form {
        Form::Tasks | Form::Lines => (br#"{"items":["#, b"]}"),
        Form::Array => (b"[", b"]"),
    };
    let mut body = open.to_vec();
    for (i, row) in rows.iter().flatten().enumerate() {
        if 0 < i {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    body.extend_from_slice(close);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_find_their_places_and_what_moved_stays_open() {
        let mut rows = vec![None; 4];
        let body = Bytes::from_static(
            br#"{"items":[{"status":202,"task":{}},{"status":503,"problem":{"code":"partition_unowned"}}]}"#,
        );
        assert!(fill(&mut rows, &[1, 3], Form::Tasks, &body));
        assert_eq!(rows[1].as_deref(), Some(&br#"{"status":202,"task":{}}"#[..]));
        assert!(rows[0].is_none() && rows[2].is_none() && rows[3].is_none());
        refuse(&mut rows, &[0], StatusCode::TOO_MANY_REQUESTS, b"{}");
        let more = Bytes::from_static(br#"[{"status":200},{"status":409}]"#);
        assert!(!fill(&mut rows, &[2, 3], Form::Array, &more));
        let text = String::from_utf8(joined(Form::Array, &rows)).expect("text");
        let expected = r#"[{"status":429,"problem":{}},{"status":202,"task":{}},{"status":200},{"status":409}]"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn an_answer_with_other_rows_is_a_problem_of_each() {
        let mut rows = vec![None; 2];
        assert!(!fill(&mut rows, &[0, 1], Form::Array, &Bytes::from_static(b"[{}]")));
        assert!(rows.iter().flatten().all(|row| row.starts_with(br#"{"status":500"#)));
    }
}
