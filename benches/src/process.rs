//! What the kernel says of another process: its CPU time and its memory.

use crate::error::{Error, Result};
use rustix::param::clock_ticks_per_second;
use std::fs;

/// A reading of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// CPU time since its start, user and system, in s.
    pub cpu_s: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// Reads a process of ours.
///
/// # Errors
/// When it is gone.
pub fn usage(process_id: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{process_id}/{name}");
        fs::read_to_string(&path).map_err(Error::system(path))
    };
    let gone = || Error::Failed(format!("process {process_id} cannot be read"));
    let cpu_ticks = cpu_ticks(&read("stat")?).ok_or_else(gone)?;
    let resident_bytes = resident_bytes(&read("status")?).ok_or_else(gone)?;
    let cpu_s = cpu_ticks as f64 / clock_ticks_per_second() as f64;
    Ok(Usage { cpu_s, resident_bytes })
}

/// User and system time, fields 14 and 15 of proc(5); the name may hold spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 23 0 0 20 0 3 0 5000 1 42 0";
        assert_eq!(cpu_ticks(stat), Some(123));
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t  42 kB\n"), Some(42 * 1_024));
        let mine = usage(std::process::id()).expect("this process can be read");
        assert!(0 < mine.resident_bytes);
    }
}
