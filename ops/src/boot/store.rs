//! Opens the store: the configured database, or files, with a bar for what may take long.

use super::kept::Kept;
use crate::config::Config;
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use no_engine::event::AgentRow;
use no_engine::id::ShardId;
use no_storage::{OpenOptions, Store};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Opens the database that is configured, or else the store of the data folder.
///
/// # Errors
/// [`Error::Store`] with what is wrong and what to do.
pub(super) fn open(config: &Config) -> Result<Kept> {
    match &config.database {
        Some(of) => Kept::shared(config, of),
        None => Ok(Kept::Files(Box::new(files(config)?))),
    }
}

/// Opens the store of the data folder, moving partitions between files if the number of shards
/// changed.
fn files(config: &Config) -> Result<Store> {
    let engine = &config.engine;
    let options = OpenOptions {
        partitions: engine.partitions,
        shards: engine.shards,
        retention_ms: engine.retention_ms,
        journal_bytes: engine.journal_bytes,
        ..OpenOptions::default()
    };
    let bar = ProgressBar::hidden();
    let style = ProgressStyle::with_template("moving partitions, file {bar:40} {pos}/{len} {eta}");
    let opened = Store::open_with_progress(&engine.data_dir, &options, &mut |progress| {
        if bar.is_hidden() {
            tracing::info!(target: "journal", "the number of shards changed: moving partitions");
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            if let Ok(style) = &style {
                bar.set_style(style.clone());
            }
        }
        bar.set_length(progress.files as u64);
        bar.set_position(progress.files_done as u64);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    opened.map_err(refused)
}

/// All agents: those kept in the store, then those of the configuration, which win.
///
/// # Errors
/// As [`open`].
pub(super) fn agents(store: &Kept, config: &Config) -> Result<Vec<AgentRow>> {
    let mut load = store.loader(ShardId(0))?;
    let kept = load.agents().map_err(|error| Error::Store { why: error.to_string() })?;
    let mut rows: BTreeMap<_, _> = kept.into_iter().map(|row| (row.name.clone(), row)).collect();
    for (name, agent) in &config.agents {
        let paused = rows.get(name.as_str()).is_some_and(|row| row.paused);
        let row = AgentRow { name: name.as_str().into(), agent: agent.clone(), paused };
        rows.insert(row.name.clone(), row);
    }
    Ok(rows.into_values().collect())
}

/// A store's error as the program's.
pub(super) fn refused(error: no_storage::Error) -> Error {
    Error::Store { why: error.to_string() }
}
