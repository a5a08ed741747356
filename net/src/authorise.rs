//! Who asks, and may they: what stands between a route and its handler.
//!
//! A token that is remembered, local, or of a known key is checked without waiting. Only where the
//! issuer may know better is it asked, by [`authorise_asking`]. A request without a token may have
//! the cookie of a session instead; then it must prove that our own page made it when it changes
//! something. Nodes that share their sessions are asked about one there as well, not on every
//! request.

use crate::browser::{Look, is_ours};
use crate::core::{Core, Verify};
use crate::time;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE};
use hyper::http::request::Parts;
use no_auth::session::Secret;
use no_auth::{Denied, Permission, Principal};

/// Why somebody was not let in; the gate counts it, keeps it and makes a problem of it.
#[derive(Debug)]
pub(crate) enum NotAllowed {
    /// Nobody proved anything: 401.
    Unproven(Denied),
    /// The principal lacks the permission: 403.
    Forbidden {
        /// Who asked.
        principal: Principal,
        /// For what.
        needed: Permission,
    },
    /// A session's cookie came without the proof that our own page sent it: 403.
    Forged {
        /// Whose session it is.
        principal: Principal,
    },
}

/// The principal of a request for something that needs this permission; `None` when that takes the
/// issuer's word, or the other nodes'.
///
/// # Errors
/// [`NotAllowed`].
pub(crate) fn authorise(
    core: &Core,
    head: &Parts,
    needed: Permission,
) -> Result<Option<Principal>, NotAllowed> {
    let Some(verify) = &core.verify else { return Ok(Some(Principal::unchecked())) };
    match look(core, head) {
        Look::Session(secret, session) => {
            let principal = of_session(core, head, &secret, session.principal)?;
            return allowed(principal, needed).map(Some);
        }
        Look::Ask(_) => return Ok(None),
        Look::Nobody => {}
    }
    match proven(verify, &head.headers) {
        Err(why) if why.asks_issuer() && core.provider.is_some() => Ok(None),
        proven => allowed(accepted(core, proven)?, needed).map(Some),
    }
}

/// The same, with the word of the issuer or the other nodes where it is needed.
///
/// # Errors
/// [`NotAllowed`].
pub(crate) async fn authorise_asking(
    core: &Core,
    head: &Parts,
    needed: Permission,
) -> Result<Principal, NotAllowed> {
    // Whatever was known before: another request may have asked meanwhile.
    if let Some(browsers) = core.browsers.as_ref().filter(|_| has_cookie_alone(head))
        && let Some((secret, session)) = browsers.session(&head.headers).await
    {
        return allowed(of_session(core, head, &secret, session.principal)?, needed);
    }
    allowed(identify(core, &head.headers).await?, needed)
}

/// The principal of a request's token, whatever it may.
///
/// # Errors
/// [`NotAllowed::Unproven`].
pub(crate) async fn identify(core: &Core, headers: &HeaderMap) -> Result<Principal, NotAllowed> {
    let Some(verify) = &core.verify else { return Ok(Principal::unchecked()) };
    let proven = match (proven(verify, headers), bearer(headers), &core.provider) {
        (Err(why), Some(bearer), Some(provider)) if why.asks_issuer() => {
            provider.prove(bearer, why, now_s()).await
        }
        (proven, ..) => proven,
    };
    accepted(core, proven)
}

/// The bearer token of a request, if it has one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok().and_then(bearer_of)
}

/// How the principal of a request proved who it is, for the audit log.
pub(crate) fn method_of(core: &Core, headers: &HeaderMap) -> &'static str {
    match (&core.verify, headers.contains_key(AUTHORIZATION)) {
        (None, _) => "none",
        (Some(_), true) => "bearer",
        (Some(_), false) => "session",
    }
}

/// What is known of the session of a request with a cookie and without a token.
fn look(core: &Core, head: &Parts) -> Look {
    match &core.browsers {
        Some(browsers) if has_cookie_alone(head) => browsers.look(&head.headers),
        _ => Look::Nobody,
    }
}

fn has_cookie_alone(head: &Parts) -> bool {
    head.headers.contains_key(COOKIE) && !head.headers.contains_key(AUTHORIZATION)
}

/// Who logged in, when our own page made the request or nothing is changed by it.
fn of_session(
    core: &Core,
    head: &Parts,
    secret: &Secret,
    principal: Principal,
) -> Result<Principal, NotAllowed> {
    if head.method.is_safe() || is_ours(&head.headers, secret) {
        core.stats.security.session_accepted();
        Ok(principal)
    } else {
        Err(NotAllowed::Forged { principal })
    }
}

fn proven(verify: &Verify, headers: &HeaderMap) -> Result<Principal, Denied> {
    let header = headers.get(AUTHORIZATION).ok_or(Denied::Missing)?;
    let bearer = header.to_str().ok().and_then(bearer_of).ok_or(Denied::Malformed)?;
    verify(bearer, now_s())
}

fn accepted(core: &Core, proven: Result<Principal, Denied>) -> Result<Principal, NotAllowed> {
    (core.count_proof)(proven.as_ref().map(|_| ()).map_err(|why| *why));
    proven.map_err(NotAllowed::Unproven)
}

fn allowed(principal: Principal, needed: Permission) -> Result<Principal, NotAllowed> {
    if principal.may(needed) {
        Ok(principal)
    } else {
        Err(NotAllowed::Forbidden { principal, needed })
    }
}

fn now_s() -> u64 {
    time::wall().0 / 1_000
}

/// The token of a `Bearer` header; the scheme's name is case-insensitive (RFC 9110).
fn bearer_of(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_headers() {
        assert_eq!(bearer_of("Bearer abc"), Some("abc"));
        assert_eq!(bearer_of("bearer abc"), Some("abc"));
        assert_eq!(bearer_of("Basic abc"), None);
        assert_eq!(bearer_of("Bearer"), None);
    }
}
