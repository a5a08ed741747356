//! Who asks, and may they: what stands between a route and its handler.
//!
//! A token that is remembered, local, or of a known key is checked without waiting. Only where the
//! issuer may know better is it asked, by [`authorise_asking`]. A request without a token may have
//! the cookie of a session instead; then it must prove that our own page made it when it changes
//! something.

use crate::browser::is_ours;
use crate::core::{Core, Verify};
use crate::oidc::RETRY_AFTER_S;
use crate::problem::{Code, Problem};
use crate::time;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE};
use hyper::http::request::Parts;
use no_auth::{Denied, Permission, Principal};

/// The principal of a request for something that needs this permission; `None` when that takes the
/// issuer's word.
///
/// # Errors
/// 401 without a proof of identity, 403 without the permission.
pub(crate) fn authorise(
    core: &Core,
    head: &Parts,
    needed: Permission,
) -> Result<Option<Principal>, Problem> {
    let Some(verify) = &core.verify else { return Ok(Some(Principal::unchecked())) };
    let headers = &head.headers;
    if let Some(principal) = of_session(core, head)? {
        return allowed(principal, needed).map(Some);
    }
    match proven(verify, headers) {
        Err(why) if why.asks_issuer() && core.provider.is_some() => Ok(None),
        proven => decided(core, proven, needed).map(Some),
    }
}

/// The same, with the issuer's word where it is needed.
///
/// # Errors
/// As [`authorise`]; while the issuer does not answer, the 401 says when to try again.
pub(crate) async fn authorise_asking(
    core: &Core,
    headers: &HeaderMap,
    needed: Permission,
) -> Result<Principal, Problem> {
    allowed(identify(core, headers).await?, needed)
}

/// The principal of a request's token, whatever it may.
///
/// # Errors
/// 401 without a token that proves anything.
pub(crate) async fn identify(core: &Core, headers: &HeaderMap) -> Result<Principal, Problem> {
    let Some(verify) = &core.verify else { return Ok(Principal::unchecked()) };
    let proven = match (proven(verify, headers), bearer(headers), &core.provider) {
        (Err(why), Ok(bearer), Some(provider)) if why.asks_issuer() => {
            provider.prove(bearer, why, now_s()).await
        }
        (proven, ..) => proven,
    };
    accepted(core, proven)
}

/// Who logged in, when the request has a session's cookie and no token.
fn of_session(core: &Core, head: &Parts) -> Result<Option<Principal>, Problem> {
    let Some(browsers) = &core.browsers else { return Ok(None) };
    if head.headers.contains_key(AUTHORIZATION) || !head.headers.contains_key(COOKIE) {
        return Ok(None);
    }
    let Some((secret, session)) = browsers.session(&head.headers) else { return Ok(None) };
    if !head.method.is_safe() && !is_ours(&head.headers, &secret) {
        tracing::warn!(target: "auth", subject = %session.principal.subject, "no CSRF token");
        let detail = "X-CSRF-Token is missing or wrong; /auth/me gives it";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    Ok(Some(session.principal))
}

fn proven(verify: &Verify, headers: &HeaderMap) -> Result<Principal, Denied> {
    verify(bearer(headers)?, now_s())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let header = headers.get(AUTHORIZATION).ok_or(Denied::Missing)?;
    header.to_str().ok().and_then(bearer_of).ok_or(Denied::Malformed)
}

fn decided(
    core: &Core,
    proven: Result<Principal, Denied>,
    needed: Permission,
) -> Result<Principal, Problem> {
    allowed(accepted(core, proven)?, needed)
}

fn accepted(core: &Core, proven: Result<Principal, Denied>) -> Result<Principal, Problem> {
    (core.count_proof)(proven.as_ref().map(|_| ()).map_err(|why| *why));
    proven.map_err(|why| {
        tracing::info!(target: "auth", reason = why.reason(), %why, "a token was refused");
        denied(why)
    })
}

fn allowed(principal: Principal, needed: Permission) -> Result<Principal, Problem> {
    if !principal.may(needed) {
        let (subject, permission) = (&principal.subject, needed.name());
        tracing::info!(target: "rbac", %subject, permission, "denied");
        return Err(Problem::new(Code::Forbidden, format!("{permission} is needed")));
    }
    Ok(principal)
}

/// One answer for every reason but that there was no token: who sends a forged one learns nothing.
fn denied(why: Denied) -> Problem {
    let detail = match why {
        Denied::Missing => "no bearer token",
        _ => "the token was not accepted",
    };
    let mut problem = Problem::new(Code::Unauthenticated, detail);
    problem.retry_after_s = (why == Denied::IssuerUnavailable).then_some(RETRY_AFTER_S);
    problem
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
