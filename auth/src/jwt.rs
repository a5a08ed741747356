//! nO's own tokens in their wire form: `base64url(header).base64url(claims).base64url(signature)`.
//!
//! ```text
//! header {"alg":"EdDSA","typ":"JWT","kid":"<16 hex digits of the public key's BLAKE3>"}
//! claims {"iss":"no","aud":"no","sub":…,"roles":[…],"tenant":…,"iat":s,"nbf":s,"exp":s,"jti":…}
//! ```
//!
//! Read strictly: a member that we never write (`jwk`, `jku`, `crit`, …), a duplicate one, another
//! algorithm or a non-canonical encoding is refused before any cryptography. The algorithm is ours,
//! never the token's: the header only has to agree (RFC 8725, section 3.1).

use crate::error::{Denied, Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// How far the clock that made a token may be ahead, in s.
pub const SKEW_S: u64 = 60;
/// `iss` and `aud` of local tokens.
pub const LOCAL: &str = "no";

/// The header that we write, and the only one that we read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    kid: Option<String>,
}

/// What a local token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// Whose it is.
    pub sub: String,
    /// Names of roles.
    pub roles: Vec<String>,
    /// Whose tasks it opens.
    pub tenant: String,
    /// Made at, in s since 1970.
    pub iat: u64,
    /// Not before, in s since 1970.
    pub nbf: u64,
    /// Ends at, in s since 1970; not valid in that second any more.
    pub exp: u64,
    /// Its id; tokens made before there were ids have none, see [`id_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// The id by which a token is revoked: its `jti`, or for one without the first 20 hex digits of its
/// BLAKE3, by which it cannot be told.
#[must_use]
pub fn id_of(token: &str, claims: &Claims) -> String {
    let of_bytes = || blake3::hash(token.as_bytes()).to_hex()[..20].to_owned();
    claims.jti.clone().unwrap_or_else(of_bytes)
}

/// Signs the claims.
///
/// # Errors
/// [`Error::Sign`] when the library refuses the key.
pub fn sign(claims: &Claims, kid: &str, key: &EncodingKey) -> Result<String> {
    let header = Header { alg: "EdDSA".into(), typ: Some("JWT".into()), kid: Some(kid.to_owned()) };
    let part = |json: serde_json::Result<Vec<u8>>| {
        json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).map_err(|_| Error::Sign)
    };
    let header = part(serde_json::to_vec(&header))?;
    let message = format!("{header}.{}", part(serde_json::to_vec(claims))?);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::EdDSA)
        .map_err(|_| Error::Sign)?;
    Ok(format!("{message}.{signature}"))
}

/// A token taken apart at its dots; nothing is decoded.
pub(crate) struct Parts<'t> {
    /// What is signed: header and claims with their dot.
    pub(crate) message: &'t str,
    pub(crate) header: &'t str,
    pub(crate) claims: &'t str,
    pub(crate) signature: &'t str,
}

impl<'t> Parts<'t> {
    /// # Errors
    /// For what is too long, or has not two dots.
    pub(crate) fn of(token: &'t str) -> std::result::Result<Parts<'t>, Denied> {
        if TOKEN_BYTES_MAX < token.len() {
            return Err(Denied::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Denied::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Denied::Malformed)?;
        if claims.contains('.') {
            return Err(Denied::Malformed);
        }
        Ok(Parts { message, header, claims, signature })
    }
}

/// Checks form, algorithm, signature and times; `key_of` gives the public key of a `kid`.
///
/// # Errors
/// The first reason for which the token proves nothing.
pub fn check<'k>(
    token: &str,
    now_s: u64,
    key_of: impl FnOnce(&str) -> Option<&'k DecodingKey>,
) -> std::result::Result<Claims, Denied> {
    let Parts { message, header, claims, signature } = Parts::of(token)?;
    let header: Header = decoded(header)?;
    if header.alg != "EdDSA" {
        return Err(Denied::Algorithm);
    }
    if header.typ.as_deref().is_some_and(|typ| typ != "JWT") {
        return Err(Denied::Malformed);
    }
    let key = key_of(&header.kid.ok_or(Denied::Malformed)?).ok_or(Denied::KeyUnknown)?;
    match jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, Algorithm::EdDSA) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(Denied::Signature),
    }
    let claims: Claims = decoded(claims)?;
    if claims.iss != LOCAL {
        return Err(Denied::Issuer);
    }
    if claims.aud != LOCAL {
        return Err(Denied::Audience);
    }
    if claims.exp <= now_s {
        return Err(Denied::Expired);
    }
    if now_s.saturating_add(SKEW_S) < claims.nbf {
        return Err(Denied::NotYet);
    }
    Ok(claims)
}

fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> std::result::Result<T, Denied> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Denied::Malformed)
}
