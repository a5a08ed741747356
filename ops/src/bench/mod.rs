//! `no bench`: what this machine can hold, in a few seconds: its disk, its cores, the engine alone,
//! and a whole nO under load; and what follows from these for more clients than the test has.
//!
//! `disk`, `cores` and `node` measure one thing each, `predict` reckons. A figure here is for this
//! machine and this moment: others' work on it counts.

pub mod cores;
pub mod disk;
pub mod engine;
pub mod node;
pub mod predict;

use crate::error::{Error, Result};
use std::path::Path;
use std::time::Duration;

/// How long each part is measured.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Small syncs.
    pub sync: Duration,
    /// Large writes.
    pub write: Duration,
    /// Each core.
    pub core: Duration,
    /// The engine.
    pub engine: Duration,
    /// The node under load; it is warmed up for half as long before.
    pub node: Duration,
}

impl Times {
    /// About so long in all.
    #[must_use]
    pub fn of(all: Duration) -> Times {
        let part = |share: u32| all * share / 100;
        Times { sync: part(20), write: part(15), core: part(5), engine: part(10), node: part(30) }
    }
}

/// What was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    /// The disk under the data folder.
    pub disk: disk::Disk,
    /// The cores.
    pub cores: cores::Cores,
    /// CPU time of the engine alone for a task from its submission to its end, in µs.
    pub engine_us: f64,
    /// A nO under load.
    pub node: node::Node,
}

/// Measures on the disk of `folder`; `say` is told what is at hand.
///
/// # Errors
/// [`Error::File`] when the folder cannot be written; [`Error::Bench`] when the node does not do.
pub fn measure(folder: &Path, times: &Times, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    say("the disk");
    let disk = disk::measure(folder, times).map_err(failed)?;
    say("the cores");
    let cores = cores::measure(times.core);
    say("the engine");
    let engine_us = engine::measure(times.engine);
    say("a nO under load");
    let node = node::measure(folder, times.node)?;
    Ok(Measured { disk, cores, engine_us, node })
}

/// The value below which a share of the sorted `values` lies; 0 when there are none.
fn quantile(values: &[u64], share: f64) -> u64 {
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share) as usize).copied().unwrap_or(0)
}
