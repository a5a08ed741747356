//! One load from its plan to its report.

use crate::cores::Pinned;
use crate::drive::{Driven, drive};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::plan::{Agent, Plan};
use crate::report::{
    DriverReport, Latencies, Latency, Load, Report, Requests, ServerReport, TasksReport, machine,
};
use crate::server::{Server, Settled};
use crate::timeline::Second;
use crate::worker::Workers;
use std::time::Duration;

/// Whoever wants to see how a load is going on. Called on the measuring thread: be quick.
pub trait Observer {
    /// Another part begins, named for people, expected to take so long.
    fn phase(&mut self, name: &str, length: Duration) {
        let _ = (name, length);
    }

    /// A second of the current part is over.
    fn second(&mut self, second: &Second) {
        let _ = second;
    }
}

/// Sees nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {}

/// Runs a load on the calling thread and waits for its tasks to end.
///
/// # Errors
/// When the plan contradicts itself, the server is not there or refuses the agent, or the system
/// refuses what is needed. What goes wrong once the load runs is counted in the report.
pub fn run(plan: &Plan) -> Result<Report> {
    run_observed(plan, &mut Silent)
}

/// [`run`], seen by an observer.
///
/// # Errors
/// As [`run`].
pub fn run_observed(plan: &Plan, observer: &mut dyn Observer) -> Result<Report> {
    plan.check()?;
    let server = Server::new(plan)?;
    let _pinned = plan.pin.map(|core| Pinned::to(&[core])).transpose()?;
    let agent = plan.tasks().map(|tasks| tasks.agent);
    server.prepare(agent.as_ref())?;
    let _workers = match agent {
        Some(agent @ Agent::Worker { workers }) => {
            let token = plan.token.as_deref();
            Some(Workers::start(server.peer(), token, &agent.name(), workers)?)
        }
        _ => None,
    };
    if !plan.warmup.is_zero() {
        observer.phase("warm-up", plan.warmup);
        let pace = plan.pace.warmup(plan.warmup);
        let warmup = Plan { pace, warmup: Duration::ZERO, ..plan.clone() };
        measure(&warmup, &server, &mut |_| {})?;
    }
    observer.phase("load", plan.pace.duration());
    let measured = measure(plan, &server, &mut |second| observer.second(second))?;
    Ok(measured.report(plan))
}

/// A load and what became of its tasks.
pub(crate) struct Measured {
    pub(crate) driven: Driven,
    pub(crate) before: Option<Metrics>,
    pub(crate) settled: Option<Settled>,
}

/// Drives the load without its warm-up, and waits until its tasks have ended.
pub(crate) fn measure(
    plan: &Plan,
    server: &Server,
    on_second: &mut dyn FnMut(&Second),
) -> Result<Measured> {
    let agent = plan.tasks().map(|tasks| tasks.agent.name());
    let before = if agent.is_some() { server.metrics() } else { None };
    let driven = drive(plan, server.peer(), on_second)?;
    let settled = match (&agent, &before) {
        (Some(agent), Some(before)) => {
            server.settle(agent, before, driven.outcome.acknowledged, plan.settle_max)
        }
        _ => None,
    };
    Ok(Measured { driven, before, settled })
}

impl Measured {
    /// The report of the plan that it was measured by.
    pub(crate) fn report(self, plan: &Plan) -> Report {
        let duration_s = plan.pace.duration().as_secs_f64();
        let outcome = &self.driven.outcome;
        let requests = Requests::of(outcome, self.driven.scheduled, duration_s);
        let latency = Latencies {
            accepted: Latency::of(&outcome.accepted),
            accepted_from_send: Latency::of(&outcome.accepted_service),
            refused: Latency::of(&outcome.refused),
            refused_from_send: Latency::of(&outcome.refused_service),
        };
        let driver = DriverReport {
            busy_ratio: self.driven.busy_ratio,
            cpu_us_per_request: self.driven.cpu_s * 1e6 / (outcome.sent.max(1) as f64),
        };
        Report {
            load: Load::of(plan),
            machine: machine(),
            requests,
            tasks: plan.tasks().map(|_| self.tasks(duration_s)),
            latency,
            server: self.server(),
            driver,
            timeline: self.driven.outcome.timeline.into_seconds(),
        }
    }

    /// From the first request to when the last task had ended.
    fn ended_after_s(&self) -> Option<f64> {
        let at = self.settled.as_ref()?.at;
        Some(at.saturating_duration_since(self.driven.started_at).as_secs_f64())
    }

    fn tasks(&self, duration_s: f64) -> TasksReport {
        let outcome = &self.driven.outcome;
        let ended = self.settled.as_ref().map(|settled| settled.ended);
        let ended_after_s = self.ended_after_s();
        let succeeded = ended.map(|ended| ended.succeeded as f64);
        TasksReport {
            acknowledged: outcome.acknowledged,
            rows_refused: outcome.rows_refused,
            acknowledged_per_second: outcome.acknowledged_in_time as f64 / duration_s,
            ended,
            all_ended: ended.is_some_and(|ended| outcome.acknowledged <= ended.total()),
            ended_after_s,
            succeeded_per_second: succeeded.zip(ended_after_s).map(|(n, s)| n / s),
        }
    }

    fn server(&self) -> Option<ServerReport> {
        let (before, settled) = (self.before.as_ref()?, self.settled.as_ref()?);
        let name = "process_cpu_seconds_total";
        let (was, is) = (before.value(name), settled.metrics.value(name));
        let cpu_s = was.zip(is).map(|(was, is)| is - was);
        let tasks = settled.ended.total();
        Some(ServerReport {
            cpu_s,
            cpu_us_per_task: cpu_s.filter(|_| 0 < tasks).map(|s| s * 1e6 / tasks as f64),
            layers: settled.metrics.layers(before),
        })
    }
}
