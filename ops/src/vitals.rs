//! The node's signs of life, gathered where health, metrics and the drain read them.

use crate::cores::SystemClock;
use crate::process;
use no_engine::port::Clock as _;
use no_engine::shard::Pulse;
use no_engine::shard::pulse::Reading;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use tokio::sync::Notify;

/// A shard without a sign of life for this long is taken for stuck, in ms.
const BEAT_AGE_MS_MAX: u64 = 5_000;

/// How far the node is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Loading.
    Starting,
    /// Taking work.
    Ready,
    /// On its way out.
    Draining,
}

/// What one shard looks like from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardLife {
    /// What it last wrote.
    pub reading: Reading,
    /// How long ago, in ms.
    pub beat_age_ms: u64,
}

impl ShardLife {
    /// Whether it goes on.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.beat_age_ms < BEAT_AGE_MS_MAX && !self.reading.is_halted
    }
}

/// All of them. Read by any thread.
#[derive(Debug)]
pub struct Vitals {
    pulses: Vec<Arc<Pulse>>,
    clock: SystemClock,
    stage: AtomicU8,
    is_disk_low: AtomicBool,
    is_memory_full: AtomicBool,
    stop_asked: Notify,
    data_dir: PathBuf,
    bounds: Bounds,
}

/// What the node may use of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Free bytes on the data folder's disk below which no new work is taken.
    pub disk_reserve_bytes: u64,
    /// Resident bytes of the process past which none is.
    pub memory_max_bytes: u64,
}

impl Vitals {
    /// The signs of life of these shards.
    #[must_use]
    pub fn new(
        pulses: Vec<Arc<Pulse>>,
        clock: SystemClock,
        data_dir: &Path,
        bounds: Bounds,
    ) -> Vitals {
        Vitals {
            pulses,
            clock,
            stage: AtomicU8::new(Stage::Starting as u8),
            is_disk_low: AtomicBool::new(false),
            is_memory_full: AtomicBool::new(false),
            stop_asked: Notify::new(),
            data_dir: data_dir.to_owned(),
            bounds,
        }
    }

    /// How far the node is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            _ => Stage::Draining,
        }
    }

    /// Moves on; never back.
    pub fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }

    /// Asks the node to drain and stop. Asked again it changes nothing.
    pub fn ask_to_stop(&self) {
        self.stop_asked.notify_one();
    }

    /// Ready once the node was asked to stop; for the one who watches over it.
    pub async fn stop_asked(&self) {
        self.stop_asked.notified().await;
    }

    /// Each shard, in order.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardLife> {
        let now = self.clock.now().mono.0;
        let life = |pulse: &Arc<Pulse>| {
            let reading = pulse.read();
            ShardLife { reading, beat_age_ms: now.saturating_sub(reading.beat_mono_ms) }
        };
        self.pulses.iter().map(life).collect()
    }

    /// Looks at the disk; whether its room is below the reserve.
    pub fn look_at_disk(&self) -> bool {
        let is_low = self.disk_free().is_some_and(|free| free < self.bounds.disk_reserve_bytes);
        self.is_disk_low.store(is_low, Ordering::Relaxed);
        is_low
    }

    /// Bytes that are free for us on the data folder's disk.
    #[must_use]
    pub fn disk_free(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.data_dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether the last look found the disk short of room.
    #[must_use]
    pub fn is_disk_low(&self) -> bool {
        self.is_disk_low.load(Ordering::Relaxed)
    }

    /// Looks at the process's memory; whether it is past its bound.
    pub fn look_at_memory(&self) -> bool {
        process::give_memory_back();
        let used = process::resident_bytes();
        let is_full = used.is_some_and(|used| self.bounds.memory_max_bytes < used);
        self.is_memory_full.store(is_full, Ordering::Relaxed);
        is_full
    }

    /// Whether the last look found the memory used up.
    #[must_use]
    pub fn is_memory_full(&self) -> bool {
        self.is_memory_full.load(Ordering::Relaxed)
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}
