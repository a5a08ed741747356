//! What an agent is: the named definition of how its tasks are run, as the API and the
//! configuration write it, and the check that makes it one the engine can trust.

use crate::limits;
use crate::retry::Retry;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// How an agent's tasks are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The output is the input.
    Echo,
    /// Waits for the input's `ms`; the output is the input.
    Sleep,
    /// Posts the input to a URL; the answer is the output.
    Http,
    /// Leased by workers outside.
    Worker,
    /// The agent loop: a model and its tools.
    Model,
}

/// Hard bounds of one task's loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Model calls, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u32>,
}

/// Starts of an agent's tasks in a second, as a token bucket, shared out evenly over the shards.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Starts a second, on average.
    pub per_second: f64,
    /// Starts at once after a pause; 1 when absent.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

/// What may be done about a tool call whose outcome a crash left unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolEffect {
    /// Changes nothing outside: call again.
    Pure,
    /// The other side makes it once for one key: call again with the same key.
    Idempotent,
    /// Calling again may do harm: park as `outcome_unknown` until somebody says what happened.
    #[default]
    Unsafe,
}

/// What stands behind a tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// An HTTP request.
    Http,
    /// A durable timer, offered to the model as `wait` with `{"ms":N}`.
    Wait,
}

/// One tool that a model may call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// What stands behind it.
    pub kind: ToolKind,
    /// The name the model uses; `wait` for the timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// What it is for, told to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Arc<str>>,
    /// Where `http` goes; `{name}` is replaced by that argument, percent-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Arc<str>>,
    /// The method of `http`; `POST` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Arc<str>>,
    /// What may be done after a crash; for `http` with method GET `pure`, else `unsafe`, when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<ToolEffect>,
    /// The arguments' JSON Schema, told to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Arc<RawValue>>,
}

/// A named definition of how tasks are run. The name itself stands outside, as in the URL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// How its tasks are run.
    pub kind: Kind,
    /// Tasks running at once on this node, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Tasks of one fairness key running at once on one shard, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency_per_key: Option<u32>,
    /// One attempt's time-out, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Attempts before a task is a dead letter; 3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The wait between attempts.
    #[serde(default)]
    pub retry: Retry,
    /// Starts a second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Bounds of each task's loop, unless the task sets its own.
    #[serde(default)]
    pub budget: Budget,
    /// Where kind `http` posts to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Arc<str>>,
    /// The entry of `models` that kind `model` asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Arc<str>>,
    /// What the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Longest answer of the model, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
}

impl Agent {
    /// A definition with nothing set but its kind.
    #[must_use]
    pub fn of_kind(kind: Kind) -> Agent {
        Agent {
            kind,
            max_concurrency: None,
            max_concurrency_per_key: None,
            timeout_ms: None,
            max_attempts: None,
            retry: Retry::default(),
            rate: None,
            budget: Budget::default(),
            url: None,
            model: None,
            system: None,
            tools: Vec::new(),
            max_output_tokens: None,
        }
    }

    /// Whether a running task of this agent holds a slot: work that this node does itself.
    #[must_use]
    pub fn takes_slot(&self) -> bool {
        matches!(self.kind, Kind::Http | Kind::Model)
    }

    /// Attempts before a task is a dead letter.
    #[must_use]
    pub fn attempts_max(&self) -> u32 {
        self.max_attempts.unwrap_or(3)
    }

    /// The definition's own copy of a model's or tool's name.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<&Arc<str>> {
        let tools = self.tools.iter().filter_map(|tool| tool.name.as_ref());
        self.model.iter().chain(tools).find(|own| ***own == *name)
    }

    /// The tool of that name, with its place in `tools`.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<(usize, &Tool)> {
        self.tools.iter().enumerate().find(|(_, tool)| tool.called() == name)
    }

    /// Checks what types cannot say; the first fault as (JSON pointer, what to do).
    ///
    /// # Errors
    /// The pointer to the offending field and a sentence for its author.
    pub fn check(&self) -> Result<(), (String, String)> {
        let fault = |pointer: &str, detail: &str| Err((pointer.to_owned(), detail.to_owned()));
        if self.max_concurrency == Some(0) {
            return fault("/max_concurrency", "must be at least 1; pause the agent to stop it");
        }
        if self.max_concurrency_per_key == Some(0) {
            return fault("/max_concurrency_per_key", "must be at least 1");
        }
        if !matches!(self.attempts_max(), 1..=limits::ATTEMPTS_MAX) {
            return fault("/max_attempts", "must be between 1 and 1000");
        }
        if self.timeout_ms.is_some_and(|ms| ms == 0 || limits::TIMER_MS_MAX < ms) {
            return fault("/timeout_ms", "must be at least 1 ms and at most ten years");
        }
        if let Err(detail) = self.retry.check() {
            return fault("/retry", detail);
        }
        if let Some(rate) = self.rate
            && !(rate.per_second.is_finite() && 0.0 < rate.per_second && 0 < rate.burst)
        {
            return fault("/rate", "per_second must be above 0 and burst at least 1");
        }
        if let Some(n) = self.budget.max_iterations
            && !matches!(n, 1..=limits::ITERATIONS_MAX)
        {
            return fault("/budget/max_iterations", "must be between 1 and 100000");
        }
        self.check_kind()
    }

    fn check_kind(&self) -> Result<(), (String, String)> {
        let fault = |pointer: &str, detail: &str| Err((pointer.to_owned(), detail.to_owned()));
        let is_http = self.kind == Kind::Http;
        let is_model = self.kind == Kind::Model;
        if is_http != self.url.is_some() {
            return fault("/url", "is required for kind http and belongs to no other kind");
        }
        if is_model != self.model.is_some() {
            return fault("/model", "is required for kind model and belongs to no other kind");
        }
        if !is_model && (self.system.is_some() || self.max_output_tokens.is_some()) {
            return fault("/system", "system and max_output_tokens belong to kind model");
        }
        if !is_model && !self.tools.is_empty() {
            return fault("/tools", "belong to kind model");
        }
        if self.max_output_tokens == Some(0) {
            return fault("/max_output_tokens", "must be at least 1");
        }
        if limits::TOOLS_MAX < self.tools.len() {
            return fault("/tools", "at most 128");
        }
        for (i, tool) in self.tools.iter().enumerate() {
            if let Err((pointer, detail)) = tool.check() {
                return Err((format!("/tools/{i}{pointer}"), detail));
            }
            if self.tool(tool.called()).is_some_and(|(first, _)| first != i) {
                return Err((format!("/tools/{i}/name"), "is taken by another tool".into()));
            }
        }
        Ok(())
    }
}

impl Tool {
    /// The name that the model uses.
    #[must_use]
    pub fn called(&self) -> &str {
        match (&self.name, self.kind) {
            (Some(name), _) => name,
            (None, ToolKind::Wait) => "wait",
            (None, ToolKind::Http) => "",
        }
    }

    /// The method of an `http` tool.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("POST")
    }

    /// What may be done when a crash leaves a call's outcome unknown.
    #[must_use]
    pub fn effect(&self) -> ToolEffect {
        match (self.effect, self.kind) {
            (Some(effect), _) => effect,
            (None, ToolKind::Wait) => ToolEffect::Pure,
            (None, ToolKind::Http) if self.method() == "GET" => ToolEffect::Pure,
            (None, ToolKind::Http) => ToolEffect::Unsafe,
        }
    }

    fn check(&self) -> Result<(), (String, String)> {
        let fault = |pointer: &str, detail: &str| Err((pointer.to_owned(), detail.to_owned()));
        let name = self.called();
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        if name.is_empty() || 64 < name.len() || !name.bytes().all(plain) {
            return fault("/name", "must be 1 to 64 letters, digits, _ or -");
        }
        match self.kind {
            ToolKind::Http if self.url.is_none() => fault("/url", "is required for kind http"),
            ToolKind::Http
                if !matches!(self.method(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE") =>
            {
                fault("/method", "must be GET, POST, PUT, PATCH or DELETE")
            }
            ToolKind::Wait
                if self.name.is_some() || self.url.is_some() || self.method.is_some() =>
            {
                fault("/kind", "wait takes no name, url or method")
            }
            ToolKind::Http | ToolKind::Wait => Ok(()),
        }
    }
}

impl PartialEq for Agent {
    /// Whether both would be written the same.
    fn eq(&self, other: &Agent) -> bool {
        serde_json::to_string(self).ok() == serde_json::to_string(other).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<(), &str>) {
        let agent: Agent = serde_json::from_str(json).expect(json);
        let pointer = agent.check().map_err(|(pointer, _)| pointer);
        assert_eq!(pointer, expected.map_err(str::to_owned), "{json}");
    }

    #[test]
    fn faults_are_named_by_pointer() {
        check(r#"{"kind":"echo"}"#, Ok(()));
        check(r#"{"kind":"http"}"#, Err("/url"));
        check(r#"{"kind":"echo","url":"http://x"}"#, Err("/url"));
        check(r#"{"kind":"model"}"#, Err("/model"));
        check(r#"{"kind":"echo","max_attempts":0}"#, Err("/max_attempts"));
        check(r#"{"kind":"echo","max_concurrency":0}"#, Err("/max_concurrency"));
        check(r#"{"kind":"echo","rate":{"per_second":0}}"#, Err("/rate"));
        check(r#"{"kind":"model","model":"m","tools":[{"kind":"wait"}]}"#, Ok(()));
        check(
            r#"{"kind":"model","model":"m","tools":[{"kind":"http","name":"a b","url":"u"}]}"#,
            Err("/tools/0/name"),
        );
        check(
            r#"{"kind":"model","model":"m","tools":[{"kind":"wait"},{"kind":"wait"}]}"#,
            Err("/tools/1/name"),
        );
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<Agent>(r#"{"kind":"echo","colour":1}"#).is_err());
    }
}
