//! Reading the shared database for requests: one task, its history, lists, payloads. On a
//! connection of its own; a read is asked again once when that broke.
//!
//! A list looks at a bounded number of rows and then answers with what it has and where to go on,
//! so that a filter that fits nothing costs the same as any other. A history is read with its task
//! in one snapshot: what ended it stands in the task's row.

use crate::error::{Error, Malformed, Result};
use crate::postgres::commit::in_time;
use crate::postgres::fault::{Fault, not_done};
use crate::postgres::options::PgOptions;
use crate::postgres::pipeline::{Broken, pipelined};
use crate::postgres::session::{Purpose, Session};
use crate::postgres::value::{Decoded, Param};
use crate::rows::{self, HISTORY_FIRST, Names, TASK_COLUMNS};
use no_engine::event::Record;
use no_engine::id::TaskId;
use no_engine::limits::{LIST_LEN_MAX, LIST_ROWS_SCANNED_MAX};
use no_engine::payload::Hash;
use no_engine::port::{Filter, Page, Reader};
use no_engine::task::{State, Task};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio_postgres::{Row, Statement};

/// Rows of a history that are fetched at a time; each has up to 64 events.
const PIECE_ROWS: usize = 16;

const SNAPSHOT: &str = "START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What a reader asks, in the order of its statements.
#[derive(Clone, Copy)]
enum Ask {
    Task,
    Events,
    Blob,
    ListAll,
    ListOpen,
    ListFailed,
    EndAll,
    EndOpen,
    EndFailed,
}

/// Reads all partitions. One for each reading thread, whose waiting it does.
pub struct PgReader {
    runtime: Runtime,
    asking: Asking,
}

struct Asking {
    options: PgOptions,
    open: Option<(Session, Vec<Statement>)>,
}

impl PgReader {
    pub(crate) fn new(runtime: Runtime, options: PgOptions) -> PgReader {
        PgReader { runtime, asking: Asking { options, open: None } }
    }

    /// The rows of one question.
    fn ask(&mut self, ask: Ask, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let PgReader { runtime, asking } = self;
        let mut answers = runtime.block_on(asking.twice(&[(ask, params)]))?;
        Ok(answers.remove(0))
    }

    fn damaged(&self, malformed: Malformed) -> Error {
        Error::DatabaseDamaged { at: self.asking.options.at(), why: malformed.to_string() }
    }

    fn read_task(&mut self, id: TaskId) -> Result<Option<Task>> {
        let found = self.ask(Ask::Task, &[Param::id(id.to_bytes())])?;
        let task =
            found.first().map(|row| rows::task_of(&Decoded::new(row), &mut Names::default()));
        task.transpose().map_err(|malformed| self.damaged(malformed))
    }

    fn read_events(&mut self, id: TaskId, after: u32, limit: usize) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut from = i64::from(after) + 1;
        while records.len() < limit {
            let task = [Param::id(id.to_bytes())];
            let events = [
                Param::id(id.to_bytes()),
                Param::int(from.min(i64::from(i32::MAX))),
                Param::count(PIECE_ROWS),
            ];
            let PgReader { runtime, asking } = self;
            let asked = [(Ask::Task, &task[..]), (Ask::Events, &events[..])];
            let answers = runtime.block_on(asking.twice(&asked))?;
            let [found, pieces] = &answers[..] else { break };
            let Some(found) = found.first() else { break };
            let read = pieces_of(found, pieces, &mut records, after);
            let next = read.map_err(|malformed| self.damaged(malformed))?;
            if pieces.len() < PIECE_ROWS {
                break;
            }
            from = next;
        }
        records.truncate(limit);
        Ok(records)
    }

    /// A page, after a look at `scanned_max` rows at most.
    pub(crate) fn page_within(
        &mut self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
        scanned_max: usize,
    ) -> Result<Page> {
        // Open tasks may be few among many, so their own indexes are walked.
        let (list, end) = match filter.state {
            Some(State::Failed) => (Ask::ListFailed, Ask::EndFailed),
            Some(state) if !state.is_ended() => (Ask::ListOpen, Ask::EndOpen),
            _ => (Ask::ListAll, Ask::EndAll),
        };
        let before = before.map_or([0xff; 16], TaskId::to_bytes);
        // As it stands in the array: a quote inside of a text has a backslash before it.
        let tag = filter.tag.as_ref().map(|tag| serde_json::to_string(tag).unwrap_or_default());
        let params = [
            Param::id(before),
            Param::count(scanned_max),
            Param::text(filter.tenant.as_deref()),
            Param::text(filter.agent.as_deref()),
            Param::text(filter.state.map(State::name)),
            Param::text(filter.fairness_key.as_deref()),
            Param::text(tag.as_deref()),
            Param::count(limit),
        ];
        let found = self.ask(list, &params)?;
        let mut names = Names::default();
        let tasks = found.iter().map(|row| rows::task_of(&Decoded::new(row), &mut names));
        let tasks: std::result::Result<Vec<Task>, Malformed> = tasks.collect();
        let tasks = tasks.map_err(|malformed| self.damaged(malformed))?;
        if limit <= tasks.len() {
            let next = tasks.last().map(|task| task.id);
            return Ok(Page { tasks, next });
        }
        let last = self.ask(end, &[Param::id(before), Param::count(scanned_max - 1)])?;
        let next = last.first().map(|row| {
            let bytes = Decoded::new(row).bytes(0)?.try_into().ok();
            let malformed = Malformed { table: "tasks", column: "id" };
            bytes.and_then(TaskId::from_bytes).ok_or(malformed)
        });
        let next = next.transpose().map_err(|malformed| self.damaged(malformed))?;
        Ok(Page { tasks, next })
    }
}

/// Adds the records behind `after` of a task's own row and of rows of its history. Returns where
/// the next row begins, at the earliest.
fn pieces_of(
    found: &Row,
    pieces: &[Row],
    records: &mut Vec<Record>,
    after: u32,
) -> std::result::Result<i64, Malformed> {
    let found = Decoded::new(found);
    let task = rows::task_of(&found, &mut Names::default())?;
    let mut next = i64::from(after) + 1;
    let mut take = |first: u32, text: &str| {
        let read = rows::records_of(text, first, &task)?;
        let last = read.last().map_or(first, |record| record.n);
        let known = records.last().map_or(after, |record| record.n);
        records.extend(read.into_iter().filter(|record| known < record.n));
        next = next.max(i64::from(last) + 1);
        Ok(())
    };
    take(HISTORY_FIRST, found.text(TASK_COLUMNS.len())?)?;
    for piece in pieces {
        let piece = Decoded::new(piece);
        let malformed = Malformed { table: "events", column: "n" };
        let first = u32::try_from(piece.int(0)?).map_err(|_| malformed)?;
        take(first, piece.text(1)?)?;
    }
    Ok(next)
}

impl Asking {
    /// Asks in one snapshot and one round trip; once more when the connection broke.
    async fn twice(&mut self, asked: &[(Ask, &[Param<'_>])]) -> Result<Vec<Vec<Row>>> {
        let had_session = self.open.is_some();
        match self.once(asked).await {
            Err(Error::DatabaseAway { .. }) if had_session => self.once(asked).await,
            done => done,
        }
    }

    async fn once(&mut self, asked: &[(Ask, &[Param<'_>])]) -> Result<Vec<Vec<Row>>> {
        let done = self.asked(asked).await;
        if matches!(done, Err(Error::DatabaseAway { .. })) {
            self.open = None;
        }
        done
    }

    async fn asked(&mut self, asked: &[(Ask, &[Param<'_>])]) -> Result<Vec<Vec<Row>>> {
        let Asking { options, open } = self;
        let options = &*options;
        let late = |fault: Fault| Error::DatabaseAway { at: options.at(), why: fault.why() };
        let broken = |broken: Broken| match broken.fault() {
            Fault::Refused(why) => Error::Database { at: options.at(), why },
            _ => not_done(options, &broken.error),
        };
        if open.as_ref().is_none_or(|(session, _)| session.is_closed()) {
            let session = Session::connect(options, Purpose::Read).await?;
            let prepared = in_time(options, session.prepare(&statements())).await;
            let prepared = prepared.map_err(late)?.map_err(broken)?;
            *open = Some((session, prepared));
        }
        let Some((session, statements)) = open else { return Ok(Vec::new()) };
        let mut requests = Vec::with_capacity(asked.len() + 2);
        let is_snapshot = 1 < asked.len();
        if is_snapshot {
            requests.push(session.plain(SNAPSHOT));
        }
        for (ask, params) in asked {
            requests.push(session.rows(&statements[*ask as usize], params));
        }
        if is_snapshot {
            requests.push(session.plain("COMMIT"));
        }
        let mut answers =
            in_time(options, pipelined(requests)).await.map_err(late)?.map_err(broken)?;
        if is_snapshot {
            answers.remove(0);
            answers.truncate(asked.len());
        }
        Ok(answers)
    }
}

/// The statements, in the order of [`Ask`].
fn statements() -> Vec<String> {
    let columns = TASK_COLUMNS.join(",");
    let (open, failed) = ("open IS NOT NULL", "open = 2");
    let list = |walk: &str| {
        format!(
            "SELECT {columns} FROM (SELECT {columns} FROM tasks WHERE id < $1 AND {walk} \
             ORDER BY id DESC LIMIT $2) AS seen \
             WHERE ($3::text IS NULL OR tenant = $3) AND ($4::text IS NULL OR agent = $4) \
             AND ($5::text IS NULL OR state = $5) AND ($6::text IS NULL OR fairness_key = $6) \
             AND ($7::text IS NULL OR strpos(tags, '[' || $7) = 1 OR 0 < strpos(tags, ',' || $7)) \
             ORDER BY id DESC LIMIT $8"
        )
    };
    let end = |walk: &str| {
        format!("SELECT id FROM tasks WHERE id < $1 AND {walk} ORDER BY id DESC OFFSET $2 LIMIT 1")
    };
    vec![
        format!("SELECT {columns}, history FROM tasks WHERE id = $1"),
        "SELECT n, data FROM events WHERE task = $1 AND coalesce(\
         (SELECT max(n) FROM events WHERE task = $1 AND n <= $2), 0) <= n ORDER BY n LIMIT $3"
            .to_owned(),
        "SELECT bytes FROM blobs WHERE partition = $1 AND hash = $2".to_owned(),
        list("true"),
        list(open),
        list(failed),
        end("true"),
        end(open),
        end(failed),
    ]
}

impl Reader for PgReader {
    fn task(&mut self, id: TaskId) -> std::result::Result<Option<Task>, String> {
        self.read_task(id).map_err(|error| error.to_string())
    }

    fn events(
        &mut self,
        id: TaskId,
        after: u32,
        limit: usize,
    ) -> std::result::Result<Vec<Record>, String> {
        self.read_events(id, after, limit).map_err(|error| error.to_string())
    }

    fn list(
        &mut self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
    ) -> std::result::Result<Page, String> {
        let limit = limit.clamp(1, LIST_LEN_MAX);
        let page = self.page_within(filter, before, limit, LIST_ROWS_SCANNED_MAX);
        page.map_err(|error| error.to_string())
    }

    fn blob(&mut self, id: TaskId, hash: Hash) -> std::result::Result<Option<Arc<[u8]>>, String> {
        let params = [Param::int(i64::from(id.partition().0)), Param::bytes(&hash.0)];
        let found = self.ask(Ask::Blob, &params).map_err(|error| error.to_string())?;
        let Some(row) = found.first() else { return Ok(None) };
        let row = Decoded::new(row);
        let bytes = row.bytes(0).map_err(|malformed| self.damaged(malformed).to_string())?;
        Ok(Some(Arc::from(bytes)))
    }
}
