//! The public keys of an issuer, as its JWK Set names them (RFC 7517).
//!
//! The set must be well formed; a key in it that we cannot use is left out, as section 5 of the RFC
//! asks: issuers publish keys for other purposes beside those that sign. A key is used for the
//! algorithms that its type, `use`, `key_ops` and `alg` leave, and for no other (RFC 8725, sections
//! 3.1 and 3.5): an RSA key of less than 2048 bits, a symmetric key and a private one never are.

use crate::json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use std::sync::{Arc, PoisonError, RwLock};

/// Keys in a set, at most.
pub const KEYS_LEN_MAX: usize = 100;
/// Shortest RSA key that is used, in bits (RFC 7518, section 3.3).
pub const RSA_BITS_MIN: usize = 2_048;
/// Longest RSA key that is used, in bits: a longer one only costs time.
pub const RSA_BITS_MAX: usize = 8_192;

/// Algorithms of an issuer's tokens: asymmetric ones alone, so that no public key can be mistaken
/// for a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// The algorithm of that name, exactly so written.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Alg> {
        match name {
            "RS256" => Some(Alg::Rs256),
            "PS256" => Some(Alg::Ps256),
            "ES256" => Some(Alg::Es256),
            "EdDSA" => Some(Alg::EdDsa),
            _ => None,
        }
    }

    fn library(self) -> Algorithm {
        match self {
            Alg::Rs256 => Algorithm::RS256,
            Alg::Ps256 => Algorithm::PS256,
            Alg::Es256 => Algorithm::ES256,
            Alg::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A key and what it may check.
pub struct IssuerKey {
    kid: Option<Box<str>>,
    algs: &'static [Alg],
    key: DecodingKey,
}

impl IssuerKey {
    /// Whether the signature (base64url) is this key's over the message.
    #[must_use]
    pub fn verifies(&self, alg: Alg, message: &str, signature: &str) -> bool {
        let library = alg.library();
        let checked =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, library);
        self.algs.contains(&alg) && matches!(checked, Ok(true))
    }
}

/// The usable keys of one issuer.
#[derive(Default)]
pub struct IssuerKeys {
    keys: Vec<IssuerKey>,
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

/// What a token's `kid` and `alg` lead to.
pub enum Lookup<'k> {
    /// The key.
    Key(&'k IssuerKey),
    /// There is a key of that name, and it is not for this algorithm.
    OtherAlg,
    /// There is none.
    Unknown,
}

/// Why a document is no set of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JwksError {
    /// It is not a JSON object with a list `keys` of objects, each member once.
    #[error("not a JWK Set")]
    Malformed,
    /// It has more than [`KEYS_LEN_MAX`] keys.
    #[error("more than 100 keys")]
    TooMany,
    /// None of its keys can check a signature that we accept.
    #[error("no RS256, PS256, ES256 or EdDSA key that we can use")]
    NoneUsable,
}

impl IssuerKeys {
    /// Reads a JWK Set.
    ///
    /// # Errors
    /// [`JwksError`]; a single key that we cannot use is none.
    pub fn parse(text: &[u8]) -> Result<IssuerKeys, JwksError> {
        let mut set = json::object(text).ok_or(JwksError::Malformed)?;
        let Some(Value::Array(listed)) = set.remove("keys") else {
            return Err(JwksError::Malformed);
        };
        if KEYS_LEN_MAX < listed.len() {
            return Err(JwksError::TooMany);
        }
        if !listed.iter().all(Value::is_object) {
            return Err(JwksError::Malformed);
        }
        let keys: Vec<_> = listed.iter().filter_map(Value::as_object).filter_map(key_of).collect();
        if keys.is_empty() { Err(JwksError::NoneUsable) } else { Ok(IssuerKeys { keys }) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none; never so for a set that was parsed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key of a token. Without a `kid` it is the only key for the algorithm, or unknown.
    ///
    /// The `kid` is compared and nothing else: whoever sends the token wrote it.
    #[must_use]
    pub fn find(&self, kid: Option<&str>, alg: Alg) -> Lookup<'_> {
        let mut fitting = self.keys.iter().filter(|key| key.algs.contains(&alg));
        let Some(kid) = kid else {
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Lookup::Key(key),
                _ => Lookup::Unknown,
            };
        };
        let is_named = |key: &&IssuerKey| key.kid.as_deref() == Some(kid);
        if let Some(key) = fitting.find(is_named) {
            return Lookup::Key(key);
        }
        if self.keys.iter().any(|key| is_named(&key)) { Lookup::OtherAlg } else { Lookup::Unknown }
    }
}

/// A key as we use it; `None` when we do not.
fn key_of(jwk: &Map<String, Value>) -> Option<IssuerKey> {
    let text = |name: &str| jwk.get(name).map(Value::as_str);
    let is_private = ["d", "p", "q", "k"].iter().any(|name| jwk.contains_key(*name));
    if is_private || !is_for_signatures(jwk) {
        return None;
    }
    let part = |name: &str| URL_SAFE_NO_PAD.decode(text(name)??).ok();
    let (algs, key): (&'static [Alg], _) = match text("kty")?? {
        "RSA" => (&[Alg::Rs256, Alg::Ps256], rsa(&part("n")?, &part("e")?)?),
        "EC" if text("crv")?? == "P-256" => (&[Alg::Es256], p256(&part("x")?, &part("y")?)?),
        "OKP" if text("crv")?? == "Ed25519" => {
            let public: [u8; 32] = part("x")?.try_into().ok()?;
            (&[Alg::EdDsa], DecodingKey::from_ed_der(&public))
        }
        _ => return None,
    };
    let algs = match text("alg") {
        None => algs,
        Some(name) => match (Alg::of_name(name?)?, algs) {
            (Alg::Rs256, [Alg::Rs256, ..]) => &[Alg::Rs256],
            (Alg::Ps256, [Alg::Rs256, Alg::Ps256]) => &[Alg::Ps256],
            (alg, [only]) if alg == *only => algs,
            _ => return None,
        },
    };
    let kid = match text("kid") {
        None => None,
        Some(kid) => Some(kid?.into()),
    };
    Some(IssuerKey { kid, algs, key })
}

/// Whether `use` and `key_ops`, where they are, leave the checking of signatures.
fn is_for_signatures(jwk: &Map<String, Value>) -> bool {
    let is_used = jwk.get("use").is_none_or(|used| used == "sig");
    let verifies = |ops: &Value| {
        ops.as_array().is_some_and(|ops| ops.iter().any(|operation| operation == "verify"))
    };
    is_used && jwk.get("key_ops").is_none_or(verifies)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<DecodingKey> {
    let trimmed = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    };
    let (modulus, exponent) = (trimmed(modulus), trimmed(exponent));
    let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return None;
    }
    // 3 and up, odd, and no longer than signatures are ever checked with.
    let is_odd = exponent.last()? & 1 == 1;
    if !is_odd || exponent == [1] || 4 < exponent.len() {
        return None;
    }
    Some(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

/// The point in its uncompressed form; the library refuses one that is not on the curve.
fn p256(x: &[u8], y: &[u8]) -> Option<DecodingKey> {
    let is_point = x.len() == 32 && y.len() == 32;
    is_point.then(|| DecodingKey::from_ec_der(&[&[4], x, y].concat()))
}

/// Where the keys of an issuer are kept for all who check tokens: one writes what it fetched, all
/// read.
///
/// Read once for each token that is not yet known, which then costs a signature; so a lock that is
/// never held for long does.
#[derive(Debug, Default)]
pub struct Keyring(RwLock<Option<Arc<IssuerKeys>>>);

impl Keyring {
    /// The keys as last fetched; `None` before the first time.
    #[must_use]
    pub fn get(&self) -> Option<Arc<IssuerKeys>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts these in the place of all others: a key that the issuer withdrew is gone.
    pub fn set(&self, keys: IssuerKeys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
    }
}
