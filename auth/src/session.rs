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
//!
//! Where nodes share sessions this table is what one node knows of them. What it was told a moment
//! ago it takes for granted, for [`FRESH_S`]; then it asks again. While nobody answers:
//!
//! | the session | goes on |
//! | --- | --- |
//! | was known to all | for [`UNCONFIRMED_S_MAX`] after they said so: it may have ended elsewhere |
//! | was never told to others | as on a node by itself: nobody else can have ended it |
//! | is not known here | not: there is nothing to go by |

use crate::principal::Principal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;

/// Sessions, at most. Who logs in past that ends the one that was idle longest.
pub const SESSIONS_MAX: usize = 10_000;
/// Sessions of one principal, at most; the next ends the one that was idle longest.
pub const SESSIONS_OF_ONE_MAX: usize = 20;
/// What all nodes said of a session holds for so long, in s: this long at most a logout elsewhere
/// goes unnoticed.
pub const FRESH_S: u64 = 2;
/// While nobody can be asked, a session of all nodes goes on for so long after it was last
/// confirmed, in s.
pub const UNCONFIRMED_S_MAX: u64 = 300;
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

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
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
    /// When all nodes last knew it, in s; `None` when this one alone ever did.
    confirmed_s: Option<u64>,
    /// When they were last asked, whether or not they answered.
    asked_s: u64,
}

impl Session {
    /// One that is nowhere yet.
    #[must_use]
    pub fn new(principal: Principal, profile: Profile, id_token: String, until_s: u64) -> Session {
        let (seen_s, confirmed_s, asked_s) = (0, None, 0);
        Session { principal, profile, id_token, until_s, seen_s, confirmed_s, asked_s }
    }

    /// Whether the other nodes need not be asked about it now.
    #[must_use]
    pub fn is_fresh(&self, now_s: u64) -> bool {
        now_s < self.asked_s.saturating_add(FRESH_S)
    }

    /// Whether no other node can know it.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.confirmed_s.is_none()
    }

    /// Whether it goes on though nobody answers.
    #[must_use]
    pub fn goes_on_unconfirmed(&self, now_s: u64) -> bool {
        let until_s = |confirmed_s: u64| confirmed_s.saturating_add(UNCONFIRMED_S_MAX);
        self.confirmed_s.is_none_or(|confirmed_s| now_s < until_s(confirmed_s))
    }
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

    /// How long they live.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Begins one behind `secret`, in place of the one that the browser had. Gives the hash of the
    /// cookie of another that was ended, as its principal had too many.
    pub fn begin(
        &mut self,
        secret: &Secret,
        before: Option<&Secret>,
        principal: Principal,
        profile: Profile,
        id_token: String,
        now_s: u64,
    ) -> Option<blake3::Hash> {
        if let Some(before) = before {
            self.end(before);
        }
        let ended = self.make_room(&principal, now_s);
        let until_s = now_s.saturating_add(self.lifetime.absolute_s);
        let session = Session::new(principal, profile, id_token, until_s);
        self.by_hash.insert(secret.hash(), Session { seen_s: now_s, asked_s: now_s, ..session });
        ended
    }

    /// Takes in a session of all nodes, which was used here now; unless its time is over.
    pub fn adopt(&mut self, secret: &Secret, session: Session, now_s: u64) {
        let until_s = session.until_s.min(now_s.saturating_add(self.lifetime.absolute_s));
        if until_s <= now_s {
            return;
        }
        self.make_room(&session.principal, now_s);
        let (seen_s, confirmed_s, asked_s) = (now_s, Some(now_s), now_s);
        let session = Session { until_s, seen_s, confirmed_s, asked_s, ..session };
        self.by_hash.insert(secret.hash(), session);
    }

    /// Notes that all nodes know a session now, should it still be here.
    pub fn confirm(&mut self, secret: &Secret, now_s: u64) {
        if let Some(session) = self.by_hash.get_mut(&secret.hash()) {
            session.confirmed_s = Some(now_s);
            session.asked_s = now_s;
        }
    }

    /// Notes that nobody answered about a session; it is asked about again in a while.
    pub fn unanswered(&mut self, secret: &Secret, now_s: u64) {
        if let Some(session) = self.by_hash.get_mut(&secret.hash()) {
            session.asked_s = now_s;
        }
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

    /// Makes room for one more of a principal; the session of theirs that was ended for it.
    fn make_room(&mut self, principal: &Principal, now_s: u64) -> Option<blake3::Hash> {
        let is_theirs = |session: &Session| {
            session.principal.subject == principal.subject
                && session.principal.tenant == principal.tenant
        };
        let theirs = self.by_hash.values().filter(|session| is_theirs(session)).count();
        let ended = (SESSIONS_OF_ONE_MAX <= theirs).then(|| self.end_idlest(is_theirs)).flatten();
        if self.by_hash.len() < SESSIONS_MAX {
            return ended;
        }
        let lifetime = self.lifetime;
        self.by_hash.retain(|_, session| is_alive(session, lifetime, now_s));
        if SESSIONS_MAX <= self.by_hash.len() {
            self.end_idlest(|_| true);
        }
        ended
    }

    fn end_idlest(&mut self, of: impl Fn(&Session) -> bool) -> Option<blake3::Hash> {
        let among = self.by_hash.iter().filter(|(_, session)| of(session));
        let idlest = among.min_by_key(|(_, session)| session.seen_s).map(|(hash, _)| *hash);
        self.by_hash.remove(&idlest?);
        idlest
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
        let shown = Profile::default();
        sessions.begin(&secret(n), None, who(subject), shown, String::new(), now_s);
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
    fn a_session_of_all_nodes_is_asked_about_and_goes_on_for_a_while_without_an_answer() {
        let mut sessions = Sessions::new(Lifetime { idle_s: 10_000, absolute_s: 10_000 });
        begin(&mut sessions, 1, "ann", 100);
        let at = |sessions: &mut Sessions, now_s| {
            let session = sessions.find(&secret(1), now_s).expect("alive");
            (session.is_fresh(now_s), session.is_alone(), session.goes_on_unconfirmed(now_s))
        };
        assert_eq!(at(&mut sessions, 100 + FRESH_S - 1), (true, true, true));
        assert_eq!(at(&mut sessions, 9_000), (false, true, true), "nobody else can have ended it");
        sessions.confirm(&secret(1), 200);
        assert_eq!(at(&mut sessions, 200), (true, false, true));
        assert_eq!(at(&mut sessions, 200 + FRESH_S), (false, false, true));
        sessions.unanswered(&secret(1), 300);
        assert_eq!(at(&mut sessions, 300), (true, false, true));
        let late = 200 + UNCONFIRMED_S_MAX;
        assert_eq!(at(&mut sessions, late - 1), (false, false, true));
        assert_eq!(at(&mut sessions, late), (false, false, false));
    }

    #[test]
    fn a_session_from_elsewhere_keeps_its_end_and_never_outlives_ours() {
        let mut sessions = Sessions::new(LIFETIME);
        let session =
            |until_s| Session::new(who("ann"), Profile::default(), String::new(), until_s);
        for (n, until_s, expected) in [(1, 550, 550), (2, 9_000, 1_500)] {
            sessions.adopt(&secret(n), session(until_s), 500);
            let found = sessions.find(&secret(n), 501).expect("taken in");
            assert_eq!(
                (found.until_s, found.is_alone(), found.is_fresh(501)),
                (expected, false, true)
            );
        }
        sessions.adopt(&secret(3), session(500), 500);
        assert!(sessions.find(&secret(3), 500).is_none(), "over");
        assert!(sessions.find(&secret(1), 550).is_none(), "its own end");
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
