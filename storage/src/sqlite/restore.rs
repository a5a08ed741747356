//! Putting a store in place as a whole: its files are gathered in `restore.new` in the data folder,
//! made durable, moved to their places, and count only once the folder's marker is written.
//!
//! ```text
//! restore.new  marker   the folder
//! no           no       may be restored to, or begun by a start
//! yes          no       a restore that was broken off: a start refuses it, another clears it
//! yes          yes      restored; the next start takes `restore.new` away
//! no           yes      a store
//! ```
//! What a restore has moved is told from what was there before by its name: it begins only in a
//! folder that has none of these.

use crate::error::{Error, Result};
use crate::sqlite::folder::{HARMLESS, Marker, RESTORE_DIR, lock, sync_folder};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What may stay in the folder beside a restored store, and is never replaced.
const KEPT: &str = "token.key";

/// A restore under way. Its lock keeps nodes out of the folder.
pub struct Restoring {
    dir: PathBuf,
    _lock: File,
}

impl Restoring {
    /// Whether `dir` may be restored to; nothing is written.
    ///
    /// # Errors
    /// [`Error::StoreThere`], [`Error::NotOurs`] when other files are there.
    pub fn look(dir: &Path) -> Result<()> {
        if !dir.exists() {
            return Ok(());
        }
        if Marker::read(dir)?.is_some() {
            return Err(Error::StoreThere { dir: dir.to_owned() });
        }
        let is_begun = dir.join(RESTORE_DIR).exists();
        for entry in fs::read_dir(dir).map_err(|error| Error::of_io(dir, error))? {
            let name = entry.map_err(|error| Error::of_io(dir, error))?.file_name();
            let name = name.to_string_lossy();
            let is_harmless = HARMLESS.contains(&&*name) || name == KEPT;
            let is_of_before = is_begun && is_restored(&name);
            if !(is_harmless || is_of_before) {
                return Err(Error::NotOurs { dir: dir.to_owned() });
            }
        }
        Ok(())
    }

    /// Begins in `dir`, which is made if need be; clears a restore that was broken off.
    ///
    /// # Errors
    /// As [`Restoring::look`]; [`Error::Locked`]; those of the file system.
    pub fn begin(dir: &Path) -> Result<Restoring> {
        let of_io = |error| Error::of_io(dir, error);
        fs::create_dir_all(dir).map_err(of_io)?;
        let lock = lock(dir)?;
        Restoring::look(dir)?;
        let gathered = dir.join(RESTORE_DIR);
        if gathered.exists() {
            for entry in fs::read_dir(dir).map_err(of_io)? {
                let entry = entry.map_err(of_io)?;
                let is_moved = entry.file_name() != RESTORE_DIR
                    && is_restored(&entry.file_name().to_string_lossy());
                if is_moved {
                    remove(&entry.path())?;
                }
            }
            sync_folder(dir)?;
            remove(&gathered)?;
        }
        DirBuilder::new().mode(0o700).create(&gathered).map_err(of_io)?;
        sync_folder(dir)?;
        Ok(Restoring { dir: dir.to_owned(), _lock: lock })
    }

    /// Where its files are to be gathered, under the names that they will have.
    #[must_use]
    pub fn gathered(&self) -> PathBuf {
        self.dir.join(RESTORE_DIR)
    }

    /// Puts what was gathered in its place: from when this returns there is a store of so many
    /// partitions and shards. It gives fences from `fences_from` on, which must be above all that
    /// were given by the store that the backup is of, and by any restored from it before: the wall
    /// clock in ms is.
    ///
    /// # Errors
    /// Those of the file system; the folder then holds a restore that was broken off.
    pub fn finish(self, partitions: u16, shards: u16, fences_from: u64) -> Result<()> {
        let gathered = self.gathered();
        sync_all(&gathered)?;
        for path in entries(&gathered)? {
            let name = path.file_name().unwrap_or_default();
            let place = self.dir.join(name);
            if name == KEPT && place.exists() {
                continue;
            }
            fs::rename(&path, &place).map_err(|error| Error::of_io(&path, error))?;
        }
        sync_folder(&self.dir)?;
        Marker::restored(partitions, shards, fences_from).write(&self.dir)?;
        clear(&self.dir)
    }
}

/// Takes away what a restore that counts has left.
pub(crate) fn clear(dir: &Path) -> Result<()> {
    let gathered = dir.join(RESTORE_DIR);
    if !gathered.exists() {
        return Ok(());
    }
    remove(&gathered)?;
    sync_folder(dir)
}

/// Whether a restore may have put a file of this name there.
fn is_restored(name: &str) -> bool {
    name.starts_with("shard-") || matches!(name, RESTORE_DIR | "tokens.jsonl" | "audit")
}

fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    gone.map_err(|error| Error::of_io(path, error))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let read = read.map_err(|error| Error::of_io(dir, error))?;
    Ok(read.into_iter().map(|entry| entry.path()).collect())
}

/// Makes a folder and all that is in it durable.
fn sync_all(dir: &Path) -> Result<()> {
    for path in entries(dir)? {
        if path.is_dir() {
            sync_all(&path)?;
            continue;
        }
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| Error::of_io(&path, error))?;
    }
    sync_folder(dir)
}
