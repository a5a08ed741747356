//! `no task`: submit, look, steer.

mod control;
pub(super) mod input;
mod list;
mod patience;
mod read;
mod show;
mod submit;
pub(crate) mod watch;

use super::Console;
use crate::error::Result;
use clap::Subcommand;

/// Commands of `no task`.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Submit a task
    Submit(submit::Submit),
    /// Show one task
    Get(read::Get),
    /// List tasks, newest first
    List(list::List),
    /// Follow a task: its steps as they come, then its answer
    Watch(watch::Watch),
    /// Show what a task did, step by step
    Steps(read::Steps),
    /// Cancel a task; a call under way is cut
    Cancel(control::Cancel),
    /// Give a failed task another attempt
    Retry(control::Retry),
    /// Say what a task's result was worth
    Feedback(control::Feedback),
}

impl Task {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        match self {
            Task::Submit(submit) => submit.run(console),
            Task::Get(get) => get.run(console),
            Task::List(list) => list.run(console),
            Task::Watch(watch) => watch.run(console),
            Task::Steps(steps) => steps.run(console),
            Task::Cancel(cancel) => cancel.run(console),
            Task::Retry(retry) => retry.run(console),
            Task::Feedback(feedback) => feedback.run(console),
        }
    }
}
