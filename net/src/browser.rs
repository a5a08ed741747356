//! What the net cores share about browsers: logins under way and sessions, behind one lock each
//! that is held for a look-up and never across an await.

use crate::problem::Problem;
use crate::time;
use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderName};
use no_auth::cookie;
use no_auth::login::Logins;
use no_auth::session::{Lifetime, Secret, Session, Sessions};
use std::fs::File;
use std::io::Read as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Header with the token against forged requests.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
/// The session's cookie.
pub const SESSION_COOKIE: &str = "no_session";
/// The cookie of a login under way.
pub const LOGIN_COOKIE: &str = "no_login";

/// How browsers log in.
#[derive(Clone, Debug)]
pub struct BrowserConfig {
    /// Our client's name at the issuer.
    pub client_id: String,
    /// Where the issuer sends the browser back to: our `/auth/callback`, as the world sees it.
    pub redirect_uri: String,
    /// Scopes that are asked for, with spaces between them.
    pub scopes: String,
    /// How long sessions live.
    pub lifetime: Lifetime,
}

/// Browsers that log in or have.
#[derive(Debug)]
pub struct Browsers {
    /// How.
    pub config: BrowserConfig,
    logins: Mutex<Logins>,
    sessions: Mutex<Sessions>,
}

impl Browsers {
    /// Nobody yet.
    #[must_use]
    pub fn new(config: BrowserConfig) -> Browsers {
        let sessions = Mutex::new(Sessions::new(config.lifetime));
        Browsers { config, logins: Mutex::default(), sessions }
    }

    /// Logins under way.
    pub fn logins(&self) -> MutexGuard<'_, Logins> {
        // Nobody panics in between; and if, each entry stands for itself.
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions.
    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether cookies are for TLS alone: where the world sees us by it.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.config.redirect_uri.starts_with("https://")
    }

    /// The secret in a request's cookie of that name.
    #[must_use]
    pub fn secret(&self, headers: &HeaderMap, name: &str) -> Option<Secret> {
        let name = cookie::name(name, self.is_secure());
        // HTTP/2 may split the header, and a cookie that comes twice is none wherever it stands.
        let headers = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        Secret::parse(cookie::value_of(headers, &name)?)
    }

    /// The session of a request, with its cookie's secret.
    #[must_use]
    pub fn session(&self, headers: &HeaderMap) -> Option<(Secret, Session)> {
        let secret = self.secret(headers, SESSION_COOKIE)?;
        let session = self.sessions().find(&secret, time::wall().0 / 1_000).cloned()?;
        Some((secret, session))
    }
}

/// Whether a request with a cookie proves that our own page made it.
#[must_use]
pub fn is_ours(headers: &HeaderMap, secret: &Secret) -> bool {
    let given = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| secret.is_csrf(given))
}

/// 32 bytes of the kernel's randomness, which is never short of it once the system runs.
///
/// # Errors
/// 500 when the system gives none.
pub fn random() -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|why| Problem::internal(&format!("no randomness: {why}")))?;
    Ok(bytes)
}
