//! One run: the binary that is measured, how thoroughly, and what several rows need and is measured
//! once.

use crate::cores;
use crate::error::Result;
use crate::responder::{Responder, Runtime};
use crate::server::Server;
use no_loadtest::plan::{Pace, Target, Tasks};
use no_loadtest::progress::Progress;
use no_loadtest::{Observer, Plan, Report, Silent, run_observed};
use serde_json::json;
use std::io::{IsTerminal as _, stderr};
use std::path::PathBuf;
use std::time::Duration;

/// How much time is taken for a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A look: seconds a row.
    Quick,
    /// A measurement.
    Full,
}

impl Length {
    /// What the option `--quick` asks for.
    #[must_use]
    pub fn of(quick: bool) -> Length {
        if quick { Length::Quick } else { Length::Full }
    }
}

/// Clients that find a peak: enough for a commit to have company, too few to wait for each other.
pub const CLIENTS: usize = 256;
/// How often what is compared has its turn.
const ROUNDS: u32 = 3;

/// A load on nO, and what a bare hyper responder did right before it.
#[derive(Clone, Debug)]
pub struct Round {
    /// The load's report.
    pub report: Report,
    /// Requests a second that bare hyper answered.
    pub bare_per_second: f64,
}

/// A run and what it knows so far.
#[derive(Debug)]
pub struct Bench {
    /// The binary `no`.
    pub binary: PathBuf,
    /// Where servers keep their data: on the disk that is measured.
    pub place: PathBuf,
    /// How thoroughly.
    pub length: Length,
    /// Where rows that draw put their pictures.
    pub pictures: PathBuf,
    singles: Vec<Round>,
    /// A server with parked tasks, for the rows that share it.
    pub parked: Option<Server>,
}

impl Bench {
    /// A run that knows nothing yet.
    #[must_use]
    pub fn new(binary: PathBuf, place: PathBuf, length: Length) -> Bench {
        let pictures = place.clone();
        Bench { binary, place, length, pictures, singles: Vec::new(), parked: None }
    }

    /// How long a load lasts.
    #[must_use]
    pub fn load(&self) -> Duration {
        self.scaled(Duration::from_secs(10))
    }

    /// How long it is warmed up for.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        self.scaled(Duration::from_secs(3))
    }

    /// That, or a fifth of it for a look.
    #[must_use]
    pub fn scaled(&self, full: Duration) -> Duration {
        match self.length {
            Length::Quick => full / 5,
            Length::Full => full,
        }
    }

    /// So many, or a tenth for a look.
    #[must_use]
    pub fn count(&self, full: usize) -> usize {
        match self.length {
            Length::Quick => full / 10,
            Length::Full => full,
        }
    }

    /// A fresh server with nothing configured.
    ///
    /// # Errors
    /// When it does not start.
    pub fn server(&self) -> Result<Server> {
        Server::start(&self.binary, &self.place, &json!({}))
    }

    /// The core that whatever answers is pinned to: nO's net core takes the first as well.
    #[must_use]
    pub fn server_core(&self) -> usize {
        cores::available()[0]
    }

    /// The core that the driver runs on beside a single-threaded responder: the last.
    #[must_use]
    pub fn driver_core(&self) -> usize {
        let cores = cores::available();
        cores[cores.len() - 1]
    }

    /// A plan against `server` with the run's times.
    #[must_use]
    pub fn plan(&self, server: &Server, tasks: Tasks) -> Plan {
        Plan {
            url: server.url().to_owned(),
            token: Some(server.token().to_owned()),
            pace: Pace::Max { duration: self.load() },
            target: Target::Submit(tasks),
            warmup: self.warmup(),
            ..Plan::default()
        }
    }

    /// Shows how a load goes where a person looks on.
    #[must_use]
    pub fn observer(&self) -> Box<dyn Observer> {
        if stderr().is_terminal() { Box::new(Progress::new()) } else { Box::new(Silent) }
    }

    /// Runs a load, showing how it goes where a person looks on.
    ///
    /// # Errors
    /// As [`no_loadtest::run`].
    pub fn run(&self, plan: &Plan) -> Result<Report> {
        Ok(run_observed(plan, &mut *self.observer())?)
    }

    /// Single `echo` submissions, as fast as the clients can, on a fresh server, and bare hyper by
    /// turns; measured once.
    ///
    /// # Errors
    /// When a server or the driver fails.
    pub fn singles(&mut self) -> Result<&[Round]> {
        if self.singles.is_empty() {
            let server = self.server()?;
            self.singles = self.beside_bare(&self.plan(&server, Tasks::default()))?;
        }
        Ok(&self.singles)
    }

    /// Runs a load and asks bare hyper by turns: what the machine does beside hits both. Bare hyper
    /// has the core that nO's net core has.
    ///
    /// # Errors
    /// When the responder or the driver fails.
    pub fn beside_bare(&self, plan: &Plan) -> Result<Vec<Round>> {
        let responder = Responder::start(Runtime::Hyper, self.server_core())?;
        let third = |plan: Plan| {
            let pace = Pace::Max { duration: plan.pace.duration() / ROUNDS };
            Plan { pace, warmup: plan.warmup / ROUNDS, connections: CLIENTS, ..plan }
        };
        let (bare, plan) = (third(self.get(responder.url(), None)), third(plan.clone()));
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let bare_per_second = self.run(&bare)?.requests.accepted_per_second;
            rounds.push(Round { report: self.run(&plan)?, bare_per_second });
        }
        Ok(rounds)
    }

    /// A plan that gets `/health/live` at `url` as fast as can be, from the driver's core.
    #[must_use]
    pub fn get(&self, url: &str, token: Option<String>) -> Plan {
        Plan {
            url: url.to_owned(),
            token,
            pace: Pace::Max { duration: self.load() },
            target: Target::Get("/health/live".to_owned()),
            warmup: self.warmup(),
            pin: Some(self.driver_core()),
            ..Plan::default()
        }
    }
}

/// The middle one of some values; not a number of none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_value_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_look_takes_less() {
        let bench = |length| Bench::new(PathBuf::new(), PathBuf::new(), length);
        assert_eq!(bench(Length::Full).load(), Duration::from_secs(10));
        assert_eq!(bench(Length::Quick).load(), Duration::from_secs(2));
        assert_eq!(bench(Length::Quick).count(1_000), 100);
    }
}
