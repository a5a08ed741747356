//! Puts nO together, and everything that an operator touches: the command line, the configuration,
//! logs, metrics, start and stop.
//!
//! `main.rs` calls [`cli::run`] and leaves with its code. `cli` has one file per command; those
//! that talk to a running nO do so over HTTP through `client`. `config` reads and checks, `boot`
//! builds the parts in order, `metrics` names every family and `exposition` writes them, `process`
//! reads what the kernel says about us, `trace` sets up the logs, `audit` keeps the audit log,
//! `backup` writes and reads backups, `bench` measures the machine, `cluster` keeps this node's
//! place among others, `console` is the operator's page and `live` the figures that it shows.

pub mod admin;
pub mod agents;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod boot;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod console;
pub mod cores;
pub mod database;
pub mod demo;
pub mod drain;
pub mod error;
pub mod exposition;
pub mod health;
pub mod live;
pub mod metrics;
pub mod monitor;
pub mod pool;
pub mod postgres;
pub mod process;
pub mod shutdown;
pub mod spans;
pub mod sse;
pub mod systemd;
pub mod tls;
pub mod trace;
pub mod vitals;

pub use error::{Error, Result};
