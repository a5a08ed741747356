//! One run: the binary that is measured, how thoroughly, and what several rows need and is measured
//! once.

use crate::cores;
use crate::error::Result;
use crate::responder::{Responder, Runtime};
use crate::server::Server;
use no_loadtest::plan::{Pace, Target, Tasks};
use no_loadtest::progress::Progress;
use no_loadtest::{Plan, Report, run_observed};
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

/// A run and what it knows so far.
#[derive(Debug)]
pub struct Bench {
    /// The binary `no`.
    pub binary: PathBuf,
    /// Where servers keep their data: on the disk that is measured.
    pub place: PathBuf,
    /// How thoroughly.
    pub length: Length,
    single: Option<Report>,
    bare: Option<Report>,
    /// A server with parked tasks, for the rows that share it.
    pub parked: Option<Server>,
}

impl Bench {
    /// A run that knows nothing yet.
    #[must_use]
    pub fn new(binary: PathBuf, place: PathBuf, length: Length) -> Bench {
        Bench { binary, place, length, single: None, bare: None, parked: None }
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

    /// Runs a load, showing how it goes where a person looks on.
    ///
    /// # Errors
    /// As [`no_loadtest::run`].
    pub fn run(&self, plan: &Plan) -> Result<Report> {
        if stderr().is_terminal() {
            return Ok(run_observed(plan, &mut Progress::new())?);
        }
        Ok(no_loadtest::run(plan)?)
    }

    /// Single `echo` submissions, as fast as 64 clients can, on a fresh server; measured once.
    ///
    /// # Errors
    /// When the server or the driver fails.
    pub fn single(&mut self) -> Result<&Report> {
        if self.single.is_none() {
            let server = self.server()?;
            let plan = self.plan(&server, Tasks::default());
            self.single = Some(self.run(&plan)?);
        }
        Ok(self.single.as_ref().expect("just measured"))
    }

    /// The bare hyper responder on the net core's core, asked by 64 clients as fast as they can;
    /// measured once.
    ///
    /// # Errors
    /// When the responder or the driver fails.
    pub fn bare(&mut self) -> Result<&Report> {
        if self.bare.is_none() {
            let responder = Responder::start(Runtime::Hyper, self.server_core())?;
            self.bare = Some(self.run(&self.get(responder.url(), None))?);
        }
        Ok(self.bare.as_ref().expect("just measured"))
    }

    /// A plan that gets `/health/live` at `url` as fast as 64 clients can, from the driver's core.
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
