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
use std::process::{Child, Command, Stdio};

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

/// An attack under way; ended when dropped.
struct Attack(Child);

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Attack {
    /// `None` where there is no such program.
    fn begin(url: &str, options: &[&str]) -> Result<Option<Attack>> {
        let child = Command::new("slowhttptest")
            .args(SLOW)
            .args(options)
            .args(["-l", "600", "-u", url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Ok(Some(Attack(child))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::system("slowhttptest")(error)),
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
        let attack = Attack::begin(&format!("{}{path}", server.url()), options)?;
        let Some(mut attack) = attack else {
            eprintln!("slowhttptest is not there, so slow clients are not measured");
            return Ok(Vec::new());
        };
        let report = bench.run(&plan)?;
        let has_ended = attack.0.try_wait().map_err(Error::system("slowhttptest"))?;
        if let Some(status) = has_ended {
            return Err(Error::Failed(format!("slow {name}: it ended early, {status}")));
        }
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
