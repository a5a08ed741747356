//! Tokens of an issuer: access tokens in the form of a JWT (RFC 9068), ID tokens (OpenID Connect
//! Core 1.0, section 3.1.3.7), and what the issuer says of opaque ones (RFC 7662).
//!
//! All are held to RFC 8725: the algorithm is one of four and fits the key's type (3.1); what the
//! header says about keys is never followed (3.10); issuer, audience and subject are checked (3.8,
//! 3.9); and the kinds of tokens are told apart by rules of which a token can fulfil one set alone
//! (3.11, 3.12). An access token's `typ` is `at+jwt`, an ID token's is `JWT` or absent. For an
//! issuer whose access tokens have no type of their own, `typ` may be configured; then what only an
//! ID token has, such as a `nonce` or our own client as its audience, refuses it.

use crate::error::Denied;
use crate::json;
use crate::jwks::{Alg, IssuerKeys, Lookup};
use crate::jwt::Parts;
use crate::principal::{Principal, TENANT_DEFAULT};
use crate::roles::Roles;
use crate::session::Profile;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::sync::Arc;

/// How far the issuer's clock and ours may be apart, in s.
pub const LEEWAY_S: u64 = 60;
/// Longest subject, in bytes (OpenID Connect Core 1.0, section 2).
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Longest tenant, in bytes.
pub const TENANT_BYTES_MAX: usize = 128;
/// Longest name or address that is kept to be shown, in bytes.
const SHOWN_BYTES_MAX: usize = 255;
/// The type of an access token (RFC 9068, section 2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// What a token must say to be taken, and how it is read.
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// The issuer, exactly as in `iss`.
    pub issuer: String,
    /// One of the audiences of an access token.
    pub audience: String,
    /// Our own client, which is the audience of ID tokens.
    pub client_id: Option<String>,
    /// Types of access tokens, without `application/`; `JWT` stands for an absent one too.
    pub token_types: Vec<String>,
    /// The claim that names roles: a member, or a path with dots.
    pub roles_claim: String,
    /// The claim that names the tenant, likewise.
    pub tenant_claim: String,
    /// The roles that the values of a claim give.
    pub roles: Arc<Roles>,
}

/// An access token that was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// Whose it is.
    pub principal: Principal,
    /// When it is no longer taken, in s since 1970.
    pub until_s: u64,
}

/// Who logged in, as an ID token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdClaims {
    /// Their name at the issuer: stable, never given to another.
    pub sub: String,
    /// A name to show.
    pub name: Option<String>,
    /// An address to show; nothing is decided by it.
    pub email: Option<String>,
    /// The values of the roles claim; see [`IdClaims::principal`] for what they allow.
    pub roles: Vec<String>,
    /// Whose tasks they see, where the issuer says so.
    pub tenant: Option<String>,
    /// When the token ends, in s since 1970.
    pub exp: u64,
    /// The issuer's name of the session, for a logout that the issuer begins.
    pub sid: Option<String>,
}

impl IdClaims {
    /// Who asks, when they come back with a session.
    #[must_use]
    pub fn principal(&self, roles: &Roles) -> Principal {
        Principal {
            subject: self.sub.as_str().into(),
            tenant: self.tenant.as_deref().unwrap_or(TENANT_DEFAULT).into(),
            permissions: roles.of_claims(self.roles.iter().map(String::as_str)),
        }
    }

    /// What is shown of them beside what the principal says.
    #[must_use]
    pub fn profile(&self, roles: &Roles) -> Profile {
        let values = self.roles.iter().map(String::as_str);
        Profile { name: self.name.clone(), roles: roles.giving(values) }
    }

    /// Whether something is missing that the issuer may tell elsewhere.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.name.is_none() || self.tenant.is_none() || self.roles.is_empty()
    }
}

type Claims = Map<String, Value>;

/// A token whose signature is the issuer's; nothing that it says has been looked at.
struct Signed {
    typ: Option<String>,
    claims: Claims,
}

/// Whether a token has the shape of a signed JWT: two dots. Any other is only known to its issuer.
#[must_use]
pub fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The `kid` in a token's header, to tell whose it is; nothing is checked.
#[must_use]
pub fn kid(token: &str) -> Option<String> {
    let mut header = decoded(token.split('.').next()?).ok()?;
    match header.remove("kid") {
        Some(Value::String(kid)) => Some(kid),
        _ => None,
    }
}

impl IssuerRules {
    /// Checks an access token.
    ///
    /// # Errors
    /// The first reason for which it proves nothing.
    pub fn access(&self, token: &str, now_s: u64, keys: &IssuerKeys) -> Result<Issued, Denied> {
        let Signed { typ, claims } = opened(token, keys)?;
        self.check_access_type(typ.as_deref(), &claims)?;
        let until_s = self.check_common(&claims, now_s, &self.audience)?;
        Ok(Issued { principal: self.principal(&claims, text(&claims, "sub")?)?, until_s })
    }

    /// Reads the issuer's answer about an opaque token (RFC 7662, section 2.2).
    ///
    /// It must be active, a bearer token, and meant for us: `aud` must be there, as an issuer
    /// answers for any token of its own.
    ///
    /// # Errors
    /// The first reason for which it proves nothing.
    pub fn introspected(&self, answer: &Claims, now_s: u64) -> Result<Issued, Denied> {
        if answer.get("active") != Some(&Value::Bool(true)) {
            return Err(Denied::Inactive);
        }
        let token_type = text(answer, "token_type")?;
        if token_type.is_some_and(|token_type| !token_type.eq_ignore_ascii_case("bearer")) {
            return Err(Denied::TokenType);
        }
        if answer.get("iss").is_some_and(|iss| *iss != *self.issuer) {
            return Err(Denied::Issuer);
        }
        check_audience(answer, &self.audience)?;
        let until_s = check_times(answer, now_s, u64::MAX)?;
        let subject = text(answer, "sub")?.or(text(answer, "client_id")?);
        Ok(Issued { principal: self.principal(answer, subject)?, until_s })
    }

    /// Checks an ID token that came straight from the issuer for a login with this `nonce`.
    ///
    /// # Errors
    /// The first reason for which it proves nothing.
    pub fn id(
        &self,
        token: &str,
        nonce: &str,
        now_s: u64,
        keys: &IssuerKeys,
    ) -> Result<IdClaims, Denied> {
        let Signed { typ, claims } = opened(token, keys)?;
        if !typ.is_none_or(|typ| essence(&typ).eq_ignore_ascii_case("jwt")) {
            return Err(Denied::TokenType);
        }
        let client = self.client_id.as_deref().ok_or(Denied::Audience)?;
        let exp = self.check_common(&claims, now_s, client)?.saturating_sub(LEEWAY_S);
        seconds(&claims, "iat")?.ok_or(Denied::Malformed)?;
        let is_shared =
            claims.get("aud").and_then(Value::as_array).is_some_and(|aud| 1 < aud.len());
        match text(&claims, "azp")? {
            Some(party) if party != client => return Err(Denied::Audience),
            None if is_shared => return Err(Denied::Audience),
            _ => {}
        }
        if nonce.is_empty() || text(&claims, "nonce")? != Some(nonce) {
            return Err(Denied::Claims);
        }
        let sub = subject(text(&claims, "sub")?)?.to_owned();
        Ok(IdClaims {
            sub,
            name: shown(&claims, "name").or_else(|| shown(&claims, "preferred_username")),
            email: shown(&claims, "email"),
            roles: values(at(&claims, &self.roles_claim)).map(str::to_owned).collect(),
            tenant: own_tenant(at(&claims, &self.tenant_claim))?,
            exp,
            sid: shown(&claims, "sid"),
        })
    }

    /// Fills in what an ID token left out from the issuer's UserInfo answer (OpenID Connect Core
    /// 1.0, section 5.3.2); what the token says stands. An issuer that gives an access token as
    /// well may tell all but the subject there alone (section 5.4).
    ///
    /// # Errors
    /// [`Denied::Claims`] when it speaks of somebody else, or its tenant is no name.
    pub fn complete(&self, claims: &mut IdClaims, told: &Claims) -> Result<(), Denied> {
        if text(told, "sub")? != Some(&claims.sub) {
            return Err(Denied::Claims);
        }
        let name = claims.name.take().or_else(|| shown(told, "name"));
        claims.name = name.or_else(|| shown(told, "preferred_username"));
        claims.email = claims.email.take().or_else(|| shown(told, "email"));
        if claims.roles.is_empty() {
            claims.roles = values(at(told, &self.roles_claim)).map(str::to_owned).collect();
        }
        if claims.tenant.is_none() {
            claims.tenant = own_tenant(at(told, &self.tenant_claim))?;
        }
        Ok(())
    }

    fn check_access_type(&self, typ: Option<&str>, claims: &Claims) -> Result<(), Denied> {
        let typ = essence(typ.unwrap_or("JWT"));
        let is_taken = |taken: &String| essence(taken).eq_ignore_ascii_case(typ);
        if !self.token_types.iter().any(is_taken) {
            return Err(Denied::TokenType);
        }
        if typ.eq_ignore_ascii_case(ACCESS_TOKEN_TYPE) {
            return Ok(());
        }
        // What only an ID token has; and the words of those who say what they issue.
        let only_id = ["nonce", "at_hash", "c_hash", "s_hash"];
        let says = |name: &str, word: &str| {
            claims.get(name).and_then(Value::as_str).is_some_and(|is| is.eq_ignore_ascii_case(word))
        };
        let is_ours = self.client_id.as_deref().is_some_and(|client| is_for(claims, client));
        let is_id = only_id.iter().any(|name| claims.contains_key(*name))
            || says("typ", "id")
            || says("token_use", "id");
        if is_id || is_ours { Err(Denied::TokenType) } else { Ok(()) }
    }

    /// Issuer, audience and times; gives the end with its leeway, in s.
    fn check_common(&self, claims: &Claims, now_s: u64, audience: &str) -> Result<u64, Denied> {
        if claims.get("iss").and_then(Value::as_str) != Some(&*self.issuer) {
            return Err(Denied::Issuer);
        }
        check_audience(claims, audience)?;
        let exp = seconds(claims, "exp")?.ok_or(Denied::Malformed)?;
        check_times(claims, now_s, exp)
    }

    fn principal(&self, claims: &Claims, named: Option<&str>) -> Result<Principal, Denied> {
        // Bound to a key of its holder (RFC 7800), whose possession we do not check: as a bearer
        // token it would be worth more to a thief than it is meant to be.
        if claims.contains_key("cnf") {
            return Err(Denied::Claims);
        }
        Ok(Principal {
            subject: subject(named)?.into(),
            tenant: tenant(at(claims, &self.tenant_claim))?.into(),
            permissions: self.roles.of_claims(values(at(claims, &self.roles_claim))),
        })
    }
}

/// Takes a token apart and checks its signature.
fn opened(token: &str, keys: &IssuerKeys) -> Result<Signed, Denied> {
    let Parts { message, header, claims, signature } = Parts::of(token)?;
    let header = decoded(header)?;
    // Extensions that must be understood, of which we understand none, and keys brought along.
    let refused = ["crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip"];
    if refused.iter().any(|name| header.contains_key(*name)) {
        return Err(Denied::Malformed);
    }
    let alg = text(&header, "alg")?.and_then(Alg::of_name).ok_or(Denied::Algorithm)?;
    let kid = text(&header, "kid")?;
    let key = match keys.find(kid, alg) {
        Lookup::Key(key) => key,
        Lookup::OtherAlg => return Err(Denied::Algorithm),
        Lookup::Unknown => return Err(Denied::KeyUnknown),
    };
    if !key.verifies(alg, message, signature) {
        // Without a name it may be a newer key that the issuer signed with.
        return Err(if kid.is_some() { Denied::Signature } else { Denied::KeyUnknown });
    }
    Ok(Signed { typ: text(&header, "typ")?.map(str::to_owned), claims: decoded(claims)? })
}

fn decoded(part: &str) -> Result<Map<String, Value>, Denied> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Malformed)?;
    json::object(&bytes).ok_or(Denied::Malformed)
}

/// A type without the `application/` that may be left out (RFC 7515, section 4.1.9).
fn essence(typ: &str) -> &str {
    match typ.split_once('/') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("application") => rest,
        _ => typ,
    }
}

/// A member that must be a text where it is there.
fn text<'c>(claims: &'c Claims, name: &str) -> Result<Option<&'c str>, Denied> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Denied::Malformed),
    }
}

/// A text that is only shown: left out where it is none, or longer than a name is.
fn shown(claims: &Claims, name: &str) -> Option<String> {
    let text = claims.get(name).and_then(Value::as_str);
    text.filter(|text| text.len() <= SHOWN_BYTES_MAX).map(str::to_owned)
}

/// A `NumericDate` (RFC 7519, section 2), which may have a fraction: its whole seconds.
fn seconds(claims: &Claims, name: &str) -> Result<Option<u64>, Denied> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let fraction = || value.as_f64().filter(|s| (0.0..9e15).contains(s)).map(|s| s as u64);
    value.as_u64().or_else(fraction).map(Some).ok_or(Denied::Malformed)
}

/// `exp`, or else this, with the leeway; and that `nbf` and `iat` are past.
fn check_times(claims: &Claims, now_s: u64, otherwise: u64) -> Result<u64, Denied> {
    let exp = seconds(claims, "exp")?.unwrap_or(otherwise).saturating_add(LEEWAY_S);
    if exp <= now_s {
        return Err(Denied::Expired);
    }
    for name in ["nbf", "iat"] {
        if seconds(claims, name)?.is_some_and(|at| now_s.saturating_add(LEEWAY_S) < at) {
            return Err(Denied::NotYet);
        }
    }
    Ok(exp)
}

fn check_audience(claims: &Claims, audience: &str) -> Result<(), Denied> {
    if is_for(claims, audience) { Ok(()) } else { Err(Denied::Audience) }
}

fn is_for(claims: &Claims, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(only)) => only == audience,
        Some(Value::Array(all)) => {
            all.iter().all(Value::is_string) && all.iter().any(|one| one == audience)
        }
        _ => false,
    }
}

/// The claim of that name, or at the end of that path: names may have dots in them.
fn at<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

/// The texts of a list, or the words of a text; nothing of anything else.
fn values(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let (list, words) = match claim {
        Some(Value::Array(list)) => (&list[..], ""),
        Some(Value::String(words)) => (&[][..], &words[..]),
        _ => (&[][..], ""),
    };
    list.iter().filter_map(Value::as_str).chain(words.split_ascii_whitespace())
}

fn subject(named: Option<&str>) -> Result<&str, Denied> {
    named.filter(|name| is_name(name, SUBJECT_BYTES_MAX)).ok_or(Denied::Claims)
}

fn tenant(claim: Option<&Value>) -> Result<&str, Denied> {
    match claim {
        None => Ok(TENANT_DEFAULT),
        Some(Value::String(name)) if is_name(name, TENANT_BYTES_MAX) => Ok(name),
        Some(_) => Err(Denied::Claims),
    }
}

fn own_tenant(claim: Option<&Value>) -> Result<Option<String>, Denied> {
    claim.map(|claim| tenant(Some(claim)).map(str::to_owned)).transpose()
}

fn is_name(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.contains(char::is_control)
}
