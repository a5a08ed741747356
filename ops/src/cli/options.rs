//! Options that several commands share.

use crate::client::Client;
use crate::config;
use crate::error::{Error, Result};
use clap::Args;
use no_auth::Secret;
use std::path::{Path, PathBuf};

/// How a client command reaches nO.
#[derive(Args, Clone)]
pub(crate) struct ClientOptions {
    /// Where nO listens
    #[arg(long, env = "NO_URL", default_value = "http://127.0.0.1:3000", value_name = "URL")]
    pub url: String,
    /// Access token [env: NO_TOKEN] [default: that in the data folder's admin.token]
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// File with the access token, which `ps` does not show [env: NO_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Data folder of a local nO, for its admin.token
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Authorities of nO's certificate, PEM, instead of the system's
    #[arg(long, env = "NO_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Print JSON, for machines
    #[arg(long)]
    pub json: bool,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ClientOptions {
    /// A client with the token that was given, or found.
    ///
    /// # Errors
    /// A URL that cannot be called, a token that is none, or a token file that others may read.
    pub(super) fn client(&self) -> Result<Client> {
        Client::trusting(&self.url, self.token()?, self.ca_file.as_deref())
    }

    /// The token: of the options, else of the environment, else the data folder's if it has one.
    fn token(&self) -> Result<Option<Secret>> {
        let unfit = |why: &str| Error::Usage(format!("the token {why}"));
        let given = |text: String| Secret::new(text).and_then(Secret::for_header).map_err(unfit);
        let read = |path: &Path| Secret::from_file(path)?.for_header().map_err(unfit);
        let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        if let Some(token) = self.token.clone().filter(|token| !token.is_empty()) {
            return given(token).map(Some);
        }
        if let Some(path) = &self.token_file {
            return read(path).map(Some);
        }
        match (said("NO_TOKEN"), said("NO_TOKEN_FILE")) {
            (Some(_), Some(_)) => {
                let problem = "NO_TOKEN and NO_TOKEN_FILE are both set: remove NO_TOKEN";
                return Err(Error::Usage(problem.to_owned()));
            }
            (Some(token), None) => return given(token).map(Some),
            (None, Some(path)) => return read(Path::new(&path)).map(Some),
            (None, None) => {}
        }
        let path = data_dir(self.data_dir.as_deref()).join(no_auth::local::ADMIN_TOKEN_FILE);
        match read(&path) {
            Err(Error::Auth(no_auth::Error::SecretFile { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            token => token.map(Some),
        }
    }
}

/// The data folder: as named, else as the configuration says, else `data`.
#[must_use]
pub(super) fn data_dir(named: Option<&Path>) -> PathBuf {
    let options = config::Options { data_dir: named.map(PathBuf::from), ..Default::default() };
    let found = config::read(&options).ok().and_then(|raw| raw.get("engine.dataDir"));
    let text = found.and_then(|found| found.value.as_str().map(PathBuf::from));
    text.unwrap_or_else(|| PathBuf::from("data"))
}

/// Which configuration a command runs with.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigOptions {
    /// Configuration file [env: NO_CONFIG] [default: config/operational.json when it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of store, key and admin token [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on [env: NO_SERVICE_HOST] [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub host: Option<String>,
    /// Port to listen on, 0 for a free one [env: NO_SERVICE_PORT] [default: 3000]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

impl ConfigOptions {
    /// As the configuration reads them.
    #[must_use]
    pub(super) fn options(&self) -> config::Options {
        config::Options {
            file: self.config.clone(),
            data_dir: self.data_dir.clone(),
            host: self.host.clone(),
            port: self.port,
        }
    }
}
