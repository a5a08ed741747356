//! Where the server's time goes: `perf` watches it under load, and the stacks become a picture.

use crate::bench::Bench;
use crate::error::{Error, Result};
use no_loadtest::Plan;
use no_loadtest::plan::Tasks;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Samples a second: a prime, so that it keeps step with nothing.
const RATE: &str = "997";

/// What is asked, and where the tools and the picture are.
#[derive(Clone, Debug)]
pub struct Flamegraph {
    /// Tasks in a request.
    pub batch: usize,
    /// The folder with `inferno-collapse-perf` and `inferno-flamegraph`.
    pub tools: PathBuf,
    /// The picture.
    pub svg: PathBuf,
}

/// Starts a server, loads it, watches it, and draws.
///
/// # Errors
/// When a tool is missing, with how to install it, or fails.
pub fn flamegraph(bench: &Bench, asked: &Flamegraph) -> Result<()> {
    let missing = Error::Usage("perf is not there: apt-get install linux-perf".to_owned());
    quiet(Command::new("perf").arg("version")).map_err(|_| missing)?;
    let folder = tempfile::tempdir_in(&bench.place).map_err(Error::system("a folder"))?;
    let record = folder.path().join("perf.data");
    let server = bench.server()?;
    let plan = bench.plan(&server, Tasks { batch: asked.batch, ..Tasks::default() });
    let seconds = (bench.warmup() + bench.load()).as_secs().max(1).to_string();
    let mut perf = Command::new("perf")
        .args(["record", "--quiet", "-F", RATE, "--call-graph", "dwarf,16384", "--pid"])
        .arg(server.process_id().to_string())
        .arg("--output")
        .arg(&record)
        .args(["--", "sleep", &seconds])
        .stdin(Stdio::null())
        .spawn()
        .map_err(Error::system("perf record"))?;
    let report = bench.run(&Plan { connections: if 1 < asked.batch { 16 } else { 64 }, ..plan })?;
    let status = perf.wait().map_err(Error::system("perf record"))?;
    if !status.success() {
        let text = "perf record may not watch: set kernel.perf_event_paranoid to 1 or less";
        return Err(Error::Failed(text.to_owned()));
    }
    drop(server);
    eprintln!(
        "{:.0} requests/s under perf; reading the stacks",
        report.requests.accepted_per_second
    );
    draw(asked, &record, folder.path())
}

fn draw(asked: &Flamegraph, record: &Path, folder: &Path) -> Result<()> {
    let (stacks, folded) = (folder.join("stacks"), folder.join("folded"));
    let script = ["script", "--no-inline", "--input"];
    pipe(Command::new("perf").args(script).arg(record), &stacks)?;
    let collapse = asked.tools.join("inferno-collapse-perf");
    pipe(Command::new(collapse).arg("--quiet").arg(&stacks), &folded)?;
    let title = format!("nO under load, {} tasks a request", asked.batch);
    let draw = asked.tools.join("inferno-flamegraph");
    pipe(Command::new(draw).args(["--quiet", "--title", &title]).arg(&folded), &asked.svg)?;
    eprintln!("written: {}", asked.svg.display());
    Ok(())
}

fn quiet(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status.map_err(Error::system(name.clone()))? {
        status if status.success() => Ok(()),
        status => Err(Error::Failed(format!("{name}: {status}"))),
    }
}

/// Runs a tool with its output into a file.
fn pipe(command: &mut Command, out: &Path) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let file = File::create(out).map_err(Error::system(out.display().to_string()))?;
    let status = command.stdin(Stdio::null()).stdout(file).status();
    match status.map_err(Error::system(name.clone()))? {
        status if status.success() => Ok(()),
        status => Err(Error::Failed(format!("{name}: {status}"))),
    }
}
