//! `no audit`: the audit log of a data folder.

use super::Console;
use super::options::data_dir;
use crate::audit::verify;
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use no_auth::audit::hex;
use serde_json::json;
use std::path::PathBuf;

/// Commands of `no audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check that no line was changed, removed or moved
    Verify(Verify),
}

/// Options of `no audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Checks every file in <data>/audit/, also while nO runs. Exit code 0: sound; 1: broken, and the first
broken line is named. Lines cut off at the very end leave a sound log: note the last hash elsewhere
from time to time and compare.")]
pub(crate) struct Verify {
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
    /// Data folder with the log [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Audit {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let Audit::Verify(verify) = self;
        verify.run(console)
    }
}

impl Verify {
    fn run(self, console: &mut Console) -> Result<()> {
        let data_dir = data_dir(self.data_dir.as_deref());
        let failed = |source| Error::File { path: data_dir.clone(), source };
        let verdict = {
            let bar = console.bar("checking");
            verify(&data_dir, &mut |done, all| bar.set(done, all)).map_err(failed)?
        };
        let sound = match verdict {
            Ok(sound) => sound,
            Err(fault) => {
                let (file, why) = (fault.file.display().to_string(), fault.why.to_string());
                if self.json {
                    console.print_json(&json!({
                        "status": "broken", "file": file, "line": fault.line, "why": why,
                    }))?;
                } else {
                    console.print(&format!("{file}:{}: {why}", fault.line))?;
                }
                return Err(Error::AuditBroken);
            }
        };
        let (seq, hash) = (sound.chain.seq, hex(&sound.chain.hash));
        if self.json {
            return console.print_json(&json!({
                "status": "sound", "files": sound.files, "lines": sound.lines,
                "seq": seq, "hash": hash,
            }));
        }
        if sound.lines == 0 {
            return console.print(&format!("{} has no audit log", data_dir.display()));
        }
        let (files, lines) = (sound.files, sound.lines);
        console.print(&format!("sound: {lines} lines in {files} files, up to {seq} {hash}"))
    }
}
