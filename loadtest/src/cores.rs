//! Keeps a thread on a core for a while.

use crate::error::{Error, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The calling thread runs on these cores until this is dropped; threads and processes started
/// meanwhile stay there.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins the calling thread.
    pub(crate) fn to(cores: &[usize]) -> Result<Pinned> {
        let before = sched_getaffinity(None).map_err(Error::system("the cores in use"))?;
        let mut set = CpuSet::new();
        for core in cores {
            if CpuSet::MAX_CPU <= *core || !before.is_set(*core) {
                let is_ours = |core: &usize| before.is_set(*core);
                let ours: Vec<usize> = (0..CpuSet::MAX_CPU).filter(is_ours).collect();
                let text = format!("core {core} is not ours to use; these are: {ours:?}");
                return Err(Error::Plan(text));
            }
            set.set(*core);
        }
        let what = format!("running on core {cores:?}");
        sched_setaffinity(None, &set).map_err(Error::system(what))?;
        Ok(Pinned { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Where it cannot go back to it stays: nothing depends on it.
        let _ = sched_setaffinity(None, &self.before);
    }
}
