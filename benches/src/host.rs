//! Where and of what a figure was taken: no number means anything without it.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The machine, the commit and the day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, in GiB.
    pub memory_gib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The file system of the folder that data is written to.
    pub file_system: String,
    /// The commit that was measured; `unknown` outside a repository.
    pub commit: String,
    /// Whether there were changes beside that commit.
    pub is_dirty: bool,
    /// When, in UTC.
    pub at: String,
    /// Others' work on the machine when it began: the load average of the last minute.
    pub load_average: String,
}

impl Host {
    /// This machine, and the repository around the working folder.
    #[must_use]
    pub fn here(data: &Path) -> Host {
        let info = read("/proc/cpuinfo");
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
        let memory = read("/proc/meminfo");
        let memory = memory.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        let commit = git(&["rev-parse", "--short=12", "HEAD"]);
        Host {
            cpu: cpu.map_or("unknown", str::trim).to_owned(),
            cores: crate::cores::available().len(),
            memory_gib: memory.unwrap_or_default() / (1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), data),
            commit: commit.unwrap_or_else(|| "unknown".to_owned()),
            is_dirty: git(&["status", "--porcelain", "--untracked-files=no"])
                .is_some_and(|changes| !changes.is_empty()),
            at: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
        }
    }

    /// The commit, with a mark where there were changes beside it.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{}{}", self.commit, if self.is_dirty { "-dirty" } else { "" })
    }

    /// The machine in one line.
    #[must_use]
    pub fn machine(&self) -> String {
        format!(
            "{}, {} cores, {} GiB, Linux {}, {}",
            self.cpu, self.cores, self.memory_gib, self.kernel, self.file_system
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    out.status.success().then(|| text.trim().to_owned())
}

/// The kind of the mount that holds `path`: the longest that it begins with.
fn file_system(mounts: &str, path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut best = (0, "unknown file system");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(at), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if path.starts_with(at) && best.0 <= at.len() {
            best = (at.len(), kind);
        }
    }
    best.1.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_tells_the_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /no/such tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/no/such/folder")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/no/suchlike")), "ext4");
    }

    #[test]
    fn here_is_somewhere() {
        let host = Host::here(Path::new("."));
        assert!(0 < host.cores && !host.kernel.is_empty(), "{host:?}");
        assert!(host.machine().contains(&host.kernel));
    }
}
