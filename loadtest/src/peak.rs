//! The most that a server does when nobody pushes, as the measure of loads that are a share of it.

use crate::drive::drive;
use crate::error::{Error, Result};
use crate::plan::{Agent, Pace, Plan, Target, Tasks};
use crate::run::Observer;
use crate::server::Server;
use std::time::Duration;

/// The longest that a task may take at the peak.
const WAIT: Duration = Duration::from_secs(20);

/// A closed loop: each client sends the next once it has the answer to the last. A loop's end is
/// waited for: else the queue would be filled instead of the peak found. `echo` has ended when it
/// is acknowledged.
pub(crate) fn peak_plan(plan: &Plan, tasks: &Tasks, duration: Duration) -> Plan {
    let is_loop = tasks.agent != Agent::Echo && tasks.batch == 1;
    let wait = is_loop.then_some(WAIT);
    let target = Target::Submit(Tasks { wait, ..tasks.clone() });
    Plan { pace: Pace::Max { duration }, target, is_careful: false, ..plan.clone() }
}

/// Requests that the server accepts in a second, then.
pub(crate) fn peak(
    plan: &Plan,
    tasks: &Tasks,
    server: &Server,
    duration: Duration,
    observer: &mut dyn Observer,
) -> Result<f64> {
    let plan = peak_plan(plan, tasks, duration);
    observer.phase("peak", duration);
    let driven = drive(&plan, server.peer(), &mut |second| observer.second(second))?;
    let rate = driven.outcome.accepted_in_time as f64 / duration.as_secs_f64();
    if rate < 1.0 {
        return Err(Error::Server("nothing is accepted even at its own pace".to_owned()));
    }
    Ok(rate)
}
