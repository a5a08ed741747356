//! Starts a nO of its own for one load: fresh data in a temporary folder, a free port, its admin
//! token, and an orderly end. No shell is needed, and nothing stays behind.

use crate::cores::Pinned;
use crate::drive::raise_files_max;
use crate::error::{Error, Result};
use crate::plan::Agent;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it may take until it listens.
const START_MAX: Duration = Duration::from_secs(120);
/// How long it may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How often a file or a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What to start.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The binary `no`.
    pub binary: PathBuf,
    /// The cores that it may use; all when empty.
    pub cores: Vec<usize>,
    /// Where its temporary folder is made; the system's place when absent.
    pub folder: Option<PathBuf>,
    /// Its configuration; what a model agent needs is added.
    pub config: Value,
    /// Its port; a free one when 0.
    pub port: u16,
}

/// A nO that runs until this is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Where it answers.
    pub url: String,
    /// Its admin token.
    pub token: String,
    folder: Arc<tempfile::TempDir>,
}

impl Serve {
    /// That binary, with nothing configured.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Serve {
        let binary = binary.into();
        Serve { binary, cores: Vec::new(), folder: None, config: json!({}), port: 0 }
    }

    /// Has it keep idempotency keys for half a minute, unless its configuration says otherwise: no
    /// client of a load sends again later, and a day's keys of one would be a billion.
    #[must_use]
    pub fn with_short_keys(mut self) -> Serve {
        if self.config["engine"]["keyKept"].is_null() {
            self.config["engine"]["keyKept"] = "30s".into();
        }
        self
    }

    /// Starts it and waits until it listens. `agent` is what the load will need.
    ///
    /// # Errors
    /// When it cannot be started, or ends or stays silent instead of listening; with its log's end.
    pub fn start(&self, agent: Option<&Agent>) -> Result<Served> {
        let folder = self.temporary()?;
        let config = config_file(folder.path());
        let text = self.config_with(agent).to_string();
        fs::write(&config, text).map_err(Error::system(config.display().to_string()))?;
        self.start_in(Arc::new(folder))
    }

    /// Starts it in a folder with a configuration, and perhaps with data.
    fn start_in(&self, folder: Arc<tempfile::TempDir>) -> Result<Served> {
        let log = folder.path().join("no.log");
        let stderr = File::create(&log).map_err(Error::system(log.display().to_string()))?;
        let data = folder.path().join("data");
        // A child keeps what its parent may have when it starts: open files, and cores.
        raise_files_max();
        let pinned = if self.cores.is_empty() { None } else { Some(Pinned::to(&self.cores)?) };
        let child = Command::new(&self.binary)
            .args(["serve", "--host", "127.0.0.1", "--port", &self.port.to_string(), "--config"])
            .arg(config_file(folder.path()))
            .arg("--data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn();
        drop(pinned);
        let child = child.map_err(Error::system(format!("{}", self.binary.display())))?;
        // From here on it is ended whatever happens.
        let mut served = Served { child, url: String::new(), token: String::new(), folder };
        served.url = served.wait_until_listening(&log)?;
        let token = data.join("admin.token");
        let text = fs::read_to_string(&token);
        served.token = text.map_err(Error::system(token.display().to_string()))?.trim().to_owned();
        Ok(served)
    }

    fn temporary(&self) -> Result<tempfile::TempDir> {
        let folder = self.folder.clone().unwrap_or_else(std::env::temp_dir);
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix("no-loadtest-").tempdir_in(&folder);
        made.map_err(Error::system(format!("a folder in {}", folder.display())))
    }

    fn config_with(&self, agent: Option<&Agent>) -> Value {
        let mut config = self.config.clone();
        if let Some(agent) = agent
            && let Some(model) = agent.model()
        {
            config["models"][agent.name()] = model;
        }
        config
    }
}

impl Served {
    /// The folder of its data, log and configuration.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_listening(&mut self, log: &Path) -> Result<String> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let text = fs::read_to_string(log).unwrap_or_default();
            if let Some(url) = text.lines().find_map(listening) {
                return Ok(url);
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || deadline <= Instant::now() {
                let how = ended.map_or("does not listen".to_owned(), |status| status.to_string());
                let lines: Vec<&str> = text.lines().rev().take(5).collect();
                let tail: Vec<&str> = lines.into_iter().rev().collect();
                return Err(Error::Server(format!("nO: {how}\n{}", tail.join("\n"))));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends it as a crash does, and has `serve` start on what is on the disk.
    ///
    /// # Errors
    /// As [`Serve::start`].
    pub fn crash_and_start(mut self, serve: &Serve) -> Result<Served> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map_err(Error::system("killing nO"))?;
        serve.start_in(Arc::clone(&self.folder))
    }

    /// Asks it to end, waits until it has, and has `serve` start on the same folder; with how long
    /// each took.
    ///
    /// # Errors
    /// As [`Served::stop`] and [`Serve::start`].
    pub fn restart(mut self, serve: &Serve) -> Result<(Served, [Duration; 2])> {
        let asked_at = Instant::now();
        self.ended_well()?;
        let ended_at = Instant::now();
        let served = serve.start_in(Arc::clone(&self.folder))?;
        Ok((served, [ended_at - asked_at, ended_at.elapsed()]))
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it ended with another code than 0, or had to be killed.
    pub fn stop(mut self) -> Result<()> {
        self.ended_well()
    }

    fn ended_well(&mut self) -> Result<()> {
        match self.end() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Error::Server(format!("nO ended with {status}"))),
            None => Err(Error::Server("nO did not end when asked to, and was killed".to_owned())),
        }
    }

    /// How it ended after SIGTERM; `None` when it had to be killed.
    fn end(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("operational.json")
}

/// The URL in a log line that says it listens.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line.get("listening")?;
    Some(line.get("url")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_listening_is_found() {
        let line = r#"{"level":"INFO","listening":true,"url":"http://127.0.0.1:1"}"#;
        assert_eq!(listening(line).as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(listening(r#"{"level":"INFO","url":"http://127.0.0.1:1"}"#), None);
        assert_eq!(listening("listening"), None);
    }

    #[test]
    fn a_model_agent_gets_its_model_beside_what_was_configured() {
        let mut serve = Serve::new("no");
        serve.config = json!({"engine": {"shards": 1}});
        let config = serve.config_with(Some(&Agent::Model { iterations: 2 }));
        assert_eq!(config["engine"]["shards"], 1);
        assert_eq!(config["models"]["loadtest-model-2"]["provider"], "scripted");
        assert_eq!(serve.config_with(Some(&Agent::Echo)), serve.config);
    }

    #[test]
    fn what_does_not_listen_is_an_error_with_its_end() {
        let ended = Serve::new("/bin/false").start(None).expect_err("it ends at once");
        assert!(ended.to_string().contains("exit status: 1"), "{ended}");
        let absent = Serve::new("/no/such/binary").start(None).expect_err("not there");
        assert!(absent.to_string().contains("/no/such/binary"), "{absent}");
    }
}
