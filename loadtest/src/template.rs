//! Requests as bytes, rendered once: sending one copies it and writes a few digits into it.
//!
//! What differs between requests has a fixed width, so that the length never changes:
//! the idempotency key and the fairness keys are counters with leading zeros.

use crate::plan::{Agent, Target, Tasks};
use std::time::{SystemTime, UNIX_EPOCH};

/// Digits of a counter in a request.
const DIGITS: usize = 12;

/// A request with its places for counters.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the idempotency key's counter stands.
    key_at: Option<usize>,
    /// Where each task's fairness key has its counter.
    fairness_at: Vec<usize>,
    fairness_keys: u64,
}

impl Template {
    /// The request that a plan sends again and again. `host` is what the `Host` header says.
    #[must_use]
    pub fn new(target: &Target, host: &str, token: Option<&str>) -> Template {
        match target {
            Target::Get(path) => {
                let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                Template::fixed(head.into_bytes())
            }
            Target::Submit(tasks) => Template::submit(tasks, host, token),
        }
    }

    /// A request in which nothing changes.
    #[must_use]
    pub fn fixed(bytes: Vec<u8>) -> Template {
        Template { bytes, key_at: None, fairness_at: Vec::new(), fairness_keys: 0 }
    }

    fn submit(tasks: &Tasks, host: &str, token: Option<&str>) -> Template {
        let (task, fairness) = task(tasks);
        let (open, close) = if tasks.batch == 1 { ("", "") } else { (r#"{"tasks":["#, "]}") };
        let mut body = open.as_bytes().to_vec();
        let mut fairness_at = Vec::new();
        for i in 0..tasks.batch {
            if 0 < i {
                body.push(b',');
            }
            fairness_at.extend(fairness.map(|at| body.len() + at));
            body.extend_from_slice(task.as_bytes());
        }
        body.extend_from_slice(close.as_bytes());
        let path = match (tasks.batch, tasks.wait) {
            (1, None) => "/v1/tasks".to_owned(),
            (1, Some(wait)) => format!("/v1/tasks?wait_ms={}", wait.as_millis()),
            _ => "/v1/tasks/batch".to_owned(),
        };
        let mut bytes = post(&path, host, token, body.len());
        let mut key_at = None;
        if tasks.idempotency {
            // The start's time keeps the keys of two runs apart.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            bytes.extend_from_slice(format!("Idempotency-Key: {:x}-", now.as_micros()).as_bytes());
            key_at = Some(bytes.len());
            bytes.extend_from_slice(&[b'0'; DIGITS]);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        fairness_at.iter_mut().for_each(|at| *at += bytes.len());
        bytes.extend_from_slice(&body);
        Template { bytes, key_at, fairness_at, fairness_keys: tasks.fairness_keys as u64 }
    }

    /// Appends request `k`, from 0.
    pub fn push(&self, out: &mut Vec<u8>, k: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.key_at {
            write_digits(&mut out[start + at..], k);
        }
        if self.fairness_keys == 0 {
            return;
        }
        let first = k.wrapping_mul(self.fairness_at.len() as u64);
        for (i, at) in self.fairness_at.iter().enumerate() {
            write_digits(&mut out[start + at..], (first + i as u64) % self.fairness_keys);
        }
    }

    /// The length of a request, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send: never, for a plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The head of a request with a JSON body, without its last empty line.
#[must_use]
pub fn post(path: &str, host: &str, token: Option<&str>, body_len: usize) -> Vec<u8> {
    let authorization =
        token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {body_len}\r\n"
    )
    .into_bytes()
}

/// One task as JSON, and where its fairness key's counter stands.
fn task(tasks: &Tasks) -> (String, Option<usize>) {
    let input = match tasks.agent {
        Agent::Sleep { sleep_ms } => format!(r#"{{"ms":{sleep_ms}}}"#),
        Agent::Model { .. } if tasks.payload_bytes == 0 => r#""go""#.to_owned(),
        Agent::Model { .. } => format!("\"{}\"", "x".repeat(tasks.payload_bytes)),
        Agent::Echo | Agent::Worker { .. } if tasks.payload_bytes == 0 => r#"{"n":1}"#.to_owned(),
        Agent::Echo | Agent::Worker { .. } => {
            // The braces and the name take eight.
            format!(r#"{{"x":"{}"}}"#, "x".repeat(tasks.payload_bytes.saturating_sub(8)))
        }
    };
    let head = format!(r#"{{"agent":"{}","#, tasks.agent.name());
    if tasks.fairness_keys == 0 {
        return (format!(r#"{head}"input":{input}}}"#), None);
    }
    let head = format!(r#"{head}"fairness_key":"k"#);
    let at = head.len();
    (format!(r#"{head}{}","input":{input}}}"#, "0".repeat(DIGITS)), Some(at))
}

/// Writes the number over the first digits there, with leading zeros; higher digits are cut off.
fn write_digits(out: &mut [u8], mut number: u64) {
    for place in out[..DIGITS].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn text(tasks: Tasks, k: u64) -> (String, serde_json::Value) {
        let template = Template::new(&Target::Submit(tasks), "h:1", Some("T"));
        let mut out = Vec::new();
        template.push(&mut out, k);
        assert_eq!(out.len(), template.len());
        let out = String::from_utf8(out).expect("text");
        let (head, body) = out.split_once("\r\n\r\n").expect("a head and a body");
        let length = format!("Content-Length: {}", body.len());
        assert!(head.lines().any(|line| line == length), "{head}");
        (head.to_owned(), serde_json::from_str(body).expect(body))
    }

    #[test]
    fn a_single_task_is_a_plain_post() {
        let (head, body) = text(Tasks::default(), 0);
        assert!(head.starts_with("POST /v1/tasks HTTP/1.1\r\nHost: h:1\r\n"), "{head}");
        assert!(head.contains("Authorization: Bearer T"), "{head}");
        assert_eq!(body, serde_json::json!({"agent": "echo", "input": {"n": 1}}));
    }

    #[test]
    fn counters_are_written_into_every_place() {
        let tasks = Tasks { batch: 3, fairness_keys: 4, idempotency: true, ..Tasks::default() };
        let (head, body) = text(tasks, 7);
        let key = head.lines().find(|line| line.starts_with("Idempotency-Key")).expect("a key");
        assert!(key.ends_with("-000000000007"), "{key}");
        let keys = body["tasks"].as_array().expect("tasks").iter();
        let keys: Vec<&str> = keys.map(|task| task["fairness_key"].as_str().expect("")).collect();
        assert_eq!(keys, ["k000000000001", "k000000000002", "k000000000003"]);
    }

    #[test]
    fn wait_and_payload_are_what_was_asked_for() {
        let wait = Some(Duration::from_millis(1500));
        let (head, body) = text(Tasks { wait, payload_bytes: 100, ..Tasks::default() }, 0);
        assert!(head.starts_with("POST /v1/tasks?wait_ms=1500 "), "{head}");
        assert_eq!(body["input"].to_string().len(), 100);
        let agent = Agent::Sleep { sleep_ms: 9 };
        let (_, body) = text(Tasks { agent, ..Tasks::default() }, 0);
        assert_eq!(body["input"], serde_json::json!({"ms": 9}));
    }
}
