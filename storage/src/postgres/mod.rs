//! The store that nodes share: a PostgreSQL database, or one that speaks its protocol.
//!
//! [`migrate`] makes its tables, [`PgStore::open`] looks whether they and the server are fit, and
//! gives out the parts that threads own: a journal for each shard, loaders, readers. Each part has
//! a connection of its own, on a runtime that moves only while its thread waits: the threads are
//! those of the embedded store.
//!
//! `options` says where the database is, `session` is one connection, `pipeline` sends several
//! requests in one round trip, `value` maps cells, `fault` sorts what goes wrong. `sql` and `write`
//! are the statements of a commit, `commit` makes one, `journal` and `tidy` are what the engine
//! knows of it.
//!
//! Which node owns a partition is a row with a fence that grows with each owner, and each commit
//! holds the rows of its partitions and compares their fences: whoever takes one over waits for the
//! commit under way, and after that the old owner commits nothing more.

mod commit;
mod fault;
mod journal;
mod load;
mod nodes;
mod options;
mod owned;
mod pipeline;
mod read;
mod schema;
mod session;
mod sql;
mod tidy;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use journal::{JournalOptions, PgJournal};
pub use load::PgLoad;
pub use nodes::{PgNode, Shared};
pub use options::PgOptions;
pub use owned::Owned;
pub use read::PgReader;
pub use schema::{Checked, Migrated, check, known, migrate};

use crate::error::{Error, Result};
use commit::Reached;
use fault::not_done;
use no_engine::id::{Fence, PartitionId};
use no_engine::limits::PARTITIONS_MAX;
use pipeline::pipelined;
use session::{Purpose, Session, runtime};
use tokio_postgres::Row;
use value::{Decoded, Param};

/// A database that was looked at. Cheap; holds no connection.
#[derive(Clone, Debug)]
pub struct PgStore {
    options: PgOptions,
    partitions: u16,
}

impl PgStore {
    /// Looks at the database, and makes the rows of its partitions when it is new. Blocks, as all
    /// calls do; not for a thread that runs an async runtime.
    ///
    /// Panics when `partitions` is none or more than there may be.
    ///
    /// # Errors
    /// Each variant of [`Error`] that says what to do about a database.
    pub fn open(options: &PgOptions, partitions: u16) -> Result<PgStore> {
        assert!((1..=PARTITIONS_MAX).contains(&partitions), "the configuration was checked");
        let store = PgStore { options: options.clone(), partitions };
        runtime()?.block_on(async {
            let session = Session::connect(options, Purpose::Commit).await?;
            schema::fit(&session, options).await?;
            schema::current(&session, options).await?;
            store.settle(&session).await?;
            match store.meta(&session, "import").await? {
                Some(from) => Err(Error::ImportUnfinished { at: options.at(), from }),
                None => Ok(()),
            }
        })?;
        Ok(store)
    }

    /// The same for moving another store into it, which may have been begun: an empty database, or
    /// one with a move from the same `source` that was broken off. Nothing serves it before
    /// [`PgStore::end_import`].
    ///
    /// # Errors
    /// As [`PgStore::open`]; [`Error::NotEmpty`].
    pub fn begin_import(options: &PgOptions, partitions: u16, source: &str) -> Result<PgStore> {
        let store = PgStore { options: options.clone(), partitions };
        runtime()?.block_on(async {
            let session = Session::connect(options, Purpose::Commit).await?;
            schema::fit(&session, options).await?;
            schema::current(&session, options).await?;
            store.settle(&session).await?;
            let begun = store.meta(&session, "import").await?;
            if begun.as_deref() == Some(source) {
                return Ok(());
            }
            let any = "SELECT EXISTS (SELECT 1 FROM tasks) OR EXISTS (SELECT 1 FROM keys) \
                       OR EXISTS (SELECT 1 FROM agents)";
            let rows = store.ask(&session, any, &[]).await?;
            let is_empty = rows.first().is_some_and(|row| Decoded::new(row).int(0) == Ok(0));
            if begun.is_some() || !is_empty {
                return Err(Error::NotEmpty { at: options.at(), begun });
            }
            store.settled(&session, "import", source).await.map(drop)
        })?;
        Ok(store)
    }

    /// Notes how far a move into it is: a task's id, or nothing.
    ///
    /// # Errors
    /// Those of a database.
    pub fn note_import(&self, down_to: &str) -> Result<()> {
        let sql = "INSERT INTO meta (name, value) VALUES ('import_down_to', $1) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.alone(sql, &[Param::text(Some(down_to))]).map(drop)
    }

    /// How far a move into it was noted to be.
    ///
    /// # Errors
    /// Those of a database.
    pub fn import_down_to(&self) -> Result<Option<String>> {
        let rows = self.alone("SELECT value FROM meta WHERE name = 'import_down_to'", &[])?;
        Ok(rows.first().and_then(|row| Decoded::new(row).text(0).ok().map(str::to_owned)))
    }

    /// The move is whole, and what gave fences before gives them from `fences_from` on: from here
    /// on it is served. Its partitions are nobody's.
    ///
    /// # Errors
    /// Those of a database.
    pub fn end_import(&self, fences_from: u64) -> Result<()> {
        let fences = "INSERT INTO meta (name, value) VALUES ('fences_from', $1) \
                      ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.alone(fences, &[Param::text(Some(&fences_from.to_string()))])?;
        self.release("import")?;
        self.alone("DELETE FROM meta WHERE name IN ('import', 'import_down_to')", &[]).map(drop)
    }

    /// Leaves all partitions of `owner` to nobody.
    ///
    /// # Errors
    /// Those of a database.
    pub fn release(&self, owner: &str) -> Result<()> {
        let sql = "UPDATE partitions SET owner = NULL, fence = fence + 1, given = false \
                   WHERE owner = $1";
        self.alone(sql, &[Param::text(Some(owner))]).map(drop)
    }

    /// The lowest fence that a task may be given.
    ///
    /// # Errors
    /// Those of a database.
    pub fn fences_from(&self) -> Result<u64> {
        let rows = self.alone("SELECT value FROM meta WHERE name = 'fences_from'", &[])?;
        let text = rows.first().and_then(|row| Decoded::new(row).text(0).ok().map(str::to_owned));
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Its tasks, counted.
    ///
    /// # Errors
    /// Those of a database.
    pub fn tasks(&self) -> Result<u64> {
        let rows = self.alone("SELECT count(*) FROM tasks", &[])?;
        let count = rows.first().and_then(|row| Decoded::new(row).int(0).ok());
        Ok(count.unwrap_or(0).cast_unsigned())
    }

    /// Partitions, fixed when the store was created.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The name of the cluster and the number of partitions are the first node's to say; the
    /// others must say the same.
    async fn settle(&self, session: &Session) -> Result<()> {
        let (asked, cluster) = (self.partitions, &self.options.cluster);
        let found = self.settled(session, "cluster", cluster).await?;
        if found != *cluster {
            let (at, asked) = (self.options.at(), cluster.clone());
            return Err(Error::DatabaseOfOthers { at, found, asked });
        }
        let found = self.settled(session, "partitions", &asked.to_string()).await?;
        if found.parse() != Ok(asked) {
            let (at, found) = (self.options.at(), found.parse().unwrap_or_default());
            return Err(Error::DatabasePartitionsDiffer { at, found, asked });
        }
        self.settled(session, "agents_version", "0").await?;
        let key = "INSERT INTO meta (name, value) SELECT 'node_key', \
                   replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '') \
                   ON CONFLICT (name) DO NOTHING";
        self.ask(session, key, &[]).await?;
        let rows = "INSERT INTO partitions (id, fence) \
                    SELECT id, 0 FROM generate_series(0, $1::int4 - 1) AS id \
                    ON CONFLICT (id) DO NOTHING";
        self.ask(session, rows, &[Param::int(i64::from(asked))]).await.map(drop)
    }

    /// What `meta` has by that name.
    async fn meta(&self, session: &Session, name: &str) -> Result<Option<String>> {
        let known = "SELECT value FROM meta WHERE name = $1";
        let rows = self.ask(session, known, &[Param::text(Some(name))]).await?;
        Ok(rows.first().and_then(|row| Decoded::new(row).text(0).ok().map(str::to_owned)))
    }

    /// What `meta` has by that name; `new` from now on where it has nothing.
    async fn settled(&self, session: &Session, name: &str, new: &str) -> Result<String> {
        let known = "SELECT value FROM meta WHERE name = $1";
        let insert = "INSERT INTO meta (name, value) VALUES ($1, $2) \
                      ON CONFLICT (name) DO NOTHING";
        let name = || Param::text(Some(name));
        let mut rows = self.ask(session, known, &[name()]).await?;
        if rows.is_empty() {
            self.ask(session, insert, &[name(), Param::text(Some(new))]).await?;
            rows = self.ask(session, known, &[name()]).await?;
        }
        let found = rows.first().and_then(|row| Decoded::new(row).text(0).ok().map(str::to_owned));
        Ok(found.unwrap_or_default())
    }

    /// Makes `owner` the owner of these partitions, from whomever they were, and gives the fences
    /// that it writes with. It is for the caller to know that it may: a commit of the last owner
    /// that is under way is waited for, and after it there is none.
    ///
    /// # Errors
    /// Those of a database. What it did is then unknown; it may be called again.
    pub fn take(
        &self,
        owner: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Fence)>> {
        journal::check_owner(&self.options, owner)?;
        let taken = self.alone(
            "UPDATE partitions SET owner = $1, fence = fence + 1 WHERE id = ANY($2::int4[]) \
             RETURNING id, fence",
            &[
                Param::text(Some(owner)),
                Param::ints(partitions.iter().map(|partition| i64::from(partition.0))),
            ],
        )?;
        let taken = taken.iter().map(|row| {
            let row = Decoded::new(row);
            let id = u16::try_from(row.int(0)?).ok().map(PartitionId);
            let malformed = crate::error::Malformed { table: "partitions", column: "id" };
            Ok((id.ok_or(malformed)?, Fence(row.int(1)?.cast_unsigned())))
        });
        let mut taken = taken.collect::<std::result::Result<Vec<_>, _>>().map_err(
            |malformed: crate::error::Malformed| Error::DatabaseDamaged {
                at: self.options.at(),
                why: malformed.to_string(),
            },
        )?;
        taken.sort_unstable();
        if let Some(other) = partitions.iter().find(|id| taken.iter().all(|(own, _)| own != *id)) {
            let why = format!("the store has no partition {}", other.0);
            return Err(Error::Database { at: self.options.at(), why });
        }
        Ok(taken)
    }

    /// Opens the journal of one shard of one node. One that was open before commits nothing more.
    ///
    /// # Errors
    /// Those of a database.
    pub fn journal(&self, journal: &JournalOptions) -> Result<PgJournal> {
        journal::check_owner(&self.options, &journal.owner)?;
        let names = [Param::text(Some(&journal.owner)), Param::int(i64::from(journal.shard.0))];
        let clean = "SELECT clean FROM journals WHERE owner = $1 AND shard = $2";
        let clean = self.alone(clean, &names)?;
        let was_clean = clean.first().is_none_or(|row| Decoded::new(row).int(0) != Ok(0));
        let opened = self.alone(
            "INSERT INTO journals (owner, shard, fence, seq, clean) \
             VALUES ($1, $2, 1, 0, false) ON CONFLICT (owner, shard) DO UPDATE \
             SET fence = journals.fence + 1, seq = 0, clean = false RETURNING fence",
            &names,
        )?;
        let fence = opened.first().and_then(|row| Decoded::new(row).int(0).ok());
        let reached = Reached { fence: fence.unwrap_or_default(), seq: 0 };
        let options = self.options.clone();
        Ok(PgJournal::new(runtime()?, options, journal, reached, was_clean))
    }

    /// A loader of any partitions. It sees what is committed when it is asked: to be used after the
    /// partitions were taken, and before their first commit.
    ///
    /// # Errors
    /// Those of making a runtime.
    pub fn loader(&self) -> Result<PgLoad> {
        Ok(PgLoad::new(runtime()?, self.options.clone()))
    }

    /// A reader of all partitions, for one thread.
    ///
    /// # Errors
    /// Those of making a runtime.
    pub fn reader(&self) -> Result<PgReader> {
        Ok(PgReader::new(runtime()?, self.options.clone()))
    }

    /// One statement on a connection of its own.
    fn alone(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        runtime()?.block_on(async {
            let session = Session::connect(&self.options, Purpose::Commit).await?;
            self.ask(&session, sql, params).await
        })
    }

    async fn ask(&self, session: &Session, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let not_done = |broken: pipeline::Broken| not_done(&self.options, &broken.error);
        let statement = session.prepare(&[sql.to_owned()]).await.map_err(not_done)?;
        let asked = pipelined(vec![session.rows(&statement[0], params)]).await;
        Ok(asked.map_err(not_done)?.remove(0))
    }
}
