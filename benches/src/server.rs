//! A nO of our own: the release binary on a folder of its own and a free port. Unlike the load
//! driver's, it can be killed and started again on the same data.

use crate::error::{Error, Result};
use crate::process::{self, Usage};
use no_loadtest::metrics::Metrics;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take until it listens.
const START_MAX: Duration = Duration::from_secs(120);
/// How long it may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How often the log is looked at while it starts.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A nO that runs until this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    token: String,
    folder: TempDir,
    client: ureq::Agent,
    /// From the start of the process until `/health/ready` said yes.
    pub ready_after: Duration,
}

impl Server {
    /// Starts `binary` on a new folder in `place`, with that configuration, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// When it cannot be started, or ends or stays silent instead; with its log's end.
    pub fn start(binary: &Path, place: &Path, config: &Value) -> Result<Server> {
        let of_place = || Error::system(place.display().to_string());
        fs::create_dir_all(place).map_err(of_place())?;
        let folder = tempfile::Builder::new().prefix("no-").tempdir_in(place);
        let folder = folder.map_err(of_place())?;
        let file = config_file(folder.path());
        fs::write(&file, config.to_string()).map_err(Error::system(file.display().to_string()))?;
        Server::start_in(binary, folder)
    }

    fn start_in(binary: &Path, folder: TempDir) -> Result<Server> {
        let log = folder.path().join("no.log");
        let stderr = File::create(&log).map_err(Error::system(log.display().to_string()))?;
        let data = folder.path().join("data");
        let began = Instant::now();
        let child = Command::new(binary)
            .args(["serve", "--host", "127.0.0.1", "--port", "0", "--config"])
            .arg(config_file(folder.path()))
            .arg("--data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(Error::system(binary.display().to_string()))?;
        let client = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_MAX))
            .build()
            .new_agent();
        // From here on it is ended whatever happens.
        let (url, token) = (String::new(), String::new());
        let ready_after = Duration::ZERO;
        let mut server = Server { child, url, token, folder, client, ready_after };
        server.url = server.wait_until_listening(&log)?;
        server.wait_until_ready()?;
        server.ready_after = began.elapsed();
        let token = data.join("admin.token");
        let text = fs::read_to_string(&token);
        server.token = text.map_err(Error::system(token.display().to_string()))?.trim().to_owned();
        Ok(server)
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
                let tail: Vec<&str> = text.lines().rev().take(5).collect();
                return Err(Error::Failed(format!("nO: {how}: {}", tail.join(" · "))));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if self.client.get(self.path("/health/ready")).call()?.status() == 200 {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(Error::Failed("nO listens and does not become ready".to_owned()))
    }

    /// Ends it as a crash does, and starts it again on what is on the disk.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn crash_and_start(mut self, binary: &Path) -> Result<Server> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map_err(Error::system("killing nO"))?;
        // The folder outlives this value; what is left in its place goes with it.
        let place = self.folder.path().parent().unwrap_or(Path::new(".")).to_owned();
        let nothing = tempfile::tempdir_in(place).map_err(Error::system("a folder"))?;
        Server::start_in(binary, std::mem::replace(&mut self.folder, nothing))
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its admin token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Its CPU time and memory now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> Result<Usage> {
        process::usage(self.process_id())
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A caller with the admin token; one for each thread.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let bearer = format!("Bearer {}", self.token);
        Caller { client: self.client.clone(), url: self.url.clone(), bearer }
    }
}

/// Calls a server with a token.
#[derive(Clone, Debug)]
pub struct Caller {
    client: ureq::Agent,
    url: String,
    bearer: String,
}

impl Caller {
    /// Sends JSON and gives back the answer's text, which must be a 2xx.
    ///
    /// # Errors
    /// When the call fails or is answered with something else.
    pub fn post(&self, path: &str, body: &str) -> Result<String> {
        let call = self.client.post(format!("{}{path}", self.url));
        self.text(path, call.content_type("application/json"), body)
    }

    /// Likewise.
    ///
    /// # Errors
    /// As [`Caller::post`].
    pub fn put(&self, path: &str, body: &str) -> Result<String> {
        let call = self.client.put(format!("{}{path}", self.url));
        self.text(path, call.content_type("application/json"), body)
    }

    /// What `/metrics` shows now.
    ///
    /// # Errors
    /// As [`Caller::post`].
    pub fn metrics(&self) -> Result<Metrics> {
        let call = self.client.get(format!("{}/metrics", self.url));
        let mut answer = call.header("Authorization", &self.bearer).call()?;
        Ok(Metrics::parse(&answer.body_mut().read_to_string()?))
    }

    fn text(
        &self,
        path: &str,
        call: ureq::RequestBuilder<ureq::typestate::WithBody>,
        body: &str,
    ) -> Result<String> {
        let mut answer = call.header("Authorization", &self.bearer).send(body)?;
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string()?;
        if !answer.status().is_success() {
            return Err(Error::Failed(format!("{path}: {} {text}", answer.status())));
        }
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
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
    fn what_does_not_listen_is_an_error_that_says_why() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let start = |binary: &str| {
            let started = Server::start(Path::new(binary), folder.path(), &Value::Null);
            started.expect_err("it does not listen").to_string()
        };
        assert!(start("/bin/false").contains("exit status: 1"));
        assert!(start("/no/such/binary").contains("/no/such/binary"));
        let line = r#"{"level":"INFO","listening":true,"url":"http://127.0.0.1:1"}"#;
        assert_eq!(listening(line).as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(listening("listening"), None);
    }
}
