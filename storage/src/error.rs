//! What can go wrong with a store, by what the operator does about it.

use std::path::{Path, PathBuf};

/// Why a store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something else lives in the folder.
    #[error("{} holds files but no nO store: name an empty or a new folder", .dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
    },
    /// Another nO has it open.
    #[error("{} is in use by another nO: stop it first, or name another folder", .dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// It cannot be written.
    #[error("{} cannot be written: check its owner, its rights and the mount", .path.display())]
    ReadOnly {
        /// The folder or file.
        path: PathBuf,
    },
    /// A newer nO wrote it.
    #[error(
        "{} has schema version {found}, this nO knows up to {known}: run the newer nO",
        .path.display()
    )]
    Newer {
        /// The marker or file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that this build knows.
        known: u32,
    },
    /// The number of partitions is fixed when a store is created.
    #[error(
        "{} was created with {found} partitions, not {asked}: they cannot change, set {found}",
        .dir.display()
    )]
    PartitionsDiffer {
        /// The folder.
        dir: PathBuf,
        /// Of the store.
        found: u16,
        /// Of the configuration.
        asked: u16,
    },
    /// A file is not what was written.
    #[error("{} is damaged ({why}): bring back a backup with `no backup restore`", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No room for what opening needs to write.
    #[error("no room on the disk of {}: free some and start again", .path.display())]
    Full {
        /// The folder or file.
        path: PathBuf,
    },
    /// There is nothing of ours in the folder.
    #[error("{} holds no nO store: name the data folder of one", .dir.display())]
    NoStore {
        /// The folder.
        dir: PathBuf,
    },
    /// A store is where one was to be restored.
    #[error("{} holds a store already: move it away, or name an empty folder", .dir.display())]
    StoreThere {
        /// The folder.
        dir: PathBuf,
    },
    /// A restore was broken off before it counted.
    #[error(
        "{} holds a restore that was broken off: run `no backup restore` again, or empty it",
        .dir.display()
    )]
    RestoreUnfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// The store's files were changing as a whole: it was started with another number of shards.
    #[error(
        "the files of {} are being made or moved: once its node has started, try again",
        .dir.display()
    )]
    Unsettled {
        /// The folder.
        dir: PathBuf,
    },
    /// An older nO wrote it, and no start has moved it on.
    #[error("{} has schema {found}: start this nO once on it, which moves it on", .dir.display())]
    Older {
        /// The folder.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The caller broke off moving partitions. The next start goes on with it.
    #[error("moving partitions between files was interrupted; the next start goes on with it")]
    Interrupted,
    /// The system refused a file operation.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// SQLite refused for a reason that is none of the above.
    #[error("{}: {source}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The database does not answer.
    #[error("cannot reach {at}: {why}: check that it runs, and its host, port and TLS")]
    DatabaseAway {
        /// Where it should be.
        at: String,
        /// What was heard of it.
        why: String,
    },
    /// The database does not let us in, or not do what we must.
    #[error("{at} refuses the role {user}: {why}: check user, password and rights")]
    DatabaseRefused {
        /// Where it is.
        at: String,
        /// Who was refused.
        user: String,
        /// What it said.
        why: String,
    },
    /// The server has no such database.
    #[error("{at} has no database {name}: create it (`createdb {name}`), or name another")]
    DatabaseMissing {
        /// Where the server is.
        at: String,
        /// The database.
        name: String,
    },
    /// What the server is or how it is set would lose or garble what it is given.
    #[error("{at} cannot hold a store: {why}")]
    DatabaseUnfit {
        /// Where it is.
        at: String,
        /// What is wrong and what to do about it.
        why: String,
    },
    /// The database has none of our tables, or they are not ours.
    #[error("{at} has no tables of nO in this database: run `no db migrate`")]
    SchemaMissing {
        /// Where it is.
        at: String,
    },
    /// An older nO made the tables.
    #[error("{at} has schema version {found}, this nO needs {known}: run `no db migrate`")]
    SchemaOlder {
        /// Where it is.
        at: String,
        /// Its version.
        found: u32,
        /// The one that this build needs.
        known: u32,
    },
    /// A newer nO made the tables.
    #[error("{at} has schema version {found}, this nO knows up to {known}: run the newer nO")]
    SchemaNewer {
        /// Where it is.
        at: String,
        /// Its version.
        found: u32,
        /// The newest that this build knows.
        known: u32,
    },
    /// The number of partitions is fixed when a store is created.
    #[error(
        "{at} was created with {found} partitions, not {asked}: they cannot change, set {found}"
    )]
    DatabasePartitionsDiffer {
        /// Where it is.
        at: String,
        /// Of the store.
        found: u16,
        /// Of the configuration.
        asked: u16,
    },
    /// Another cluster has the database.
    #[error(
        "{at} holds the store of the cluster {found:?}, not of {asked:?}: name another database, \
         or set database.cluster to {found:?}"
    )]
    DatabaseOfOthers {
        /// Where it is.
        at: String,
        /// Of the store.
        found: String,
        /// Of the configuration.
        asked: String,
    },
    /// It holds a store already.
    #[error(
        "{at} holds a store{}: name an empty database",
        .begun.as_ref().map(|from| format!(", half moved from {from}")).unwrap_or_default()
    )]
    NotEmpty {
        /// Where it is.
        at: String,
        /// From where a move was begun, if one was.
        begun: Option<String>,
    },
    /// A store was half moved into it.
    #[error("{at} holds what was half moved from {from}: run `no db import --from {from}` again")]
    ImportUnfinished {
        /// Where it is.
        at: String,
        /// From where.
        from: String,
    },
    /// This machine's clock and the server's are too far apart.
    #[error(
        "this machine's clock is {} ms {} that of {at}: set both by NTP", .ahead_ms.abs(),
        if *.ahead_ms < 0 { "behind" } else { "ahead of" }
    )]
    DatabaseClock {
        /// Where the server is.
        at: String,
        /// By how much ours is ahead, in ms.
        ahead_ms: i64,
    },
    /// A row is not what was written.
    #[error("the store at {at} is damaged ({why}): bring back a backup of the database")]
    DatabaseDamaged {
        /// Where it is.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// No room for what is to be written.
    #[error("no room on the disk of {at}: free some and try again")]
    DatabaseFull {
        /// Where it is.
        at: String,
    },
    /// The database refused for a reason that is none of the above.
    #[error("{at}: {why}")]
    Database {
        /// Where it is.
        at: String,
        /// What it said.
        why: String,
    },
}

/// A result with the store's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failed file operation on `path`.
    pub(crate) fn of_io(path: &Path, source: std::io::Error) -> Error {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { path },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Full { path },
            _ => Error::Io { path, source },
        }
    }

    /// A failed SQLite call on the file `path`.
    pub(crate) fn of_sqlite(path: &Path, source: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Error::Damaged { path, why: source.to_string() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Error::Full { path },
            _ => Error::Sqlite { path, source },
        }
    }

    /// A row of the file `path` that makes no value.
    pub(crate) fn of_row(path: &Path, malformed: Malformed) -> Error {
        Error::Damaged { path: path.to_owned(), why: malformed.to_string() }
    }
}

/// A row that makes no value, or a value that makes no row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a row of table {table} makes no sense in column {column}")]
pub struct Malformed {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error as Io, ErrorKind};

    fn check(error: Error, expected: &str) {
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn errors_say_what_to_do() {
        let path = Path::new("data/shard-000.db");
        check(
            Error::of_io(path, Io::from(ErrorKind::PermissionDenied)),
            "data/shard-000.db cannot be written: check its owner, its rights and the mount",
        );
        check(
            Error::of_io(path, Io::from(ErrorKind::ReadOnlyFilesystem)),
            "data/shard-000.db cannot be written: check its owner, its rights and the mount",
        );
        check(
            Error::of_io(path, Io::from(ErrorKind::StorageFull)),
            "no room on the disk of data/shard-000.db: free some and start again",
        );
        check(
            Error::of_row(path, Malformed { table: "tasks", column: "state" }),
            "data/shard-000.db is damaged (a row of table tasks makes no sense in column state): \
             bring back a backup with `no backup restore`",
        );
    }
}
