//! Who asks, and may they: what stands between a route and its handler.

use crate::core::Core;
use crate::problem::{Code, Problem};
use crate::time;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use no_auth::{Permission, Principal};

/// The principal of a request for something that needs this permission.
///
/// # Errors
/// 401 without a proof of identity, 403 without the permission.
pub(crate) fn authorise(
    core: &Core,
    headers: &HeaderMap,
    needed: Permission,
) -> Result<Principal, Problem> {
    let Some(verify) = &core.verify else { return Ok(Principal::unchecked()) };
    let denied = |why: &'static str| Problem::new(Code::Unauthenticated, why);
    let header = headers.get(AUTHORIZATION).ok_or_else(|| denied("no bearer token"))?;
    let bearer = header.to_str().ok().and_then(bearer_of);
    let bearer = bearer.ok_or_else(|| denied("the Authorization header is no bearer token"))?;
    let principal = verify(bearer, time::wall().0 / 1_000).map_err(|why| {
        tracing::info!(target: "auth", %why, "a token was refused");
        denied("the token was not accepted")
    })?;
    if !principal.may(needed) {
        let (subject, permission) = (&principal.subject, needed.name());
        tracing::info!(target: "rbac", %subject, permission, "denied");
        return Err(Problem::new(Code::Forbidden, format!("{permission} is needed")));
    }
    Ok(principal)
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
