//! Making a backup, beside a node that goes on or without one.
//!
//! The cut of all shards is taken first, in milliseconds; then one shard after the other is copied
//! out beside the output, checked to its last row, packed and removed. So making needs room for the
//! largest shard and the packed whole. Nothing counts under its name before all of it is synced: a
//! backup that is there is whole, and one that a crash broke off is a leftover `….new`, which the
//! next one removes.

use super::file::Writer;
use super::manifest::{FORMAT, Manifest, PartNote, shard_name};
use super::{OnBytes, failed, store_error, unfit};
use crate::audit;
use crate::error::{Error, Result};
use no_auth::ledger::LEDGER_FILE;
use no_auth::local::KEY_FILE;
use no_storage::sqlite::{Contents, Cut, check_copy};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// So much of a large file goes at a time.
const PIECE_BYTES: u64 = 16 << 20;

/// What is to be backed up, and where to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The file to be written.
    pub output: PathBuf,
    /// Whether a file of that name is replaced.
    pub is_forced: bool,
    /// Whether the key that signs tokens goes with it.
    pub with_key: bool,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// What is in it.
    pub manifest: Manifest,
    /// Length of the file.
    pub bytes: u64,
}

/// Makes a backup. All that the node had acknowledged before is in it.
///
/// # Errors
/// [`Error::Usage`] when the output must not be written; [`Error::Store`] when there is no sound
/// store; [`Error::Audit`] when it cannot be noted; [`Error::File`].
pub fn create(plan: &Plan, on_bytes: &mut OnBytes<'_>) -> Result<Created> {
    check_output(plan)?;
    let created_at = format!("{:.3}", jiff::Timestamp::now());
    let mut cut = Cut::take(&plan.data_dir).map_err(store_error)?;
    let (leftover, file) = Leftover::begin(&plan.output)?;
    let whole = plan.output.display().to_string();
    let with = if plan.with_key { "with the key" } else { "without the key" };
    audit::keep_command(&plan.data_dir, "backup.create", &whole, with.to_owned())?;
    let writer = Writer::new(file).map_err(failed(&leftover.new))?;
    let mut packing = Packing { writer, parts: Vec::new(), leftover };
    packing.add_shards(&mut cut, on_bytes)?;
    packing.add_files(plan)?;
    let Packing { writer, parts, leftover } = packing;
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at,
        schema: cut.schema(),
        partitions: cut.partitions(),
        shards: cut.shards(),
        parts,
    };
    writer.finish(&manifest).map_err(failed(&leftover.new))?;
    let bytes = fs::metadata(&leftover.new).map_err(failed(&leftover.new))?.len();
    leftover.put_in_place(&plan.output)?;
    Ok(Created { manifest, bytes })
}

/// A backup that is being packed.
struct Packing {
    writer: Writer,
    parts: Vec<PartNote>,
    leftover: Leftover,
}

impl Packing {
    /// Each shard is copied out, checked, packed and removed.
    fn add_shards(&mut self, cut: &mut Cut, on_bytes: &mut OnBytes<'_>) -> Result<()> {
        // Each byte is copied and packed.
        let (all, mut before) = (2 * cut.bytes(), 0);
        for shard in 0..cut.shards() {
            let copied = self.leftover.shard_file()?;
            let mut tell = |done: u64| on_bytes((before + done).min(all), all);
            cut.copy(shard, &copied, &mut tell).map_err(store_error)?;
            let contents = check_copy(&copied).map_err(store_error)?;
            let file = File::open(&copied).map_err(failed(&copied))?;
            let bytes = file.metadata().map_err(failed(&copied))?.len();
            before += bytes;
            let mut done = before;
            let tell = |read| {
                done += read;
                on_bytes(done.min(all), all);
            };
            self.add(shard_name(shard), Told { file, tell }, bytes, Some(contents))?;
            before += bytes;
            self.leftover.remove_shard_files();
        }
        Ok(())
    }

    /// Ledger, key and audit log, as they are now.
    fn add_files(&mut self, plan: &Plan) -> Result<()> {
        for name in [LEDGER_FILE].into_iter().chain(plan.with_key.then_some(KEY_FILE)) {
            let path = plan.data_dir.join(name);
            match File::open(&path) {
                Ok(file) => {
                    let bytes = file.metadata().map_err(failed(&path))?.len();
                    self.add(name.to_owned(), file, bytes, None)?;
                }
                // A node that never made a token has none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&path)(error)),
            }
        }
        let audit = audit::files_of(&plan.data_dir).map_err(failed(&plan.data_dir))?;
        for (path, file, bytes) in audit {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.add(format!("audit/{name}"), file, bytes, None)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        name: String,
        part: impl Read,
        bytes: u64,
        contents: Option<Contents>,
    ) -> Result<()> {
        let added = self.writer.add(&name, part, bytes);
        let blake3 = added.map_err(failed(&self.leftover.new))?;
        self.parts.push(PartNote { name, bytes, blake3, contents });
        Ok(())
    }
}

/// Refuses an output that would harm something or could not be brought back.
fn check_output(plan: &Plan) -> Result<()> {
    let usage = |why: String| Err(Error::Usage(why));
    let output = &plan.output;
    let shown = output.display();
    if output.is_dir() {
        return usage(format!("{shown} is a folder: name a file"));
    }
    if output.exists() && !plan.is_forced {
        return usage(format!("{shown} is there already: name another file, or give --force"));
    }
    let folder = folder_of(output);
    let Ok(folder) = folder.canonicalize() else {
        return usage(format!("{} is no folder: make it first", folder.display()));
    };
    if plan.data_dir.canonicalize().is_ok_and(|data| folder.starts_with(data)) {
        return usage(format!("{shown} is in the data folder, and would be lost with it"));
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new("."));
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Removes a file piece by piece. To let go of gigabytes at once is one change to ext4's own
/// journal, which every sync then waits for: a node's submissions stood still for a third of a
/// second.
fn remove_large(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut len = file.metadata()?.len();
    while PIECE_BYTES < len {
        len -= PIECE_BYTES;
        file.set_len(len)?;
        file.sync_all()?;
    }
    fs::remove_file(path)
}

/// Files that are there while a backup is made; removed when it ends, well or not.
struct Leftover {
    new: PathBuf,
    shard: PathBuf,
    /// Locked: there is one backup of that name at a time.
    lock: File,
    is_placed: bool,
}

impl Leftover {
    /// The file that is to be written, empty.
    fn begin(output: &Path) -> Result<(Leftover, File)> {
        let with = |more: &str| {
            let mut name = output.file_name().unwrap_or_default().to_owned();
            name.push(more);
            output.with_file_name(name)
        };
        let (new, shard) = (with(".new"), with(".new-shard"));
        let failed = |source| Error::File { path: new.clone(), source };
        let busy = || unfit(&new, "another backup of that name is being made");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&new).map_err(failed)?;
        file.try_lock().map_err(|_| busy())?;
        // The one before may just have put it in its place: then it is no longer ours to empty.
        let ours = file.metadata().map_err(failed)?.ino();
        if fs::metadata(&new).map(|meta| meta.ino()).ok() != Some(ours) {
            return Err(busy());
        }
        file.set_len(0).map_err(failed)?;
        let lock = file.try_clone().map_err(failed)?;
        Ok((Leftover { new, shard, lock, is_placed: false }, file))
    }

    /// An empty file for a shard's copy.
    fn shard_file(&self) -> Result<PathBuf> {
        self.remove_shard_files();
        let mut options = OpenOptions::new();
        let made = options.create_new(true).write(true).mode(0o600).open(&self.shard);
        made.map_err(failed(&self.shard))?;
        Ok(self.shard.clone())
    }

    fn remove_shard_files(&self) {
        for more in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.shard.clone().into_os_string();
            path.push(more);
            // What is not there need not go; what cannot go is seen when it is made anew.
            let _ = remove_large(Path::new(&path));
        }
    }

    fn put_in_place(mut self, output: &Path) -> Result<()> {
        fs::rename(&self.new, output).map_err(failed(output))?;
        self.is_placed = true;
        let folder = folder_of(output);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        self.remove_shard_files();
        if !self.is_placed {
            let _ = fs::remove_file(&self.new);
        }
        let _ = self.lock.unlock();
    }
}

/// Tells how much was read.
struct Told<F> {
    file: File,
    tell: F,
}

impl<F: FnMut(u64)> Read for Told<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        (self.tell)(read as u64);
        Ok(read)
    }
}
