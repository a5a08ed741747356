//! Who asks, and may they: what stands between a route and its handler.

use crate::core::Core;
use crate::time;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use no_auth::{Denied, Permission, Principal};

/// Why somebody was not let in; the gate counts it, keeps it and makes a problem of it.
#[derive(Debug)]
pub(crate) enum NotAllowed {
    /// Nobody proved anything: 401.
    Unproven {
        /// Why not.
        denied: Denied,
        /// What the sender is told.
        detail: &'static str,
    },
    /// The principal lacks the permission: 403.
    Forbidden {
        /// Who asked.
        principal: Principal,
        /// For what.
        needed: Permission,
    },
}

/// The principal of a request for something that needs this permission.
///
/// # Errors
/// [`NotAllowed::Unproven`] without a proof of identity, [`NotAllowed::Forbidden`] without the
/// permission.
pub(crate) fn authorise(
    core: &Core,
    headers: &HeaderMap,
    needed: Permission,
) -> Result<Principal, NotAllowed> {
    let Some(verify) = &core.verify else { return Ok(Principal::unchecked()) };
    let unseen = |denied, detail| {
        core.stats.security.unproven(denied);
        NotAllowed::Unproven { denied, detail }
    };
    let header = headers.get(AUTHORIZATION);
    let header = header.ok_or_else(|| unseen(Denied::Missing, "no bearer token"))?;
    let bearer = header.to_str().ok().and_then(bearer_of);
    let bearer = bearer
        .ok_or_else(|| unseen(Denied::Malformed, "the Authorization header is no bearer token"))?;
    let principal = verify(bearer, time::wall().0 / 1_000)
        .map_err(|denied| NotAllowed::Unproven { denied, detail: "the token was not accepted" })?;
    if !principal.may(needed) {
        return Err(NotAllowed::Forbidden { principal, needed });
    }
    Ok(principal)
}

/// The bearer token of a request, if it has one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok().and_then(bearer_of)
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
