//! A PostgreSQL of a test's own, with a database for its nodes. The store's own tests start theirs
//! by the same code.

#[path = "../../../storage/src/postgres/tests/server.rs"]
mod server;

use super::Home;
use super::cut::Way;
use serde_json::{Value, json};
use server::{PORT, Server, USER};

/// A server and one database on it.
pub(crate) struct Postgres {
    server: Server,
    name: String,
}

impl Postgres {
    /// Starts one; `None`, and a word about it, when PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Postgres> {
        let server = Server::started()?;
        let name = server.database();
        Some(Postgres { server, name })
    }

    /// What a node's configuration says of it.
    pub(crate) fn config(&self) -> Value {
        let host = self.server.folder().to_str().expect("plain");
        json!({"host": host, "port": PORT, "name": self.name, "user": USER})
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&self) {
        self.server.kill();
    }

    /// Starts it again on what it has.
    pub(crate) fn start_again(&self) {
        self.server.start(&[]);
    }

    /// What it answers to a statement.
    pub(crate) fn says(&self, sql: &str) -> String {
        self.server.says(&self.name, sql)
    }

    /// Likewise; an error when it does not answer.
    pub(crate) fn try_says(&self, sql: &str) -> Result<String, String> {
        self.server.try_says(&self.name, sql)
    }

    /// A way to it that can be cut.
    pub(crate) fn way(&self) -> Way {
        Way::to(self.server.folder(), PORT)
    }

    /// Makes the tables, by the command of that home.
    #[track_caller]
    pub(crate) fn migrate(&self, home: &Home) {
        let config = home.config();
        let output = home.run(&["db", "migrate", "--config", config.to_str().expect("plain")]);
        assert!(output.status.success(), "{output:?}");
    }
}
