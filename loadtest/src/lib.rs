//! The load driver of nO: a client that knows the server by its HTTP alone.
//!
//! [`plan`] says what to do and [`run`] does it: [`schedule`] knows when each request should leave,
//! `drive` sends it over `connection`s, [`parse`] reads the answers, [`outcome`] and [`timeline`]
//! count, [`report`] sums up, [`table`], [`plot`] and [`svg`] show it. Around it: [`serve`] starts
//! a nO of its own, `worker` plays workers, [`metrics`] reads the server's counters. There are
//! loads with goals, [`profile`], [`overload`], [`restarts`] and [`soak`], and [`ceiling`] measures
//! the driver itself.

pub mod ceiling;
pub mod cli;
mod connection;
mod cores;
mod drive;
pub mod error;
pub mod format;
pub mod metrics;
pub mod outcome;
pub mod overload;
pub mod parse;
mod peak;
pub mod plan;
pub mod plot;
mod prober;
pub mod profile;
pub mod progress;
pub mod report;
pub mod restarts;
mod run;
pub mod schedule;
pub mod serve;
mod server;
pub mod soak;
pub mod svg;
pub mod table;
pub mod template;
#[cfg(test)]
mod testing;
pub mod timeline;
mod timer;
mod worker;

pub use error::{Error, Result};
pub use plan::Plan;
pub use report::Report;
pub use run::{Observer, Silent, run, run_observed};
