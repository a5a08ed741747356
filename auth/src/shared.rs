//! Sessions and logins as nodes hand them to each other through a store that is not trusted.
//!
//! What the store gets is found by a hash of the cookie or the state, and sealed with AES-256-GCM
//! under a key of its own, which takes two secrets to make: one that the nodes share, and the
//! cookie or state itself, which nobody has but the browser:
//!
//! ```text
//! name  = hex(BLAKE3(secret))
//! key   = BLAKE3(key: shared, "session" | "login", 0, secret)
//! value = 1, nonce (12 bytes), AES-256-GCM(key, nonce, JSON of what it is)
//! ```
//!
//! So who reads the store learns who has how many sessions at most, and can neither use one nor
//! read a name. Who writes to it can end sessions, or bring back one that was ended for whoever has
//! its cookie until its time is over, but cannot make one, change one, or put one in place of
//! another: for that the nodes' secret is needed too. The end of a session's time is inside.

use crate::login::Login;
use crate::principal::Principal;
use crate::role::{Permission, PermissionSet};
use crate::secret;
use crate::session::{Profile, Secret, Session};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Longest sealed value, in bytes: what is longer is neither made nor read.
pub const SEALED_BYTES_MAX: usize = 64 * 1_024;
/// Shortest secret that nodes may share for this, in bytes: 24 random ones in base64.
pub const SHARED_SECRET_BYTES_MIN: usize = 32;
/// What the nodes' key is derived under.
const CONTEXT: &str = "nO 2026-11-30 sessions and logins that nodes share";
/// The first byte of a sealed value.
const FORM: u8 = 1;

/// What nodes seal with. Never shown; wiped when dropped.
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(secret::REDACTED)
    }
}

/// What a value is; one is never taken for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Session,
    Login,
}

impl SealingKey {
    /// The key of nodes that have this secret in common.
    #[must_use]
    pub fn of(shared: &secret::Secret) -> SealingKey {
        SealingKey(Zeroizing::new(blake3::derive_key(CONTEXT, shared.reveal().as_bytes())))
    }

    /// Seals a session for who has its cookie; `None` when it is too long to be shared. `random`
    /// must be new for each call.
    #[must_use]
    pub fn seal_session(
        &self,
        cookie: &Secret,
        session: &Session,
        random: [u8; 32],
    ) -> Option<Vec<u8>> {
        let kept = KeptSession {
            subject: session.principal.subject.to_string(),
            tenant: session.principal.tenant.to_string(),
            permissions: session.principal.permissions.iter().map(name_of).collect(),
            name: session.profile.name.clone(),
            roles: session.profile.roles.clone(),
            id_token: session.id_token.clone(),
            until_s: session.until_s,
        };
        self.seal(Purpose::Session, cookie, &kept, random)
    }

    /// The session in a sealed value; `None` for what was not sealed for this cookie by a node with
    /// this key.
    #[must_use]
    pub fn open_session(&self, cookie: &Secret, sealed: &[u8]) -> Option<Session> {
        let kept: KeptSession = self.open(Purpose::Session, cookie, sealed)?;
        let permissions = kept.permissions.iter().filter_map(|name| Permission::of_name(name));
        let principal = Principal {
            subject: kept.subject.into(),
            tenant: kept.tenant.into(),
            permissions: permissions.collect::<PermissionSet>(),
        };
        let profile = Profile { name: kept.name, roles: kept.roles };
        Some(Session::new(principal, profile, kept.id_token, kept.until_s))
    }

    /// Seals a login under way for who brings its state. As [`SealingKey::seal_session`].
    #[must_use]
    pub fn seal_login(&self, state: &Secret, login: &Login, random: [u8; 32]) -> Option<Vec<u8>> {
        self.seal(Purpose::Login, state, login, random)
    }

    /// The login in a sealed value.
    #[must_use]
    pub fn open_login(&self, state: &Secret, sealed: &[u8]) -> Option<Login> {
        self.open(Purpose::Login, state, sealed)
    }

    fn seal(
        &self,
        purpose: Purpose,
        of: &Secret,
        what: &impl Serialize,
        random: [u8; 32],
    ) -> Option<Vec<u8>> {
        let mut text = Zeroizing::new(serde_json::to_vec(what).ok()?);
        if SEALED_BYTES_MAX < text.len() + 1 + NONCE_LEN + AES_256_GCM.tag_len() {
            return None;
        }
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&random[..NONCE_LEN]);
        let used = Nonce::assume_unique_for_key(nonce);
        self.key(purpose, of)?
            .seal_in_place_append_tag(used, Aad::from([FORM]), &mut *text)
            .ok()?;
        Some([&[FORM], &nonce[..], &text].concat())
    }

    fn open<T: for<'d> Deserialize<'d>>(
        &self,
        purpose: Purpose,
        of: &Secret,
        sealed: &[u8],
    ) -> Option<T> {
        let rest = sealed.strip_prefix(&[FORM]).filter(|_| sealed.len() <= SEALED_BYTES_MAX)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(rest.to_vec());
        let text = self.key(purpose, of)?.open_in_place(nonce, Aad::from([FORM]), &mut text);
        serde_json::from_slice(text.ok()?).ok()
    }

    fn key(&self, purpose: Purpose, of: &Secret) -> Option<LessSafeKey> {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(match purpose {
            Purpose::Session => b"session\0",
            Purpose::Login => b"login\0",
        });
        let key = hasher.update(of.bytes()).finalize();
        UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok().map(LessSafeKey::new)
    }
}

/// A session in the store. What a later version adds must have a default.
#[derive(Serialize, Deserialize)]
struct KeptSession {
    subject: String,
    tenant: String,
    permissions: Vec<String>,
    name: Option<String>,
    roles: Vec<String>,
    id_token: String,
    until_s: u64,
}

fn name_of(permission: Permission) -> String {
    permission.name().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::{LOGIN_S_MAX, Logins, Mismatch};

    fn key(text: &str) -> SealingKey {
        SealingKey::of(&secret::Secret::new(text.to_owned()).expect("a secret"))
    }

    fn session() -> Session {
        let permissions = [Permission::TasksRead, Permission::AdminShutdown].into_iter().collect();
        let principal = Principal { subject: "ann".into(), tenant: "acme".into(), permissions };
        let profile = Profile { name: Some("Ann".into()), roles: vec!["boss".into()] };
        Session::new(principal, profile, "an.id.token".into(), 1_000)
    }

    #[test]
    fn a_session_is_opened_by_its_cookie_and_the_nodes_secret_together() {
        let (ours, cookie) = (key("one"), Secret::new([7; 32]));
        let sealed = ours.seal_session(&cookie, &session(), [1; 32]).expect("short enough");
        let opened = key("one").open_session(&cookie, &sealed).expect("the same nodes");
        assert_eq!(opened.principal, session().principal);
        assert_eq!((opened.profile, &*opened.id_token), (session().profile, "an.id.token"));
        assert_eq!(opened.until_s, 1_000);
        let shows =
            |piece: &str| sealed.windows(piece.len()).any(|bytes| bytes == piece.as_bytes());
        assert!(["ann", "acme", "token", "boss"].iter().all(|piece| !shows(piece)));

        assert!(key("two").open_session(&cookie, &sealed).is_none(), "another secret");
        assert!(ours.open_session(&Secret::new([8; 32]), &sealed).is_none(), "another cookie");
        assert!(ours.open_login(&cookie, &sealed).is_none(), "another purpose");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ours.open_session(&cookie, &changed).is_none(), "byte {at}");
            assert!(ours.open_session(&cookie, &sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_login_comes_through_as_it_was() {
        let mut logins = Logins::default();
        let mut n = 0;
        let begun = logins.begin("/console/", 100, || {
            n += 1;
            [n; 32]
        });
        let login = logins.get(&begun.state).expect("under way").clone();
        let sealed = key("one").seal_login(&begun.state, &login, [1; 32]).expect("short");
        let opened = key("one").open_login(&begun.state, &sealed).expect("opens");
        assert_eq!(opened, login);
        assert_eq!(opened.check(None, 101), Err(Mismatch::Browser));
        assert_eq!(opened.check(Some(&begun.browser), 100 + LOGIN_S_MAX), Err(Mismatch::State));
        assert_eq!(opened.check(Some(&begun.browser), 101), Ok(()));
    }

    #[test]
    fn what_is_too_long_is_not_shared_and_the_key_is_not_shown() {
        let mut long = session();
        long.id_token = "x".repeat(SEALED_BYTES_MAX);
        assert!(key("one").seal_session(&Secret::new([7; 32]), &long, [1; 32]).is_none());
        assert_eq!(format!("{:?}", key("one")), "[redacted]");
    }
}
