//! What `redis` says, and whether sessions can be shared over it.

use super::peer::{Peer, peer};
use super::{Config, text, whole};
use crate::config::raw::{Raw, parts};
use no_auth::shared::SHARED_SECRET_BYTES_MIN;
use no_net::redis::RedisConfig;
use std::time::Duration;

/// Longest prefix of keys, in bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// Reads it; `None` without a host, whatever else is said.
pub(super) fn redis(raw: &mut Raw) -> Option<RedisConfig> {
    let Peer { host, port, is_tls } = peer(raw, "redis")?;
    let timeout_ms = whole(raw, "redis.timeout");
    if timeout_ms == 0 {
        raw.fault(&parts("redis.timeout"), "must be a millisecond or more", None);
    }
    let prefix = text(raw, "redis.prefix");
    if PREFIX_BYTES_MAX < prefix.len() || !prefix.chars().all(|c| c.is_ascii_graphic()) {
        let problem = "must be at most 64 characters of ASCII without blanks";
        raw.fault(&parts("redis.prefix"), problem, None);
    }
    Some(RedisConfig {
        host,
        port,
        password: raw.secret("redis.password"),
        is_tls,
        timeout: Duration::from_millis(timeout_ms),
        prefix,
    })
}

/// Sessions leave a node only sealed under a secret that all nodes have: without one they would not
/// be shared, and nobody would know why.
pub(super) fn check_sessions(config: &Config, raw: &mut Raw) {
    let key = parts("security.session.key");
    let how = "openssl rand -base64 32 makes one; the same on all nodes, in NO_SESSION_KEY_FILE";
    if let Some(secret) = raw.secret("security.session.key")
        && secret.reveal().len() < SHARED_SECRET_BYTES_MIN
    {
        let problem = format!("must have {SHARED_SECRET_BYTES_MIN} characters or more");
        return raw.fault(&key, problem, Some(how.to_owned()));
    }
    let Some(oauth) = config.oauth.as_ref().filter(|_| config.redis.is_some()) else { return };
    let has_secret = oauth.session_key.is_some()
        || oauth.client_secret.is_some()
        || oauth.client_secret_file.is_some();
    if oauth.browser_config().is_some() && !has_secret {
        let problem = "is missing: browsers log in with a client that has no secret, and sessions \
                       in Redis are sealed with one";
        raw.fault(&key, problem, Some(how.to_owned()));
    }
}
