//! An issuer for tests: keys of each kind, their JWK Set, and tokens with any header and claims.
//!
//! Used by the tests of `no-net` too, so it names nothing of ours.

#![allow(dead_code, reason = "each test binary uses its own part")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};

/// The issuer's name.
pub(crate) const ISSUER: &str = "https://id.example";
/// Our client there.
pub(crate) const CLIENT: &str = "no-console";

/// One of its keys.
pub(crate) struct TestKey {
    kid: String,
    alg: Algorithm,
    signing: EncodingKey,
    /// The public key as PEM.
    pub(crate) public_pem: String,
    /// The public key as DER.
    pub(crate) public_der: Vec<u8>,
}

impl TestKey {
    /// A new key for that algorithm.
    pub(crate) fn new(kid: &str, alg: Algorithm) -> TestKey {
        let pair = KeyPair::generate_for(match alg {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        });
        let pair = pair.expect("a key");
        let pem = pair.serialize_pem();
        let signing = match alg {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let (kid, signing) = (kid.to_owned(), signing.expect("a key"));
        let public_der = pair.subject_public_key_info();
        TestKey { kid, alg, signing, public_pem: pair.public_key_pem(), public_der }
    }

    /// The public key as the issuer shows it, without `alg`.
    pub(crate) fn jwk(&self) -> Value {
        // A point stands at the end of its DER form, with nothing behind it.
        let end = |from: usize, to: usize| {
            let len = self.public_der.len();
            URL_SAFE_NO_PAD.encode(&self.public_der[len - from..len - to])
        };
        let jwk = match self.alg {
            Algorithm::ES256 => {
                json!({"kty": "EC", "crv": "P-256", "x": end(64, 32), "y": end(32, 0)})
            }
            Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "x": end(32, 0)}),
            _ => {
                let jwk = Jwk::from_encoding_key(&self.signing, self.alg).expect("a public key");
                let jwk = serde_json::to_value(jwk).expect("json");
                json!({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
            }
        };
        with(jwk, &json!({"kid": self.kid, "use": "sig"}))
    }

    /// An access token's header for this key.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": name(self.alg), "typ": "at+jwt", "kid": self.kid})
    }

    /// A good token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.signed(&self.header().to_string(), &claims.to_string())
    }

    /// Any header and claims, signed.
    pub(crate) fn signed(&self, header: &str, claims: &str) -> String {
        self.signed_parts(&URL_SAFE_NO_PAD.encode(header), &URL_SAFE_NO_PAD.encode(claims))
    }

    /// Parts as they stand, signed.
    pub(crate) fn signed_parts(&self, header: &str, claims: &str) -> String {
        self.signed_as(self.alg, header, claims)
    }

    /// The same with another algorithm of the same key.
    pub(crate) fn signed_as(&self, alg: Algorithm, header: &str, claims: &str) -> String {
        let message = format!("{header}.{claims}");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.signing, alg);
        format!("{message}.{}", signature.expect("it signs"))
    }
}

/// A JWK Set of these keys.
pub(crate) fn key_set(keys: &[&TestKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}

/// Claims of a good access token.
pub(crate) fn claims(now_s: u64) -> Value {
    json!({
        "iss": ISSUER, "aud": "no", "sub": "ada", "client_id": "cli", "jti": "1",
        "iat": now_s, "exp": now_s + 300, "roles": ["operator"], "tenant": "acme"
    })
}

/// Claims of a good ID token for a login with nonce `n-1`.
pub(crate) fn id_claims(now_s: u64) -> Value {
    json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "ada", "iat": now_s, "exp": now_s + 300,
        "nonce": "n-1", "name": "Ada", "email": "ada@id.example", "roles": ["operator"],
        "tenant": "acme", "sid": "s-1"
    })
}

/// An object with members changed; `null` takes one out.
pub(crate) fn with(mut object: Value, changes: &Value) -> Value {
    let members = object.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("changes") {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    object
}

fn name(alg: Algorithm) -> &'static str {
    match alg {
        Algorithm::RS256 => "RS256",
        Algorithm::PS256 => "PS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        _ => panic!("no algorithm of ours"),
    }
}
