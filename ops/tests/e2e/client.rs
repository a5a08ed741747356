//! A client of a node: requests as users make them, answers as status, headers and JSON.

use super::{Events, PATIENCE};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Request, Response};

/// The longest of a request's wait for an answer.
const ANSWER: Duration = Duration::from_secs(90);

/// One who asks a node; cheap to clone, each thread has its own.
#[derive(Clone)]
pub(crate) struct Client {
    url: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) text: String,
    /// The body as JSON; null when it is none.
    pub(crate) body: Value,
}

impl Reply {
    /// The same, if it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        self.expect(status).body
    }

    /// Checks that it is a problem with this status and code, and gives it.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, &self.body["code"]), (status, &code.into()), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        self.body
    }

    /// A header as text; empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// A client with this token, or none.
    pub(crate) fn new(url: &str, token: Option<&str>) -> Client {
        let (url, token) = (url.to_owned(), token.map(str::to_owned));
        Client { url, token, agent: agent(ANSWER) }
    }

    /// The same, waiting no longer than this for an answer.
    pub(crate) fn patient(&self, answer: Duration) -> Client {
        Client { agent: agent(answer), ..self.clone() }
    }

    /// The same with another token.
    pub(crate) fn with_token(&self, token: Option<&str>) -> Client {
        Client { token: token.map(str::to_owned), ..self.clone() }
    }

    /// Where the node listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("https://").trim_start_matches("http://")
    }

    /// The token that is sent.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Sends a request; an error when the node does not answer.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Reply, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            Some(body) => self.agent.run(request.body(body).expect("a request"))?,
            None => self.agent.run(request.body(()).expect("a request"))?,
        };
        read(response)
    }

    /// Sends a request to a node that must answer.
    #[track_caller]
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Reply {
        match self.try_send(method, path, headers, body) {
            Ok(reply) => reply,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// `GET`.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    /// `POST` of JSON.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[JSON], Some(body.to_string().as_bytes()))
    }

    /// `POST` without a body.
    #[track_caller]
    pub(crate) fn order(&self, path: &str) -> Reply {
        self.send("POST", path, &[], Some(b""))
    }

    /// `PUT` of JSON.
    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[JSON], Some(body.to_string().as_bytes()))
    }

    /// `DELETE`.
    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], None)
    }

    /// Submits a task under a key.
    #[track_caller]
    pub(crate) fn submit_keyed(&self, key: &str, body: &Value) -> Reply {
        let headers = [JSON, ("idempotency-key", key)];
        self.send("POST", "/v1/tasks", &headers, Some(body.to_string().as_bytes()))
    }

    /// Submits a task, which must be taken; its id.
    #[track_caller]
    pub(crate) fn submit(&self, body: &Value) -> String {
        let task = self.post("/v1/tasks", body);
        assert!(matches!(task.status, 200 | 202), "{}", task.text);
        id_of(&task.body)
    }

    /// A task as it is now.
    #[track_caller]
    pub(crate) fn task(&self, id: &str) -> Value {
        self.get(&format!("/v1/tasks/{id}")).ok(200)
    }

    /// A task once it has ended; fails when it does not.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let task = self.get(&format!("/v1/tasks/{id}?wait_ms=10000")).ok(200);
            if is_ended(&task) {
                return task;
            }
            assert!(Instant::now() < until, "it does not end: {task}");
        }
    }

    /// A task once it has succeeded.
    #[track_caller]
    pub(crate) fn succeeded(&self, id: &str) -> Value {
        let task = self.ended(id);
        assert_eq!(task["state"], "succeeded", "{task}");
        task
    }

    /// A task once an event of that name is among its own, as it is then.
    #[track_caller]
    pub(crate) fn after_event(&self, id: &str, name: &str) -> Value {
        self.events(id, None).until(name);
        self.task(id)
    }

    /// A task's events from the start, or after the one with that number.
    pub(crate) fn events(&self, id: &str, after: Option<&str>) -> Events {
        Events::open(self, &format!("/v1/tasks/{id}/events"), after)
    }

    /// All steps of a task.
    #[track_caller]
    pub(crate) fn steps(&self, id: &str) -> Vec<Value> {
        self.all(&format!("/v1/tasks/{id}/steps?limit=100"))
    }

    /// All items of a list, page by page; `path` has a query.
    #[track_caller]
    pub(crate) fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self.get(&format!("{path}{cursor}")).ok(200);
            match page["items"].take() {
                Value::Array(more) => items.extend(more),
                other => panic!("{path}: no items but {other}"),
            }
            match &page["next_cursor"] {
                Value::String(next) => cursor = format!("&cursor={next}"),
                _ => return items,
            }
        }
    }

    /// Sends bytes as they are and reads until the other side closes; `connection: close` is up to
    /// the caller.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // It may answer and close before it has read all.
        let _ = socket.write_all(bytes);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn agent(answer: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(answer))
        .max_redirects(0)
        .allow_non_standard_methods(true)
        .build();
    config.new_agent()
}

/// The content type of JSON.
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

fn read(mut response: Response<ureq::Body>) -> Result<Reply, ureq::Error> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let bytes = response.body_mut().with_config().limit(64 << 20).read_to_vec()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Reply { status, headers, text, body })
}

/// The id in a task.
#[track_caller]
pub(crate) fn id_of(task: &Value) -> String {
    task["id"].as_str().expect("a task has an id").to_owned()
}

/// Whether nothing more happens to a task by itself.
pub(crate) fn is_ended(task: &Value) -> bool {
    matches!(task["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}
