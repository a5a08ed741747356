//! `no db`: the store, wherever it is kept.

use super::Console;
use super::options::ConfigOptions;
use crate::config::checked::Database;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::postgres::options;
use clap::{Args, Subcommand};
use no_storage::postgres::{self, PgOptions};
use no_storage::sqlite::inspect;
use serde_json::{Value, json};

/// Commands of `no db`.
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Make the database's tables, or move older ones on
    Migrate(Asked),
    /// Look whether the store is fit to be used
    HealthCheck(Asked),
    /// Look whether the store can be reached
    TestConnection(Asked),
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

impl Db {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let (Db::Migrate(asked) | Db::HealthCheck(asked) | Db::TestConnection(asked)) = &self;
        let config = config::load(&asked.options.options())?;
        let (text, value) = match (&self, &config.database) {
            (Db::Migrate(_), Some(of)) => migrate(&options(of)?)?,
            (Db::Migrate(_), None) => {
                let why = "database.host is missing: files are moved on by `no serve` itself";
                return Err(Error::Usage(why.to_owned()));
            }
            (Db::HealthCheck(_), Some(of)) => health(of)?,
            (Db::TestConnection(_), Some(of)) => connection(&options(of)?)?,
            (Db::HealthCheck(_) | Db::TestConnection(_), None) => files(&config)?,
        };
        if asked.json { console.print_json(&value) } else { console.print(&text) }
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
fn connection(options: &PgOptions) -> Result<(String, Value)> {
    let schema = match postgres::check(options) {
        Ok(seen) => Some(seen.schema),
        Err(no_storage::Error::SchemaMissing { .. }) => None,
        Err(no_storage::Error::SchemaOlder { found, .. }) => Some(found),
        Err(error) => return Err(refused(error)),
    };
    let text = match schema {
        Some(schema) => format!("connected; the tables are those of version {schema}"),
        None => "connected; there are no tables yet: run `no db migrate`".to_owned(),
    };
    Ok((text, json!({"store": "postgresql", "connected": true, "schema": schema})))
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
