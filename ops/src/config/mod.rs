//! The configuration: one file, then the environment, then options. `raw` reads, `checked` accepts,
//! `keys` documents, `place` and `fault` make the messages good; `oauth` accepts who may ask.

pub mod checked;
pub mod fault;
pub mod keys;
pub mod oauth;
pub mod place;
pub mod raw;
pub mod show;

pub use checked::Config;
pub use fault::Fault;

use crate::error::{Error, Result};
use no_auth::Secret;
use raw::{File, Raw};
use std::path::{Path, PathBuf};

/// The file that is read when none is named and it is there.
pub const FILE_DEFAULT: &str = "config/operational.json";

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--config`, else `NO_CONFIG`.
    pub file: Option<PathBuf>,
    /// `--data-dir`, else `NO_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
    /// `--host`.
    pub host: Option<String>,
    /// `--port`.
    pub port: Option<u16>,
}

/// Reads and checks the configuration of this process.
///
/// # Errors
/// [`Error::Config`] with every fault that was found.
pub fn load(options: &Options) -> Result<Config> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    checked::check(read(options)?, cores).map_err(Error::Config)
}

/// Reads without checking the whole; `no config show` needs the origins.
///
/// # Errors
/// [`Error::Config`] when a named file cannot be read.
pub fn read(options: &Options) -> Result<Raw> {
    let file = options.file.clone().or_else(|| env("NO_CONFIG").map(PathBuf::from));
    let (path, is_named) = match &file {
        Some(path) => (path.as_path(), true),
        None => (Path::new(FILE_DEFAULT), false),
    };
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !is_named => None,
        Err(e) => {
            let problem = format!("cannot be read: {e}");
            let fault = Fault { place: name, path: String::new(), problem, hint: None };
            return Err(Error::Config(vec![fault]));
        }
    };
    let file = text.as_deref().map(|text| File { name: &name, text });
    let mut said = Vec::new();
    if let Some(dir) = &options.data_dir {
        said.push(("engine.dataDir", dir.display().to_string()));
    }
    if let Some(host) = &options.host {
        said.push(("service.host", host.clone()));
    }
    if let Some(port) = options.port {
        said.push(("service.port", port.to_string()));
    }
    let files = |path: &str| Secret::from_file(Path::new(path)).map_err(|e| e.to_string());
    Ok(Raw::read(file, &env, &files, &said))
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
