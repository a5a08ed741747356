//! What the net cores share about browsers: logins under way and sessions, behind one lock each
//! that is held for a look-up and never across an await.
//!
//! With Redis all nodes share them, and what this one holds in memory is the first layer: a session
//! that was confirmed a moment ago is taken without asking, and while Redis does not answer what is
//! in memory is what there is, within the bounds of [`no_auth::session`].

use crate::problem::Problem;
use crate::redis::sessions::SharedSessions;
use crate::time;
use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderName};
use no_auth::login::{Login, Logins, Mismatch};
use no_auth::session::{Lifetime, Profile, Secret, Session, Sessions};
use no_auth::{Principal, cookie};
use std::fs::File;
use std::io::Read as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Header with the token against forged requests.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
/// The session's cookie.
pub const SESSION_COOKIE: &str = "no_session";
/// What the cookies of logins under way begin with; each has its own, so that one in another tab
/// leaves it alone.
pub const LOGIN_COOKIE: &str = "no_login_";
/// Logins that one browser has under way, at most: one more takes the place of the oldest.
pub const LOGINS_OF_ONE_MAX: usize = 5;
/// Characters of a state's hash in the name of its cookie.
const LOGIN_NAME_LEN: usize = 16;

/// How browsers log in.
#[derive(Clone, Debug)]
pub struct BrowserConfig {
    /// Our client's name at the issuer.
    pub client_id: String,
    /// Where the issuer sends the browser back to: our `/auth/callback`, as the world sees it.
    pub redirect_uri: String,
    /// Scopes that are asked for, with spaces between them.
    pub scopes: String,
    /// Where the issuer sends the browser after a logout; nowhere when absent.
    pub post_logout_redirect_uri: Option<String>,
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
    shared: Option<SharedSessions>,
}

/// What is known of a request's session without asking anybody.
#[derive(Debug)]
pub enum Look {
    /// There is none.
    Nobody,
    /// It is this one, with its cookie's secret.
    Session(Secret, Box<Session>),
    /// The other nodes have to be asked, by [`Browsers::ask`].
    Ask(Secret),
}

impl Browsers {
    /// Nobody yet.
    #[must_use]
    pub fn new(config: BrowserConfig) -> Browsers {
        let sessions = Mutex::new(Sessions::new(config.lifetime));
        Browsers { config, logins: Mutex::default(), sessions, shared: None }
    }

    /// The same, shared with other nodes.
    #[must_use]
    pub fn shared(self, shared: SharedSessions) -> Browsers {
        Browsers { shared: Some(shared), ..self }
    }

    /// Keeps the other nodes told, for ever. By one task of the node.
    pub async fn keep(&self) {
        match &self.shared {
            Some(shared) => shared.keep().await,
            None => std::future::pending().await,
        }
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

    /// What is known of a request's session.
    #[must_use]
    pub fn look(&self, headers: &HeaderMap) -> Look {
        let Some(secret) = self.secret(headers, SESSION_COOKIE) else { return Look::Nobody };
        let now_s = now_s();
        let found = self.sessions().find(&secret, now_s).cloned();
        match found {
            Some(session) if self.shared.is_none() || session.is_fresh(now_s) => {
                Look::Session(secret, Box::new(session))
            }
            None if self.shared.is_none() => Look::Nobody,
            Some(_) | None => Look::Ask(secret),
        }
    }

    /// The session of a request, with its cookie's secret.
    pub async fn session(&self, headers: &HeaderMap) -> Option<(Secret, Session)> {
        match self.look(headers) {
            Look::Nobody => None,
            Look::Session(secret, session) => Some((secret, *session)),
            Look::Ask(secret) => self.ask(&secret).await.map(|session| (secret, session)),
        }
    }

    /// Asks the other nodes for the session of a cookie, and has them know it when only this one
    /// did.
    pub async fn ask(&self, secret: &Secret) -> Option<Session> {
        let now_s = now_s();
        let known = self.sessions().find(secret, now_s).cloned();
        let Some(shared) = &self.shared else { return known };
        if let Some(session) = known.as_ref().filter(|session| session.is_alone()) {
            self.put(shared, secret, session, now_s).await;
            return known;
        }
        match shared.find(secret).await {
            Ok(Some(found)) if known.is_none() => {
                self.sessions().adopt(secret, found, now_s);
                self.sessions().find(secret, now_s).cloned()
            }
            Ok(Some(_)) => {
                self.sessions().confirm(secret, now_s);
                known
            }
            Ok(None) => {
                self.sessions().end(secret);
                None
            }
            Err(_) => {
                self.sessions().unanswered(secret, now_s);
                known.filter(|session| session.goes_on_unconfirmed(now_s))
            }
        }
    }

    async fn put(&self, shared: &SharedSessions, secret: &Secret, session: &Session, now_s: u64) {
        if shared.put(secret, session, now_s).await {
            self.sessions().confirm(secret, now_s);
        } else {
            self.sessions().unanswered(secret, now_s);
        }
    }

    /// Begins a session behind `secret`, in place of the one that the browser had.
    pub async fn begin(
        &self,
        secret: &Secret,
        before: Option<&Secret>,
        who: (Principal, Profile, String),
    ) {
        let (now_s, (principal, profile, id_token)) = (now_s(), who);
        if let Some(before) = before {
            self.end(before).await;
        }
        let (begun, crowded) = {
            let mut sessions = self.sessions();
            let crowded = sessions.begin(secret, None, principal, profile, id_token, now_s);
            (sessions.find(secret, now_s).cloned(), crowded)
        };
        let (Some(shared), Some(begun)) = (&self.shared, begun) else { return };
        if let Some(crowded) = crowded {
            shared.end(crowded, begun.until_s, now_s).await;
        }
        self.put(shared, secret, &begun, now_s).await;
    }

    /// Ends the session of a cookie, on all nodes; what it was, where it was in memory.
    pub async fn end(&self, secret: &Secret) -> Option<Session> {
        let now_s = now_s();
        let ended = self.sessions().end(secret);
        if let Some(shared) = &self.shared {
            let longest_s = now_s.saturating_add(self.config.lifetime.absolute_s);
            let until_s = ended.as_ref().map_or(longest_s, |session| session.until_s);
            shared.end(secret.hash(), until_s, now_s).await;
        }
        ended
    }

    /// Has all nodes know a login that was begun here. In a flood of logins, which anybody can
    /// begin, they come back to this node or not at all: each node puts a bounded number there.
    pub async fn share_login(&self, state: &Secret) {
        let Some(shared) = &self.shared else { return };
        let login = {
            let logins = self.logins();
            logins.get(state).filter(|_| !logins.is_full()).cloned()
        };
        if let Some(login) = login
            && shared.put_login(state, &login).await
        {
            self.logins().shared(state);
        }
    }

    /// Takes out the login of a `state`, wherever it was begun, for the browser with that cookie.
    /// It is gone either way.
    ///
    /// # Errors
    /// [`Mismatch`].
    pub async fn answer(&self, state: &str, headers: &HeaderMap) -> Result<Login, Mismatch> {
        let state = Secret::parse(state).ok_or(Mismatch::State)?;
        let cookie = self.secret(headers, &login_cookie(&state));
        let known = self.logins().take(&state);
        let login = match &self.shared {
            None => known,
            Some(shared) => match (shared.take_login(&state).await, known) {
                // Another node has answered it, unless it never was put there.
                (Ok(None), Some(known)) => Some(known).filter(|known| !known.is_shared),
                (Ok(found), known) => known.or(found),
                (Err(_), known) => known,
            },
        };
        let login = login.ok_or(Mismatch::State)?;
        login.check(cookie.as_ref(), now_s())?;
        Ok(login)
    }

    /// Names of this browser's logins under way that one more has no room for, as they were given.
    #[must_use]
    pub fn logins_too_many(&self, headers: &HeaderMap) -> Vec<String> {
        let prefix = cookie::name(LOGIN_COOKIE, self.is_secure());
        let headers = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        // Browsers send the oldest first (RFC 6265, section 5.4).
        let mut names = cookie::names_of(headers, &prefix);
        names.truncate((names.len() + 1).saturating_sub(LOGINS_OF_ONE_MAX));
        let plain = |name: &str| format!("{LOGIN_COOKIE}{}", &name[prefix.len()..]);
        names.into_iter().map(plain).collect()
    }
}

/// The name of the cookie of the login with this state.
#[must_use]
pub fn login_cookie(state: &Secret) -> String {
    format!("{LOGIN_COOKIE}{}", &state.hash().to_hex()[..LOGIN_NAME_LEN])
}

fn now_s() -> u64 {
    time::wall().0 / 1_000
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
