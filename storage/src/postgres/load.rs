//! Loading from the shared database: the open tasks, keys and agents of some partitions, each
//! handed over as it is read, a bounded piece at a time, all as they were at one moment.

use crate::error::{Error, Malformed, Result};
use crate::postgres::fault::not_done;
use crate::postgres::options::PgOptions;
use crate::postgres::session::{Purpose, Session};
use crate::postgres::value::{Decoded, Param};
use crate::rows::{self, AGENT_COLUMNS, FEEDBACK_COLUMNS, KEY_COLUMNS, Names, TASK_COLUMNS};
use no_engine::event::{AgentRow, FeedbackRow, KeyRow};
use no_engine::id::PartitionId;
use no_engine::port::Load;
use no_engine::task::Task;
use no_engine::time::Millis;
use tokio::runtime::Runtime;

/// Rows that are fetched at a time.
const PIECE_ROWS: i32 = 1_000;

/// Reads what a shard needs to start, or to take partitions over. For one thread, whose waiting it
/// does.
pub struct PgLoad {
    runtime: Runtime,
    options: PgOptions,
    session: Option<Session>,
}

impl PgLoad {
    pub(crate) fn new(runtime: Runtime, options: PgOptions) -> PgLoad {
        PgLoad { runtime, options, session: None }
    }

    /// Hands every row of `sql` to `read`.
    fn each(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        mut read: impl FnMut(&Decoded<'_>) -> std::result::Result<(), Malformed>,
    ) -> Result<()> {
        let PgLoad { runtime, options, session } = self;
        let done = runtime.block_on(async {
            if session.as_ref().is_none_or(Session::is_closed) {
                *session = Some(Session::connect(options, Purpose::Load).await?);
            }
            let Some(open) = session.as_mut() else { return Ok(()) };
            walk(open, options, sql, params, &mut read).await
        });
        if done.is_err() {
            *session = None;
        }
        done
    }
}

/// Fetches the rows piece by piece, from one portal in one transaction.
async fn walk(
    session: &mut Session,
    options: &PgOptions,
    sql: &str,
    params: &[Param<'_>],
    read: &mut impl FnMut(&Decoded<'_>) -> std::result::Result<(), Malformed>,
) -> Result<()> {
    let failed = |error| not_done(options, &error);
    let transaction = session.client_mut().transaction().await.map_err(failed)?;
    let statement = transaction.prepare(sql).await.map_err(failed)?;
    let portal = transaction.bind_raw(&statement, params).await.map_err(failed)?;
    loop {
        let piece = transaction.query_portal(&portal, PIECE_ROWS).await.map_err(failed)?;
        for row in &piece {
            read(&Decoded::new(row)).map_err(|malformed| Error::DatabaseDamaged {
                at: options.at(),
                why: malformed.to_string(),
            })?;
        }
        if piece.len() < PIECE_ROWS as usize {
            break;
        }
    }
    transaction.commit().await.map_err(failed)
}

fn numbers(partitions: &[PartitionId]) -> [Param<'static>; 1] {
    [Param::ints(partitions.iter().map(|partition| i64::from(partition.0)))]
}

fn failed(error: &Error) -> no_engine::Error {
    no_engine::Error::LoadFailed { why: error.to_string() }
}

impl Load for PgLoad {
    fn tasks(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(Task),
    ) -> no_engine::Result<()> {
        let columns = TASK_COLUMNS.join(",");
        let sql = format!(
            "SELECT {columns} FROM tasks WHERE partition = ANY($1::int4[]) AND open IS NOT NULL"
        );
        let mut names = Names::default();
        let read = self.each(&sql, &numbers(partitions), |row| {
            take(rows::task_of(row, &mut names)?);
            Ok(())
        });
        read.map_err(|error| failed(&error))
    }

    fn keys(
        &mut self,
        partitions: &[PartitionId],
        take: &mut dyn FnMut(KeyRow),
    ) -> no_engine::Result<()> {
        let columns = KEY_COLUMNS.join(",");
        let sql = format!("SELECT {columns} FROM keys WHERE partition = ANY($1::int4[])");
        let read = self.each(&sql, &numbers(partitions), |row| {
            take(rows::key_of(row)?);
            Ok(())
        });
        read.map_err(|error| failed(&error))
    }

    fn feedback(
        &mut self,
        partitions: &[PartitionId],
        since: Millis,
        take: &mut dyn FnMut(FeedbackRow),
    ) -> no_engine::Result<()> {
        let columns = FEEDBACK_COLUMNS.join(",");
        let sql = format!(
            "SELECT {columns} FROM feedback WHERE $2::int8 <= at AND partition = ANY($1::int4[])"
        );
        let [partitions] = numbers(partitions);
        let mut names = Names::default();
        let read = self.each(&sql, &[partitions, Param::bits(since.0)], |row| {
            take(rows::feedback_of(row, &mut names)?);
            Ok(())
        });
        read.map_err(|error| failed(&error))
    }

    fn agents(&mut self) -> no_engine::Result<Vec<AgentRow>> {
        let sql = format!("SELECT {} FROM agents ORDER BY name", AGENT_COLUMNS.join(","));
        let (mut names, mut agents) = (Names::default(), Vec::new());
        let read = self.each(&sql, &[], |row| {
            agents.push(rows::agent_of(row, &mut names)?);
            Ok(())
        });
        read.map_err(|error| failed(&error))?;
        Ok(agents)
    }
}
