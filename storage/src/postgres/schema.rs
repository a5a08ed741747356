//! The tables: how they come to be, and whether those that are there are ours and of this version;
//! and whether the server keeps what it says that it has.
//!
//! Migrations are the files in `storage/migrations`, in their order, each in a transaction of its
//! own together with its line in `refinery_schema_history`: one that is broken off was never begun.

use crate::error::{Error, Result};
use crate::postgres::fault::{not_done, said};
use crate::postgres::options::PgOptions;
use crate::postgres::session::{Purpose, Session, runtime};
use refinery::embed_migrations;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_postgres::error::SqlState;

embed_migrations!("migrations");

/// The oldest server, as it numbers itself.
const SERVER_OLDEST: u32 = 130_000;

/// How far a node's clock may be from the database's, in ms.
const CLOCK_MS_MAX: i64 = 5_000;

/// Tries of a migration that another one was in the way of.
const MIGRATION_TRIES: u32 = 20;

/// The pause between them.
const MIGRATION_PAUSE: Duration = Duration::from_millis(50);

/// What a migration did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Migrated {
    /// The schema version before; `None` where there were no tables.
    pub from: Option<u32>,
    /// Now.
    pub to: u32,
}

/// What a look at the database found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The server's version, as it names itself.
    pub server: String,
    /// The schema's version.
    pub schema: u32,
    /// How long a small commit took, sync included.
    pub commit: Duration,
    /// Settings with which less is safe than could be, each with what to do.
    pub warnings: Vec<String>,
}

/// The schema version that this build needs.
#[must_use]
pub fn known() -> u32 {
    let versions = migrations::runner().get_migrations().iter().map(version_of).max();
    versions.unwrap_or(0)
}

fn version_of(migration: &refinery::Migration) -> u32 {
    u32::try_from(i64::from(migration.version())).unwrap_or(u32::MAX)
}

/// Makes the tables, or moves older ones on to this build's. Does nothing to those of this build.
/// Blocks; not for a thread that runs an async runtime.
///
/// # Errors
/// [`Error::SchemaNewer`]; [`Error::DatabaseUnfit`]; those of connecting.
pub fn migrate(options: &PgOptions) -> Result<Migrated> {
    runtime()?.block_on(async {
        let mut session = Session::connect(options, Purpose::Migrate).await?;
        fit(&session, options).await?;
        let from = version(&session, options).await?;
        let known = known();
        if let Some(found) = from.filter(|found| known < *found) {
            return Err(Error::SchemaNewer { at: options.at(), found, known });
        }
        let mut tries = 1;
        loop {
            let Err(error) = migrations::runner().run_async(session.client_mut()).await else {
                break;
            };
            // Of two that migrate at once one makes the tables first: the other finds them there.
            let is_done = version(&session, options).await? == Some(known);
            if is_done {
                break;
            }
            if MIGRATION_TRIES <= tries {
                return Err(Error::Database { at: options.at(), why: chain(&error) });
            }
            tries += 1;
            tokio::time::sleep(MIGRATION_PAUSE).await;
        }
        Ok(Migrated { from, to: known })
    })
}

/// All that a migration's error says.
fn chain(error: &refinery::Error) -> String {
    use std::error::Error as _;
    let mut why = format!("the migration failed: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let text =
            cause.downcast_ref::<tokio_postgres::Error>().map_or_else(|| cause.to_string(), said);
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        source = cause.source();
    }
    why
}

/// Looks at the database as a start would, and commits something small. Blocks; not for a thread
/// that runs an async runtime.
///
/// # Errors
/// Each variant of [`Error`] that says what to do about a database.
pub fn check(options: &PgOptions) -> Result<Checked> {
    runtime()?.block_on(async {
        let session = Session::connect(options, Purpose::Commit).await?;
        let Fit { server, warnings } = fit(&session, options).await?;
        let schema = current(&session, options).await?;
        let began = Instant::now();
        let sql = "INSERT INTO meta (name, value) VALUES ('checked', now()::text) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        let probed = session.client().batch_execute(sql).await;
        probed.map_err(|error| not_done(options, &error))?;
        Ok(Checked { server, schema, commit: began.elapsed(), warnings })
    })
}

/// What a server is.
pub(crate) struct Fit {
    server: String,
    warnings: Vec<String>,
}

/// Whether the server is one that a store may be on.
pub(crate) async fn fit(session: &Session, options: &PgOptions) -> Result<Fit> {
    let unfit = |why: String| Error::DatabaseUnfit { at: options.at(), why };
    let sql = "SELECT name, setting FROM pg_settings WHERE name IN ('server_version', \
               'server_version_num', 'server_encoding', 'fsync', 'full_page_writes', \
               'synchronous_commit')";
    // As text: what a server that is only like PostgreSQL says is whatever it says.
    let answer = session.client().simple_query(sql).await;
    let answer = answer.map_err(|error| not_done(options, &error))?;
    let mut settings = std::collections::BTreeMap::new();
    for message in &answer {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message
            && let (Some(name), Some(setting)) = (row.get(0), row.get(1))
        {
            settings.insert(name.to_owned(), setting.to_owned());
        }
    }
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    let server = settings.get("server_version").cloned().unwrap_or_default();
    let number = settings.get("server_version_num").and_then(|number| number.parse::<u32>().ok());
    if number.is_some_and(|number| number < SERVER_OLDEST) {
        return Err(unfit(format!("it is version {server}: nO needs 13 or newer")));
    }
    if is("fsync", "off") {
        let do_what = "set `fsync = on` in postgresql.conf and reload it";
        return Err(unfit(format!("it runs with fsync off, and would lose commits: {do_what}")));
    }
    if settings.get("server_encoding").is_some_and(|encoding| encoding != "UTF8") {
        let do_what = "create it with ENCODING 'UTF8' TEMPLATE template0";
        return Err(unfit(format!("the database's encoding is not UTF8: {do_what}")));
    }
    let is_synced = ["on", "remote_apply"].iter().any(|set| is("synchronous_commit", set));
    if !is_synced && settings.contains_key("synchronous_commit") {
        let do_what = "let the role set synchronous_commit, or set it to on";
        return Err(unfit(format!("it answers commits before they are durable: {do_what}")));
    }
    check_clock(session, options).await?;
    let mut warnings = Vec::new();
    if is("full_page_writes", "off") {
        let text = "full_page_writes is off: a power cut may damage pages; set it to on";
        warnings.push(text.to_owned());
    }
    Ok(Fit { server, warnings })
}

/// Whether this machine's clock agrees with the server's: task ids and what users schedule go by
/// it.
async fn check_clock(session: &Session, options: &PgOptions) -> Result<()> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8";
    let began = Instant::now();
    let answer = session.client().simple_query(sql).await;
    let answer = answer.map_err(|error| not_done(options, &error))?;
    let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let theirs_ms = answer.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i64>().ok(),
        _ => None,
    });
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ours_ms = i64::try_from(ours.as_millis()).unwrap_or(i64::MAX);
    let Some(theirs_ms) = theirs_ms else { return Ok(()) };
    match clock_is_off(ours_ms - theirs_ms, took_ms) {
        None => Ok(()),
        Some(ahead_ms) => Err(Error::DatabaseClock { at: options.at(), ahead_ms }),
    }
}

/// How far ahead a clock is that was read `took_ms` after it was asked for at the latest; `None`
/// while that may be within [`CLOCK_MS_MAX`].
fn clock_is_off(ahead_ms: i64, took_ms: i64) -> Option<i64> {
    (CLOCK_MS_MAX + took_ms < ahead_ms.saturating_abs()).then_some(ahead_ms)
}

/// The version of the tables that are there; `None` where there are none.
async fn version(session: &Session, options: &PgOptions) -> Result<Option<u32>> {
    let sql = "SELECT max(version) FROM refinery_schema_history";
    let answer = match session.client().simple_query(sql).await {
        Ok(answer) => answer,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
        Err(error) => return Err(not_done(options, &error)),
    };
    Ok(answer.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}

/// The version of the tables, which must be this build's.
pub(crate) async fn current(session: &Session, options: &PgOptions) -> Result<u32> {
    let (at, known) = (options.at(), known());
    match version(session, options).await? {
        None => Err(Error::SchemaMissing { at }),
        Some(found) if found < known => Err(Error::SchemaOlder { at, found, known }),
        Some(found) if known < found => Err(Error::SchemaNewer { at, found, known }),
        Some(found) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::clock_is_off;

    #[test]
    fn a_clock_may_be_off_by_seconds_and_by_what_asking_took() {
        assert_eq!(clock_is_off(5_000, 0), None);
        assert_eq!(clock_is_off(-5_000, 0), None);
        assert_eq!(clock_is_off(5_001, 0), Some(5_001));
        assert_eq!(clock_is_off(-7_000, 100), Some(-7_000));
        assert_eq!(clock_is_off(7_000, 3_000), None, "it may be the asking");
    }
}
