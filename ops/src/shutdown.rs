//! The handlers of a stop: their order, how long each may take, and the watch that ends the process
//! when one takes longer.
//!
//! An end by force loses nothing: what was acknowledged is on the disk, and the next start takes it
//! up as after a crash.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// One part of a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handler {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// How long it may take.
    pub timeout: Duration,
}

/// Running steps finish, as far as they do within `service.drainTimeout`.
pub const DRAIN: &str = "drain";
/// Answers under way are given, connections closed, their threads ended.
pub const NET_CORES: Handler =
    handler("net_cores", "gives answers under way and closes connections", 10);
/// Turns under way end, journals and indexes are flushed.
pub const SHARDS: Handler = handler("shards", "flushes journals and indexes", 60);
/// What the node still has is left to the other nodes, and its place given up.
pub const CLUSTER: Handler = handler("cluster", "leaves its partitions to the other nodes", 10);
/// The audit log and the watches over files end.
pub const GUARDS: Handler = handler("guards", "flushes the audit log", 10);
/// The reader thread ends.
pub const READER: Handler = handler("reader", "ends reads of the store", 10);
/// Checkpoints end, the store is closed and the data folder's lock given back.
pub const STORE: Handler = handler("store", "ends checkpoints and closes the store", 30);

const fn handler(name: &'static str, about: &'static str, timeout_s: u64) -> Handler {
    Handler { name, about, timeout: Duration::from_secs(timeout_s) }
}

/// All handlers, in the order in which they run.
#[must_use]
pub fn handlers(drain_timeout: Duration) -> [Handler; 7] {
    let about = "takes no new work and lets running steps finish";
    let drain = Handler { name: DRAIN, about, timeout: drain_timeout };
    [drain, NET_CORES, SHARDS, CLUSTER, GUARDS, READER, STORE]
}

/// Watches over the handlers as they run; ends with the last of them when dropped.
pub struct Overseer {
    begun: mpsc::Sender<Handler>,
}

impl Overseer {
    /// Starts the watch; `on_late` is called once, in its thread, with a handler that takes longer
    /// than it may.
    pub fn start(on_late: impl FnOnce(Handler) + Send + 'static) -> Overseer {
        let (begun, handlers) = mpsc::channel::<Handler>();
        thread::spawn(move || {
            let Ok(mut current) = handlers.recv() else { return };
            loop {
                match handlers.recv_timeout(current.timeout) {
                    Ok(next) => current = next,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => return on_late(current),
                }
            }
        });
        Overseer { begun }
    }

    /// The handler before has ended, this one begins.
    pub fn begin(&self, handler: Handler) {
        // Without the watch there is only nobody to end it by force.
        let _ = self.begun.send(handler);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a watch says about handlers with these time-outs, which all take until the watch ends.
    fn late(timeouts: &[Duration]) -> Option<Handler> {
        let (sender, receiver) = mpsc::channel();
        let overseer = Overseer::start(move |handler| sender.send(handler).expect("awaited"));
        for timeout in timeouts {
            overseer.begin(Handler { timeout: *timeout, ..STORE });
        }
        if timeouts.last().is_none_or(|last| !last.is_zero()) {
            drop(overseer);
        }
        receiver.recv().ok()
    }

    #[test]
    fn the_handler_that_takes_too_long_is_told() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(late(&[]), None);
        assert_eq!(late(&[hour, hour]), None, "the last one ended");
        let told = late(&[hour, Duration::ZERO]).expect("it is late");
        assert_eq!(told.timeout, Duration::ZERO);
    }

    #[test]
    fn handlers_have_names_of_their_own_and_time() {
        let all = handlers(Duration::from_secs(1));
        let names: std::collections::BTreeSet<_> = all.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|one| !one.timeout.is_zero() && !one.about.is_empty()));
        assert_eq!(all[0].name, DRAIN);
    }
}
