//! The check of a whole log: every file, every line, oldest first.

use super::files::look;
use no_auth::audit::{Broken, Chain, Check, LINE_BYTES_MAX};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// A log without a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sound {
    /// Files.
    pub files: usize,
    /// Lines.
    pub lines: u64,
    /// Where the chain ends.
    pub chain: Chain,
}

/// The first fault of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: Broken,
}

/// What a check came to.
pub type Verdict = Result<Sound, Fault>;

/// Checks the log of a data folder as it stands, beside a node that may be writing it. `progress`
/// is told the bytes done and all bytes.
///
/// # Errors
/// When a file cannot be read; a log that is not there is one without lines.
pub fn verify(data_dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> io::Result<Verdict> {
    let files = look(data_dir)?;
    let (count, all_bytes) = (files.len(), files.iter().map(|(_, _, len)| len).sum());
    let (mut check, mut lines, mut bytes) = (Check::default(), 0, 0);
    for (path, file, len) in files {
        let mut number = 0;
        check.file();
        let mut reader = BufReader::with_capacity(1 << 20, file.take(len));
        let fault = |line, why| Ok(Err(Fault { file: path.clone(), line, why }));
        loop {
            let mut line = Vec::new();
            let read = (&mut reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            number += 1;
            bytes += read as u64;
            if line.pop() != Some(b'\n') {
                let is_long = read == LINE_BYTES_MAX;
                return fault(number, if is_long { Broken::Form } else { Broken::Torn });
            }
            if let Err(why) = check.line(&line) {
                return fault(number, why);
            }
            if number % 1_024 == 0 {
                progress(bytes, all_bytes);
            }
        }
        if number == 0 {
            return fault(1, Broken::Torn);
        }
        lines += number;
        progress(bytes, all_bytes);
    }
    let chain = check.chain().unwrap_or_default();
    Ok(Ok(Sound { files: count, lines, chain }))
}
