//! What clients send, and how it becomes what the engine takes.
//!
//! The common case is parsed once, with borrowed strings and an unparsed input. Only what was
//! refused is parsed again with its path tracked, to give the JSON pointer of the fault.

use crate::core::Core;
use crate::extract::check_name;
use crate::json::is_shallow;
use crate::problem::{Code, Problem};
use crate::time::{parse_time, wall};
use no_engine::agent::definition::{Budget, Kind};
use no_engine::limits;
use no_engine::payload::{Hash, Payload};
use no_engine::task::{Key, NewTask, Tags};
use no_engine::time::Millis;
use no_engine::trace::Caller;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;
use std::borrow::Cow;
use std::sync::Arc;

/// One submission.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission<'a> {
    #[serde(borrow)]
    agent: Cow<'a, str>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(default)]
    priority: Option<u64>,
    #[serde(default)]
    fairness_key: Option<Arc<str>>,
    #[serde(default)]
    tags: Option<Vec<Box<str>>>,
    #[serde(default)]
    run_at: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    deadline: Option<String>,
    #[serde(default)]
    max_attempts: Option<u32>,
    #[serde(default)]
    budget: Option<Budget>,
}

/// Many submissions in one JSON text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch<'a> {
    /// Each is parsed by itself, so that a bad one is a row with its problem.
    #[serde(borrow)]
    pub tasks: Vec<&'a RawValue>,
}

/// Parses a body that is one JSON object.
///
/// # Errors
/// 400 for what is no JSON, 422 with a pointer for what does not fit.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        // Serde would take an array for a struct, its fields in order; that is no form of ours.
        Ok(_) if !body.trim_ascii_start().starts_with(b"{") => {
            Err(Problem::invalid("", "must be an object"))
        }
        Ok(value) => Ok(value),
        Err(error) => Err(fault_of::<T>(body, &error)),
    }
}

/// Parses a body that is one JSON array, each item to be parsed by itself.
///
/// # Errors
/// 400 for what is no JSON array.
pub fn parse_array(body: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    serde_json::from_slice(body).map_err(|error| fault_of::<Vec<&RawValue>>(body, &error))
}

fn fault_of<'a, T: Deserialize<'a>>(body: &'a [u8], error: &serde_json::Error) -> Problem {
    if error.classify() != Category::Data {
        return Problem::new(Code::BadRequest, format!("not valid JSON: {error}"));
    }
    let mut tracked = serde_json::Deserializer::from_slice(body);
    let result = serde_path_to_error::deserialize::<_, T>(&mut tracked);
    let Some(fault) = result.err() else {
        return Problem::invalid("", error.to_string());
    };
    let mut pointer = String::new();
    for segment in fault.path() {
        match segment {
            Segment::Seq { index } => push_pointer(&mut pointer, &index.to_string()),
            Segment::Map { key } => push_pointer(&mut pointer, key),
            Segment::Enum { variant } => push_pointer(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    let said = fault.inner().to_string();
    for kind in ["missing field `", "unknown field `", "duplicate field `"] {
        if let Some(name) = said.strip_prefix(kind).and_then(|rest| rest.split('`').next()) {
            let mut token = String::new();
            push_pointer(&mut token, name);
            if !pointer.ends_with(&token) {
                pointer += &token;
            }
        }
    }
    Problem::invalid(pointer, said)
}

/// Appends one reference token of a JSON pointer (RFC 6901).
fn push_pointer(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
}

/// Makes a payload of a JSON text that a parser has accepted.
///
/// # Errors
/// 422 when it nests too deep.
pub fn payload(raw: &RawValue, pointer: &str) -> Result<Payload, Problem> {
    if !is_shallow(raw.get()) {
        return Err(Problem::invalid(pointer, "nests deeper than 128"));
    }
    Ok(Payload::new(raw.get().as_bytes(), |bytes| Hash(*blake3::hash(bytes).as_bytes())))
}

/// The key of a submission: `name` is the header's, `index` the place in a batch.
#[must_use]
pub fn key(tenant: &str, name: &str, index: Option<usize>, body: &[u8]) -> Key {
    let mut hasher = blake3::Hasher::new();
    for part in [tenant.as_bytes(), name.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    if let Some(index) = index {
        hasher.update(&(index as u64).to_le_bytes());
    }
    let first = |hash: blake3::Hash| {
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        u128::from_le_bytes(bytes)
    };
    Key { hash: first(hasher.finalize()), fingerprint: first(blake3::hash(body)) as u64 }
}

/// Parses and checks one submission, of the request that `caller` is the span of.
///
/// # Errors
/// 400, 404 `agent_unknown`, 413 or 422.
pub fn new_task(
    core: &Core,
    tenant: &Arc<str>,
    body: &[u8],
    key: Option<Key>,
    caller: Option<Caller>,
) -> Result<NewTask, Problem> {
    let sent: Submission<'_> = parse(body)?;
    let (agent, kind) = core
        .agents
        .kind_of(&sent.agent)
        .ok_or_else(|| Problem::new(Code::AgentUnknown, "define it with PUT /v1/agents/{name}"))?;
    let input = input_of(sent.input, kind)?;
    let priority = sent.priority.unwrap_or(u64::from(limits::PRIORITY_DEFAULT));
    if u64::from(limits::PRIORITY_MAX) < priority {
        return Err(Problem::invalid("/priority", "must be 0 to 9"));
    }
    if let Some(fairness_key) = &sent.fairness_key {
        check_name(fairness_key).map_err(|why| Problem::invalid("/fairness_key", why))?;
    }
    if sent.timeout_ms.is_some_and(|ms| ms == 0 || limits::TIMER_MS_MAX < ms) {
        return Err(Problem::invalid("/timeout_ms", "must be at least 1 ms, at most ten years"));
    }
    if sent.max_attempts.is_some_and(|max| !matches!(max, 1..=limits::ATTEMPTS_MAX)) {
        return Err(Problem::invalid("/max_attempts", "must be between 1 and 1000"));
    }
    let budget = sent.budget.unwrap_or_default();
    if budget.max_iterations.is_some_and(|max| !matches!(max, 1..=limits::ITERATIONS_MAX)) {
        return Err(Problem::invalid("/budget/max_iterations", "must be between 1 and 100000"));
    }
    Ok(NewTask {
        id: core.new_task_id(key.as_ref()),
        agent,
        tenant: Arc::clone(tenant),
        input,
        priority: priority as u8,
        fairness_key: sent.fairness_key,
        tags: tags_of(sent.tags)?,
        run_at: time_of(sent.run_at.as_deref(), "/run_at")?,
        timeout_ms: sent.timeout_ms,
        deadline: time_of(sent.deadline.as_deref(), "/deadline")?,
        max_attempts: sent.max_attempts,
        budget,
        key,
        caller: caller.map(Box::new),
    })
}

fn input_of(input: Option<&RawValue>, kind: Kind) -> Result<Payload, Problem> {
    let Some(raw) = input else {
        return match kind {
            Kind::Sleep => Err(Problem::invalid("/input/ms", "must be given")),
            Kind::Echo | Kind::Http | Kind::Worker | Kind::Model => Ok(Payload::null()),
        };
    };
    if limits::INPUT_BYTES_MAX < raw.get().len() {
        return Err(Problem::new(Code::TooLarge, "an input has at most 1 MiB"));
    }
    if kind == Kind::Sleep {
        let slept: Sleep =
            parse(raw.get().as_bytes()).map_err(|problem| problem.under("/input"))?;
        if limits::TIMER_MS_MAX < slept.ms {
            return Err(Problem::invalid("/input/ms", "must be at most ten years"));
        }
    }
    payload(raw, "/input")
}

/// The input of an agent of kind `sleep`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    ms: u64,
}

fn tags_of(tags: Option<Vec<Box<str>>>) -> Result<Tags, Problem> {
    let Some(tags) = tags.filter(|tags| !tags.is_empty()) else { return Ok(None) };
    if limits::TAGS_MAX < tags.len() {
        return Err(Problem::invalid("/tags", "at most 16"));
    }
    for (i, tag) in tags.iter().enumerate() {
        check_name(tag).map_err(|why| Problem::invalid(format!("/tags/{i}"), why))?;
    }
    Ok(Some(tags.into()))
}

fn time_of(text: Option<&str>, pointer: &str) -> Result<Option<Millis>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let at = parse_time(text)
        .ok_or_else(|| Problem::invalid(pointer, "must be a time as in 2026-01-31T12:00:00Z"))?;
    if wall() + limits::TIMER_MS_MAX < at {
        return Err(Problem::invalid(pointer, "must be within ten years"));
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        inner: Inner,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        n: u8,
    }

    #[test]
    fn faults_have_their_pointer() {
        for (body, expected) in [
            (r#"{"inner":{"n":"x"}}"#, "/inner/n"),
            (r#"{"inner":{"n":1,"more":2}}"#, "/inner/more"),
            (r#"{"inner":{}}"#, "/inner/n"),
            (r#"{}"#, "/inner"),
            (r#"{"inner":{"n":1},"a/b":1}"#, "/a~1b"),
            (r#"{"inner":{"n":1},"list":[{"n":1},{"n":300}]}"#, "/list/1/n"),
            (r#"{"inner":{"n":1,"n":1}}"#, "/inner/n"),
            (r#"[]"#, ""),
            (r#"[{"n":1}]"#, ""),
        ] {
            let problem = parse::<Outer>(body.as_bytes()).expect_err(body);
            assert_eq!((problem.code, problem.pointer.as_deref()), (Code::Invalid, Some(expected)));
        }
        for body in ["", "{", r#"{"inner":{"n":1}} x"#, "\u{0}"] {
            let problem = parse::<Outer>(body.as_bytes()).expect_err(body);
            assert_eq!(problem.code, Code::BadRequest, "{body}");
        }
    }

    #[test]
    fn keys_tell_tenants_names_and_places_apart() {
        let all = [
            key("a", "bc", None, b""),
            key("ab", "c", None, b""),
            key("a", "bc", Some(0), b""),
            key("a", "bc", Some(1), b""),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other.hash != one.hash));
        }
        assert_eq!(key("a", "b", None, b"x"), key("a", "b", None, b"x"));
        assert_ne!(key("a", "b", None, b"x").fingerprint, key("a", "b", None, b"y").fingerprint);
    }
}
