//! What happens past the peak: how much is still done, how the rest is refused, whether operators
//! still get answers, how soon it is over.
//!
//! First the peak is found by a closed loop, and what a lone client sees. Then 2, 5 and 10 times
//! the peak is offered by an open loop, on many connections, since a server that is overloaded by
//! people has many of them. What could not be sent is not called offered: the report says how much
//! really was. After each phase a client asks 100 times a second until it is served as before.

mod report;
mod show;

use crate::cores::Pinned;
use crate::drive::drive;
use crate::error::{Error, Result};
use crate::peak::peak_plan;
use crate::plan::{CONNECTIONS_MAX, PIPELINE_MAX, Pace, Plan, Target, Tasks};
use crate::prober::Probers;
use crate::report::{Latency, Requests, machine};
use crate::run::{Observer, measure};
use crate::server::Server;
use crate::timeline::Second;
pub use report::{Endpoint, OverloadReport, Peak, Phase, Recovery, goals};
pub use show::{svg, table};
use std::time::{Duration, Instant};

/// Endpoints that operators and their machines ask.
const PROBED: [&str; 3] = ["/health/live", "/health/ready", "/metrics"];
/// Submissions a second of the client that comes after the load, and before it.
const PROBE_RATE: f64 = 100.0;
/// Connections of that client.
const PROBE_CONNECTIONS: usize = 4;
/// How long its latency is learnt without load.
const UNLOADED: Duration = Duration::from_secs(5);
/// How long to wait for things to be as before.
const RECOVERY_MAX: Duration = Duration::from_secs(12);
/// A request that found no connection for so long is not sent any more: it would only be late.
const BACKLOG_MAX: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Clone, Debug)]
pub struct OverloadPlan {
    /// The server, the token and the core; its pace and target are not used.
    pub plan: Plan,
    /// What is submitted.
    pub tasks: Tasks,
    /// Connections that find the peak.
    pub peak_connections: usize,
    /// How long the peak is looked for.
    pub peak_duration: Duration,
    /// Multiples of the peak that are offered.
    pub factors: Vec<f64>,
    /// How long each.
    pub phase_duration: Duration,
    /// Connections that offer them.
    pub connections: usize,
    /// Requests under way on each of those.
    pub pipeline: usize,
}

impl Default for OverloadPlan {
    fn default() -> OverloadPlan {
        OverloadPlan {
            plan: Plan::default(),
            tasks: Tasks::default(),
            peak_connections: 64,
            peak_duration: Duration::from_secs(8),
            factors: vec![2.0, 5.0, 10.0],
            phase_duration: Duration::from_secs(10),
            connections: 2_000,
            pipeline: 1,
        }
    }
}

impl OverloadPlan {
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
        if self.factors.is_empty() || self.factors.iter().any(|f| !(1.0..=100.0).contains(f)) {
            return refuse("--factors must be numbers between 1 and 100, such as 2,5,10");
        }
        if self.phase_duration < Duration::from_secs(2) {
            return refuse("--duration must be 2s or more, to tell load from start and end");
        }
        self.peak_plan().check()
    }

    fn with(&self, pace: Pace, connections: usize, pipeline: usize) -> Plan {
        let target = Target::Submit(self.tasks.clone());
        let warmup = Duration::ZERO;
        Plan { pace, target, connections, pipeline, warmup, ..self.plan.clone() }
    }

    fn peak_plan(&self) -> Plan {
        let (duration, connections) = (self.peak_duration, self.peak_connections);
        let plan = self.with(Pace::Max { duration }, connections, 1);
        peak_plan(&plan, &self.tasks, duration)
    }

    fn probe_plan(&self, duration: Duration) -> Plan {
        let tasks = Tasks { batch: 1, wait: None, ..self.tasks.clone() };
        let plan = self.with(Pace::constant(PROBE_RATE, duration), PROBE_CONNECTIONS, 1);
        Plan { target: Target::Submit(tasks), ..plan }
    }

    fn phase_plan(&self, rate: f64) -> Plan {
        let pace = Pace::constant(rate, self.phase_duration);
        let plan = self.with(pace, self.connections, self.pipeline);
        Plan { backlog_max: BACKLOG_MAX, ..plan }
    }

    /// Does it all on the calling thread.
    ///
    /// # Errors
    /// As [`crate::run`].
    pub fn run(&self, observer: &mut dyn Observer) -> Result<OverloadReport> {
        self.check()?;
        let server = Server::new(&self.plan)?;
        let _pinned = self.plan.pin.map(|core| Pinned::to(&[core])).transpose()?;
        server.prepare(Some(&self.tasks.agent))?;
        let pace = Pace::Max { duration: Duration::from_secs(2) };
        let warmup = Plan { pace, ..self.peak_plan() };
        observer.phase("warm-up", Duration::from_secs(2));
        measure(&warmup, &server, &mut |_| {})?;
        observer.phase("unloaded", UNLOADED);
        let probe = self.probe_plan(UNLOADED);
        let unloaded = measure(&probe, &server, &mut |second| observer.second(second))?;
        let unloaded = Latency::of(&unloaded.driven.outcome.accepted);
        observer.phase("peak", self.peak_duration);
        let peak_plan = self.peak_plan();
        let (peak, succeeded_per_second) = self.counted(&server, self.peak_duration, || {
            measure(&peak_plan, &server, &mut |second| observer.second(second))
        });
        let peak = Peak { succeeded_per_second, ..Peak::of(&peak?.report(&peak_plan)) };
        // Requests, not tasks, are what is offered.
        let rate = peak.requests_per_second;
        if rate < 1.0 {
            return Err(Error::Server("nothing is accepted even at its own pace".to_owned()));
        }
        let mut phases = Vec::with_capacity(self.factors.len());
        for factor in &self.factors {
            phases.push(self.phase(&server, *factor, &peak, unloaded.p99_ms, observer)?);
        }
        let mut report = OverloadReport {
            machine: machine(),
            connections: self.connections,
            pipeline: self.pipeline,
            batch: self.tasks.batch,
            peak,
            unloaded,
            phases,
            goals: Vec::new(),
        };
        report.goals = goals(&report);
        Ok(report)
    }

    fn phase(
        &self,
        server: &Server,
        factor: f64,
        peak: &Peak,
        unloaded_p99_ms: f64,
        observer: &mut dyn Observer,
    ) -> Result<Phase> {
        let offered_per_second = peak.requests_per_second * factor;
        let plan = self.phase_plan(offered_per_second);
        observer.phase(&format!("{factor} × peak"), self.phase_duration);
        let probers = Probers::start(&self.plan.url, &PROBED)?;
        let (driven, succeeded_per_second) = self.counted(server, self.phase_duration, || {
            drive(&plan, server.peer(), &mut |second| observer.second(second))
        });
        let driven = driven?;
        let endpoints = probers.finish().iter().map(Endpoint::of).collect();
        let ended_at = driven.started_at + self.phase_duration;
        let recovery = self.recovery(server, ended_at, 2.0 * unloaded_p99_ms, observer)?;
        let outcome = driven.outcome;
        let duration_s = self.phase_duration.as_secs_f64();
        let acknowledged_per_second = outcome.acknowledged_in_time as f64 / duration_s;
        Ok(Phase {
            factor,
            offered_per_second,
            requests: Requests::of(&outcome, driven.scheduled, duration_s),
            acknowledged_per_second,
            acknowledged_ratio: acknowledged_per_second / peak.acknowledged_per_second,
            succeeded_per_second,
            succeeded_ratio: succeeded_per_second
                .zip(peak.succeeded_per_second)
                .map(|(now, peak)| now / peak),
            accepted: Latency::of(&outcome.accepted_service),
            accepted_from_intended: Latency::of(&outcome.accepted),
            refused: Latency::of(&outcome.refused_service),
            refused_from_intended: Latency::of(&outcome.refused),
            endpoints,
            recovery,
            driver_busy_ratio: driven.busy_ratio,
            timeline: outcome.timeline.into_seconds(),
        })
    }

    /// Puts a load on for so long, and gives the tasks that succeeded in a second in its second
    /// half: in the first there are ever more at once, and few have come far enough to end.
    fn counted<T>(
        &self,
        server: &Server,
        duration: Duration,
        load: impl FnOnce() -> T,
    ) -> (T, Option<f64>) {
        let agent = self.tasks.agent.name();
        let look = || Some((Instant::now(), server.metrics()?.ended(&agent).succeeded));
        let count = || {
            std::thread::sleep(duration / 2);
            let (half_at, half) = look()?;
            std::thread::sleep(duration / 2);
            let (end_at, end) = look()?;
            Some((end - half) as f64 / (end_at - half_at).as_secs_f64())
        };
        std::thread::scope(|scope| {
            let count = scope.spawn(count);
            let loaded = load();
            (loaded, count.join().ok().flatten())
        })
    }

    /// Asks 100 times a second until a whole second of it is served as before.
    fn recovery(
        &self,
        server: &Server,
        ended_at: Instant,
        limit_ms: f64,
        observer: &mut dyn Observer,
    ) -> Result<Recovery> {
        observer.phase("recovery", RECOVERY_MAX);
        let step = Duration::from_secs(1);
        let mut timeline: Vec<Second> = Vec::new();
        while Instant::now() < ended_at + RECOVERY_MAX {
            let began_s = ended_at.elapsed().as_secs_f64();
            let driven = drive(&self.probe_plan(step), server.peer(), &mut |_| {})?;
            let latency = Latency::of(&driven.outcome.accepted);
            let all = driven.scheduled;
            let mut second = Second { second: timeline.len(), ..Second::default() };
            second.sent = driven.outcome.sent;
            second.accepted = latency.count;
            second.tasks = latency.count;
            second.refused = driven.outcome.answers(429..=429);
            second.refused += driven.outcome.answers(503..=503);
            second.failed = all.saturating_sub(second.accepted + second.refused);
            (second.p50_ms, second.p99_ms) = (latency.p50_ms, latency.p99_ms);
            observer.second(&second);
            timeline.push(second);
            if latency.count == all && latency.p99_ms < limit_ms {
                return Ok(Recovery { after_s: Some(began_s), limit_ms, timeline });
            }
        }
        Ok(Recovery { after_s: None, limit_ms, timeline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(OverloadPlan::default().check().is_ok());
        let refused: [fn(&mut OverloadPlan); 5] = [
            |plan| plan.connections = 0,
            |plan| plan.pipeline = 1_000,
            |plan| plan.factors = vec![0.5],
            |plan| plan.factors = Vec::new(),
            |plan| plan.phase_duration = Duration::from_secs(1),
        ];
        for change in refused {
            let mut plan = OverloadPlan::default();
            change(&mut plan);
            assert!(matches!(plan.check(), Err(Error::Plan(_))), "{plan:?}");
        }
    }
}
