//! A long load: do memory, open files and latency stay as they are.
//!
//! Half of the peak is held, or a rate that is given, by loops of model calls with idempotency
//! keys: requests, timers, steps, the journal, its index and what is remembered of keys all take
//! part. Once a second the server's own `/metrics` are read. What is compared is the last fifth of
//! the time with the second: before that, caches still fill.

mod report;
mod show;

use crate::cores::Pinned;
use crate::drive::drive;
use crate::error::{Error, Result};
use crate::peak::peak;
use crate::plan::{Agent, Pace, Plan, Target, Tasks};
use crate::report::{Latency, Requests, machine};
use crate::run::Observer;
use crate::server::Server;
pub use report::{Sample, SoakReport};
pub use show::{svg, table};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// From one look at the metrics to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How long the peak is looked for.
const PEAK: Duration = Duration::from_secs(8);
/// Shorter is no soak: in the first fifth of it caches must have filled.
const DURATION_MIN: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug)]
pub struct SoakPlan {
    /// The server, the token, the core, the connections; its pace and target are not used.
    pub plan: Plan,
    /// What is submitted.
    pub tasks: Tasks,
    /// Requests a second; half the peak when absent.
    pub rate: Option<f64>,
    /// How long.
    pub duration: Duration,
}

impl Default for SoakPlan {
    /// Ten minutes of loops of three model calls, at half the peak.
    fn default() -> SoakPlan {
        let agent = Agent::Model { iterations: 3 };
        SoakPlan {
            plan: Plan { connections: 256, ..Plan::default() },
            tasks: Tasks { agent, idempotency: true, ..Tasks::default() },
            rate: None,
            duration: Duration::from_secs(600),
        }
    }
}

impl SoakPlan {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// [`Error::Plan`], which says what to do.
    pub fn check(&self) -> Result<()> {
        if self.duration < DURATION_MIN {
            let text = "--duration must be 1m or more: before that caches still fill";
            return Err(Error::Plan(text.to_owned()));
        }
        self.plan_at(self.rate.unwrap_or(1.0)).check()
    }

    fn plan_at(&self, rate: f64) -> Plan {
        let pace = Pace::constant(rate, self.duration);
        Plan { pace, target: Target::Submit(self.tasks.clone()), ..self.plan.clone() }
    }

    /// Does it all; the metrics are read on a thread of their own.
    ///
    /// # Errors
    /// As [`crate::run`]; and when the server has no metrics to read.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<SoakReport> {
        self.check()?;
        let server = Server::new(&self.plan)?;
        let _pinned = self.plan.pin.map(|core| Pinned::to(&[core])).transpose()?;
        server.prepare(Some(&self.tasks.agent))?;
        if server.metrics().is_none() {
            let text = "the server has no /metrics to read memory and open files from";
            return Err(Error::Server(text.to_owned()));
        }
        let peak = match self.rate {
            Some(_) => None,
            None => Some(peak(&self.plan, &self.tasks, &server, PEAK, observer)?),
        };
        let rate = self.rate.or(peak.map(|peak| peak / 2.0)).unwrap_or(1.0);
        let plan = self.plan_at(rate);
        observer.phase("soak", self.duration);
        let (driven, samples) = std::thread::scope(|scope| {
            let (over, is_over) = channel::<()>();
            let samples = scope.spawn(|| samples(&self.plan, is_over));
            let driven = drive(&plan, server.peer(), &mut |second| observer.second(second));
            drop(over);
            (driven, samples.join().unwrap_or_else(|why| std::panic::resume_unwind(why)))
        });
        let (driven, samples) = (driven?, samples?);
        let (outcome, seconds) = (driven.outcome, self.duration.as_secs_f64());
        let mut report = SoakReport {
            machine: machine(),
            peak_per_second: peak,
            rate,
            duration_s: seconds,
            connections: self.plan.connections,
            agent: self.tasks.agent,
            requests: Requests::of(&outcome, driven.scheduled, seconds),
            latency: Latency::of(&outcome.accepted),
            timeline: outcome.timeline.into_seconds(),
            samples,
            goals: Vec::new(),
        };
        report.goals = report.judge();
        Ok(report)
    }
}

/// Reads the metrics once a second until told that it is over.
fn samples(plan: &Plan, is_over: Receiver<()>) -> Result<Vec<Sample>> {
    let server = Server::new(plan)?;
    let (began, mut samples) = (Instant::now(), Vec::new());
    for number in 1_u32.. {
        let at = began + EVERY * number;
        let wait = at.saturating_duration_since(Instant::now());
        if is_over.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        // A second without an answer is a gap; the load's own errors say why.
        let Some(metrics) = server.metrics() else { continue };
        samples.extend(Sample::of(&metrics, began.elapsed().as_secs_f64()));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(SoakPlan::default().check().is_ok());
        let refused: [fn(&mut SoakPlan); 3] = [
            |plan| plan.duration = Duration::from_secs(5),
            |plan| plan.rate = Some(0.0),
            |plan| plan.plan.connections = 0,
        ];
        for change in refused {
            let mut plan = SoakPlan::default();
            change(&mut plan);
            assert!(matches!(plan.check(), Err(Error::Plan(_))), "{plan:?}");
        }
    }
}
