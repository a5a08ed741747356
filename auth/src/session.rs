//! Sessions of browsers: who logged in, behind a cookie that means nothing to anybody else.
//!
//! The cookie is 32 random bytes; only their BLAKE3 hash is kept, so that what the memory of the
//! process shows opens nothing. A login always makes a new session and ends the one it came with,
//! so a cookie that somebody planted before is worth nothing afterwards (session fixation). A
//! session ends when it was not used for a while and, whatever happens, some hours after its login.
//! A request that changes something proves with a token derived from the cookie that it comes from
//! our own page: another site can send the cookie, but not read it (OWASP, "Cross-Site Request
//! Forgery Prevention Cheat Sheet", the synchronizer token). The clock and the randomness are
//! handed in. One table for all net cores, behind a lock that is held for a look-up.

use crate::principal::Principal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;

/// Sessions, at most. Who logs in past that ends the one that was idle longest.
pub const SESSIONS_MAX: usize = 10_000;
/// Sessions of one principal, at most; the next ends the one that was idle longest.
pub const SESSIONS_OF_ONE_MAX: usize = 20;
/// What the token against forged requests is derived under.
const CSRF_CONTEXT: &str = "nO 2026-11-25 token against cross-site request forgery";

/// How long sessions live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    /// Without being used, in s.
    pub idle_s: u64,
    /// After the login, in s.
    pub absolute_s: u64,
}

/// The secret in a cookie. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Of 32 random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Secret {
        Secret(random)
    }

    /// From a cookie's value; `None` for what we never wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Secret> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Secret(bytes.try_into().ok()?))
    }

    /// As the value of a cookie.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(&self.0)
    }

    /// The token that proves a request to come from our own page.
    #[must_use]
    pub fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(blake3::derive_key(CSRF_CONTEXT, &self.0))
    }

    /// Whether `given` is that token. Takes the same time wherever they differ.
    #[must_use]
    pub fn is_csrf(&self, given: &str) -> bool {
        blake3::hash(given.as_bytes()) == blake3::hash(self.csrf().as_bytes())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is shown of who logged in; nothing is decided by it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Profile {
    /// A name, as the issuer gave it.
    pub name: Option<String>,
    /// The values of the issuer's claim that give a role here.
    pub roles: Vec<String>,
}

/// One login.
#[derive(Clone)]
pub struct Session {
    /// Who logged in.
    pub principal: Principal,
    /// What is shown of them.
    pub profile: Profile,
    /// The ID token, which the issuer wants back at logout.
    pub id_token: String,
    /// When it ends at the latest, in s since 1970.
    pub until_s: u64,
    seen_s: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Session");
        shown.field("principal", &self.principal).field("until_s", &self.until_s);
        shown.finish_non_exhaustive()
    }
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    lifetime: Lifetime,
    by_hash: HashMap<blake3::Hash, Session>,
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new(lifetime: Lifetime) -> Sessions {
        Sessions { lifetime, by_hash: HashMap::new() }
    }

    /// Begins one behind `secret`, in place of the one that the browser had.
    pub fn begin(
        &mut self,
        secret: &Secret,
        before: Option<&Secret>,
        principal: Principal,
        profile: Profile,
        id_token: String,
        now_s: u64,
    ) {
        if let Some(before) = before {
            self.end(before);
        }
        self.make_room(&principal, now_s);
        let until_s = now_s.saturating_add(self.lifetime.absolute_s);
        let session = Session { principal, profile, id_token, until_s, seen_s: now_s };
        self.by_hash.insert(secret.hash(), session);
    }

    /// The session of a cookie, which counts as used now.
    pub fn find(&mut self, secret: &Secret, now_s: u64) -> Option<&Session> {
        let hash = secret.hash();
        let lifetime = self.lifetime;
        if !is_alive(self.by_hash.get(&hash)?, lifetime, now_s) {
            self.by_hash.remove(&hash);
            return None;
        }
        let session = self.by_hash.get_mut(&hash)?;
        session.seen_s = session.seen_s.max(now_s);
        Some(session)
    }

    /// Ends the session of a cookie, and gives what it was.
    pub fn end(&mut self, secret: &Secret) -> Option<Session> {
        self.by_hash.remove(&secret.hash())
    }

    /// Sessions that may be alive.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    fn make_room(&mut self, principal: &Principal, now_s: u64) {
        let is_theirs = |session: &Session| {
            session.principal.subject == principal.subject
                && session.principal.tenant == principal.tenant
        };
        let theirs = self.by_hash.values().filter(|session| is_theirs(session)).count();
        if SESSIONS_OF_ONE_MAX <= theirs {
            self.end_idlest(is_theirs);
        }
        if self.by_hash.len() < SESSIONS_MAX {
            return;
        }
        let lifetime = self.lifetime;
        self.by_hash.retain(|_, session| is_alive(session, lifetime, now_s));
        if SESSIONS_MAX <= self.by_hash.len() {
            self.end_idlest(|_| true);
        }
    }

    fn end_idlest(&mut self, of: impl Fn(&Session) -> bool) {
        let among = self.by_hash.iter().filter(|(_, session)| of(session));
        let idlest = among.min_by_key(|(_, session)| session.seen_s).map(|(hash, _)| *hash);
        if let Some(hash) = idlest {
            self.by_hash.remove(&hash);
        }
    }
}

fn is_alive(session: &Session, lifetime: Lifetime, now_s: u64) -> bool {
    now_s < session.until_s && now_s < session.seen_s.saturating_add(lifetime.idle_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Lifetime = Lifetime { idle_s: 100, absolute_s: 1_000 };

    fn secret(n: u64) -> Secret {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Secret::new(bytes)
    }

    fn who(subject: &str) -> Principal {
        Principal { subject: subject.into(), ..Principal::unchecked() }
    }

    fn begin(sessions: &mut Sessions, n: u64, subject: &str, now_s: u64) {
        sessions.begin(&secret(n), None, who(subject), Profile::default(), String::new(), now_s);
    }

    #[test]
    fn a_session_ends_when_idle_and_in_any_case() {
        let mut sessions = Sessions::new(LIFETIME);
        begin(&mut sessions, 1, "ann", 0);
        assert!(sessions.find(&secret(2), 1).is_none(), "another cookie");
        for now_s in (0..1_000).step_by(99) {
            let found = sessions.find(&secret(1), now_s).expect("alive");
            assert_eq!(&*found.principal.subject, "ann");
        }
        assert!(sessions.find(&secret(1), 1_000).is_none(), "its time is over");
        begin(&mut sessions, 3, "ann", 0);
        assert!(sessions.find(&secret(3), 100).is_none(), "idle");
        assert!(sessions.find(&secret(3), 1).is_none(), "and it stays so");
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_login_ends_the_session_that_it_came_with() {
        let mut sessions = Sessions::new(LIFETIME);
        begin(&mut sessions, 1, "mallory", 0);
        let (ann, shown) = (who("ann"), Profile::default());
        sessions.begin(&secret(2), Some(&secret(1)), ann, shown, String::new(), 1);
        assert!(sessions.find(&secret(1), 1).is_none());
        assert!(sessions.find(&secret(2), 1).is_some());
        assert!(sessions.end(&secret(2)).is_some());
        assert!(sessions.find(&secret(2), 1).is_none());
    }

    #[test]
    fn there_are_only_so_many_and_the_idlest_goes() {
        let mut sessions = Sessions::new(Lifetime { idle_s: u64::MAX, absolute_s: u64::MAX });
        for n in 0..=SESSIONS_OF_ONE_MAX as u64 {
            begin(&mut sessions, n, "ann", n);
        }
        assert_eq!(sessions.len(), SESSIONS_OF_ONE_MAX);
        assert!(sessions.find(&secret(0), 100).is_none(), "the idlest");
        assert!(sessions.find(&secret(1), 100).is_some());
        for n in 0..=SESSIONS_MAX as u64 {
            begin(&mut sessions, 1_000 + n, &n.to_string(), 200 + n);
        }
        assert_eq!(sessions.len(), SESSIONS_MAX);
    }

    #[test]
    fn the_token_against_forgery_belongs_to_one_cookie() {
        let (one, other) = (secret(1), secret(2));
        assert!(one.is_csrf(&one.csrf()));
        assert!(!one.is_csrf(&other.csrf()) && !one.is_csrf("") && !one.is_csrf(&one.text()));
        assert_ne!(one.csrf(), one.text(), "the page may see the one, never the other");
    }

    #[test]
    fn secrets_have_one_form_and_are_never_shown() {
        let text = secret(7).text();
        assert_eq!(Secret::parse(&text), Some(secret(7)));
        for bad in ["", "AAAA", &text[1..], &format!("{text}="), &format!("{text}A")] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
        assert_eq!(format!("{:?}", secret(7)), "Secret(…)");
    }
}
