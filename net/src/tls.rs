//! TLS of the server: certificate, key and the authority of client certificates, read from files.
//!
//! TLS 1.2 and 1.3 with the defaults of rustls. A pair is checked before it is used: both files
//! readable, the key closed to others, key and certificate of each other, valid now. A new pair
//! replaces the old one for new connections; those that are open live on with what they have.

mod validity;

use no_auth::secret::open_mode;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
pub use validity::Validity;
use zeroize::Zeroizing;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What is spoken, preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Who must show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientCertificates {
    /// Nobody is asked for one.
    #[default]
    Off,
    /// Whoever has one may show it; a wrong one ends the handshake.
    Optional,
    /// The same, and the worker protocol needs one.
    Workers,
}

/// Where everything is read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The certificate with its chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, PEM.
    pub client_ca: Option<PathBuf>,
    /// Who must show a certificate.
    pub client_certs: ClientCertificates,
}

/// Why a certificate cannot be served. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}; let the user that runs nO read it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read or write the key.
    #[error(
        "{} has mode {mode:03o}: a key must not be open to others; run `chmod 600 {}`",
        path.display(),
        path.display()
    )]
    KeyOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Key and certificate do not belong together.
    #[error(
        "the key in {} is not that of the certificate in {}: name a matching pair, the certificate \
         itself first in its file",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate is no longer valid.
    #[error("the certificate in {} expired {days} day(s) ago: renew it", path.display())]
    Expired {
        /// Which file.
        path: PathBuf,
        /// Since when, in days.
        days: i64,
    },
    /// The certificate is not valid yet.
    #[error(
        "the certificate in {} is not valid for another {days} day(s): wait, or check the clock",
        path.display()
    )]
    NotYet {
        /// Which file.
        path: PathBuf,
        /// From when, in days.
        days: i64,
    },
    /// The TLS library refused.
    #[error("{}: {why}", path.display())]
    Refused {
        /// Which file it is about.
        path: PathBuf,
        /// What it said.
        why: String,
    },
}

/// A certificate that can be served.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    /// When it is valid.
    pub validity: Validity,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// On a request whose sender proved a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proven;

impl Identity {
    /// Reads and checks the files at this wall clock, in s.
    ///
    /// # Errors
    /// [`TlsError`], which says what to do.
    pub fn load(files: &TlsFiles, now_s: i64) -> Result<Identity, TlsError> {
        let chain = certificates(&files.cert)?;
        let malformed = |path: &Path, what| TlsError::Malformed { path: path.to_owned(), what };
        let first = chain.first().ok_or_else(|| malformed(&files.cert, "certificate"))?;
        let validity = Validity::of_certificate(first);
        let validity = validity.ok_or_else(|| malformed(&files.cert, "X.509 certificate"))?;
        let days = validity.days_left(now_s);
        if days < 0 {
            return Err(TlsError::Expired { path: files.cert.clone(), days: -days });
        }
        if now_s < validity.not_before_s {
            let days = (validity.not_before_s - now_s).div_euclid(86_400) + 1;
            return Err(TlsError::NotYet { path: files.cert.clone(), days });
        }
        let key = private_key(&files.key)?;
        let config = server_config(files, chain, key)?;
        Ok(Identity { config: Arc::new(config), validity })
    }
}

fn server_config(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let refused = |path: &Path, why: &dyn fmt::Display| TlsError::Refused {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| refused(&files.cert, &why))?;
    let asked = files.client_ca.as_ref().filter(|_| files.client_certs != ClientCertificates::Off);
    let builder = match asked {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|why| refused(path, &why))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build();
            builder.with_client_cert_verifier(verifier.map_err(|why| refused(path, &why))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
        }
        why => refused(&files.key, &why),
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// Opens a file and hands it to `read`.
fn with_file<T>(path: &Path, read: impl FnOnce(File) -> io::Result<T>) -> Result<T, TlsError> {
    let failed = |source| TlsError::Unreadable { path: path.to_owned(), source };
    File::open(path).and_then(read).map_err(failed)
}

fn read_to_end(file: File, bytes: &mut Vec<u8>) -> io::Result<()> {
    file.take(FILE_BYTES_MAX).read_to_end(bytes).map(drop)
}

/// All certificates of a PEM file; at least one.
///
/// # Errors
/// [`TlsError::Unreadable`], [`TlsError::Malformed`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let malformed = || TlsError::Malformed { path: path.to_owned(), what: "certificate" };
    let mut bytes = Vec::new();
    with_file(path, |file| read_to_end(file, &mut bytes))?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|_| malformed())?;
    if found.is_empty() { Err(malformed()) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let open = with_file(path, |file| {
        let open = open_mode(&file)?;
        read_to_end(file, &mut bytes).map(|()| open)
    })?;
    if let Some(mode) = open {
        return Err(TlsError::KeyOpen { path: path.to_owned(), mode });
    }
    let malformed = |_| TlsError::Malformed { path: path.to_owned(), what: "private key" };
    PrivateKeyDer::from_pem_slice(&bytes).map_err(malformed)
}

/// Where net cores find the certificate that is served now.
#[derive(Clone)]
pub struct TlsSource(watch::Receiver<Arc<ServerConfig>>);

impl fmt::Debug for TlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSource")
    }
}

/// Who says which certificate is served.
#[derive(Debug)]
pub struct TlsServed(watch::Sender<Arc<ServerConfig>>);

impl TlsServed {
    /// Serves this one first.
    #[must_use]
    pub fn new(first: &Identity) -> (TlsServed, TlsSource) {
        let (sender, receiver) = watch::channel(Arc::clone(&first.config));
        (TlsServed(sender), TlsSource(receiver))
    }

    /// New connections get this one from now on.
    pub fn replace(&self, next: &Identity) {
        self.0.send_replace(Arc::clone(&next.config));
    }
}

impl TlsSource {
    /// What takes a handshake with the certificate of now.
    pub(crate) fn now(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.borrow()))
    }
}

#[cfg(test)]
mod tests;
