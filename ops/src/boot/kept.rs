//! Where a node's tasks are kept: in files of its own, or in a database that nodes share. Both give
//! the parts that threads own.
//!
//! The journals of a database own no partition at first: those come and go with
//! [`crate::cluster`].

use super::store::refused;
use crate::config::Config;
use crate::config::checked::Database;
use crate::error::{Error, Result};
use crate::postgres;
use no_engine::control::partitions_of;
use no_engine::id::{PartitionId, ShardId};
use no_engine::port::{Load, Reader};
use no_storage::Store;
use no_storage::postgres::{JournalOptions, Owned, PgJournal, PgStore};
use no_storage::sqlite::{Checkpoints, StoreWatch};
use no_storage::writer::Finish;

/// An open store of either kind.
pub enum Kept {
    /// Files in the data folder.
    Files(Box<Store>),
    /// A database.
    Database(Box<Shared>),
}

/// A database, with this node's journals in it.
pub struct Shared {
    store: PgStore,
    /// Until they are asked for.
    journals: Vec<Option<PgJournal>>,
    owned: Vec<Owned>,
    fences_from: u64,
}

impl Shared {
    /// The database.
    pub fn store(&self) -> &PgStore {
        &self.store
    }

    /// What each shard's journal writes.
    pub fn owned(&self) -> &[Owned] {
        &self.owned
    }
}

impl Kept {
    /// Opens the database, and this node's journals in it.
    pub(super) fn shared(config: &Config, of: &Database) -> Result<Kept> {
        let engine = &config.engine;
        // Keys and the audit log are this node's own.
        let failed = |source| Error::File { path: engine.data_dir.clone(), source };
        std::fs::create_dir_all(&engine.data_dir).map_err(failed)?;
        let options = postgres::options(of)?;
        let store = PgStore::open(&options, engine.partitions).map_err(refused)?;
        let mut journals = Vec::new();
        for shard in (0..engine.shards).map(ShardId) {
            let journal = store.journal(&JournalOptions {
                owner: of.node.clone(),
                shard,
                owned: Vec::new(),
                retention_ms: engine.retention_ms,
            });
            journals.push(journal.map_err(refused)?);
        }
        let owned = journals.iter().map(PgJournal::owned).collect();
        let journals = journals.into_iter().map(Some).collect();
        let fences_from = store.fences_from().map_err(refused)?;
        Ok(Kept::Database(Box::new(Shared { store, journals, owned, fences_from })))
    }

    /// The database that other nodes share.
    pub(super) fn as_shared(&self) -> Option<&Shared> {
        match self {
            Kept::Files(_) => None,
            Kept::Database(shared) => Some(shared),
        }
    }

    /// What a shard has from the start.
    pub(super) fn partitions_of(&self, shard: ShardId, config: &Config) -> Vec<PartitionId> {
        match self {
            Kept::Files(_) => partitions_of(shard, config.engine.partitions, config.engine.shards),
            Kept::Database(_) => Vec::new(),
        }
    }

    /// The journal of a shard, for its journal thread. Asked for once.
    pub(super) fn journal(&mut self, shard: ShardId) -> Result<Box<dyn Finish + Send>> {
        match self {
            Kept::Files(store) => Ok(Box::new(store.journal(shard).map_err(refused)?)),
            Kept::Database(shared) => {
                let journal = shared.journals[usize::from(shard.0)].take();
                Ok(Box::new(journal.expect("a shard has one journal")))
            }
        }
    }

    /// A loader of a shard's partitions, to be used before its first commit.
    pub(super) fn loader(&self, shard: ShardId) -> Result<Box<dyn Load + Send>> {
        Ok(match self {
            Kept::Files(store) => Box::new(store.loader(shard).map_err(refused)?),
            Kept::Database(shared) => Box::new(shared.store.loader().map_err(refused)?),
        })
    }

    /// A reader of everything, for one thread.
    pub(super) fn reader(&self) -> Result<Box<dyn Reader + Send>> {
        Ok(match self {
            Kept::Files(store) => Box::new(store.reader().map_err(refused)?),
            Kept::Database(shared) => Box::new(shared.store.reader().map_err(refused)?),
        })
    }

    /// Looks at what journals and indexes in files do; a database has its own figures.
    pub(super) fn watch(&self) -> StoreWatch {
        match self {
            Kept::Files(store) => store.watch(),
            Kept::Database(_) => StoreWatch::none(),
        }
    }

    /// The thread that files need beside their journals.
    pub(super) fn checkpoints(&self) -> Result<Option<Checkpoints>> {
        match self {
            Kept::Files(store) => store.checkpoints().map(Some).map_err(refused),
            Kept::Database(_) => Ok(None),
        }
    }

    /// Whether nO stopped in good order when it last had this.
    pub(super) fn was_clean(&self) -> bool {
        match self {
            Kept::Files(store) => store.was_clean(),
            // Each partition has a stop of its own.
            Kept::Database(_) => true,
        }
    }

    /// The lowest fence that a task may be given.
    pub(super) fn fences_from(&self) -> u64 {
        match self {
            Kept::Files(store) => store.fences_from(),
            Kept::Database(shared) => shared.fences_from,
        }
    }
}
