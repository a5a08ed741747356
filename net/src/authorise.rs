//! Who asks, and may they: what stands between a route and its handler.
//!
//! A token that is remembered, local, or of a known key is checked without waiting. Only where the
//! issuer may know better is it asked, by [`authorise_asking`].

use crate::core::{Core, Verify};
use crate::oidc::RETRY_AFTER_S;
use crate::problem::{Code, Problem};
use crate::time;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use no_auth::{Denied, Permission, Principal};

/// The principal of a request for something that needs this permission; `None` when that takes the
/// issuer's word.
///
/// # Errors
/// 401 without a proof of identity, 403 without the permission.
pub(crate) fn authorise(
    core: &Core,
    headers: &HeaderMap,
    needed: Permission,
) -> Result<Option<Principal>, Problem> {
    let Some(verify) = &core.verify else { return Ok(Some(Principal::unchecked())) };
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
    let (Some(verify), Some(provider)) = (&core.verify, &core.provider) else {
        return Err(Problem::internal("there is no issuer to ask"));
    };
    let proven = match (proven(verify, headers), bearer(headers)) {
        (Err(why), Ok(bearer)) if why.asks_issuer() => provider.prove(bearer, why, now_s()).await,
        (proven, _) => proven,
    };
    decided(core, proven, needed)
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
    (core.count_proof)(proven.as_ref().map(|_| ()).map_err(|why| *why));
    let principal = proven.map_err(|why| {
        tracing::info!(target: "auth", reason = why.reason(), %why, "a token was refused");
        denied(why)
    })?;
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
