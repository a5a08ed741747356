//! The nodes that share a database: who they are, that they live, and which partitions they pass
//! between them.
//!
//! A partition changes hands by its fence alone: whoever takes or gives one names the fence that it
//! saw, counts it up, and of two that do so at once one finds nothing to change. The row is locked
//! by commits of its owner, so a change waits for the one that is under way.

use crate::error::{Error, Malformed, Result};
use crate::postgres::fault::not_done;
use crate::postgres::options::PgOptions;
use crate::postgres::pipeline::{Broken, pipelined};
use crate::postgres::session::{Purpose, Session, runtime};
use crate::postgres::value::{Decoded, Param};
use crate::postgres::{PgStore, journal};
use no_engine::control::nodes::{NodeName, NodeRow, PartitionRow};
use no_engine::id::{Fence, PartitionId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::Row;

/// All that the nodes have in common, as it was at one moment.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// The nodes.
    pub nodes: Vec<NodeRow>,
    /// Where each is reached by the others.
    pub addresses: BTreeMap<NodeName, String>,
    /// The partitions, in order.
    pub partitions: Vec<PartitionRow>,
    /// Those that were given in good order to an owner who has yet to take them.
    pub given: Vec<PartitionId>,
    /// Counts the changes of agents.
    pub agents_version: i64,
}

/// One node's place among those that share a database. For one thread, whose waiting it does.
pub struct PgNode {
    runtime: Runtime,
    options: PgOptions,
    session: Option<Session>,
    name: NodeName,
    incarnation: i64,
}

impl PgStore {
    /// Enters a node that starts, which others reach at `address`, a URL. Whoever ran under its
    /// name before is replaced.
    ///
    /// # Errors
    /// Those of a database.
    pub fn join(&self, name: &str, address: &str) -> Result<PgNode> {
        journal::check_owner(&self.options, name)?;
        let sql = "INSERT INTO nodes (name, incarnation, beat, address, draining) \
                   VALUES ($1, 1, 0, $2, false) ON CONFLICT (name) DO UPDATE \
                   SET incarnation = nodes.incarnation + 1, beat = 0, \
                   address = excluded.address, draining = false RETURNING incarnation";
        let options = self.options.clone();
        let mut node = PgNode {
            runtime: runtime()?,
            options,
            session: None,
            name: name.into(),
            incarnation: 0,
        };
        let rows = node.ask(sql, &[Param::text(Some(name)), Param::text(Some(address))])?;
        node.incarnation = node.one(&rows, |row| row.int(0))?;
        Ok(node)
    }

    /// All nodes by name, each with the address that it gives to the others.
    ///
    /// # Errors
    /// Those of a database.
    pub fn addresses(&self) -> Result<Vec<(String, String)>> {
        let rows = self.alone("SELECT name, address FROM nodes ORDER BY name", &[])?;
        let text = |row: &Decoded<'_>, at| row.text(at).map(str::to_owned).unwrap_or_default();
        let rows = rows.iter().map(Decoded::new);
        Ok(rows.map(|row| (text(&row, 0), text(&row, 1))).collect())
    }

    /// Nodes that count within `wait`, by name.
    ///
    /// # Errors
    /// Those of a database.
    pub fn running(&self, wait: Duration) -> Result<Vec<String>> {
        let sql = "SELECT name || '/' || incarnation || '/' || beat, name FROM nodes ORDER BY name";
        let read = || -> Result<Vec<(String, String)>> {
            let rows = self.alone(sql, &[])?;
            let text = |row: &Decoded<'_>, at| row.text(at).map(str::to_owned).unwrap_or_default();
            let rows = rows.iter().map(Decoded::new);
            Ok(rows.map(|row| (text(&row, 0), text(&row, 1))).collect())
        };
        let before = read()?;
        if before.is_empty() {
            return Ok(Vec::new());
        }
        std::thread::sleep(wait);
        let after = read()?;
        let counts = |(beat, _): &(String, String)| before.iter().all(|(old, _)| old != beat);
        Ok(after.into_iter().filter(counts).map(|(_, name)| name).collect())
    }

    /// The key that only nodes of this cluster know: 32 bytes in hex.
    ///
    /// # Errors
    /// Those of a database.
    pub fn node_key(&self) -> Result<String> {
        let rows = self.alone("SELECT value FROM meta WHERE name = 'node_key'", &[])?;
        let key = rows.first().map(|row| Decoded::new(row).text(0).map(str::to_owned));
        let damaged = |why: &str| Error::DatabaseDamaged { at: self.options.at(), why: why.into() };
        key.ok_or_else(|| damaged("meta has no node_key"))?
            .map_err(|malformed| damaged(&malformed.to_string()))
    }
}

impl PgNode {
    /// The same node for another thread.
    ///
    /// # Errors
    /// Those of making a runtime.
    pub fn another(&self) -> Result<PgNode> {
        let (options, name) = (self.options.clone(), self.name.clone());
        let incarnation = self.incarnation;
        Ok(PgNode { runtime: runtime()?, options, session: None, name, incarnation })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Counts up. `false` when another start has taken the name: this one is no node any more.
    ///
    /// # Errors
    /// Those of a database; whether it counted is then unknown.
    pub fn beat(&mut self) -> Result<bool> {
        self.own(
            "UPDATE nodes SET beat = beat + 1 WHERE name = $1 AND incarnation = $2 RETURNING 1",
        )
    }

    /// Says that the node is on its way out. `false` as in [`PgNode::beat`].
    ///
    /// # Errors
    /// Those of a database.
    pub fn drain(&mut self) -> Result<bool> {
        self.own(
            "UPDATE nodes SET draining = true WHERE name = $1 AND incarnation = $2 RETURNING 1",
        )
    }

    /// Takes the node's row away.
    ///
    /// # Errors
    /// Those of a database.
    pub fn leave(&mut self) -> Result<bool> {
        self.own("DELETE FROM nodes WHERE name = $1 AND incarnation = $2 RETURNING 1")
    }

    /// Takes the row of a dead node away, unless it has come back to life.
    ///
    /// # Errors
    /// Those of a database.
    pub fn bury(&mut self, dead: &NodeRow) -> Result<()> {
        let sql = "DELETE FROM nodes WHERE name = $1 AND incarnation = $2 AND beat = $3";
        let name = Param::text(Some(&dead.name));
        self.ask(sql, &[name, Param::int(dead.incarnation), Param::int(dead.beat)]).map(drop)
    }

    /// Reads all that the nodes have in common.
    ///
    /// # Errors
    /// Those of a database.
    pub fn look(&mut self) -> Result<Shared> {
        let nodes = self.ask(
            "SELECT name, incarnation, beat, draining, address FROM nodes ORDER BY name",
            &[],
        )?;
        let partitions =
            self.ask("SELECT id, owner, fence, given FROM partitions ORDER BY id", &[])?;
        let version = self.ask("SELECT value FROM meta WHERE name = 'agents_version'", &[])?;
        let mut shared = Shared::default();
        let read = |shared: &mut Shared| {
            for row in &nodes {
                read_node(&Decoded::new(row), shared)?;
            }
            for row in &partitions {
                read_partition(&Decoded::new(row), shared)?;
            }
            let version = version.first().map(|row| Decoded::new(row).text(0).map(str::to_owned));
            shared.agents_version = version.transpose()?.and_then(|v| v.parse().ok()).unwrap_or(0);
            Ok(())
        };
        read(&mut shared).map_err(|malformed: Malformed| self.damaged(&malformed))?;
        Ok(shared)
    }

    /// Takes partitions that still have the fence that was seen; those that were, with their new
    /// fences. A commit of the last owner that is under way is waited for, and after it there is
    /// none.
    ///
    /// # Errors
    /// Those of a database. What it did is then unknown; look again.
    pub fn take(&mut self, seen: &[PartitionRow]) -> Result<Vec<(PartitionId, Fence)>> {
        let sql = "UPDATE partitions SET owner = $1, fence = partitions.fence + 1, given = false \
                   FROM unnest($2::int4[], $3::int8[]) AS seen (id, fence) \
                   WHERE partitions.id = seen.id AND partitions.fence = seen.fence \
                   RETURNING partitions.id, partitions.fence";
        let name = self.name.clone();
        let taken = self.ask(
            sql,
            &[
                Param::text(Some(&name)),
                Param::ints(seen.iter().map(|row| i64::from(row.id.0))),
                Param::ints(seen.iter().map(|row| row.fence.0.cast_signed())),
            ],
        )?;
        let taken = taken.iter().map(|row| {
            let row = Decoded::new(row);
            Ok((partition_of(&row)?, Fence(row.int(1)?.cast_unsigned())))
        });
        let mut taken: Vec<_> = taken
            .collect::<std::result::Result<_, Malformed>>()
            .map_err(|malformed| self.damaged(&malformed))?;
        taken.sort_unstable();
        Ok(taken)
    }

    /// Gives a partition that the node has under `fence` to another node, or to nobody, and counts
    /// its fence up. `false` when it was not ours any more.
    ///
    /// # Errors
    /// Those of a database. What it did is then unknown; look again.
    pub fn give(&mut self, id: PartitionId, fence: Fence, to: Option<&str>) -> Result<bool> {
        let sql = "UPDATE partitions SET owner = $1::text, fence = fence + 1, \
                   given = $1::text IS NOT NULL \
                   WHERE id = $2 AND fence = $3 AND owner = $4 RETURNING 1";
        let name = self.name.clone();
        let id = Param::int(i64::from(id.0));
        let fence = Param::int(fence.0.cast_signed());
        let given = self.ask(sql, &[Param::text(to), id, fence, Param::text(Some(&name))])?;
        Ok(!given.is_empty())
    }

    /// One statement about the node's own row; whether there still is one.
    fn own(&mut self, sql: &str) -> Result<bool> {
        let (name, incarnation) = (self.name.clone(), self.incarnation);
        let rows = self.ask(sql, &[Param::text(Some(&name)), Param::int(incarnation)])?;
        Ok(!rows.is_empty())
    }

    fn ask(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let PgNode { runtime, options, session, .. } = self;
        let patience = options.statement_timeout;
        let done = runtime.block_on(async {
            if session.as_ref().is_none_or(Session::is_closed) {
                *session = Some(Session::connect(options, Purpose::Commit).await?);
            }
            let Some(open) = session.as_ref() else { return Ok(Vec::new()) };
            let not_done = |broken: Broken| not_done(options, &broken.error);
            let asking = async {
                let statement = open.prepare(&[sql.to_owned()]).await.map_err(not_done)?;
                let asked = pipelined(vec![open.rows(&statement[0], params)]).await;
                Ok(asked.map_err(not_done)?.remove(0))
            };
            match tokio::time::timeout(patience, asking).await {
                Ok(done) => done,
                Err(_) => {
                    let why = format!("no answer within {} ms", patience.as_millis());
                    Err(Error::DatabaseAway { at: options.at(), why })
                }
            }
        });
        if done.is_err() {
            *session = None;
        }
        done
    }

    fn one<T>(
        &self,
        rows: &[Row],
        read: impl FnOnce(&Decoded<'_>) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        let row = rows.first().ok_or(Malformed { table: "nodes", column: "incarnation" });
        let read = row.and_then(|row| read(&Decoded::new(row)));
        read.map_err(|malformed| self.damaged(&malformed))
    }

    fn damaged(&self, malformed: &Malformed) -> Error {
        Error::DatabaseDamaged { at: self.options.at(), why: malformed.to_string() }
    }
}

fn read_node(row: &Decoded<'_>, shared: &mut Shared) -> std::result::Result<(), Malformed> {
    let name: NodeName = row.text(0)?.into();
    shared.addresses.insert(name.clone(), row.text(4)?.to_owned());
    let (incarnation, beat) = (row.int(1)?, row.int(2)?);
    shared.nodes.push(NodeRow { name, incarnation, beat, is_draining: row.int(3)? != 0 });
    Ok(())
}

fn read_partition(row: &Decoded<'_>, shared: &mut Shared) -> std::result::Result<(), Malformed> {
    let id = partition_of(row)?;
    let owner = row.text_or_null(1)?.map(Into::into);
    shared.partitions.push(PartitionRow { id, owner, fence: Fence(row.int(2)?.cast_unsigned()) });
    if row.int(3)? != 0 {
        shared.given.push(id);
    }
    Ok(())
}

fn partition_of(row: &Decoded<'_>) -> std::result::Result<PartitionId, Malformed> {
    let malformed = Malformed { table: "partitions", column: "id" };
    u16::try_from(row.int(0)?).map(PartitionId).map_err(|_| malformed)
}
