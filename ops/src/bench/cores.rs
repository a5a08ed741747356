//! The cores: how many there are, and how much of each a thread that is pinned to it gets.

use crate::cores::{available, pin};
use crate::process;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What is hashed to see how fast a core is.
const PIECE: usize = 16 << 10;

/// The cores of this machine that we may use.
#[derive(Clone, Debug, Serialize)]
pub struct Cores {
    /// The processor's name.
    pub cpu: String,
    /// Their clock as the kernel tells it now, in MHz.
    pub mhz: Option<f64>,
    /// CPUs that the cgroup allows; absent when it does not limit them.
    pub limit: Option<f64>,
    /// One for each core.
    pub cores: Vec<Core>,
}

/// One core.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Core {
    /// Its number.
    pub number: usize,
    /// The share of its time that a thread which never sleeps got, 0 to 1.
    pub share: f64,
    /// What BLAKE3 hashes in that time on the core, in MB a second of CPU time.
    pub hash_mb_s: f64,
}

pub(super) fn measure(how_long: Duration) -> Cores {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let numbers = available();
    let measured = std::thread::scope(|scope| {
        let one = |number| scope.spawn(move || look(number, how_long)).join();
        numbers.into_iter().filter_map(|number| one(number).ok()).collect()
    });
    Cores {
        cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
        mhz: field("cpu MHz").and_then(|mhz| mhz.parse().ok()),
        limit: process::cpu_limit(),
        cores: measured,
    }
}

fn look(number: usize, how_long: Duration) -> Core {
    // Where the kernel refuses, the thread runs where it may: the share still tells.
    let _ = pin(number);
    let (mut piece, mut pieces) = (vec![0_u8; PIECE], 0_u64);
    let (begun, cpu_begun) = (Instant::now(), cpu_s());
    while begun.elapsed() < how_long {
        let hash = blake3::hash(&piece);
        piece[..32].copy_from_slice(hash.as_bytes());
        pieces += 1;
    }
    let (wall_s, cpu_s) = (begun.elapsed().as_secs_f64(), cpu_s() - cpu_begun);
    Core {
        number,
        share: (cpu_s / wall_s.max(f64::MIN_POSITIVE)).min(1.0),
        hash_mb_s: (pieces * PIECE as u64) as f64 / 1e6 / cpu_s.max(1e-9),
    }
}

/// CPU time of the calling thread, in s.
pub(super) fn cpu_s() -> f64 {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    at.tv_sec as f64 + at.tv_nsec as f64 / 1e9
}
