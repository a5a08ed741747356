//! What is left of a set of keys: those that may check what they are asked to check, and no other.

mod issuer;

use issuer::{TestKey, key_set, with};
use jsonwebtoken::Algorithm;
use no_auth::IssuerKeys;
use no_auth::jwks::{Alg, JwksError, Lookup};
use serde_json::{Value, json};

fn parse(set: &Value) -> Result<IssuerKeys, JwksError> {
    IssuerKeys::parse(set.to_string().as_bytes())
}

fn parse_one(jwk: &Value) -> Result<IssuerKeys, JwksError> {
    parse(&json!({"keys": [jwk]}))
}

/// What a `kid` and algorithm lead to: the key, another algorithm, nothing.
fn found(keys: &IssuerKeys, kid: Option<&str>, alg: Alg) -> char {
    match keys.find(kid, alg) {
        Lookup::Key(_) => 'k',
        Lookup::OtherAlg => 'a',
        Lookup::Unknown => '-',
    }
}

#[track_caller]
fn algs(jwk: &Value, expected: &str) {
    let keys = parse_one(jwk).unwrap_or_default();
    let all = [Alg::Rs256, Alg::Ps256, Alg::Es256, Alg::EdDsa];
    let kid = jwk["kid"].as_str();
    let got: String = all.map(|alg| found(&keys, kid, alg)).into_iter().collect();
    assert_eq!(got, expected, "{jwk}");
}

#[test]
fn a_key_checks_what_its_type_use_and_alg_leave() {
    let rsa = TestKey::new("r", Algorithm::RS256).jwk();
    let p256 = TestKey::new("e", Algorithm::ES256).jwk();
    let ed = TestKey::new("o", Algorithm::EdDSA).jwk();
    algs(&rsa, "kkaa");
    algs(&p256, "aaka");
    algs(&ed, "aaak");
    algs(&with(rsa.clone(), &json!({"alg": "RS256"})), "kaaa");
    algs(&with(rsa.clone(), &json!({"alg": "PS256"})), "akaa");
    algs(&with(p256.clone(), &json!({"alg": "ES256", "use": null})), "aaka");
    algs(&with(ed.clone(), &json!({"key_ops": ["verify"]})), "aaak");
    for unusable in [
        json!({"alg": "ES256"}),
        json!({"alg": "RS512"}),
        json!({"alg": "RSA-OAEP"}),
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": 1}),
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"key_ops": "verify"}),
        json!({"kty": "oct"}),
        json!({"kty": "EC"}),
        json!({"kty": "rsa"}),
        json!({"kty": null}),
        json!({"kid": 1}),
        json!({"n": null}),
        json!({"e": "AQ"}),
        json!({"e": "AAE"}),
        json!({"e": "Ag"}),
        json!({"e": ""}),
        json!({"e": "AQAAAAE"}),
        json!({"n": "AAAA"}),
        json!({"n": format!("{}==", rsa["n"].as_str().expect("a text"))}),
        json!({"d": "AQAB"}),
        json!({"k": "AQAB"}),
    ] {
        algs(&with(rsa.clone(), &unusable), "----");
    }
    for unusable in [json!({"crv": "P-384"}), json!({"x": "AAAA"}), json!({"alg": "ES384"})] {
        algs(&with(p256.clone(), &unusable), "----");
    }
    for unusable in [json!({"crv": "Ed448"}), json!({"crv": "X25519"}), json!({"x": "AAAA"})] {
        algs(&with(ed.clone(), &unusable), "----");
    }
}

#[test]
fn short_rsa_keys_are_left_out_whatever_stands_before_them() {
    let small = SMALL_MODULUS;
    algs(&json!({"kty": "RSA", "kid": "s", "n": small, "e": "AQAB"}), "----");
    // 256 bytes, but 1024 bits and zeros.
    let padded = format!("{}{small}", "AAAA".repeat(43));
    algs(&json!({"kty": "RSA", "kid": "s", "n": padded, "e": "AQAB"}), "----");
    let long = "_".repeat(1_368);
    algs(&json!({"kty": "RSA", "kid": "s", "n": long, "e": "AQAB"}), "----");
}

/// The modulus of an RSA key of 1024 bits.
const SMALL_MODULUS: &str = "sM6SIE0uAYshYqaLT05ZmnlAuUWOBH1QmftYNzaKf5liM-0P6hMbxOJbAmgICJ8nw\
                             JMETlsdsSQq_NT1QFvwNWNyutC8TLbke3IT7f6j5189SxTV4exBl1c2ziyEoBwyB7\
                             fsLKJcSF_-uKb8IOguLJCRtmyNl0yAWf3a0UalHFE";

#[test]
fn a_set_is_read_strictly_and_its_keys_with_patience() {
    let key = TestKey::new("o", Algorithm::EdDSA);
    let good = key.jwk();
    let strange = json!({"kty": "future", "anything": {"a": [1]}});
    let keys = parse(&json!({"keys": [strange, good, {}], "more": 1})).expect("one is usable");
    assert_eq!(keys.len(), 1);
    assert_eq!(parse(&json!({"keys": [strange]})).err(), Some(JwksError::NoneUsable));
    assert_eq!(parse(&json!({"keys": []})).err(), Some(JwksError::NoneUsable));
    for malformed in [json!({}), json!({"keys": {}}), json!({"keys": [1]}), json!([good])] {
        assert_eq!(parse(&malformed).err(), Some(JwksError::Malformed), "{malformed}");
    }
    let twice = format!(r#"{{"keys":[{good}],"keys":[]}}"#);
    assert_eq!(IssuerKeys::parse(twice.as_bytes()).err(), Some(JwksError::Malformed));
    assert!(parse(&json!({"keys": vec![&good; 100]})).is_ok());
    assert_eq!(parse(&json!({"keys": vec![&good; 101]})).err(), Some(JwksError::TooMany));
}

#[test]
fn a_token_without_kid_has_the_only_key_of_its_algorithm() {
    let (a, b) = (TestKey::new("a", Algorithm::EdDSA), TestKey::new("b", Algorithm::ES256));
    let keys = parse(&key_set(&[&a, &b])).expect("keys");
    assert_eq!(found(&keys, None, Alg::EdDsa), 'k');
    assert_eq!(found(&keys, None, Alg::Rs256), '-');
    let c = TestKey::new("c", Algorithm::EdDSA);
    let keys = parse(&key_set(&[&a, &b, &c])).expect("keys");
    assert_eq!(found(&keys, None, Alg::EdDsa), '-', "which of the two?");
    assert_eq!(found(&keys, Some("c"), Alg::EdDsa), 'k');
    for strange in ["", "C", "c\0", "../c", "c' or '1'='1"] {
        assert_eq!(found(&keys, Some(strange), Alg::EdDsa), '-', "{strange}");
    }
}
