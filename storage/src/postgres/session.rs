//! A connection and its settings.
//!
//! It lives on the runtime of the one thread that uses it, and moves only while that thread waits
//! for an answer. What is left of it goes when it is dropped.

use crate::error::Error;
use crate::postgres::fault::{not_connected, not_done, said};
use crate::postgres::options::PgOptions;
use crate::postgres::pipeline::{Broken, Request, pipelined};
use crate::postgres::value::Param;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Connection, NoTls, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long the server keeps a transaction whose session says nothing: its locks hold up whoever
/// takes its partitions over.
const TRANSACTION_IDLE: Duration = Duration::from_secs(2);

/// The runtime of a thread that waits for a database.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    let built = Builder::new_current_thread().enable_io().enable_time().build();
    built.map_err(|error| Error::of_io(std::path::Path::new("the runtime of a thread"), error))
}

/// What a session is for, which decides its settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Commits.
    Commit,
    /// Reads for requests.
    Read,
    /// Reads all there is, which takes as long as it takes.
    Load,
    /// Changes tables, which takes as long as it takes.
    Migrate,
}

/// One connection. Aborted when dropped: nothing that waits on it holds anybody up.
pub(crate) struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Connects, and sets what the purpose needs. In the runtime of the thread.
    ///
    /// # Errors
    /// Those of connecting, which say what to do.
    pub(crate) async fn connect(options: &PgOptions, purpose: Purpose) -> Result<Session, Error> {
        let timeout = options.connect_timeout;
        let away = |why| Error::DatabaseAway { at: options.at(), why };
        match tokio::time::timeout(timeout, Session::open(options, purpose)).await {
            Ok(done) => done,
            Err(_) => Err(away(format!("no answer within {} ms", timeout.as_millis()))),
        }
    }

    async fn open(options: &PgOptions, purpose: Purpose) -> Result<Session, Error> {
        let config = options.config(match purpose {
            Purpose::Commit => "no journal",
            Purpose::Read => "no reader",
            Purpose::Load => "no loader",
            Purpose::Migrate => "no migration",
        });
        let of_connect = |error| not_connected(options, &error);
        let session = match &options.tls {
            Some(tls) if !options.is_local() => {
                let tls = MakeRustlsConnect::new((**tls).clone());
                let (client, connection) = config.connect(tls).await.map_err(of_connect)?;
                Session { client, connection: drive(connection) }
            }
            _ => {
                let (client, connection) = config.connect(NoTls).await.map_err(of_connect)?;
                Session { client, connection: drive(connection) }
            }
        };
        session.set(options, purpose).await?;
        Ok(session)
    }

    /// Makes the session's settings. Those that only some servers know may be refused.
    async fn set(&self, options: &PgOptions, purpose: Purpose) -> Result<(), Error> {
        let of_set = |error| not_done(options, &error);
        let statement_ms = match purpose {
            Purpose::Commit | Purpose::Read => options.statement_timeout.as_millis(),
            Purpose::Load | Purpose::Migrate => 0,
        };
        self.client
            .batch_execute(&format!("SET statement_timeout = {statement_ms}"))
            .await
            .map_err(of_set)?;
        let mut wanted = vec!["SET client_min_messages = warning".to_owned()];
        match purpose {
            Purpose::Commit => {
                let idle_ms = TRANSACTION_IDLE.as_millis();
                // A plan is made once, for few rows by their keys, however many there are and
                // whatever is known of the table: one that reads a whole table holds up a commit.
                wanted.extend([
                    format!("SET idle_in_transaction_session_timeout = {idle_ms}"),
                    "SET plan_cache_mode = force_generic_plan".to_owned(),
                    "SET enable_seqscan = off".to_owned(),
                    "SET enable_hashjoin = off".to_owned(),
                    "SET enable_mergejoin = off".to_owned(),
                ]);
            }
            Purpose::Read | Purpose::Load => {
                wanted.push("SET default_transaction_read_only = on".to_owned());
            }
            Purpose::Migrate => {}
        }
        for setting in wanted {
            if let Err(error) = self.client.batch_execute(&setting).await {
                if error.as_db_error().is_none() {
                    return Err(of_set(error));
                }
                tracing::debug!(target: "journal", setting, why = said(&error), "not set");
            }
        }
        match purpose {
            Purpose::Commit | Purpose::Migrate => self.sync_commits(options).await,
            Purpose::Read | Purpose::Load => Ok(()),
        }
    }

    /// Has a commit be answered when it is durable, and not before. A server that waits for more
    /// than its own disk is left to it.
    async fn sync_commits(&self, options: &PgOptions) -> Result<(), Error> {
        let sql = "SELECT set_config('synchronous_commit', 'on', false) WHERE \
                   current_setting('synchronous_commit', true) NOT IN ('on', 'remote_apply')";
        self.client.batch_execute(sql).await.map_err(|error| not_done(options, &error))
    }

    /// The library's end of it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The library's end of it, for transactions.
    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Prepares statements, in one round trip.
    pub(crate) async fn prepare(&self, sqls: &[String]) -> Result<Vec<Statement>, Broken> {
        let client = &self.client;
        let requests = sqls.iter().map(|sql| -> Request<'_, Statement> {
            Box::pin(async move { client.prepare(sql).await })
        });
        pipelined(requests.collect()).await
    }

    /// A request for rows.
    pub(crate) fn rows<'c>(
        &'c self,
        statement: &'c Statement,
        params: &'c [Param<'c>],
    ) -> Request<'c, Vec<Row>> {
        Box::pin(async move {
            let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                params.iter().map(|param| param as _).collect();
            self.client.query(statement, &params).await
        })
    }

    /// A request that gives none.
    pub(crate) fn plain<'c>(&'c self, sql: &'c str) -> Request<'c, Vec<Row>> {
        Box::pin(async move { self.client.batch_execute(sql).await.map(|()| Vec::new()) })
    }
}

/// Has a connection move, on this thread's runtime, whenever the thread waits.
fn drive<T>(connection: Connection<Socket, T>) -> JoinHandle<()>
where
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(target: "journal", why = said(&error), "a connection ended");
        }
    })
}
