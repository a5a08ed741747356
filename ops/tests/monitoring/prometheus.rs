//! Debian's Prometheus and its tool, as `.ci/deploy-tools` unpacks them under `target/test-tools`.

use crate::e2e::pipe::Lines;
use crate::e2e::{Client, PATIENCE};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use url::form_urlencoded::Serializer;

/// A program of Prometheus; `None`, and a word about it, when it is not there.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    crate::tools::found(format!("prometheus/{name}"))
}

/// Runs promtool, which must find nothing wrong.
#[track_caller]
pub(crate) fn promtool(path: &Path, args: &[&str], input: Option<&Path>) {
    let input = input.map_or(Stdio::null(), |path| File::open(path).expect("a file").into());
    let output = Command::new(path).args(args).stdin(input).output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {args:?}:\n{said}");
    let complains = said.lines().any(|line| line.starts_with("no_") || line.contains("FAILED"));
    assert!(!complains, "promtool {args:?}:\n{said}");
}

/// A running server; ended when dropped.
pub(crate) struct Prometheus {
    child: Child,
    client: Client,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts it with the configuration in this folder, on a port that the system chooses.
    pub(crate) fn start(program: &Path, dir: &Path) -> Prometheus {
        let mut child = Command::new(program)
            .current_dir(dir)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=series"])
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=logfmt"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let log = Lines::read(child.stderr.take().expect("piped"));
        let address = log.wait(Instant::now() + PATIENCE, |line| {
            let (_, address) = line.split_once("msg=\"Listening on\" address=")?;
            Some(address.trim().to_owned())
        });
        let Some(address) = address else {
            let _ = child.kill();
            panic!("it does not listen:\n{}", log.text());
        };
        Prometheus { child, client: Client::new(&format!("http://{address}"), None) }
    }

    /// Whether an expression has a value now that is a number.
    #[track_caller]
    pub(crate) fn has_data(&self, expr: &str) -> bool {
        let query = Serializer::new(String::new()).append_pair("query", expr).finish();
        let answer = self.client.get(&format!("/api/v1/query?{query}"));
        assert_eq!(answer.body["status"], "success", "{expr}: {}", answer.text);
        let found = answer.body["data"]["result"].as_array().expect("a list").clone();
        let is_number = |sample: &Value| sample["value"][1].as_str().is_some_and(|it| it != "NaN");
        found.iter().any(is_number)
    }

    /// The alerts that fire now.
    pub(crate) fn firing(&self) -> Vec<Value> {
        let answer = self.client.get("/api/v1/alerts").ok(200);
        let alerts = answer["data"]["alerts"].as_array().expect("a list").clone();
        alerts.into_iter().filter(|alert| alert["state"] == "firing").collect()
    }
}
