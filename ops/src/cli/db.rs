//! `no db`: the store, wherever it is kept.

use super::Console;
use super::options::ConfigOptions;
use super::transfer::{Export, Import};
use crate::config::checked::Database;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::postgres::options;
use clap::{Args, Subcommand};
use no_storage::postgres::{self, PgOptions, PgStore};
use no_storage::sqlite::inspect;
use serde_json::{Value, json};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long another node may take to take a connection.
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// Commands of `no db`.
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Make the database's tables, or move older ones on
    Migrate(Asked),
    /// Look whether the store is fit to be used
    HealthCheck(Asked),
    /// Look whether the store can be reached
    TestConnection(Asked),
    /// Move a data folder's store into the database
    Import(Import),
    /// Move the database's store into a new data folder
    Export(Export),
}

/// Options of each.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  NO_DB_HOST=db.internal NO_DB_PASSWORD_FILE=/run/secrets/db no db migrate
  no db health-check --config /etc/no/operational.json --json

With `database.host` (NO_DB_HOST) it is about that database, else about the data folder's files.
`migrate` may be run beside nodes and more than once. Exit code 4 when the store is not fit.")]
pub(crate) struct Asked {
    #[command(flatten)]
    options: ConfigOptions,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

fn refused(error: no_storage::Error) -> Error {
    Error::Store { why: error.to_string() }
}

/// What is asked of the store.
#[derive(Clone, Copy)]
enum What {
    Migrate,
    Health,
    Connection,
}

impl Db {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        match self {
            Db::Migrate(asked) => asked.run(console, What::Migrate),
            Db::HealthCheck(asked) => asked.run(console, What::Health),
            Db::TestConnection(asked) => asked.run(console, What::Connection),
            Db::Import(import) => import.run(console),
            Db::Export(export) => export.run(console),
        }
    }
}

impl Asked {
    fn run(&self, console: &mut Console, what: What) -> Result<()> {
        let config = config::load(&self.options.options())?;
        let (text, value) = match (what, &config.database) {
            (What::Migrate, Some(of)) => migrate(&options(of)?)?,
            (What::Migrate, None) => {
                let why = "database.host is missing: files are moved on by `no serve` itself";
                return Err(Error::Usage(why.to_owned()));
            }
            (What::Health, Some(of)) => health(of)?,
            (What::Connection, Some(of)) => connection(&options(of)?, config.engine.partitions)?,
            (What::Health | What::Connection, None) => files(&config)?,
        };
        if self.json { console.print_json(&value) } else { console.print(&text) }
    }
}

fn migrate(options: &PgOptions) -> Result<(String, Value)> {
    let done = postgres::migrate(options).map_err(refused)?;
    let text = match done.from {
        Some(from) if from == done.to => format!("the tables are those of version {from} already"),
        Some(from) => format!("the tables are moved on from version {from} to {}", done.to),
        None => format!("the tables are made, version {}", done.to),
    };
    Ok((text, json!({"store": "postgresql", "from": done.from, "to": done.to})))
}

fn health(of: &Database) -> Result<(String, Value)> {
    let seen = postgres::check(&options(of)?).map_err(refused)?;
    let commit_ms = seen.commit.as_secs_f64() * 1e3;
    let mut text = format!(
        "PostgreSQL {}, tables of version {}, a small commit took {commit_ms:.1} ms",
        seen.server, seen.schema
    );
    for warning in &seen.warnings {
        text.push_str("\nwarning: ");
        text.push_str(warning);
    }
    let value = json!({"store": "postgresql", "server": seen.server, "schema": seen.schema,
                       "commit_ms": commit_ms, "warnings": seen.warnings});
    Ok((text, value))
}

/// Tables may be missing still.
fn connection(options: &PgOptions, partitions: u16) -> Result<(String, Value)> {
    let schema = match postgres::check(options) {
        Ok(seen) => Some(seen.schema),
        Err(no_storage::Error::SchemaMissing { .. }) => None,
        Err(no_storage::Error::SchemaOlder { found, .. }) => Some(found),
        Err(error) => return Err(refused(error)),
    };
    let mut text = match schema {
        Some(schema) => format!("connected; the tables are those of version {schema}"),
        None => "connected; there are no tables yet: run `no db migrate`".to_owned(),
    };
    let mut nodes = Vec::new();
    if schema == Some(postgres::known()) {
        for (name, address) in others(options, partitions)? {
            let fault = unreached(&address);
            if let Some(why) = &fault {
                text.push_str(&format!(
                    "\nwarning: node {name} cannot be reached at {address}: {why}; set its \
                     service.advertise to what other nodes reach"
                ));
            }
            nodes.push(json!({"name": name, "address": address, "fault": fault}));
        }
    }
    let value = json!({"store": "postgresql", "connected": true, "schema": schema,
                       "nodes": nodes});
    Ok((text, value))
}

/// The nodes that the database has, with their addresses.
fn others(options: &PgOptions, partitions: u16) -> Result<Vec<(String, String)>> {
    let store = PgStore::open(options, partitions).map_err(refused)?;
    store.addresses().map_err(refused)
}

/// Why nobody answers at a URL, if nobody does.
fn unreached(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let port = if url.starts_with("https://") { 443 } else { 80 };
    let at = match rest.parse::<std::net::SocketAddr>() {
        Ok(_) => rest.to_owned(),
        Err(_) if rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            rest.to_owned()
        }
        Err(_) => format!("{rest}:{port}"),
    };
    let addresses = match at.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Some(error.to_string()),
    };
    let mut why = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, REACH_TIMEOUT) {
            Ok(_) => return None,
            Err(error) => why = error.to_string(),
        }
    }
    Some(why)
}

/// The data folder's files: their journals are read through.
fn files(config: &Config) -> Result<(String, Value)> {
    let dir = &config.engine.data_dir;
    let shards = inspect(dir).map_err(refused)?;
    if shards.iter().any(|seen| seen.damage.is_some()) {
        return Err(Error::JournalDamaged);
    }
    let text = format!("{}: {} shard(s), their journals are sound", dir.display(), shards.len());
    Ok((text, json!({"store": "embedded", "data_dir": dir, "shards": shards.len()})))
}
