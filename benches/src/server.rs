//! A nO of our own for a row: started by the load driver's crate, ready, and called with its token.

use crate::error::{Error, Result};
use crate::process::{self, Usage};
use no_loadtest::metrics::Metrics;
use no_loadtest::serve::{Serve, Served};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long it may take from listening until it is ready.
const READY_MAX: Duration = Duration::from_secs(120);
/// How often it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A nO that runs until this is dropped.
#[derive(Debug)]
pub struct Server {
    serve: Serve,
    served: Served,
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
        fs::create_dir_all(place).map_err(Error::system(place.display().to_string()))?;
        let (folder, config) = (Some(place.to_owned()), config.clone());
        let serve = Serve { folder, config, ..Serve::new(binary) };
        let began = Instant::now();
        let served = serve.start(None)?;
        Server::ready(serve, served, began)
    }

    fn ready(serve: Serve, served: Served, began: Instant) -> Result<Server> {
        let client = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_MAX))
            .build()
            .new_agent();
        let mut server = Server { serve, served, client, ready_after: Duration::ZERO };
        let deadline = began + READY_MAX;
        while server.client.get(server.path("/health/ready")).call()?.status() != 200 {
            if deadline <= Instant::now() {
                return Err(Error::Failed("nO listens and does not become ready".to_owned()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        server.ready_after = began.elapsed();
        Ok(server)
    }

    /// Ends it as a crash does, and starts it again on what is on the disk.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn crash_and_start(self) -> Result<Server> {
        let began = Instant::now();
        let served = self.served.crash_and_start(&self.serve)?;
        Server::ready(self.serve, served, began)
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.served.url
    }

    /// Its admin token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.served.token
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.served.process_id()
    }

    /// Its CPU time and memory now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> Result<Usage> {
        process::usage(self.process_id())
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.served.url)
    }

    /// A caller with the admin token; one for each thread.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let bearer = format!("Bearer {}", self.served.token);
        Caller { client: self.client.clone(), url: self.served.url.clone(), bearer }
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
    }
}
