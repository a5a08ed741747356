//! `loadtest run`: one load.

use super::duration::duration;
use super::options::{OutputOptions, ServerOptions};
use crate::error::{Error, Result};
use crate::plan::{Agent, Pace, Plan, Target, Tasks};
use crate::run::run_observed;
use crate::schedule::Stage;
use crate::{plot, svg, table};
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;

/// How long `--wait` waits at most: what nO allows.
const WAIT: Duration = Duration::from_secs(60);

/// Options of `loadtest run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadtest run --serve target/release/no --rate max --connections 64
  loadtest run --rate 1000 --wait --connections 20 --duration 30s
  loadtest run --stages 10s:2000,20s:2000,5s:0 --svg load.svg --json load.json
  loadtest run --agent worker --workers 4 --batch 100 --rate max
  loadtest run --get /health/live --rate max --connections 32

With a rate the loop is open: requests leave by the clock, and latency counts from when they should
have left. With `--rate max` it is closed: each connection asks again when it has its answer.
Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub(super) struct Run {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    output: OutputOptions,
    /// Requests a second, or `max` for as fast as possible [default: max]
    #[arg(long, value_name = "N|max", value_parser = rate, conflicts_with = "stages")]
    rate: Option<Rate>,
    /// Ramps, each the time to reach a rate: 10s:500,30s:500 begins at 0 unless --rate-from
    #[arg(long, value_name = "T:RATE,…", value_delimiter = ',', value_parser = stage)]
    stages: Vec<Stage>,
    /// The rate at which the first stage begins
    #[arg(long, value_name = "N", requires = "stages", default_value_t = 0.0)]
    rate_from: f64,
    /// How long requests are sent [default: 10s]
    #[arg(long, value_name = "T", value_parser = duration, conflicts_with = "stages")]
    duration: Option<Duration>,
    /// The same load before, not measured
    #[arg(long, value_name = "T", value_parser = duration, default_value = "2s")]
    warmup: Duration,
    /// Connections, all open before the first request
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// Requests under way on a connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline: usize,
    /// Gets this path, without the token, instead of submitting tasks: a baseline
    #[arg(long, value_name = "PATH", conflicts_with_all = [
        "agent", "batch", "wait", "fairness_keys", "payload", "idempotency"])]
    get: Option<String>,
    /// Who runs the tasks
    #[arg(long, value_enum, default_value_t = AgentKind::Echo)]
    agent: AgentKind,
    /// Workers that the driver plays, for `worker` [default: 1]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Model calls of a task, for `model` [default: 3]
    #[arg(long, value_name = "N")]
    iterations: Option<u32>,
    /// How long a task sleeps, for `sleep` [default: 1s]
    #[arg(long, value_name = "T", value_parser = duration)]
    sleep: Option<Duration>,
    /// Tasks in a request
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Waits for a task's end in the request: latency is submit to end
    #[arg(long)]
    wait: bool,
    /// Spreads tasks over so many fairness keys
    #[arg(long, value_name = "N", default_value_t = 0)]
    fairness_keys: usize,
    /// Bytes of a task's input
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    payload: usize,
    /// Gives each request an idempotency key
    #[arg(long)]
    idempotency: bool,
    /// An answer that takes longer is an error
    #[arg(long, value_name = "T", value_parser = duration, default_value = "30s")]
    timeout: Duration,
    /// How long to wait for the tasks to end, after the load
    #[arg(long, value_name = "T", value_parser = duration, default_value = "60s")]
    settle: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Rate {
    Max,
    PerSecond(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AgentKind {
    /// The output is the input
    Echo,
    /// Waits first
    Sleep,
    /// Leased by workers that the driver plays
    Worker,
    /// A loop of scripted model calls
    Model,
}

fn rate(text: &str) -> std::result::Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && 0.0 < rate => Ok(Rate::PerSecond(rate)),
        _ => Err("write requests a second, above 0, or max".to_owned()),
    }
}

fn stage(text: &str) -> std::result::Result<Stage, String> {
    let (time, rate) = text.split_once(':').ok_or("write a time and a rate, such as 10s:500")?;
    let rate: f64 = rate.parse().map_err(|_| "the rate is no number".to_owned())?;
    if !(0.0..=1e7).contains(&rate) {
        return Err("the rate must be 0 to 10000000".to_owned());
    }
    Ok(Stage { duration_s: duration(time)?.as_secs_f64(), rate })
}

impl Run {
    fn agent(&self) -> Result<Agent> {
        let kind = self.agent;
        let refuse = |option: &str, kind: &str| {
            Err(Error::Plan(format!(
                "{option} belongs to --agent {kind}; add that or leave it out"
            )))
        };
        if self.workers.is_some() && kind != AgentKind::Worker {
            return refuse("--workers", "worker");
        }
        if self.iterations.is_some() && kind != AgentKind::Model {
            return refuse("--iterations", "model");
        }
        if self.sleep.is_some() && kind != AgentKind::Sleep {
            return refuse("--sleep", "sleep");
        }
        let sleep = self.sleep.unwrap_or(Duration::from_secs(1));
        if self.wait && kind == AgentKind::Sleep && WAIT <= sleep {
            let text = "--wait waits 60 s at most; shorten --sleep or leave out --wait";
            return Err(Error::Plan(text.to_owned()));
        }
        Ok(match kind {
            AgentKind::Echo => Agent::Echo,
            AgentKind::Sleep => Agent::Sleep { sleep_ms: sleep.as_millis() as u64 },
            AgentKind::Worker => Agent::Worker { workers: self.workers.unwrap_or(1) },
            AgentKind::Model => Agent::Model { iterations: self.iterations.unwrap_or(3) },
        })
    }

    fn plan(&self) -> Result<Plan> {
        let duration = self.duration.unwrap_or(Duration::from_secs(10));
        let pace = match self.rate {
            _ if !self.stages.is_empty() => {
                Pace::Open { from: self.rate_from, stages: self.stages.clone() }
            }
            Some(Rate::PerSecond(rate)) => Pace::constant(rate, duration),
            Some(Rate::Max) | None => Pace::Max { duration },
        };
        let agent = self.agent()?;
        let target = match &self.get {
            Some(path) if !path.starts_with('/') || path.contains(char::is_whitespace) => {
                return Err(Error::Plan("--get takes a path such as /health/live".to_owned()));
            }
            Some(path) => Target::Get(path.clone()),
            None => Target::Submit(Tasks {
                agent,
                batch: self.batch,
                wait: self.wait.then_some(WAIT),
                fairness_keys: self.fairness_keys,
                payload_bytes: self.payload,
                idempotency: self.idempotency,
            }),
        };
        Ok(Plan {
            pace,
            target,
            connections: self.connections,
            pipeline: self.pipeline,
            warmup: self.warmup,
            // A request that waits at the server may take longer than one that does not.
            timeout: if self.wait { self.timeout + WAIT } else { self.timeout },
            settle_max: self.settle + self.sleep.unwrap_or_default(),
            ..Plan::default()
        })
    }

    /// Runs the load and shows the report.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let mut plan = self.plan()?;
        let agent = plan.tasks().map(|tasks| tasks.agent);
        let served = self.server.apply(&mut plan, agent.as_ref())?;
        let report = run_observed(&plan, &mut *self.output.observer())?;
        if let Some(served) = served {
            served.stop()?;
        }
        let plot = || match self.output.quiet {
            true => String::new(),
            false => format!("\n{}", plot::render(&report.latency.accepted)),
        };
        let table = || format!("{}{}", table::render(&report), plot());
        self.output.give(&report, || svg::render(&report), table)?;
        Ok(ExitCode::SUCCESS)
    }
}
