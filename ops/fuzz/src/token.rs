//! Bearer tokens: what was not signed with a key of ours or the issuer's is never accepted, and
//! what was says what a token must.

use crate::{NOW_S, chosen};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use no_auth::issued::{LEEWAY_S, is_jwt, kid};
use no_auth::jwt::SKEW_S;
use no_auth::{IssuerKeys, IssuerRules, Keyring, LocalKey, Verifier};
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};

/// The issuer's name.
pub(crate) const ISSUER: &str = "https://id.example";
/// The audience of access tokens.
pub(crate) const AUDIENCE: &str = "no";
/// Our client there.
pub(crate) const CLIENT: &str = "no-console";
/// What an ID token must come back with.
const NONCE: &str = "n-1";

/// PKCS#8 of an Ed25519 key without its seed (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const LOCAL_SEED: [u8; 32] = [7; 32];
const ISSUER_SEED: [u8; 32] = [8; 32];
const STRANGER_SEED: [u8; 32] = [9; 32];

/// What checks, the same for every input.
struct World {
    local: LocalKey,
    rules: Arc<IssuerRules>,
    keyring: Arc<Keyring>,
    keys: Arc<IssuerKeys>,
    issuer_public: [u8; 32],
}

/// Rules for tokens of the issuer.
pub(crate) fn rules() -> IssuerRules {
    IssuerRules {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        client_id: Some(CLIENT.to_owned()),
        token_types: vec!["at+jwt".to_owned()],
        roles_claim: "realm.roles".to_owned(),
        tenant_claim: "tenant".to_owned(),
        roles: Arc::default(),
    }
}

fn public(seed: &[u8; 32]) -> [u8; 32] {
    LocalKey::from_seed(seed).expect("a key").public().1
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let issuer_public = public(&ISSUER_SEED);
        let x = URL_SAFE_NO_PAD.encode(issuer_public);
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1"}]});
        let parse = || IssuerKeys::parse(set.to_string().as_bytes()).expect("keys");
        let keyring = Arc::<Keyring>::default();
        keyring.set(parse());
        let local = LocalKey::from_seed(&LOCAL_SEED).expect("a key");
        let (rules, keys) = (Arc::new(rules()), Arc::new(parse()));
        World { local, rules, keyring, keys, issuer_public }
    })
}

impl World {
    fn verifier(&self) -> Verifier {
        let (rules, keyring) = (Arc::clone(&self.rules), Arc::clone(&self.keyring));
        Verifier::new(self.local.key_set()).with_issuer(rules, keyring)
    }

    /// What nobody has signed opens nothing, whoever is asked.
    fn refuse(&self, token: &str) {
        let _ = (is_jwt(token), kid(token));
        assert!(self.verifier().verify(token, NOW_S).is_err(), "not signed: {token}");
        assert!(self.rules.access(token, NOW_S, &self.keys).is_err(), "not signed: {token}");
        assert!(self.rules.id(token, NONCE, NOW_S, &self.keys).is_err(), "not signed: {token}");
    }
}

fn signed(seed: &[u8; 32], message: &str) -> String {
    let key = EncodingKey::from_ed_der(&[&PKCS8[..], seed].concat());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA);
    format!("{message}.{}", signature.expect("it signs"))
}

/// Reads an input: whether it is a token, or its header and its claims in a line each; these are
/// signed in every way that counts and in every way that does not.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, text)) = chosen(data) else { return };
    let world = world();
    if choice % 2 == 0 {
        return world.refuse(text);
    }
    let (header, claims) = text.split_once('\n').unwrap_or((text, "{}"));
    // The key's name is not for an input to guess.
    let header = header.replace("LOCAL", world.local.kid());
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(&header), part(claims));
    local(world, &signed(&LOCAL_SEED, &message), claims);
    let issuers = signed(&ISSUER_SEED, &message);
    issued(world, &issuers, &header, claims);

    world.refuse(&format!("{message}."));
    world.refuse(&signed(&STRANGER_SEED, &message));
    // A good signature, of another message.
    let signature = issuers.rsplit('.').next().expect("three parts");
    let longer = format!("{}.{}", part(&header), part(&format!("{claims} ")));
    world.refuse(&format!("{longer}.{signature}"));
    // The public key taken for the secret of an HMAC (RFC 8725, section 2.1).
    let key = hmac::Key::new(hmac::HMAC_SHA256, &world.issuer_public);
    let mac = hmac::sign(&key, message.as_bytes());
    world.refuse(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac)));
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("what was accepted is an object")
}

fn local(world: &World, token: &str, claims: &str) {
    let Ok(principal) = world.verifier().verify(token, NOW_S) else { return };
    let claims = object(claims);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("no"), &json!("no")));
    assert!(NOW_S < claims["exp"].as_u64().expect("a number"), "ended");
    assert!(claims["nbf"].as_u64().expect("a number") <= NOW_S + SKEW_S, "not begun");
    assert_eq!(
        (&claims["sub"], &claims["tenant"]),
        (&json!(*principal.subject), &json!(*principal.tenant))
    );
    assert!(!principal.subject.is_empty() && !principal.tenant.is_empty(), "nobody");
    assert!(world.rules.access(token, NOW_S, &world.keys).is_err(), "not the issuer's");
}

fn issued(world: &World, token: &str, header: &str, claims: &str) {
    let access = world.rules.access(token, NOW_S, &world.keys);
    let id = world.rules.id(token, NONCE, NOW_S, &world.keys);
    assert!(access.is_err() || id.is_err(), "an access token is no ID token");
    let verified = world.verifier().verify(token, NOW_S);
    assert_eq!(verified.ok(), access.as_ref().ok().map(|issued| issued.principal.clone()));
    if access.is_err() && id.is_err() {
        return;
    }
    let (header, claims) = (object(header), object(claims));
    for name in ["crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip"] {
        assert!(!header.contains_key(name), "{name} is followed");
    }
    assert_eq!(header["alg"], "EdDSA");
    assert_eq!(claims["iss"], ISSUER);
    let whom = if access.is_ok() { AUDIENCE } else { CLIENT };
    let is_for =
        |aud: &Value| *aud == whom || aud.as_array().is_some_and(|all| all.contains(&json!(whom)));
    assert!(is_for(&claims["aud"]), "for another");
    assert!((NOW_S - LEEWAY_S) as f64 - 1.0 < claims["exp"].as_f64().expect("a number"), "ended");
    for name in ["nbf", "iat"] {
        let at = claims.get(name).map_or(0.0, |at| at.as_f64().expect("a number"));
        assert!(at < (NOW_S + LEEWAY_S) as f64 + 1.0, "{name} has not come");
    }
    match (access, id) {
        (Ok(issued), _) => {
            assert!(!claims.contains_key("cnf"), "bound to a key that was not shown");
            assert_eq!(claims["sub"], *issued.principal.subject);
            assert!(NOW_S < issued.until_s);
        }
        (_, Ok(id)) => {
            assert_eq!((&claims["nonce"], &claims["sub"]), (&json!(NONCE), &json!(id.sub)));
        }
        _ => {}
    }
}
