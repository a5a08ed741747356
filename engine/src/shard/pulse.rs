//! What a shard shows of itself without being asked: a few numbers that others read at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One shard's signs of life; written by the shard, read by anybody.
#[derive(Debug)]
pub struct Pulse {
    beat_mono_ms: AtomicU64,
    calls: AtomicUsize,
    unsaved: AtomicUsize,
    is_halted: AtomicBool,
    is_full: AtomicBool,
    room: AtomicUsize,
    slots_missing: AtomicUsize,
}

impl Default for Pulse {
    /// Of a shard that has not had a turn yet: nothing is known to be wrong.
    fn default() -> Pulse {
        Pulse {
            beat_mono_ms: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            unsaved: AtomicUsize::new(0),
            is_halted: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            room: AtomicUsize::new(usize::MAX),
            slots_missing: AtomicUsize::new(0),
        }
    }
}

/// A reading of a [`Pulse`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// When the shard last began or ended a turn, by the monotonic clock in ms.
    pub beat_mono_ms: u64,
    /// Tasks whose calls may be under way.
    pub calls: usize,
    /// Batches and effects that wait for the disk or for room in a ring.
    pub unsaved: usize,
    /// The journal failed; nothing is acknowledged any more.
    pub is_halted: bool,
    /// The journal has no room.
    pub is_full: bool,
    /// New tasks that would be taken.
    pub room: usize,
    /// Ready tasks that found no slot at the last look, which is up to half a second old.
    pub slots_missing: usize,
}

impl Pulse {
    // ORDER: relaxed throughout; each number stands for itself.

    /// Written by the shard after a turn.
    pub fn write(&self, reading: Reading) {
        self.beat_mono_ms.store(reading.beat_mono_ms, Ordering::Relaxed);
        self.calls.store(reading.calls, Ordering::Relaxed);
        self.unsaved.store(reading.unsaved, Ordering::Relaxed);
        self.is_halted.store(reading.is_halted, Ordering::Relaxed);
        self.is_full.store(reading.is_full, Ordering::Relaxed);
        self.room.store(reading.room, Ordering::Relaxed);
        self.slots_missing.store(reading.slots_missing, Ordering::Relaxed);
    }

    /// The last that was written.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading {
            beat_mono_ms: self.beat_mono_ms.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            unsaved: self.unsaved.load(Ordering::Relaxed),
            is_halted: self.is_halted.load(Ordering::Relaxed),
            is_full: self.is_full.load(Ordering::Relaxed),
            room: self.room(),
            slots_missing: self.slots_missing.load(Ordering::Relaxed),
        }
    }

    /// New tasks that would be taken, as the last turn left it.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }
}
