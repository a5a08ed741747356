//! A node in the state that a runbook speaks of: tasks that stand, failed and are parked, tokens,
//! a certificate, and an audit log in which somebody tried the doors.

use super::book::{Shell, Step};
use super::e2e::client::JSON;
use super::e2e::{Act, Client, Home, Node, PATIENCE, Server};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Refused proofs of one address before it is slowed down, and some more.
const PROOFS: usize = 60;

/// A running node and what the words of the book stand for.
pub(crate) struct Stage {
    home: Home,
    node: Option<Node>,
    /// Its gateway gives up, so that calls stay open.
    _server: Server,
}

impl Stage {
    /// Starts the node and lets it see all that the book looks for.
    pub(crate) fn set() -> Stage {
        let server = Server::start(|_, _| Act::Answer(504, json!({"gave": "up"})));
        let home = Home::new(config(&server));
        let bin = home.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_no"), bin.join("no")).expect("a link");
        fs::create_dir(home.path().join("backups")).expect("a folder");
        let names = vec!["localhost".to_owned()];
        let certificate = rcgen::generate_simple_self_signed(names).expect("a certificate");
        fs::write(home.path().join("cert.pem"), certificate.cert.pem()).expect("written");
        let node = Some(home.start());
        let stage = Stage { home, node, _server: server };
        stage.try_the_doors();
        stage
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs")
    }

    /// Asks as nobody should, until the audit log says so.
    fn try_the_doors(&self) {
        let viewer = self.home.token(&["--role", "viewer"]);
        let echo = json!({"agent": "echo", "input": 1}).to_string();
        let with = |token: &str| self.node().with_token(Some(token));
        let asked = with(&viewer).send("POST", "/v1/tasks", &[JSON], Some(echo.as_bytes()));
        asked.problem(403, "forbidden");
        let forged = format!("{}AAAA", &viewer[..viewer.len() - 4]);
        let stranger = with(&forged);
        for _ in 0..PROOFS {
            // The proxy's word, so that nobody else is slowed down.
            stranger.send("GET", "/v1/tasks", &[("x-forwarded-for", "203.0.113.9")], None);
        }
        self.failed();
        let until = Instant::now() + PATIENCE;
        let noted = ["\"denied\"", "auth.limited", "outbound.denied", "\"signature\""];
        while !noted.iter().all(|what| self.audit().contains(what)) {
            assert!(Instant::now() < until, "{}", self.audit());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn audit(&self) -> String {
        let files = fs::read_dir(self.home.data().join("audit")).expect("a folder").flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }

    fn failed(&self) -> String {
        let id = self.node().submit(&json!({"agent": "broken", "input": null}));
        assert_eq!(self.node().ended(&id)["error"]["code"], "outbound_refused");
        id
    }

    fn parked(&self) -> String {
        let id = self.node().submit(&json!({"agent": "loop", "input": "Does it rain?"}));
        let task = self.node().after_event(&id, "waited");
        assert_eq!(task["waiting"]["reason"], "outcome_unknown", "{task}");
        id
    }

    fn tagged(&self) -> String {
        self.node().submit(&json!({"agent": "render", "input": null, "tags": ["nightly"]}))
    }

    fn token_id(&self) -> String {
        let made = self.home.run(&["token", "create", "--role", "viewer", "--json"]);
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        made["id"].as_str().expect("an id").to_owned()
    }

    /// What a word of the book stands for now; tasks and tokens are new ones each time.
    fn stands_for(&self, word: &str) -> Option<String> {
        let at = |name: &str| Some(self.home.path().join(name).display().to_string());
        match word {
            "DATA_FOLDER" => at("data"),
            "CONFIG_FILE" => at("test.json"),
            "CERT_FILE" => at("cert.pem"),
            "BACKUP_FILE" => at("no.backup"),
            "BACKUP_FOLDER" => at("backups"),
            "RESTORE_FOLDER" => at("restored"),
            "SAVE_FOLDER" => at("saved"),
            "AGENT" => Some("render".to_owned()),
            "TASK" => Some(self.tagged()),
            "FAILED_TASK" => Some(self.failed()),
            "PARKED_TASK" => Some(self.parked()),
            "TOKEN_ID" => Some(self.token_id()),
            "TAG" => {
                self.tagged();
                Some("nightly".to_owned())
            }
            _ => None,
        }
    }

    /// A command with its words filled in.
    fn filled(&self, text: &str) -> String {
        let text = text.replace("HOST:3000", self.node().address());
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (mut filled, mut rest) = (String::new(), text.as_str());
        while let Some(c) = rest.chars().next() {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(c.len_utf8());
            let (word, after) = rest.split_at(end);
            match self.stands_for(word) {
                Some(real) => filled.push_str(&real),
                None => filled.push_str(word),
            }
            rest = after;
        }
        filled
    }

    /// Runs a step; what is wrong with it, if anything. A node that was told to end is awaited,
    /// and started again.
    pub(crate) fn fault(&mut self, step: &Step) -> Option<String> {
        let data = self.home.data().to_owned();
        let client: &Client = self.node();
        let shell = Shell {
            dir: PathBuf::from(self.home.path()),
            variables: vec![
                ("NO_URL", client.url().into()),
                ("NO_TOKEN_FILE", data.join("admin.token").into()),
                ("NO_DATA_DIR", data.into()),
                ("TOKEN", client.token().into()),
            ],
        };
        let fault = shell.fault(step, &self.filled(&step.text));
        if step.text.ends_with("/admin/shutdown") {
            let status = self.node.take().expect("it runs").exited();
            assert_eq!(status.code(), Some(0), "{status:?}");
            self.node = Some(self.home.start());
        }
        fault
    }
}

fn config(server: &Server) -> Value {
    json!({
        "security": {"trustedProxies": ["127.0.0.1"], "outbound": {"allow": [server.address()]}},
        "models": {"script": {"provider": "scripted", "script": [
            {"text": "I look.", "tool_calls": [{"name": "search", "arguments": {"q": "rain"}}]},
            {"text": "It rains."}
        ]}},
        "agents": {
            "render": {"kind": "worker"},
            "broken": {"kind": "http", "url": "http://10.0.0.1/x", "max_attempts": 1},
            "loop": {"kind": "model", "model": "script", "tools": [
                {"kind": "http", "name": "search", "url": server.url("/search"), "effect": "unsafe"}
            ]}
        }
    })
}
