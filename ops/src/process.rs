//! What the kernel says about this process: CPU and memory against the cgroup's limit where there
//! is one, the data folder's disk, open files. Read on each scrape, so it costs nothing in between.

use rustix::fs::statvfs;
use rustix::param::{clock_ticks_per_second, page_size};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a scrape shows of the process; what could not be read is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessInfo {
    /// CPU time since start, in s.
    pub cpu_seconds: Option<f64>,
    /// CPU used since the reading before ÷ what the cgroup or the machine allows; 0 to 1.
    pub cpu_ratio: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Resident memory ÷ what the cgroup or the machine allows; 0 to 1.
    pub memory_ratio: Option<f64>,
    /// Used part of the data folder's disk; 0 to 1.
    pub disk_ratio: Option<f64>,
    /// Free bytes of that disk, for us.
    pub disk_free_bytes: Option<u64>,
    /// Open files.
    pub open_fds: Option<u64>,
    /// Start of the process, in s since 1970.
    pub start_time_seconds: Option<f64>,
    /// CPU time by the threads' names, in s.
    pub thread_cpu_seconds: BTreeMap<String, f64>,
}

/// Reads [`ProcessInfo`], remembering the reading before for shares of time. One owner.
#[derive(Debug)]
pub struct ProcessReader {
    data_dir: PathBuf,
    before: Option<(Instant, f64)>,
    cpus: f64,
    memory_max_bytes: Option<u64>,
}

impl ProcessReader {
    /// A reader for this process; the limits are read once, here.
    #[must_use]
    pub fn new(data_dir: &Path) -> ProcessReader {
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let cpus = cpu_limit().map_or(cores, |limit| limit.min(cores));
        let memory_max_bytes = memory_max_bytes();
        ProcessReader { data_dir: data_dir.to_owned(), before: None, cpus, memory_max_bytes }
    }

    /// Reads CPU and memory alone: two small files, where [`ProcessReader::read`] opens some for
    /// each thread.
    pub fn read_usage(&mut self) -> ProcessInfo {
        let mut info = ProcessInfo::default();
        let now = Instant::now();
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|s| stat_of(&s)) {
            let ticks = clock_ticks_per_second() as f64;
            let cpu_seconds = stat.cpu_ticks as f64 / ticks;
            info.cpu_seconds = Some(cpu_seconds);
            info.resident_bytes = Some(stat.resident_pages * page_size() as u64);
            info.start_time_seconds =
                boot_time_s().map(|boot_s| boot_s + stat.start_ticks as f64 / ticks);
            if let Some((then, used)) = self.before {
                let seconds = now.duration_since(then).as_secs_f64();
                let ratio = (cpu_seconds - used) / (seconds * self.cpus);
                info.cpu_ratio = (0.0 < seconds).then(|| ratio.clamp(0.0, 1.0));
            }
            self.before = Some((now, cpu_seconds));
        }
        if let (Some(used), Some(max)) = (info.resident_bytes, self.memory_max_bytes) {
            info.memory_ratio = Some((used as f64 / max as f64).min(1.0));
        }
        info
    }

    /// Reads everything now.
    pub fn read(&mut self) -> ProcessInfo {
        let mut info = self.read_usage();
        if let Ok(disk) = statvfs(&self.data_dir) {
            let (all, free) = (disk.f_blocks, disk.f_bavail);
            info.disk_free_bytes = Some(free.saturating_mul(disk.f_frsize));
            info.disk_ratio = (0 < all).then(|| 1.0 - free as f64 / all as f64);
        }
        info.thread_cpu_seconds = thread_cpu_seconds();
        info.open_fds = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64);
        info
    }
}

/// CPU time of each thread that lives, added up by name; empty where the kernel does not tell.
fn thread_cpu_seconds() -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return all };
    for thread in threads.flatten().map(|entry| entry.path()) {
        let read = |file: &str| fs::read_to_string(thread.join(file)).ok();
        // The first of three numbers is the time on a core, in ns.
        let on_core = read("schedstat").and_then(|text| text.split(' ').next()?.parse().ok());
        if let (Some(name), Some(ns)) = (read("comm"), on_core) {
            let ns: u64 = ns;
            *all.entry(name.trim().to_owned()).or_default() += ns as f64 / 1e9;
        }
    }
    all
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    resident_pages: u64,
}

/// The fields of `/proc/self/stat` after the name, which may itself contain anything (proc(5)).
fn stat_of(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // Field 3 of the manual page is the first one here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        start_ticks: field(22)?,
        resident_pages: field(24)?,
    })
}

fn boot_time_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Bytes of memory that the cgroup or the machine allows, whichever is less.
#[must_use]
pub fn memory_max_bytes() -> Option<u64> {
    match (memory_limit(), memory_total()) {
        (Some(limit), Some(total)) => Some(limit.min(total)),
        (limit, total) => limit.or(total),
    }
}

/// Has the allocator give back what it holds free for a second or longer.
///
/// mimalloc looks for that only when a page of its own is taken or freed, which a node that has
/// become quiet never does: after a burst a fifth of its memory would stay for hours. A block with
/// a page of its own, which is not touched, makes it look; that costs some microseconds.
pub fn give_memory_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(4 << 20)));
}

/// Resident bytes of this process now.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * page_size() as u64)
}

fn memory_total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Folders of this process's cgroup, from its own up to the root: a limit may stand in each.
fn cgroup_dirs(controller: &str) -> Vec<PathBuf> {
    let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    let mut dirs = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => PathBuf::from("/sys/fs/cgroup"),
            named if named.split(',').any(|name| name == controller) => {
                Path::new("/sys/fs/cgroup").join(named)
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        let up = own.ancestors().take_while(|dir| dir.starts_with(&root));
        dirs.extend(up.map(Path::to_owned));
    }
    dirs
}

fn memory_limit() -> Option<u64> {
    let read = |dir: PathBuf| {
        let text = fs::read_to_string(dir.join("memory.max"))
            .or_else(|_| fs::read_to_string(dir.join("memory.limit_in_bytes")));
        text.ok()?.trim().parse::<u64>().ok()
    };
    cgroup_dirs("memory").into_iter().filter_map(read).min()
}

/// CPUs that the cgroup allows.
#[must_use]
pub fn cpu_limit() -> Option<f64> {
    let read = |dir: PathBuf| {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| 0.0 < *n);
        if let Ok(text) = fs::read_to_string(dir.join("cpu.max")) {
            let (quota, period) = text.trim().split_once(' ')?;
            return Some(number(quota)? / number(period)?);
        }
        let quota = fs::read_to_string(dir.join("cpu.cfs_quota_us")).ok()?;
        let period = fs::read_to_string(dir.join("cpu.cfs_period_us")).ok()?;
        Some(number(&quota)? / number(&period)?)
    };
    cgroup_dirs("cpu").into_iter().filter_map(read).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "7 (no) S) R 1 2 3 4 5 6 7 8 9 10 100 23 0 0 20 0 3 0 5000 1 42 0";
        let stat = Stat { cpu_ticks: 123, start_ticks: 5_000, resident_pages: 42 };
        assert_eq!(stat_of(text), Some(stat));
        assert_eq!(stat_of("7 (no)"), None);
    }

    #[test]
    fn this_process_has_figures_in_their_ranges() {
        let mut reader = ProcessReader::new(Path::new("."));
        let first = reader.read();
        assert_eq!(first.cpu_ratio, None, "a share of time needs two readings");
        let info = reader.read();
        for ratio in [info.memory_ratio, info.disk_ratio].into_iter().flatten() {
            assert!((0.0..=1.0).contains(&ratio), "{info:?}");
        }
        assert!(info.resident_bytes.is_some_and(|bytes| 1 << 20 < bytes), "{info:?}");
        assert!(info.start_time_seconds.is_some_and(|at| 1.6e9 < at), "{info:?}");
    }
}
