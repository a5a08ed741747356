//! What a load is: where to, how fast, what is asked. Checked before anything is sent.

use crate::error::{Error, Result};
use crate::schedule::{Schedule, Stage};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Tasks of one batch that nO takes, at most.
pub const BATCH_MAX: usize = 1_000;
/// Connections of one driver.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Requests under way on one connection.
pub const PIPELINE_MAX: usize = 256;
/// Workers that one driver plays.
pub const WORKERS_MAX: usize = 1_000;
/// Model calls of one task: a script's length.
pub const ITERATIONS_MAX: u32 = 10_000;
/// Bytes of a task's input: nO's default limit, less the braces around it.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024 - 64;

/// How fast.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// Open loop: requests leave by a schedule, whatever the server does.
    Open {
        /// The rate at the start, in requests a second.
        from: f64,
        /// What follows, in order.
        stages: Vec<Stage>,
    },
    /// Closed loop: every connection asks again as soon as it has its answer. Finds a peak; its
    /// latencies say nothing about a server that stalls.
    Max {
        /// How long.
        duration: Duration,
    },
}

/// How the tasks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Agent {
    /// `echo`: the output is the input.
    Echo,
    /// `sleep`: waits first.
    Sleep {
        /// For so long.
        sleep_ms: u64,
    },
    /// Leased and completed over HTTP by workers that the driver plays.
    Worker {
        /// So many of them, a connection each.
        workers: usize,
    },
    /// A loop of scripted model calls, with a durable timer of 0 to 7 ms between two: the loop
    /// detector ends a loop whose steps are all the same.
    Model {
        /// Model calls.
        iterations: u32,
    },
}

/// Which tasks are submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tasks {
    /// How they are run.
    pub agent: Agent,
    /// Tasks in a request; above 1 by `POST /v1/tasks/batch`.
    pub batch: usize,
    /// Waits in the request for the task's end, at most so long.
    pub wait: Option<Duration>,
    /// Spreads tasks evenly over so many fairness keys; 0 for none.
    pub fairness_keys: usize,
    /// Bytes of a task's input; 0 for a small one.
    pub payload_bytes: usize,
    /// Sends an `Idempotency-Key` of its own with each request.
    pub idempotency: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Submits tasks.
    Submit(Tasks),
    /// Gets this path: a baseline.
    Get(String),
}

/// A whole load.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// `http://host:port`; TLS is not spoken, it would measure the driver.
    pub url: String,
    /// A bearer token that may submit, and define agents where the agent needs it.
    pub token: Option<String>,
    /// How fast.
    pub pace: Pace,
    /// What is asked.
    pub target: Target,
    /// Connections, all open before the first request.
    pub connections: usize,
    /// Requests under way on one connection: 1 for ordinary clients.
    pub pipeline: usize,
    /// The same load before the measured one, not recorded.
    pub warmup: Duration,
    /// An answer that takes longer is an error.
    pub timeout: Duration,
    /// A request that waited so long for a connection is given up and counted as unsent.
    pub backlog_max: Duration,
    /// Sends a request again, under its own idempotency key, when it is refused or its connection
    /// is lost, and keeps the ids of what was acknowledged: what a careful client does.
    pub is_careful: bool,
    /// How long to wait, after the load, for all acknowledged tasks to end.
    pub settle_max: Duration,
    /// The core to run on.
    pub pin: Option<usize>,
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks {
            agent: Agent::Echo,
            batch: 1,
            wait: None,
            fairness_keys: 0,
            payload_bytes: 0,
            idempotency: false,
        }
    }
}

impl Default for Plan {
    /// Single `echo` tasks on 64 connections to the usual place, as fast as possible for 10 s.
    fn default() -> Plan {
        Plan {
            url: "http://127.0.0.1:3000".to_owned(),
            token: None,
            pace: Pace::Max { duration: Duration::from_secs(10) },
            target: Target::Submit(Tasks::default()),
            connections: 64,
            pipeline: 1,
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(30),
            backlog_max: Duration::from_secs(10),
            is_careful: false,
            settle_max: Duration::from_secs(60),
            pin: None,
        }
    }
}

impl Agent {
    /// The agent's name at the server.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Agent::Echo => "echo".to_owned(),
            Agent::Sleep { .. } => "sleep".to_owned(),
            Agent::Worker { .. } => "loadtest-worker".to_owned(),
            Agent::Model { iterations } => format!("loadtest-model-{iterations}"),
        }
    }

    /// What `PUT /v1/agents/{name}` needs to be told, if the agent is not built in.
    #[must_use]
    pub fn definition(&self) -> Option<serde_json::Value> {
        match self {
            Agent::Echo | Agent::Sleep { .. } => None,
            Agent::Worker { .. } => Some(serde_json::json!({"kind": "worker"})),
            Agent::Model { iterations } => Some(serde_json::json!({
                "kind": "model",
                "model": self.name(),
                "tools": [{"kind": "wait"}],
                "budget": {"max_iterations": iterations},
            })),
        }
    }

    /// The entry of the configuration's `models` that a model agent needs.
    #[must_use]
    pub fn model(&self) -> Option<serde_json::Value> {
        let Agent::Model { iterations } = self else { return None };
        let step = |i: u32| {
            let arguments = serde_json::json!({"ms": i % 8});
            serde_json::json!({"tool_calls": [{"name": "wait", "arguments": arguments}]})
        };
        let mut script: Vec<serde_json::Value> = (1..*iterations).map(step).collect();
        script.push(serde_json::json!({"text": "done"}));
        Some(serde_json::json!({"provider": "scripted", "script": script}))
    }
}

impl Pace {
    /// A constant rate.
    #[must_use]
    pub fn constant(rate: f64, duration: Duration) -> Pace {
        let stages = vec![Stage { duration_s: duration.as_secs_f64(), rate }];
        Pace::Open { from: rate, stages }
    }

    /// The schedule of an open loop; `None` for a closed one.
    #[must_use]
    pub fn schedule(&self) -> Option<Schedule> {
        match self {
            Pace::Open { from, stages } => Some(Schedule::new(*from, stages)),
            Pace::Max { .. } => None,
        }
    }

    /// How long requests are sent.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match self {
            Pace::Open { stages, .. } => {
                Duration::from_secs_f64(stages.iter().map(|stage| stage.duration_s).sum())
            }
            Pace::Max { duration } => *duration,
        }
    }

    /// The same pace for so long, a ramp at its highest rate: what warms up.
    #[must_use]
    pub fn warmup(&self, duration: Duration) -> Pace {
        match self.schedule() {
            Some(schedule) => Pace::constant(schedule.rate_max(), duration),
            None => Pace::Max { duration },
        }
    }
}

impl Plan {
    /// The tasks that are submitted, if any are.
    #[must_use]
    pub fn tasks(&self) -> Option<&Tasks> {
        match &self.target {
            Target::Submit(tasks) => Some(tasks),
            Target::Get(_) => None,
        }
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// [`Error::Plan`], which says what to do.
    pub fn check(&self) -> Result<()> {
        let refuse = |text: &str| Err(Error::Plan(text.to_owned()));
        if !matches!(self.connections, 1..=CONNECTIONS_MAX) {
            return refuse("--connections must be 1 to 10000");
        }
        if !matches!(self.pipeline, 1..=PIPELINE_MAX) {
            return refuse("--pipeline must be 1 to 256");
        }
        if self.pace.duration().is_zero() {
            return refuse("--duration must be longer than nothing");
        }
        if let Some(schedule) = self.pace.schedule() {
            if !schedule.rate_max().is_finite() || 1e7 < schedule.rate_max() {
                return refuse("--rate must be at most 10000000; `--rate max` goes without one");
            }
            if schedule.count() == 0 {
                return refuse("this rate sends no request in this time; raise --rate");
            }
        }
        let has_key = |tasks: &Tasks| tasks.idempotency && tasks.batch == 1;
        if self.is_careful && !self.tasks().is_some_and(has_key) {
            return refuse("a careful client submits single tasks with idempotency keys");
        }
        self.tasks().map_or(Ok(()), Tasks::check)
    }
}

impl Tasks {
    fn check(&self) -> Result<()> {
        let refuse = |text: &str| Err(Error::Plan(text.to_owned()));
        if !matches!(self.batch, 1..=BATCH_MAX) {
            return refuse("--batch must be 1 to 1000, what nO takes at once");
        }
        if 1 < self.batch && self.wait.is_some() {
            return refuse("--wait waits for one task's end; leave out --batch or --wait");
        }
        if PAYLOAD_BYTES_MAX < self.payload_bytes {
            return refuse("--payload must be below 1 MiB, the limit of a task's input");
        }
        if 4 * 1024 * 1024 < self.batch * (self.payload_bytes + 96) {
            return refuse("this batch is over nO's 4 MiB a request; lower --batch or --payload");
        }
        match self.agent {
            Agent::Sleep { .. } if 0 < self.payload_bytes => {
                refuse("sleep takes no input but its time; leave out --payload or take another")
            }
            Agent::Worker { workers } if !matches!(workers, 1..=WORKERS_MAX) => {
                refuse("--workers must be 1 to 1000")
            }
            Agent::Model { iterations } if !matches!(iterations, 1..=ITERATIONS_MAX) => {
                refuse("--iterations must be 1 to 10000, the longest script")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Plan, &mut Tasks), expected: Option<&str>) {
        let (mut plan, mut tasks) = (Plan::default(), Tasks::default());
        change(&mut plan, &mut tasks);
        plan.target = Target::Submit(tasks);
        match (plan.check(), expected) {
            (Ok(()), None) => {}
            (Err(Error::Plan(text)), Some(part)) => assert!(text.contains(part), "{text}"),
            (result, expected) => panic!("{result:?} is not {expected:?}"),
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_to_do() {
        check(|_, _| {}, None);
        check(|plan, _| plan.connections = 0, Some("--connections"));
        check(|plan, _| plan.pipeline = 257, Some("--pipeline"));
        check(|plan, _| plan.is_careful = true, Some("idempotency"));
        check(|plan, tasks| (plan.is_careful, tasks.idempotency) = (true, true), None);
        check(|plan, _| plan.pace = Pace::constant(9.0, Duration::ZERO), Some("--duration"));
        check(|plan, _| plan.pace = Pace::constant(0.1, Duration::from_secs(1)), Some("--rate"));
        check(|plan, _| plan.pace = Pace::constant(1e9, Duration::from_secs(1)), Some("--rate"));
        check(|_, tasks| tasks.batch = 1_001, Some("--batch"));
        let wait = Some(Duration::from_secs(1));
        check(|_, tasks| (tasks.batch, tasks.wait) = (2, wait), Some("--wait"));
        check(|_, tasks| tasks.wait = wait, None);
        check(|_, tasks| tasks.payload_bytes = 2 << 20, Some("--payload"));
        check(|_, tasks| (tasks.batch, tasks.payload_bytes) = (1_000, 9_000), Some("4 MiB"));
        let sleep = Agent::Sleep { sleep_ms: 5 };
        check(|_, tasks| (tasks.agent, tasks.payload_bytes) = (sleep, 9), Some("sleep"));
        check(|_, tasks| tasks.agent = Agent::Worker { workers: 0 }, Some("--workers"));
        check(|_, tasks| tasks.agent = Agent::Model { iterations: 0 }, Some("--iterations"));
    }

    #[test]
    fn a_model_of_n_calls_has_a_script_of_n_answers_without_a_circle() {
        let model = Agent::Model { iterations: 40 }.model().expect("a model");
        let script = model["script"].as_array().expect("a script");
        assert_eq!(script.len(), 40);
        assert_eq!(script[39], serde_json::json!({"text": "done"}));
        for window in script.windows(32) {
            let repeats = window.iter().filter(|answer| *answer == &window[0]).count();
            assert!(repeats < 5, "the loop detector ends it");
        }
    }
}
