//! Rolling restarts under load: does a client that reconnects lose a request, or have one doubled.
//!
//! The peak is found on data of its own. Then half of it is offered by the clock, by a client that
//! sends again, under the same idempotency key, what was lost or refused; meanwhile the server is
//! asked to stop and is started again, on the same folder and port. In the end all tasks are
//! listed. By then every key has been acknowledged once, so what was acknowledged and is not in the
//! list is lost, and what is in the list and was never acknowledged is a double.

mod report;
mod show;

use crate::cores::Pinned;
use crate::drive::drive;
use crate::error::{Error, Result};
use crate::peak::peak;
use crate::plan::{CONNECTIONS_MAX, Pace, Plan, Target, Tasks};
use crate::report::{Latency, Requests, machine};
use crate::run::Observer;
use crate::serve::{Serve, Served};
use crate::server::Server;
pub use report::{RestartsReport, Spread};
pub use show::{svg, table};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A request waits so long for a connection before it is given up: longer than any restart.
const BACKLOG_MAX: Duration = Duration::from_secs(60);
/// Listing ten million tasks takes about so long: for the progress alone.
const LISTING: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug)]
pub struct RestartsPlan {
    /// The server.
    pub serve: Serve,
    /// How often it is restarted.
    pub restarts: usize,
    /// From one restart to the next.
    pub every: Duration,
    /// Requests a second; half the peak when absent.
    pub rate: Option<f64>,
    /// How long the peak is looked for.
    pub peak_duration: Duration,
    /// Connections.
    pub connections: usize,
    /// The core that the driver runs on.
    pub pin: Option<usize>,
}

impl RestartsPlan {
    /// 200 restarts at half the peak.
    #[must_use]
    pub fn new(serve: Serve) -> RestartsPlan {
        RestartsPlan {
            serve: serve.with_short_keys(),
            restarts: 200,
            every: Duration::from_secs(2),
            rate: None,
            peak_duration: Duration::from_secs(8),
            connections: 64,
            pin: None,
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
        if !matches!(self.restarts, 1..=10_000) {
            return refuse("--restarts must be 1 to 10000");
        }
        if self.every < Duration::from_millis(200) {
            return refuse("--every must be 200ms or more: a restart takes about that long");
        }
        if self.rate.is_some_and(|rate| !(1.0..=1e6).contains(&rate)) {
            return refuse("--rate must be 1 to 1000000");
        }
        Ok(())
    }

    fn tasks() -> Tasks {
        Tasks { idempotency: true, ..Tasks::default() }
    }

    fn plan(&self, served: &Served) -> Plan {
        Plan {
            url: served.url.clone(),
            token: Some(served.token.clone()),
            target: Target::Submit(RestartsPlan::tasks()),
            connections: self.connections,
            backlog_max: BACKLOG_MAX,
            is_careful: true,
            ..Plan::default()
        }
    }

    /// Does it all on the calling thread, and restarts on another.
    ///
    /// # Errors
    /// When a server cannot be started, does not end in good order, or does not list its tasks.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<RestartsReport> {
        self.check()?;
        let _pinned = self.pin.map(|core| Pinned::to(&[core])).transpose()?;
        let peak = if self.rate.is_none() { Some(self.peak(observer)?) } else { None };
        let rate = self.rate.or(peak.map(|peak| peak / 2.0)).unwrap_or(1.0);
        let served = self.serve.start(None)?;
        let duration = self.every * (self.restarts as u32 + 1);
        let pace = Pace::constant(rate, duration);
        let plan = Plan { pace, ..self.plan(&served) };
        let server = Server::new(&plan)?;
        observer.phase("restarts", duration);
        let serve = Serve { port: server.peer().address.port(), ..self.serve.clone() };
        let (driven, restarted) = std::thread::scope(|scope| {
            let began = Instant::now();
            let restarted = scope.spawn(move || self.restart(served, &serve, began));
            let driven = drive(&plan, server.peer(), &mut |second| observer.second(second));
            (driven, restarted.join().unwrap_or_else(|why| std::panic::resume_unwind(why)))
        });
        let (driven, (served, cycles)) = (driven?, restarted?);
        observer.phase("listing", LISTING);
        let mut outcome = driven.outcome;
        let ids = outcome.ids.take().unwrap_or_default();
        let acknowledged = ids.len() as u64;
        let found = compare(&server, ids)?;
        served.stop()?;
        let times = |part: usize| Spread::of(cycles.iter().map(|cycle| cycle[part]));
        let mut report = RestartsReport {
            machine: machine(),
            peak_per_second: peak,
            rate,
            connections: self.connections,
            every_s: self.every.as_secs_f64(),
            restarts: cycles.len(),
            stop: times(0),
            start: times(1),
            sent_again: outcome.sent_again,
            acknowledged,
            listed: found.listed,
            lost: found.lost,
            doubled: found.doubled,
            not_succeeded: found.not_succeeded,
            requests: Requests::of(&outcome, driven.scheduled, duration.as_secs_f64()),
            latency: Latency::of(&outcome.accepted),
            timeline: outcome.timeline.into_seconds(),
            goals: Vec::new(),
        };
        report.goals = report.judge(self.restarts);
        Ok(report)
    }

    /// Of a server that is gone afterwards, with its tasks.
    fn peak(&self, observer: &mut dyn Observer) -> Result<f64> {
        let served = self.serve.start(None)?;
        let plan = self.plan(&served);
        let server = Server::new(&plan)?;
        let warmup = Plan { is_careful: false, ..plan.clone() };
        let warmup = Plan { pace: Pace::Max { duration: Duration::from_secs(1) }, ..warmup };
        drive(&warmup, server.peer(), &mut |_| {})?;
        let found = peak(&plan, &RestartsPlan::tasks(), &server, self.peak_duration, observer)?;
        served.stop()?;
        Ok(found)
    }

    /// Restarts by the clock; gives the server that runs in the end, and how long each restart took
    /// to stop and to start.
    fn restart(
        &self,
        mut served: Served,
        serve: &Serve,
        began: Instant,
    ) -> Result<(Served, Vec<[Duration; 2]>)> {
        let mut cycles = Vec::with_capacity(self.restarts);
        for number in 1..=self.restarts as u32 {
            let at = began + self.every * number;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            let (again, times) = served.restart(serve)?;
            served = again;
            cycles.push(times);
        }
        Ok((served, cycles))
    }
}

/// What the list of tasks shows beside what was acknowledged.
#[derive(Debug, Default, PartialEq)]
struct Found {
    listed: u64,
    lost: u64,
    doubled: u64,
    not_succeeded: u64,
}

fn compare(server: &Server, acknowledged: Vec<u128>) -> Result<Found> {
    let mut found = Found::default();
    let all = acknowledged.len() as u64;
    let mut missing: HashSet<u128> = acknowledged.into_iter().collect();
    // Two requests that were given one task: one of them has none.
    let merged = all - missing.len() as u64;
    server.tasks(|page| {
        for (id, has_succeeded) in page {
            found.listed += 1;
            found.not_succeeded += u64::from(!has_succeeded);
            found.doubled += u64::from(!missing.remove(id));
        }
    })?;
    found.lost = merged + missing.len() as u64;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let plan = || RestartsPlan::new(Serve::new("no"));
        assert!(plan().check().is_ok());
        let refused: [fn(&mut RestartsPlan); 4] = [
            |plan| plan.connections = 0,
            |plan| plan.restarts = 0,
            |plan| plan.every = Duration::from_millis(1),
            |plan| plan.rate = Some(0.0),
        ];
        for change in refused {
            let mut plan = plan();
            change(&mut plan);
            assert!(matches!(plan.check(), Err(Error::Plan(_))), "{plan:?}");
        }
    }
}
