//! One transaction of a journal, through whatever comes between.
//!
//! A commit is one round trip: the beginning, the journal's number, the fences, the rows and the
//! end are sent together. When the connection breaks before all is answered, nobody knows whether
//! it is in. So each one counts the journal's number up, in the same transaction, and whoever
//! connects again reads it:
//!
//! ```text
//! number in the database      the commit       then
//! as before                   is not in        it is sent again
//! the commit's own            is in            it is done
//! any other, or a new fence   cannot be told   the journal fails
//! ```
//!
//! The old server process may still be at it when the number is read. That does no harm: the number
//! moves from the one before only, under a lock on its row, so that of two tries one finds it moved
//! and aborts; the number is then read once more.

use crate::error::Error;
use crate::postgres::fault::Fault;
use crate::postgres::options::PgOptions;
use crate::postgres::owned::{Held, Owned};
use crate::postgres::pipeline::{Broken, pipelined};
use crate::postgres::session::{Purpose, Session};
use crate::postgres::sql::{self, BEGIN, COMMIT, Op, Step};
use crate::postgres::value::{Decoded, Param};
use crate::postgres::write::Writing;
use no_engine::id::ShardId;
use no_engine::port::CommitError;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Row, Statement};

/// The first and the longest pause before a database that is away is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What an answer may take beyond the time that the server takes for one statement.
const ANSWER_SLACK: Duration = Duration::from_secs(2);

/// Where the number of a journal stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reached {
    /// Of the journal's opening.
    pub(crate) fence: i64,
    /// The last commit's number.
    pub(crate) seq: i64,
}

/// A connection with the statements of a commit.
struct Ready {
    session: Session,
    statements: Vec<Statement>,
}

/// Commits for one journal.
pub(crate) struct Committer {
    options: PgOptions,
    owner: String,
    shard: ShardId,
    owned: Owned,
    sqls: Vec<String>,
    ready: Option<Ready>,
    reached: Reached,
}

impl Committer {
    pub(crate) fn new(
        options: PgOptions,
        owner: &str,
        shard: ShardId,
        owned: Owned,
        reached: Reached,
    ) -> Committer {
        let (owner, sqls) = (owner.to_owned(), sql::statements());
        Committer { options, owner, shard, owned, sqls, ready: None, reached }
    }

    /// How the database is reached.
    pub(crate) fn options(&self) -> &PgOptions {
        &self.options
    }

    /// The partitions that are ours.
    pub(crate) fn owned(&self) -> &Owned {
        &self.owned
    }

    /// The number of the last commit.
    pub(crate) fn seq(&self) -> i64 {
        self.reached.seq
    }

    /// A connection for reading what upkeep needs.
    ///
    /// # Errors
    /// Those of connecting.
    pub(crate) async fn session(&mut self) -> Result<&Session, Fault> {
        self.connect().await?;
        match &self.ready {
            Some(ready) => Ok(&ready.session),
            None => Err(Fault::Lost("not connected".into())),
        }
    }

    /// Forgets the connection.
    pub(crate) fn disconnect(&mut self) {
        self.ready = None;
    }

    /// Commits `writing`, whose partitions are all ours, and notes whether the stop is clean after
    /// it. Tries again while the database is away, for as long as the options say.
    ///
    /// # Errors
    /// [`CommitError::Full`]: nothing is in. [`CommitError::Failed`]: it may be.
    pub(crate) async fn commit(
        &mut self,
        writing: &Writing<'_>,
        is_clean: bool,
    ) -> Result<(), CommitError> {
        let asked_at = Instant::now();
        let mut pause = PAUSES.0;
        let mut in_doubt = false;
        loop {
            let why = match self.attempt(writing, is_clean, &mut in_doubt).await {
                Ok(()) => {
                    self.reached.seq += 1;
                    return Ok(());
                }
                // An earlier try may still come in, and then there is something of it.
                Err(Fault::Full) if !in_doubt => return Err(CommitError::Full),
                Err(Fault::Refused(why)) => return Err(self.failed(&why)),
                Err(fault) => fault.why(),
            };
            if self.options.retry <= asked_at.elapsed() {
                let seconds = asked_at.elapsed().as_secs();
                return Err(self.failed(&format!("no commit for {seconds} s: {why}")));
            }
            tracing::warn!(target: "journal", shard = self.shard.0, why, "trying a commit again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn failed(&self, why: &str) -> CommitError {
        CommitError::Failed(format!("{}: {why}", self.options.at()))
    }

    /// One try.
    #[expect(clippy::await_holding_lock, reason = "the thread runs nothing else while it waits")]
    async fn attempt(
        &mut self,
        writing: &Writing<'_>,
        is_clean: bool,
        in_doubt: &mut bool,
    ) -> Result<(), Fault> {
        self.connect().await?;
        if *in_doubt && self.is_in().await? {
            return Ok(());
        }
        let Some(ready) = &self.ready else { return Err(Fault::Lost("not connected".into())) };
        // None goes to another owner while it is under way.
        let owned = self.owned.hold();
        let steps = self.envelope(writing, is_clean, &owned);
        let sent = in_time(&self.options, ready.send(&steps, writing)).await;
        drop(owned);
        let broken = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(broken)) => broken,
            Err(late) => {
                self.disconnect();
                *in_doubt = true;
                return Err(late);
            }
        };
        let op = steps.iter().chain(&writing.steps).nth(broken.index.wrapping_sub(1));
        let op = op.map(|step| step.op);
        let fault = match (broken.fault(), op) {
            (Fault::Unmet, Some(Op::Advance)) => return self.moved(*in_doubt).await,
            (Fault::Unmet, op) => Fault::Refused(unmet(op).to_owned()),
            // The end itself was refused: some servers then do not know either.
            (Fault::Again(why), None) if 0 < broken.index => Fault::Lost(why),
            (fault, _) => fault,
        };
        if matches!(fault, Fault::Lost(_)) {
            *in_doubt = true;
        }
        if matches!(fault, Fault::Lost(_)) || !broken.all_sent {
            self.disconnect();
        }
        Err(fault)
    }

    /// The number was not the one before: what an earlier try did, or somebody else.
    async fn moved(&mut self, in_doubt: bool) -> Result<(), Fault> {
        if self.is_in().await? && in_doubt {
            return Ok(());
        }
        Err(Fault::Refused("another nO writes this journal: stop one of the two".into()))
    }

    /// Whether the commit that is being made is in.
    async fn is_in(&mut self) -> Result<bool, Fault> {
        let Some(ready) = &self.ready else { return Err(Fault::Lost("not connected".into())) };
        let read = read_reached(&ready.session, &self.owner, self.shard);
        let found = match in_time(&self.options, read).await {
            Ok(Ok(found)) => found,
            Ok(Err(broken)) => {
                self.disconnect();
                return Err(Fault::Again(broken.fault().why()));
            }
            Err(late) => {
                self.disconnect();
                return Err(late);
            }
        };
        match found {
            Some(found) if found == self.reached => Ok(false),
            Some(Reached { fence, .. }) if fence != self.reached.fence => {
                let fences = format!("fence {fence}, ours is {}", self.reached.fence);
                Err(Fault::Refused(format!("another nO opened this journal: {fences}")))
            }
            Some(found) if found.seq == self.reached.seq + 1 => Ok(true),
            found => {
                let (seq, ours) = (found.map_or(0, |found| found.seq), self.reached.seq);
                let lost = format!("it has commit {seq} as the last, and had acknowledged {ours}");
                Err(Fault::Refused(format!("the database has lost commits: {lost}")))
            }
        }
    }

    /// What stands in front of the rows: the journal's number and the fences.
    fn envelope(&self, writing: &Writing<'_>, is_clean: bool, owned: &Held<'_>) -> [Step<'_>; 2] {
        let advance = vec![
            Param::text(Some(&self.owner)),
            Param::int(i64::from(self.shard.0)),
            Param::int(self.reached.fence),
            Param::int(self.reached.seq + 1),
            Param::int(i64::from(is_clean)),
        ];
        // What is of no partition is written by an owner of all that are its own.
        let is_held = |id: &u16| writing.has_agents || is_clean || writing.touched.contains(id);
        let held = || owned.iter().filter(|(id, _)| is_held(id));
        let hold = vec![
            Param::ints(held().map(|(id, _)| i64::from(*id))),
            Param::ints(held().map(|(_, fence)| fence.0.cast_signed())),
            Param::count(held().count()),
        ];
        [Step { op: Op::Advance, params: advance }, Step { op: Op::Hold, params: hold }]
    }

    async fn connect(&mut self) -> Result<(), Fault> {
        if self.ready.as_ref().is_some_and(|ready| !ready.session.is_closed()) {
            return Ok(());
        }
        self.ready = None;
        let session = match Session::connect(&self.options, Purpose::Commit).await {
            Ok(session) => session,
            Err(error @ (Error::DatabaseAway { .. } | Error::DatabaseFull { .. })) => {
                return Err(Fault::Again(error.to_string()));
            }
            Err(error) => return Err(Fault::Refused(error.to_string())),
        };
        match in_time(&self.options, session.prepare(&self.sqls)).await? {
            Ok(statements) => self.ready = Some(Ready { session, statements }),
            Err(broken) => return Err(before_sending(broken.fault())),
        }
        Ok(())
    }
}

/// What comes of asking, within the time that the options give the server and some more.
pub(crate) async fn in_time<T>(
    options: &PgOptions,
    asking: impl Future<Output = T>,
) -> Result<T, Fault> {
    let patience = options.statement_timeout + ANSWER_SLACK;
    let late = |_| Fault::Lost(format!("no answer within {} ms", patience.as_millis()));
    tokio::time::timeout(patience, asking).await.map_err(late)
}

/// Nothing was sent yet, so nothing is in doubt.
fn before_sending(fault: Fault) -> Fault {
    match fault {
        Fault::Lost(why) => Fault::Again(why),
        fault => fault,
    }
}

impl Ready {
    /// Sends it all in one go, and waits for all answers.
    async fn send(&self, envelope: &[Step<'_>; 2], writing: &Writing<'_>) -> Result<(), Broken> {
        let mut requests = vec![self.session.plain(BEGIN)];
        for step in envelope.iter().chain(&writing.steps) {
            let statement = &self.statements[step.op as usize];
            requests.push(self.session.rows(statement, &step.params));
        }
        requests.push(self.session.plain(COMMIT));
        pipelined(requests).await.map(|_: Vec<Vec<Row>>| ())
    }
}

/// What a check that did not hold means.
fn unmet(op: Option<Op>) -> &'static str {
    match op {
        Some(Op::Hold) => {
            "another node has taken partitions of this journal over (its fence is stale); \
             nothing was committed"
        }
        Some(Op::UpdateTasks) => "a task changed but has no row",
        Some(Op::NameBlobs) => "a large payload has no bytes",
        _ => "a check inside the transaction did not hold",
    }
}

/// Where a journal stands; `None` when it was never opened.
pub(crate) async fn read_reached(
    session: &Session,
    owner: &str,
    shard: ShardId,
) -> Result<Option<Reached>, Broken> {
    let sql = "SELECT fence, seq FROM journals WHERE owner = $1 AND shard = $2".to_owned();
    let statement = session.prepare(&[sql]).await?;
    let params = [Param::text(Some(owner)), Param::int(i64::from(shard.0))];
    let rows = pipelined(vec![session.rows(&statement[0], &params)]).await?;
    Ok(rows[0].first().and_then(|row| {
        let row = Decoded::new(row);
        Some(Reached { fence: row.int(0).ok()?, seq: row.int(1).ok()? })
    }))
}
