//! Sessions and logins under way that all nodes know: sealed by [`no_auth::shared`] in Redis, under
//! hashes of what finds them, each ending by itself.
//!
//! | key | value | lives |
//! | --- | --- | --- |
//! | `session:<hash of the cookie>` | the sealed session | until idle too long; its end is inside |
//! | the same | nothing | a session that was ended, until it would have ended anyway |
//! | `login:<hash of the state>` | the sealed login | until it is answered, 10 minutes at most |
//!
//! A session is put by the node that begins it and found by the others. Ending it leaves an empty
//! value behind, so that a node which could not put it in time never brings it back. What Redis
//! does not have has ended: should it lose its data, people log in again. An end that Redis cannot
//! be told is told when it is back, by the node that ended it.

use super::{Purpose, Redis, Unanswered};
use crate::browser::random;
use ::redis::cmd;
use no_auth::login::{LOGIN_S_MAX, Login};
use no_auth::session::{SESSIONS_MAX, Secret, Session};
use no_auth::shared::{SEALED_BYTES_MAX, SealingKey};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Ends that Redis has not been told, at most; past it the oldest are forgotten. Only sessions that
/// were in memory when it went away have to be told, so there never are as many.
const ENDED_MAX: usize = 2 * SESSIONS_MAX;
/// How often it is tried to tell them.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A value that is not too long, living on for ARGV[1] ms; nothing for what is not there, an empty
/// text for what was ended.
const FIND: &str = "local v = redis.call('GET', KEYS[1]) \
    if not v or tonumber(ARGV[2]) < #v then return nil end \
    if v ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end \
    return v";
/// The same, taken out.
const TAKE: &str = "local v = redis.call('GET', KEYS[1]) \
    redis.call('DEL', KEYS[1]) \
    if not v or tonumber(ARGV[1]) < #v then return nil end \
    return v";

/// The sessions and logins of all nodes.
pub struct SharedSessions {
    redis: Arc<Redis>,
    key: SealingKey,
    idle_s: u64,
    /// Hashes of cookies whose sessions were ended, and until when it matters, in s since 1970.
    ended: Mutex<VecDeque<(blake3::Hash, u64)>>,
    has_told_of_strangers: AtomicBool,
}

impl std::fmt::Debug for SharedSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedSessions").field("redis", &self.redis).finish_non_exhaustive()
    }
}

impl SharedSessions {
    /// Those of nodes with this Redis and this key, which end when idle for so long.
    #[must_use]
    pub fn new(redis: Arc<Redis>, key: SealingKey, idle_s: u64) -> SharedSessions {
        let has_told_of_strangers = AtomicBool::new(false);
        SharedSessions { redis, key, idle_s, ended: Mutex::default(), has_told_of_strangers }
    }

    /// Puts a session there unless it was ended; whether all nodes can know it now.
    pub async fn put(&self, cookie: &Secret, session: &Session, now_s: u64) -> bool {
        let Ok(random) = random() else { return false };
        let Some(sealed) = self.key.seal_session(cookie, session, random) else {
            let subject = &*session.principal.subject;
            tracing::warn!(target: "auth", subject, "a session is too long to be shared by nodes");
            return false;
        };
        let ms = self.idle_s.min(session.until_s.saturating_sub(now_s)).saturating_mul(1_000);
        let key = self.session_key(&cookie.hash());
        let mut put = cmd("SET");
        put.arg(key).arg(&sealed[..]).arg("PX").arg(ms.max(1)).arg("NX");
        self.redis.ask::<Option<String>>(Purpose::Session, &put).await.is_ok()
    }

    /// The session of a cookie, which counts as used now; `None` when it has ended or never was.
    ///
    /// # Errors
    /// [`Unanswered`] when that is not to be known now.
    pub async fn find(&self, cookie: &Secret) -> Result<Option<Session>, Unanswered> {
        let mut find = cmd("EVAL");
        find.arg(FIND).arg(1).arg(self.session_key(&cookie.hash()));
        find.arg(self.idle_s.saturating_mul(1_000)).arg(SEALED_BYTES_MAX);
        let found = self.redis.ask::<Option<Vec<u8>>>(Purpose::Session, &find).await?;
        let Some(sealed) = found.filter(|sealed| !sealed.is_empty()) else { return Ok(None) };
        let opened = self.key.open_session(cookie, &sealed);
        if opened.is_none() {
            self.tell_of_stranger();
        }
        Ok(opened)
    }

    /// Ends the session with that hash of its cookie for all nodes; `until_s` is when it would have
    /// ended anyway.
    pub async fn end(&self, hash: blake3::Hash, until_s: u64, now_s: u64) {
        if !self.tell(&hash, until_s, now_s).await {
            let mut ended = self.ended();
            if ENDED_MAX <= ended.len() {
                ended.pop_front();
            }
            ended.push_back((hash, until_s));
        }
    }

    async fn tell(&self, hash: &blake3::Hash, until_s: u64, now_s: u64) -> bool {
        let ms = until_s.saturating_sub(now_s).saturating_mul(1_000);
        let mut end = cmd("SET");
        end.arg(self.session_key(hash)).arg("").arg("PX").arg(ms.max(1));
        self.redis.ask::<()>(Purpose::Session, &end).await.is_ok()
    }

    /// Tells Redis of ends that it could not be told, for ever. By one task of the node.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            while self.redis.is_there() {
                let Some((hash, until_s)) = self.ended().pop_front() else { break };
                let now_s = crate::time::wall().0 / 1_000;
                if now_s < until_s && !self.tell(&hash, until_s, now_s).await {
                    self.ended().push_front((hash, until_s));
                    break;
                }
            }
        }
    }

    /// Puts a login under way there; whether all nodes can answer it now.
    pub async fn put_login(&self, state: &Secret, login: &Login) -> bool {
        let sealed = random().ok().and_then(|random| self.key.seal_login(state, login, random));
        let Some(sealed) = sealed else { return false };
        let mut put = cmd("SET");
        put.arg(self.login_key(state)).arg(&sealed[..]).arg("EX").arg(LOGIN_S_MAX);
        self.redis.ask::<()>(Purpose::Login, &put).await.is_ok()
    }

    /// Takes out the login of a state: whoever comes second finds none.
    ///
    /// # Errors
    /// [`Unanswered`] when that is not to be known now.
    pub async fn take_login(&self, state: &Secret) -> Result<Option<Login>, Unanswered> {
        let mut take = cmd("EVAL");
        take.arg(TAKE).arg(1).arg(self.login_key(state)).arg(SEALED_BYTES_MAX);
        let found = self.redis.ask::<Option<Vec<u8>>>(Purpose::Login, &take).await?;
        let opened = found.as_ref().map(|sealed| self.key.open_login(state, sealed));
        if opened.as_ref().is_some_and(Option::is_none) {
            self.tell_of_stranger();
        }
        Ok(opened.flatten())
    }

    /// Once is enough: it is the configuration, or somebody else at work in Redis.
    fn tell_of_stranger(&self) {
        if !self.has_told_of_strangers.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "auth",
                "what Redis has of a session cannot be opened here: do all nodes have the same \
                 security.session.key, or else the same client secret?"
            );
        }
    }

    fn session_key(&self, hash: &blake3::Hash) -> String {
        self.redis.key("session", &hash.to_hex())
    }

    fn login_key(&self, state: &Secret) -> String {
        self.redis.key("login", &state.hash().to_hex())
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<(blake3::Hash, u64)>> {
        // Each entry stands for itself.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
