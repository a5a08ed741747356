//! A whole nO under load: this binary, started on loopback with a folder of its own, and clients
//! that each submit one task after the other. What its threads cost is read from its metrics, so
//! the clients on the same cores do not count into it.

use super::quantile;
use crate::client::{Call, Client};
use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde::Serialize;
use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Clients, each with one request under way.
pub(super) const CLIENTS: usize = 128;
const BODY: &str = r#"{"agent":"echo","input":1}"#;
/// How long the node may take to end.
const END: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// What the node did, and what a task cost each of its sides.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Node {
    /// Tasks that were acknowledged, each durable, in a second.
    pub tasks_per_second: f64,
    /// Half of them were answered within, in µs.
    pub answer_p50_us: u64,
    /// 99 of 100 likewise.
    pub answer_p99_us: u64,
    /// Requests that were not taken.
    pub refused: u64,
    /// CPU time of net cores for a task, in µs.
    pub net_us: f64,
    /// CPU time of a shard with its journal and its index for a task, in µs.
    pub shard_us: f64,
    /// Bytes that a task writes to the journal.
    pub journal_bytes: f64,
    /// Tasks that share a commit.
    pub tasks_per_commit: f64,
}

/// A child with its folder; both go.
struct Running {
    child: Child,
    folder: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It ended by itself if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn unfit(why: impl Into<String>) -> Error {
    Error::Bench { why: why.into() }
}

pub(super) fn measure(parent: &Path, how_long: Duration) -> Result<Node> {
    let folder = parent.join(format!(".no-bench-{}.data", std::process::id()));
    fs::create_dir(&folder).map_err(|source| Error::File { path: folder.clone(), source })?;
    let (running, url) = start(folder)?;
    let client = Client::new(&url, None)?;
    let address = url.trim_start_matches("http://");
    drive(address, how_long / 2)?;
    let before = Reading::of(&client)?;
    let begun = Instant::now();
    let (mut took_us, refused) = drive(address, how_long)?;
    let seconds = begun.elapsed().as_secs_f64();
    let spent = Reading::of(&client)?.since(&before);
    stop(running)?;
    took_us.sort_unstable();
    let tasks = took_us.len().max(1) as f64;
    Ok(Node {
        tasks_per_second: took_us.len() as f64 / seconds,
        answer_p50_us: quantile(&took_us, 0.5),
        answer_p99_us: quantile(&took_us, 0.99),
        refused,
        net_us: spent.net_s * 1e6 / tasks,
        shard_us: spent.shard_s * 1e6 / tasks,
        journal_bytes: spent.journal_bytes / tasks,
        tasks_per_commit: tasks / spent.commits.max(1.0),
    })
}

/// Starts this binary with its defaults and without access control.
fn start(folder: PathBuf) -> Result<(Running, String)> {
    let of_io = |source| Error::File { path: folder.clone(), source };
    let binary = std::env::current_exe().map_err(of_io)?;
    let config = folder.join("bench.json");
    let text = r#"{"security":{"rbac":{"enabled":false},"audit":{"enabled":false}}}"#;
    fs::write(&config, text).map_err(of_io)?;
    let mut command = Command::new(binary);
    command.args(["serve", "--host", "127.0.0.1", "--port", "0"]);
    command.arg("--config").arg(&config).arg("--data-dir").arg(folder.join("data"));
    let is_ours = |name: &str| name.starts_with("NO_") || name == "NODE_ENV";
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_ours) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(of_io)?;
    let mut running = Running { child, folder };
    let log = running.child.stderr.take().ok_or_else(|| unfit("the node has no log"))?;
    let mut log = BufReader::new(log);
    let (mut line, mut said) = (String::new(), String::new());
    while 0 < log.read_line(&mut line).unwrap_or(0) {
        if line.contains("listening")
            && let Some(at) = line.find("http://")
        {
            let rest = &line[at..];
            let end = rest.find(|c: char| c == '"' || c == ',' || c.is_whitespace());
            let url = rest[..end.unwrap_or(rest.len())].to_owned();
            // Whatever else it says must not fill the pipe.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Ok((running, url));
        }
        said.push_str(&line);
        line.clear();
    }
    let _ = log.take(1 << 16).read_to_string(&mut said);
    Err(unfit(format!("the node does not start: {}", said.trim())))
}

fn stop(mut running: Running) -> Result<()> {
    let pid = Pid::from_child(&running.child);
    let failed = |error: Errno| unfit(error.to_string());
    let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    kill_process(pid, Signal::TERM).map_err(failed)?;
    let mut watched = [PollFd::new(&ended, PollFlags::IN)];
    if retry_on_intr(|| poll(&mut watched, Some(&END))).map_err(failed)? == 0 {
        return Err(unfit("the node does not end"));
    }
    match running.child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(unfit(format!("the node ended with {status}"))),
        Err(error) => Err(unfit(error.to_string())),
    }
}

/// Submits from all clients for so long: the times of those that were taken in µs, and how many
/// were not.
fn drive(address: &str, how_long: Duration) -> Result<(Vec<u64>, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unfit(error.to_string()))?;
    let local = tokio::task::LocalSet::new();
    let driven: std::io::Result<Vec<(Vec<u64>, u64)>> = local.block_on(&runtime, async {
        let until = Instant::now() + how_long;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::task::spawn_local(submit(address.to_owned(), until)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.push(client.await.map_err(std::io::Error::other)??);
        }
        Ok(all)
    });
    let driven = driven.map_err(|error| unfit(format!("a client of the node: {error}")))?;
    let refused = driven.iter().map(|(_, refused)| refused).sum();
    let took: Vec<u64> = driven.into_iter().flat_map(|(took, _)| took).collect();
    if took.is_empty() { Err(unfit("the node took no task")) } else { Ok((took, refused)) }
}

async fn submit(address: String, until: Instant) -> std::io::Result<(Vec<u64>, u64)> {
    let mut socket = TcpStream::connect(&address).await?;
    socket.set_nodelay(true)?;
    let request = format!(
        "POST /v1/tasks HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let (mut took_us, mut refused) = (Vec::new(), 0);
    let mut answer = Vec::with_capacity(4_096);
    while Instant::now() < until {
        let begun = Instant::now();
        socket.write_all(request.as_bytes()).await?;
        answer.clear();
        while !is_whole(&answer) {
            if socket.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        match answer.get(9) {
            Some(b'2') => took_us.push(begun.elapsed().as_micros() as u64),
            _ => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Ok((took_us, refused))
}

/// Whether an answer has come to its end.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let len =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    len.is_some_and(|len: usize| head + 4 + len <= answer.len())
}

/// What the metrics say so far.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    net_s: f64,
    shard_s: f64,
    journal_bytes: f64,
    commits: f64,
}

impl Reading {
    fn of(client: &Client) -> Result<Reading> {
        let (status, text) = client.text(&Call::get("/metrics"))?;
        if status != 200 {
            return Err(unfit(format!("/metrics answers {status}")));
        }
        let mut reading = Reading::default();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            if let Some(thread) = name.strip_prefix("no_thread_cpu_seconds_total{thread=\"") {
                // The reader and the audit log have no part in a submission.
                if thread.starts_with("no-net") {
                    reading.net_s += value;
                } else if !thread.starts_with("no-reader") && !thread.starts_with("no-audit") {
                    reading.shard_s += value;
                }
            } else if name.starts_with("no_journal_bytes_total") {
                reading.journal_bytes += value;
            } else if name.starts_with("no_journal_commit_duration_seconds_count") {
                reading.commits += value;
            }
        }
        Ok(reading)
    }

    fn since(&self, before: &Reading) -> Reading {
        Reading {
            net_s: self.net_s - before.net_s,
            shard_s: self.shard_s - before.shard_s,
            journal_bytes: self.journal_bytes - before.journal_bytes,
            commits: self.commits - before.commits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_body() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        assert!(is_whole(answer));
        assert!((0..answer.len()).all(|len| !is_whole(&answer[..len])));
    }
}
