//! Slow clients: what `slowhttptest` does to the others' latency, by its three kinds of attack.
//!
//! Access control is off, so that a stranger's body is read at all; with it they are turned away
//! before that.

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::figure::{Figure, Goal, short};
use crate::server::Server;
use no_loadtest::Plan;
use no_loadtest::plan::{Pace, Tasks};
use serde_json::json;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What attacks (https://github.com/shekyan/slowhttptest).
const PROGRAM: &str = "slowhttptest";
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the others ask for, a second.
const RATE: f64 = 1_000.0;
const CLIENTS: usize = 100;
/// Connections that the attack holds, and how many of them it opens a second.
const SLOW: [&str; 4] = ["-c", "1000", "-r", "500"];
/// The attacks: a name, the path, the options.
const ATTACKS: [(&str, &str, &[&str]); 3] = [
    ("heads", "/health/live", &["-H", "-i", "2", "-x", "24"]),
    ("bodies", "/v1/tasks", &["-B", "-i", "2", "-s", "4096", "-x", "10", "-t", "POST"]),
    ("readers", "/metrics", &["-X", "-w", "1", "-y", "16", "-n", "2", "-z", "16", "-k", "3"]),
];

/// An attack under way; ended when dropped. It begins again whenever nO has cut all of its
/// connections.
struct Attack {
    is_over: Arc<AtomicBool>,
    attacker: Option<JoinHandle<Result<()>>>,
}

impl Attack {
    fn begin(url: &str, options: &'static [&'static str]) -> Attack {
        let is_over = Arc::new(AtomicBool::new(false));
        let (url, over) = (url.to_owned(), Arc::clone(&is_over));
        let attacker = std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                attack(&url, options, &over)?;
            }
            Ok(())
        });
        Attack { is_over, attacker: Some(attacker) }
    }

    /// Ends it; an error when it was none.
    fn end(mut self) -> Result<()> {
        self.is_over.store(true, Ordering::Release);
        let ended = self.attacker.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|why| std::panic::resume_unwind(why)))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// Runs the program once, to its end or ours.
fn attack(url: &str, options: &[&str], is_over: &AtomicBool) -> Result<()> {
    let mut child = Command::new(PROGRAM)
        .args(SLOW)
        .args(options)
        .args(["-l", "600", "-u", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::system(PROGRAM))?;
    loop {
        match child.try_wait().map_err(Error::system(PROGRAM))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(Error::Failed(format!("{PROGRAM} failed: {status}"))),
            None if is_over.load(Ordering::Acquire) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(());
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}

pub(super) fn slow(bench: &mut Bench) -> Result<Vec<Figure>> {
    let config = json!({"security": {"rbac": {"enabled": false}}});
    let server = Server::start(&bench.binary, &bench.place, &config)?;
    let plan = bench.plan(&server, Tasks::default());
    let pace = Pace::constant(RATE, bench.load());
    let plan = Plan { pace, connections: CLIENTS, token: None, ..plan };
    let before = bench.run(&plan)?.latency.accepted.p99_ms;
    let (mut worst, mut turns) = (0.0_f64, Vec::new());
    for (name, path, options) in ATTACKS {
        let attack = Attack::begin(&format!("{}{path}", server.url()), options);
        let report = bench.run(&plan)?;
        attack.end()?;
        let lost = report.requests.errors + report.requests.refused();
        if 0 < lost {
            return Err(Error::Failed(format!("slow {name}: the others lost {lost} requests")));
        }
        let p99 = report.latency.accepted.p99_ms;
        worst = worst.max(p99);
        turns.push(format!("{name} {} ms", short(p99)));
    }
    let what = "others' p99 beside 1,000 slow clients, to that without";
    let note = format!("at 1,000/s {} ms alone; {}", short(before), turns.join(", "));
    let ratio = worst / before;
    Ok(vec![Figure::new("slow_clients", what, ratio, "").goal(Goal::at_most(2.0)).note(note)])
}
