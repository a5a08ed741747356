//! Checking a backup, and bringing one back.
//!
//! Both first read the file through and compare it with its hash, and then unpack each shard and
//! read it to its last row: into a folder for the time being, or into where a restore gathers what
//! it then puts in place as a whole (`no_storage::sqlite::Restoring`).

use super::file::Reader;
use super::manifest::{Manifest, Part};
use super::{OnBytes, failed, store_error, unfit};
use crate::audit;
use crate::error::{Error, Result};
use no_storage::sqlite::{Contents, Restoring, check_copy};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Room that must be left beside the restored store: its journals and logs.
const SPARE_BYTES: u64 = 256 << 20;

/// Checks a backup: every byte, every part, every row. `temporary` is a folder with room for the
/// largest shard.
///
/// # Errors
/// [`Error::Backup`] when it is damaged; [`Error::File`].
pub fn verify(path: &Path, temporary: &Path, on_bytes: &mut OnBytes<'_>) -> Result<Manifest> {
    let mut reader = Reader::open(path, on_bytes)?;
    let folder = Temporary::new(temporary)?;
    let (bytes, mut done, mut found) = (reader.bytes, 0, BTreeMap::new());
    let manifest = reader.walk(&mut |name, part, content| {
        if !matches!(part, Part::Shard(_)) {
            done += io::copy(content, &mut io::sink()).map_err(failed(path))?;
            on_bytes(done, bytes);
            return Ok(());
        }
        let to = folder.0.join(name);
        unpack(&to, content, &mut |read| {
            done += read;
            on_bytes(done, bytes);
        })?;
        found.insert(name.to_owned(), checked(path, &to)?);
        fs::remove_file(&to).map_err(failed(&to))
    })?;
    compare(path, &manifest, &found)?;
    Ok(manifest)
}

/// Brings a backup back into `data_dir`, which holds no store. Nothing is written there before the
/// whole file fits its hash, and nothing counts there before all of it is checked and durable.
///
/// # Errors
/// [`Error::Backup`] when it is damaged; [`Error::Store`] when the folder must not be written to;
/// [`Error::File`].
pub fn restore(path: &Path, data_dir: &Path, on_bytes: &mut OnBytes<'_>) -> Result<Manifest> {
    Restoring::look(data_dir).map_err(store_error)?;
    let mut reader = Reader::open(path, on_bytes)?;
    let restoring = Restoring::begin(data_dir).map_err(store_error)?;
    let gathered = restoring.gathered();
    let manifest = check_room(data_dir, reader.bytes)
        .and_then(|()| gather(path, &mut reader, &gathered, on_bytes));
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) => {
            // Then the folder is as it was; if not, a start says what is in it.
            let _ = fs::remove_dir_all(&gathered);
            return Err(error);
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let fences_from = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let (partitions, shards) = (manifest.partitions, manifest.shards);
    restoring.finish(partitions, shards, fences_from).map_err(store_error)?;
    let from = path.display().to_string();
    audit::keep_command(data_dir, "backup.restore", &from, manifest.created_at.clone())?;
    Ok(manifest)
}

fn gather(
    path: &Path,
    reader: &mut Reader,
    to: &Path,
    on_bytes: &mut OnBytes<'_>,
) -> Result<Manifest> {
    let (bytes, mut done, mut found) = (reader.bytes, 0, BTreeMap::new());
    let manifest = reader.walk(&mut |name, part, content| {
        let to = to.join(name);
        if part == Part::Audit
            && let Some(folder) = to.parent()
        {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        }
        unpack(&to, content, &mut |read| {
            done += read;
            on_bytes(done, bytes);
        })?;
        if let Part::Shard(_) = part {
            found.insert(name.to_owned(), checked(path, &to)?);
        }
        Ok(())
    })?;
    compare(path, &manifest, &found)?;
    Ok(manifest)
}

/// Writes a part to a new file of its own, readable by its owner alone.
fn unpack(to: &Path, content: &mut dyn Read, told: &mut dyn FnMut(u64)) -> Result<()> {
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(to);
    let mut file = file.map_err(failed(to))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = content.read(&mut buffer).map_err(failed(to))?;
        if read == 0 {
            return Ok(());
        }
        io::Write::write_all(&mut file, &buffer[..read]).map_err(failed(to))?;
        told(read as u64);
    }
}

fn checked(path: &Path, shard: &Path) -> Result<Contents> {
    check_copy(shard).map_err(|error| match error {
        no_storage::Error::Damaged { why, .. } => {
            let name = shard.file_name().unwrap_or_default().to_string_lossy();
            unfit(path, format!("its {name} is damaged ({why})"))
        }
        other => store_error(other),
    })
}

fn compare(path: &Path, manifest: &Manifest, found: &BTreeMap<String, Contents>) -> Result<()> {
    let noted =
        manifest.parts.iter().filter_map(|part| Some((&part.name, part.contents.as_ref()?)));
    if noted.eq(found.iter()) {
        return Ok(());
    }
    Err(unfit(path, "its shards do not hold what its manifest says"))
}

/// Whether the folder's disk has room for so many bytes.
fn check_room(dir: &Path, bytes: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).map_err(|error| failed(dir)(error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = bytes + SPARE_BYTES;
    if needed <= free {
        return Ok(());
    }
    let (needed, free) = (needed >> 20, free >> 20);
    let why = format!("no room in {}: {needed} MiB are needed, {free} MiB free", dir.display());
    Err(Error::Store { why })
}

/// A folder that goes away.
struct Temporary(PathBuf);

impl Temporary {
    fn new(parent: &Path) -> Result<Temporary> {
        let path = parent.join(format!("no-verify-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(failed(&path))?;
        Ok(Temporary(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
