//! The rivals of the net core's runtime: the same small answer from each, alone on the first core,
//! asked from the last.

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::figure::short;
use crate::process;
use crate::responder::{RUNTIMES, Responder, Runtime};
use no_loadtest::Plan;
use std::fmt::Write as _;
use std::time::Duration;

/// Clients that ask at once.
const CLIENTS: [usize; 2] = [64, 500];

/// What one load of one runtime showed.
#[derive(Clone, Copy, Debug)]
struct Measured {
    krps: f64,
    p99_ms: f64,
    cpu_us: f64,
    errors: u64,
}

fn load(bench: &Bench, responder: &Responder, clients: usize) -> Result<Measured> {
    let plan =
        Plan { connections: clients, warmup: Duration::ZERO, ..bench.get(responder.url(), None) };
    // The warm-up is a load of its own, so that its CPU time is not counted.
    let pace = plan.pace.warmup(bench.warmup());
    bench.run(&Plan { pace, ..plan.clone() })?;
    let before = process::usage(responder.process_id())?;
    let report = bench.run(&plan)?;
    let after = process::usage(responder.process_id())?;
    let requests = report.requests.sent.max(1) as f64;
    Ok(Measured {
        krps: report.requests.accepted_per_second / 1_000.0,
        p99_ms: report.latency.accepted.p99_ms,
        cpu_us: (after.cpu_s - before.cpu_s) * 1e6 / requests,
        errors: report.requests.errors,
    })
}

fn line(bench: &Bench, runtime: Runtime) -> Result<String> {
    let responder = match Responder::start(runtime, bench.server_core()) {
        Ok(responder) => responder,
        // What a machine does not allow is an answer as well.
        Err(Error::Refused(why)) => {
            return Ok(format!("{:<30} does not run here: {why}\n", runtime.about()));
        }
        Err(error) => return Err(error),
    };
    let mut line = format!("{:<30}", runtime.about());
    let mut errors = 0;
    for clients in CLIENTS {
        eprintln!("{}: {clients} clients", runtime.about());
        let measured = load(bench, &responder, clients)?;
        errors += measured.errors;
        let Measured { krps, p99_ms, cpu_us, .. } = measured;
        let _ = write!(line, " {:>9} {:>8} {:>8}", short(krps), short(p99_ms), short(cpu_us));
    }
    let mib = process::usage(responder.process_id())?.resident_bytes as f64 / f64::from(1 << 20);
    let _ = write!(line, " {:>8}", short(mib));
    if 0 < errors {
        let _ = write!(line, "  {errors} errors");
    }
    line.push('\n');
    Ok(line)
}

/// Measures all runtimes that this build has and gives the table.
///
/// # Errors
/// When a load fails.
pub fn runtimes(bench: &Bench) -> Result<String> {
    let mut out = format!("{:<30}", "one core, 53 B of JSON");
    for clients in CLIENTS {
        let _ = write!(out, " {:>9} {:>8} {:>8}", format!("{clients}: krps"), "p99 ms", "CPU µs");
    }
    let _ = writeln!(out, " {:>8}", "RSS MiB");
    for runtime in RUNTIMES {
        let line = line(bench, *runtime)?;
        eprint!("{line}");
        out.push_str(&line);
    }
    Ok(out)
}
