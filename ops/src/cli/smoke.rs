//! `no smoke`: tries a running nO out from outside, step by step, as a deployment's last check.
//!
//! It leaves one ended task of the agent `echo`, which retention removes. An agent of its own for
//! each run would be another value of the metrics' label `agent` for good.

use super::Console;
use super::options::ClientOptions;
use super::output::{cell, short};
use crate::client::{Call, Client, escaped};
use crate::error::{Error, Result};
use crate::sse::Event;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long metrics may be behind what was answered.
const METRICS_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before they are read again.
const METRICS_PAUSE: Duration = Duration::from_millis(100);

/// Options of `no smoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no smoke
  no smoke --url https://no.example.com --token-file /run/secrets/token --json

Steps: live, health, ready, metrics, refusal (a bad request gets its code), submit, idempotency
(the same key makes no second task), events (watched to the end), answer, counted (metrics moved).
Exit code 0 when all are well, 1 when one is not, and what to do is said. The task is cancelled if
it does not end.")]
pub(crate) struct Smoke {
    /// Agent whose task it submits; of another than `echo` the answer is not looked at
    #[arg(long, default_value = "echo")]
    agent: String,
    /// Input of the task, JSON [default: a random text]
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// How long the task may take, in seconds
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = seconds())]
    timeout: u64,
    #[command(flatten)]
    client: ClientOptions,
}

fn seconds() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=3_600)
}

/// How a step went.
struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Well(String),
    Skipped(String),
    Failed { why: String, hint: &'static str },
}

/// What a step gives when it fails.
type Tried = std::result::Result<Outcome, (String, &'static str)>;

/// A test under way.
struct Run<'a> {
    client: Client,
    smoke: &'a Smoke,
    /// Differs from run to run.
    mark: String,
    input: Value,
    /// What is submitted, the same each time: the key is good for one body.
    body: Value,
    /// `no_tasks_total` of ended ones before; `None` when metrics are closed.
    ended_before: Option<f64>,
    task: Option<String>,
    last: Value,
}

impl Smoke {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let mark = mark();
        let input = match &self.input {
            None => Value::from(mark.clone()),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| Error::Usage(format!("--input is not JSON: {error}")))?,
        };
        let client = self.client.client()?;
        let body = self.body(&input);
        let mut run = Run {
            client,
            smoke: &self,
            mark,
            input,
            body,
            ended_before: None,
            task: None,
            last: Value::Null,
        };
        let steps = run.all(console)?;
        run.clean_up();
        let failed = steps.iter().find(|step| matches!(step.outcome, Outcome::Failed { .. }));
        let failed = failed.map(|step| step.name);
        if self.client.json {
            let rows: Vec<Value> = steps.iter().map(shown).collect();
            let status = if failed.is_none() { "ok" } else { "failed" };
            console.print_json(&json!({
                "status": status, "url": run.client.url(), "task": run.task, "steps": rows,
            }))?;
        }
        failed.map_or(Ok(()), |step| Err(Error::Smoke { step }))
    }

    fn body(&self, input: &Value) -> Value {
        let deadline =
            jiff::Timestamp::now() + jiff::SignedDuration::from_secs(self.timeout.cast_signed());
        json!({
            "agent": self.agent,
            "input": input,
            "tags": ["smoke"],
            "deadline": format!("{deadline:.0}"),
        })
    }
}

type Try = fn(&mut Run<'_>) -> Tried;

/// The steps, in their order; those that need a task are skipped when there is none.
const STEPS: [(&str, bool, Try); 10] = [
    ("live", false, |run| run.healthy("/health/live", NO_NODE)),
    ("health", false, |run| run.healthy("/health", "`no health --detailed` says which check")),
    ("ready", false, |run| run.healthy("/health/ready", "it starts or drains: wait, see its log")),
    ("metrics", false, |run| run.metrics()),
    ("refusal", false, |run| run.refusal()),
    ("submit", false, |run| run.submit()),
    ("idempotency", true, |run| run.again()),
    ("events", true, |run| run.watch()),
    ("answer", true, |run| run.answer()),
    ("counted", true, |run| run.counted()),
];

const NO_NODE: &str = "is nO running there? name it with --url or NO_URL";
const ODD: &str = "is that a nO of this version? compare `no --version` with /admin/status";

impl Run<'_> {
    fn all(&mut self, console: &mut Console) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for (name, needs_task, attempt) in STEPS {
            let begun = Instant::now();
            let outcome = if needs_task && self.task.is_none() {
                Outcome::Skipped("there is no task".to_owned())
            } else {
                let spinner = console.spinner(name);
                let tried = attempt(self);
                drop(spinner);
                tried.unwrap_or_else(|(why, hint)| Outcome::Failed { why, hint })
            };
            let step = Step { name, took: begun.elapsed(), outcome };
            if !self.smoke.client.json {
                console.print(&line(&step))?;
            }
            let is_gone = name == "live" && matches!(step.outcome, Outcome::Failed { .. });
            steps.push(step);
            if is_gone {
                break;
            }
        }
        Ok(steps)
    }

    fn healthy(&mut self, path: &str, hint: &'static str) -> Tried {
        let (status, text) = self.client.text(&Call::get(path)).map_err(|error| of(&error))?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let said = cell(&body["status"]);
        match status {
            200 => Ok(Outcome::Well(said)),
            _ => Err((format!("{status} {said} {}", failing(&body)).trim_end().to_owned(), hint)),
        }
    }

    fn metrics(&mut self) -> Tried {
        let (status, text) = self.client.text(&Call::get("/metrics")).map_err(|e| of(&e))?;
        if matches!(status, 401 | 403 | 404) {
            return Ok(Outcome::Skipped(format!("{status}: not open to this token")));
        }
        if status != 200 || !text.contains("no_tasks_total") {
            return Err((format!("{status} without no_tasks_total"), ODD));
        }
        self.ended_before = Some(ended(&text, &self.smoke.agent));
        Ok(Outcome::Well(format!("{} lines", text.lines().count())))
    }

    fn refusal(&mut self) -> Tried {
        let body = json!({"agent": self.smoke.agent, "no_such_field": 1});
        let call = Call { body: Some(&body), ..Call::post("/v1/tasks") };
        match self.client.call(&call) {
            Err(Error::Refused { status: 422, code, .. }) if code == "invalid" => {
                Ok(Outcome::Well(code))
            }
            Err(error) => Err(of(&error)),
            Ok(_) => Err(("a request with an unknown field was taken".to_owned(), ODD)),
        }
    }

    fn sent(&self) -> std::result::Result<Value, (String, &'static str)> {
        let headers = [("Idempotency-Key", self.mark.as_str())];
        let call = Call { body: Some(&self.body), headers: &headers, ..Call::post("/v1/tasks") };
        self.client.call(&call).map_err(|error| of(&error))
    }

    fn submit(&mut self) -> Tried {
        let task = self.sent()?;
        let Some(id) = task["id"].as_str() else {
            return Err((format!("an answer without id: {}", short(&task.to_string(), 80)), ODD));
        };
        self.task = Some(id.to_owned());
        Ok(Outcome::Well(id.to_owned()))
    }

    fn again(&mut self) -> Tried {
        let task = self.sent()?;
        if task["id"].as_str() == self.task.as_deref() {
            return Ok(Outcome::Well("the same task".to_owned()));
        }
        Err((format!("the same key made a second task, {}", cell(&task["id"])), ODD))
    }

    fn path(&self, more: &str) -> String {
        format!("/v1/tasks/{}{more}", escaped(self.task.as_deref().unwrap_or_default()))
    }

    fn watch(&mut self) -> Tried {
        let mut names: Vec<String> = Vec::new();
        let take = |event: &Event| {
            names.push(event.name.clone());
            Ok(!matches!(event.name.as_str(), "succeeded" | "dead_lettered" | "cancelled"))
        };
        self.client.events(&self.path("/events"), None, take).map_err(|error| of(&error))?;
        let is_whole = names.first().is_some_and(|name| name == "submitted");
        match names.last().map(String::as_str) {
            Some("succeeded") if is_whole => Ok(Outcome::Well(names.join(", "))),
            _ => Err((format!("the stream gave {names:?}"), TASK)),
        }
    }

    fn answer(&mut self) -> Tried {
        let path = self.path("");
        self.last = self.client.call(&Call::get(&path)).map_err(|error| of(&error))?;
        let state = cell(&self.last["state"]);
        if state != "succeeded" {
            return Err((format!("{state} {}", cell(&self.last["error"])), TASK));
        }
        if self.smoke.agent == "echo" && self.last["output"] != self.input {
            return Err((format!("echo answered {}", cell(&self.last["output"])), ODD));
        }
        Ok(Outcome::Well(state))
    }

    fn counted(&mut self) -> Tried {
        let Some(before) = self.ended_before else {
            return Ok(Outcome::Skipped("metrics are closed".to_owned()));
        };
        if self.last["state"] != "succeeded" {
            return Ok(Outcome::Skipped("the task did not succeed".to_owned()));
        }
        let begun = Instant::now();
        loop {
            let text = self.client.text(&Call::get("/metrics")).map_err(|error| of(&error))?.1;
            let now = ended(&text, &self.smoke.agent);
            if before < now {
                return Ok(Outcome::Well(format!("no_tasks_total from {before} to {now}")));
            }
            if METRICS_PATIENCE < begun.elapsed() {
                let why = format!("no_tasks_total stays {now} although a task succeeded");
                return Err((why, "does --url lead to one node, or to several by turns?"));
            }
            std::thread::sleep(METRICS_PAUSE);
        }
    }

    /// Cancels a task that did not end.
    fn clean_up(&self) {
        if self.task.is_some() && self.last["state"] != "succeeded" {
            // It may just have ended; there is nobody to tell.
            let _ = self.client.call(&Call::post(&self.path("/cancel")));
        }
    }
}

const TASK: &str = "`no task get` and `no task steps` with its id show why";

fn of(error: &Error) -> (String, &'static str) {
    (error.to_string(), error.hint().unwrap_or("the log of nO says more"))
}

/// The checks that fail, of an answer of `/health`.
fn failing(body: &Value) -> String {
    let checks = body["checks"].as_object().into_iter().flatten();
    let failing = checks.filter(|(_, check)| check["status"] != "ok");
    let words: Vec<String> =
        failing.map(|(name, check)| format!("{name}: {}", cell(&check["error"]))).collect();
    words.join(", ")
}

/// Tasks of an agent that succeeded, as the metrics say.
fn ended(metrics: &str, agent: &str) -> f64 {
    let (agent, state) = (format!("agent=\"{agent}\""), "state=\"succeeded\"");
    let lines = metrics.lines().filter(|line| {
        line.starts_with("no_tasks_total{") && line.contains(&agent) && line.contains(state)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A text that no other run has.
fn mark() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    format!("smoke-{nanos:x}-{}", std::process::id())
}

fn line(step: &Step) -> String {
    let ms = step.took.as_secs_f64() * 1_000.0;
    let head = |word: &str| format!("{word:<7} {:<12} {ms:>8.1} ms", step.name);
    match &step.outcome {
        Outcome::Well(said) => format!("{}  {}", head("ok"), short(said, 60)).trim_end().to_owned(),
        Outcome::Skipped(why) => format!("{}  {}", head("skipped"), short(why, 60)),
        Outcome::Failed { why, hint } => {
            format!("{}  {}\n        {hint}", head("FAILED"), short(why, 200))
        }
    }
}

fn shown(step: &Step) -> Value {
    let ms = (step.took.as_secs_f64() * 1e6).round() / 1e3;
    let (status, detail, hint) = match &step.outcome {
        Outcome::Well(said) => ("ok", said, None),
        Outcome::Skipped(why) => ("skipped", why, None),
        Outcome::Failed { why, hint } => ("failed", why, Some(*hint)),
    };
    json!({ "step": step.name, "status": status, "ms": ms, "detail": detail, "hint": hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_for_one_agent_and_state() {
        let text = "# TYPE no_tasks_total counter\n\
            no_tasks_total{agent=\"echo\",state=\"succeeded\"} 7\n\
            no_tasks_total{agent=\"echo\",state=\"failed\"} 5\n\
            no_tasks_total{agent=\"echo2\",state=\"succeeded\"} 3\n";
        assert!((ended(text, "echo") - 7.0).abs() < f64::EPSILON);
        assert!(ended("", "echo").abs() < f64::EPSILON);
    }
}
