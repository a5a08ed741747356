//! The folder of a store: the marker that says whose it is, and the lock that keeps others out.
//!
//! `no.json` names the schema, the partitions and the shards whose files hold them. It is replaced
//! as a whole (written beside, synced, renamed), and while files are made or partitions move it
//! says so in `moving_from`; so a start after a crash knows what was under way. The lock is the
//! system's lock on `no.lock` and goes with the process. A foreign folder is not touched.

use crate::error::{Error, Result};
use crate::sqlite::schema::SCHEMA;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

pub(crate) const MARKER: &str = "no.json";
/// Where a restore gathers its files. While this is there and no marker, nothing counts.
pub(crate) const RESTORE_DIR: &str = "restore.new";
const MARKER_NEW: &str = "no.json.new";
const LOCK: &str = "no.lock";

/// What may be in a folder before a store is made there: our own, and what a volume brings along.
pub(crate) const HARMLESS: [&str; 4] = [MARKER_NEW, LOCK, "admin.token", "lost+found"];

/// What the marker says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Marker {
    store: String,
    schema: u32,
    /// Fixed for ever.
    pub(crate) partitions: u16,
    /// Files that hold them, or will once nothing moves.
    pub(crate) shards: u16,
    /// So many files held them before; 0 while the store is being made. Absent when nothing moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moving_from: Option<u16>,
    /// Fences are given from here on, since the store was restored; 0 if it never was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) fences_from: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Marker {
    pub(crate) fn new(partitions: u16, shards: u16) -> Marker {
        let moving_from = Some(0);
        let store = "nO".into();
        Marker { store, schema: SCHEMA, partitions, shards, moving_from, fences_from: 0 }
    }

    /// Of a store whose files are all there.
    pub(crate) fn restored(partitions: u16, shards: u16, fences_from: u64) -> Marker {
        Marker { moving_from: None, fences_from, ..Marker::new(partitions, shards) }
    }

    /// The version that all files of the folder have at least.
    pub(crate) fn schema(&self) -> u32 {
        self.schema
    }

    /// All files have this build's version.
    pub(crate) fn set_schema(&mut self) {
        self.schema = SCHEMA;
    }

    /// Reads the folder's marker; `None` where there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Marker>> {
        #[derive(Deserialize)]
        struct Version {
            store: String,
            schema: u32,
        }
        let path = dir.join(MARKER);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::of_io(&path, error)),
        };
        let damaged = |why: &str| Error::Damaged { path: path.clone(), why: why.to_owned() };
        // A newer version may have other fields: its number is read first.
        let Ok(version) = serde_json::from_slice::<Version>(&text) else {
            return Err(damaged("it is no marker of a store"));
        };
        if version.store != "nO" {
            return Err(Error::NotOurs { dir: dir.to_owned() });
        }
        if SCHEMA < version.schema {
            return Err(Error::Newer { path, found: version.schema, known: SCHEMA });
        }
        match serde_json::from_slice::<Marker>(&text) {
            Ok(marker) if 0 < marker.shards && 0 < marker.partitions => Ok(Some(marker)),
            _ => Err(damaged("its numbers make no sense")),
        }
    }

    /// Replaces the folder's marker, durably and as a whole.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let new = dir.join(MARKER_NEW);
        let text = serde_json::to_vec(self).unwrap_or_default();
        assert!(!text.is_empty(), "a marker is plain data");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, dir.join(MARKER))
        });
        written.map_err(|error| Error::of_io(&new, error))?;
        sync_folder(dir)
    }
}

/// Makes new, renamed and removed names in the folder durable.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::of_io(dir, error))
}

/// Makes the folder if need be, and refuses one where something else lives.
pub(crate) fn enter(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| Error::of_io(dir, error))?;
    if Marker::read(dir)?.is_some() {
        return Ok(());
    }
    if dir.join(RESTORE_DIR).exists() {
        return Err(Error::RestoreUnfinished { dir: dir.to_owned() });
    }
    for entry in std::fs::read_dir(dir).map_err(|error| Error::of_io(dir, error))? {
        let name = entry.map_err(|error| Error::of_io(dir, error))?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(Error::NotOurs { dir: dir.to_owned() });
        }
    }
    Ok(())
}

/// Takes the folder's lock, which the returned file holds.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| Error::of_io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::of_io(&path, error)),
    }
}
