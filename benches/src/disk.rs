//! The bare disk: bytes written and synced one batch after the other, with nothing of ours in
//! between. What the journal is measured against.

use hdrhistogram::Histogram;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The file is as long as this and written around.
const LEN: u64 = 64 * 1024 * 1024;
const PIECE: usize = 1024 * 1024;

/// A file on the disk that is measured, zeros written beforehand as a good journal does.
#[derive(Debug)]
pub struct Disk {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl Disk {
    /// A new file in `folder`; it is gone when this is dropped.
    ///
    /// # Errors
    /// What the system said.
    pub fn new(folder: &Path) -> io::Result<Disk> {
        let file = tempfile::tempfile_in(folder)?;
        fallocate(&file, FallocateFlags::empty(), 0, LEN)?;
        let zeros = vec![0; PIECE];
        for at in (0..LEN).step_by(PIECE) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Disk { file, at: 0, bytes: Vec::new() })
    }

    /// Writes so many bytes after the last ones, and syncs them; how long it took.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&mut self, len: usize) -> io::Result<Duration> {
        assert!((len as u64) <= LEN, "a batch fits into the file");
        if LEN < self.at + len as u64 {
            self.at = 0;
        }
        // Other bytes each time: a disk that compresses or compares gains nothing.
        let mark = (self.at % 251) as u8;
        self.bytes.clear();
        self.bytes.resize(len, mark);
        let start = Instant::now();
        self.file.write_all_at(&self.bytes, self.at)?;
        fdatasync(&self.file)?;
        self.at += len as u64;
        Ok(start.elapsed())
    }

    /// Writes and syncs so many bytes again and again for so long; the times in µs.
    ///
    /// # Errors
    /// What the system said.
    pub fn sample(&mut self, len: usize, how_long: Duration) -> io::Result<Histogram<u64>> {
        let mut times = Histogram::new_with_bounds(1, 60_000_000, 3).expect("constant bounds");
        let start = Instant::now();
        while start.elapsed() < how_long {
            let took = self.write(len)?;
            times.saturating_record(took.as_micros() as u64);
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_around() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut disk = Disk::new(folder.path()).expect("a file");
        disk.write(LEN as usize - 10).expect("written");
        disk.write(11).expect("written");
        assert_eq!(disk.at, 11);
        assert_eq!(disk.file.metadata().expect("a file").len(), LEN);
        assert_eq!(disk.sample(1, Duration::ZERO).expect("none").len(), 0);
    }
}
