//! Turns a bearer token into a principal, and remembers for a short while that it did.
//!
//! A local token is known by its `kid`, which is one of our own keys; any other is the issuer's,
//! where there is one. Neither kind can pass as the other: keys and issuer's names are apart.
//!
//! One verifier per net core, used through `&self` from its one thread. Checking a signature costs
//! more than all the rest of a small request; a token that was accepted is found again until it
//! ends, and for 5 minutes at most. It is looked up by SipHash under a random key and then compared
//! byte by byte, which costs a fifth of a BLAKE3 hash of it; so whom it names is never a matter of
//! a hash alone. Refusals are not remembered: whoever sends junk gains nothing by sending it often,
//! and cannot push the good ones out.

use crate::error::Denied;
use crate::issued::{self, Issued, IssuerRules};
use crate::jwks::Keyring;
use crate::jwt::{self, Claims, TOKEN_BYTES_MAX};
use crate::ledger::Revoked;
use crate::principal::Principal;
use crate::role::PermissionSet;
use crate::roles::Roles;
use jsonwebtoken::DecodingKey;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

/// Tokens remembered by one verifier, at most.
pub const CACHE_LEN_MAX: usize = 4_096;
/// Longest token that is remembered, in bytes: the cache holds 16 MiB at most.
pub const CACHE_TOKEN_BYTES_MAX: usize = 4_096;
/// How long one is remembered, in s, unless it ends before.
pub const CACHE_S_MAX: u64 = 300;

/// The public keys that tokens are checked against. Cheap to clone; one set feeds all net cores.
#[derive(Clone, Default)]
pub struct KeySet {
    local: Arc<[(String, DecodingKey)]>,
    revoked: Revoked,
}

impl KeySet {
    /// Keys of local tokens by their `kid`; raw Ed25519 public keys of 32 bytes.
    #[must_use]
    pub fn local(keys: &[(String, [u8; 32])]) -> KeySet {
        let key =
            |(kid, public): &(String, [u8; 32])| (kid.clone(), DecodingKey::from_ed_der(public));
        KeySet { local: keys.iter().map(key).collect(), revoked: Revoked::default() }
    }

    /// The same keys, without the tokens that are revoked, now or later.
    #[must_use]
    pub fn without(self, revoked: &Revoked) -> KeySet {
        KeySet { revoked: revoked.clone(), ..self }
    }

    pub(crate) fn of_kid(&self, kid: &str) -> Option<&DecodingKey> {
        self.local.iter().find(|(name, _)| name == kid).map(|(_, key)| key)
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.local.iter().map(|(kid, _)| kid)).finish()
    }
}

struct Known {
    principal: Principal,
    from_s: u64,
    until_s: u64,
}

/// Checks bearer tokens. Not `Sync`: each net core builds its own from a clone of the key set.
pub struct Verifier {
    keys: KeySet,
    roles: Arc<Roles>,
    issuer: Option<(Arc<IssuerRules>, Arc<Keyring>)>,
    known: RefCell<HashMap<Box<str>, Known>>,
    /// The version of the revocations that what is remembered rests on.
    revoked_seen: Cell<u64>,
}

impl Verifier {
    /// A verifier of local tokens with the roles that are built in; it remembers nothing yet.
    #[must_use]
    pub fn new(keys: KeySet) -> Verifier {
        let revoked_seen = Cell::new(keys.revoked.version());
        let (roles, known) = (Arc::default(), RefCell::default());
        Verifier { keys, roles, issuer: None, known, revoked_seen }
    }

    /// The same with these roles for local tokens.
    #[must_use]
    pub fn with_roles(self, roles: Arc<Roles>) -> Verifier {
        Verifier { roles, ..self }
    }

    /// The same that takes an issuer's tokens too, checked with the keys of the moment.
    #[must_use]
    pub fn with_issuer(self, rules: Arc<IssuerRules>, keys: Arc<Keyring>) -> Verifier {
        Verifier { issuer: Some((rules, keys)), ..self }
    }

    /// Who sent this token (the part after `Bearer `), at `now_s` seconds since 1970.
    ///
    /// # Errors
    /// Why the token proves nothing: 401 to the sender, the reason to log and metrics. Where
    /// [`Denied::asks_issuer`] is true the issuer may know better.
    pub fn verify(&self, bearer: &str, now_s: u64) -> Result<Principal, Denied> {
        if TOKEN_BYTES_MAX < bearer.len() {
            return Err(Denied::TooLong);
        }
        if bearer.is_empty() {
            return Err(Denied::Missing);
        }
        self.forget_revoked();
        if let Some(known) = self.known.borrow().get(bearer)
            && known.from_s <= now_s
            && now_s < known.until_s
        {
            return Ok(known.principal.clone());
        }
        let issued = self.check(bearer, now_s)?;
        self.remember_issued(bearer, &issued, now_s, CACHE_S_MAX);
        Ok(issued.principal)
    }

    fn check(&self, bearer: &str, now_s: u64) -> Result<Issued, Denied> {
        let is_local = || issued::kid(bearer).is_some_and(|kid| self.keys.of_kid(&kid).is_some());
        match &self.issuer {
            Some(_) if !issued::is_jwt(bearer) => Err(Denied::Opaque),
            Some((rules, keyring)) if !is_local() => {
                let keys = keyring.get().ok_or(Denied::IssuerUnavailable)?;
                rules.access(bearer, now_s, &keys)
            }
            _ => {
                let claims = jwt::check(bearer, now_s, |kid| self.keys.of_kid(kid))?;
                if self.keys.revoked.contains(&jwt::id_of(bearer, &claims)) {
                    return Err(Denied::Revoked);
                }
                let principal = principal_of(&claims, &self.roles)?;
                Ok(Issued { principal, until_s: claims.exp })
            }
        }
    }

    /// Remembers a token that was found good elsewhere, until it ends and for `s_max` at most.
    pub fn remember_issued(&self, bearer: &str, issued: &Issued, now_s: u64, s_max: u64) {
        if bearer.len() <= CACHE_TOKEN_BYTES_MAX {
            let until_s = issued.until_s.min(now_s.saturating_add(s_max.min(CACHE_S_MAX)));
            let principal = issued.principal.clone();
            self.remember(bearer, Known { principal, from_s: now_s, until_s });
        }
    }

    /// Whether this token was accepted a short while ago and still is; costs no cryptography.
    #[must_use]
    pub fn remembers(&self, bearer: &str, now_s: u64) -> bool {
        self.forget_revoked();
        let known = self.known.borrow();
        known.get(bearer).is_some_and(|known| known.from_s <= now_s && now_s < known.until_s)
    }

    /// Starts over when tokens were revoked: which of those remembered they are is not worth
    /// knowing, as each costs one check again.
    fn forget_revoked(&self) {
        let version = self.keys.revoked.version();
        if self.revoked_seen.replace(version) != version {
            self.known.borrow_mut().clear();
        }
    }

    fn remember(&self, bearer: &str, known: Known) {
        let mut all = self.known.borrow_mut();
        if CACHE_LEN_MAX <= all.len() {
            let now_s = known.from_s;
            all.retain(|_, old| now_s < old.until_s);
            if CACHE_LEN_MAX <= all.len() {
                // More live tokens than we remember: start over, each costs one check again.
                all.clear();
            }
        }
        all.insert(bearer.into(), known);
    }
}

fn principal_of(claims: &Claims, roles: &Roles) -> Result<Principal, Denied> {
    if claims.sub.is_empty() || claims.tenant.is_empty() {
        return Err(Denied::Claims);
    }
    let mut permissions = PermissionSet::NONE;
    for name in &claims.roles {
        permissions = permissions.and(roles.of_name(name).ok_or(Denied::Claims)?);
    }
    let (subject, tenant) = (claims.sub.as_str().into(), claims.tenant.as_str().into());
    Ok(Principal { subject, tenant, permissions })
}

#[cfg(test)]
#[path = "verifier/tests.rs"]
mod tests;
