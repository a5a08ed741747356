//! The bare disk: bytes written and synced one piece after the other, as a journal does, in a file
//! whose blocks are there already.

use super::{Times, quantile};
use rustix::fs::fdatasync;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// The file is as long as this and written around.
const LEN: u64 = 64 << 20;
/// A commit's smallest frame.
const SMALL: usize = 4 << 10;
/// A commit under load.
const LARGE: usize = 1 << 20;

/// What a disk does.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Disk {
    /// Writes of 4 KiB with their `fdatasync` that were timed.
    pub syncs: usize,
    /// Their median, in µs.
    pub sync_p50_us: u64,
    /// 90 of 100 took no longer, in µs.
    pub sync_p90_us: u64,
    /// 99 of 100 likewise.
    pub sync_p99_us: u64,
    /// The longest, in µs.
    pub sync_max_us: u64,
    /// Writes of 1 MiB, each synced, in MB a second.
    pub write_mb_s: f64,
}

/// Measures the disk of a folder; the file has no name, so it is gone whatever happens.
pub(super) fn measure(folder: &Path, times: &Times) -> io::Result<Disk> {
    let path = folder.join(format!(".no-bench-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options.create_new(true).read(true).write(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    let zeros = vec![0; LARGE];
    for at in (0..LEN).step_by(LARGE) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    let mut small = write(&file, SMALL, times.sync)?;
    let large = write(&file, LARGE, times.write)?;
    small.sort_unstable();
    let large_us = large.iter().sum::<u64>().max(1);
    Ok(Disk {
        syncs: small.len(),
        sync_p50_us: quantile(&small, 0.5),
        sync_p90_us: quantile(&small, 0.9),
        sync_p99_us: quantile(&small, 0.99),
        sync_max_us: quantile(&small, 1.0),
        write_mb_s: (large.len() * LARGE) as f64 / large_us as f64,
    })
}

/// Writes and syncs pieces of so many bytes for so long, at least one; the times in µs.
fn write(file: &File, len: usize, how_long: Duration) -> io::Result<Vec<u64>> {
    let (mut times, mut at) = (Vec::new(), 0);
    let begun = Instant::now();
    while times.is_empty() || begun.elapsed() < how_long {
        // Other bytes each time: a disk that compresses or compares gains nothing.
        let piece = vec![(times.len() % 251) as u8; len];
        let started = Instant::now();
        file.write_all_at(&piece, at)?;
        fdatasync(file)?;
        times.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        at = (at + len as u64) % LEN;
    }
    Ok(times)
}
