//! Tokens that are accepted, and the ways to forge one.

use super::*;
use crate::local::{Grant, LocalKey};
use crate::role::Role;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};

const NOW_S: u64 = 1_800_000_000;

fn key() -> LocalKey {
    LocalKey::from_seed(&[7; 32]).expect("a seed is a key")
}

fn verifier() -> Verifier {
    Verifier::new(key().key_set())
}

fn good() -> String {
    let grant = Grant::new(Role::Operator).tenant("acme").subject("ada");
    key().create(&grant, NOW_S).expect("signed")
}

fn claims() -> String {
    format!(
        r#"{{"iss":"no","aud":"no","sub":"ada","roles":["operator"],"tenant":"acme","iat":{NOW_S},"nbf":{NOW_S},"exp":{}}}"#,
        NOW_S + 60
    )
}

/// Signs any header and claims with the real key.
fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    format!("{message}.{}", key().sign_raw(message.as_bytes()))
}

fn header() -> String {
    format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#, key().kid())
}

#[track_caller]
fn refused(token: &str, expected: Denied) {
    assert_eq!(verifier().verify(token, NOW_S), Err(expected), "{token}");
}

#[test]
fn a_good_token_names_its_principal() {
    let principal = verifier().verify(&good(), NOW_S).expect("accepted");
    assert_eq!((&*principal.subject, &*principal.tenant), ("ada", "acme"));
    assert_eq!(principal.permissions, Role::Operator.permissions());
    assert!(verifier().verify(&signed(&header(), &claims()), NOW_S).is_ok());
}

#[test]
fn none_is_refused_in_all_cases() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = header().replace("EdDSA", alg);
        refused(&signed(&header, &claims()), Denied::Algorithm);
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(claims()));
        refused(&format!("{message}."), Denied::Algorithm);
    }
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    let (kid, public) = &key().public();
    for (alg, name) in
        [(Algorithm::HS256, "HS256"), (Algorithm::HS384, "HS384"), (Algorithm::HS512, "HS512")]
    {
        for named in [name, "EdDSA"] {
            let header = format!(r#"{{"alg":"{named}","typ":"JWT","kid":"{kid}"}}"#);
            let message =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims()));
            let secret = EncodingKey::from_secret(public);
            let signature =
                jsonwebtoken::crypto::sign(message.as_bytes(), &secret, alg).expect("hmac");
            let expected = if named == "EdDSA" { Denied::Signature } else { Denied::Algorithm };
            refused(&format!("{message}.{signature}"), expected);
        }
    }
}

#[test]
fn other_algorithms_are_refused_before_cryptography() {
    for alg in ["RS256", "PS256", "ES256", "eddsa", "Ed25519", "EdDSA "] {
        refused(&signed(&header().replace("EdDSA", alg), &claims()), Denied::Algorithm);
    }
}

#[test]
fn headers_with_members_of_their_own_are_refused() {
    for extra in [
        r#""jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#,
        r#""jku":"https://evil.example/keys""#,
        r#""x5u":"https://evil.example/chain""#,
        r#""x5c":["AAAA"]"#,
        r#""crit":["exp"]"#,
        r#""b64":false"#,
        r#""alg":"EdDSA""#,
    ] {
        let header = header().replace("{", &format!("{{{extra},"));
        refused(&signed(&header, &claims()), Denied::Malformed);
    }
}

#[test]
fn strange_keys_are_unknown() {
    for kid in ["", "../../dev/null", "' or 1=1 --", "\\u0000", "0000000000000000"] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#);
        refused(&signed(&header, &claims()), Denied::KeyUnknown);
    }
    refused(&signed(r#"{"alg":"EdDSA"}"#, &claims()), Denied::Malformed);
    let other = LocalKey::from_seed(&[8; 32]).expect("key");
    let token = other.create(&Grant::new(Role::Admin), NOW_S).expect("signed");
    refused(&token, Denied::KeyUnknown);
}

#[test]
fn claims_are_held_to_their_values() {
    let check = |from: &str, to: &str, expected| {
        let changed = claims().replace(from, to);
        assert_ne!(changed, claims(), "{from}");
        refused(&signed(&header(), &changed), expected);
    };
    check(r#""iss":"no""#, r#""iss":"nO""#, Denied::Issuer);
    check(r#""aud":"no""#, r#""aud":"other""#, Denied::Audience);
    check(r#""aud":"no""#, r#""aud":["no"]"#, Denied::Malformed);
    check(r#""iss":"no","#, "", Denied::Malformed);
    check(&format!(r#","exp":{}"#, NOW_S + 60), "", Denied::Malformed);
    check(&format!(r#""exp":{}"#, NOW_S + 60), &format!(r#""exp":{NOW_S}"#), Denied::Expired);
    check(&format!(r#""exp":{}"#, NOW_S + 60), r#""exp":"never""#, Denied::Malformed);
    let later = format!(r#""nbf":{}"#, NOW_S + 61);
    check(&format!(r#""nbf":{NOW_S}"#), &later, Denied::NotYet);
    check(r#""sub":"ada""#, r#""sub":"""#, Denied::Claims);
    check(r#""tenant":"acme""#, r#""tenant":"""#, Denied::Claims);
    check(r#"["operator"]"#, r#"["root"]"#, Denied::Claims);
    check(r#"["operator"]"#, r#"["operator"],"roles":["admin"]"#, Denied::Malformed);
    check(r#"["operator"]"#, r#"["operator"],"admin":true"#, Denied::Malformed);
}

#[test]
fn every_changed_byte_is_noticed() {
    let good = good();
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).expect("ascii");
        assert!(verifier().verify(&token, NOW_S).is_err(), "byte {at}");
    }
}

#[test]
fn garbage_is_refused() {
    refused("", Denied::Missing);
    for junk in ["a", ".", "..", "...", "a.b.c", "a.b.c.d", "ü.ü.ü", "{}.{}.{}", "\0\0.\0.\0"] {
        refused(junk, Denied::Malformed);
    }
    refused(&"a".repeat(TOKEN_BYTES_MAX + 1), Denied::TooLong);
    refused(&"a.".repeat(TOKEN_BYTES_MAX / 2), Denied::Malformed);
    let psychic = signed(&header(), &claims());
    let (message, _) = psychic.rsplit_once('.').expect("three parts");
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    refused(&format!("{message}.{zeros}"), Denied::Signature);
    refused(&format!("{message}."), Denied::Signature);
    refused(&format!("{}=", good()), Denied::Signature);
}

#[test]
fn what_is_remembered_ends_with_the_token() {
    let verifier = verifier();
    let token = signed(&header(), &claims());
    assert!(verifier.verify(&token, NOW_S).is_ok());
    assert!(verifier.verify(&token, NOW_S + 59).is_ok());
    assert_eq!(verifier.verify(&token, NOW_S + 60), Err(Denied::Expired));
    // A clock that was set back does not bring a remembered token before its time.
    assert_eq!(verifier.verify(&token, NOW_S - 61), Err(Denied::NotYet));
}

#[test]
fn memory_is_bounded() {
    let verifier = verifier();
    for n in 0..CACHE_LEN_MAX as u64 + 10 {
        let principal = Principal::unchecked();
        verifier.remember(&n.to_string(), Known { principal, from_s: NOW_S, until_s: NOW_S + 300 });
        assert!(verifier.known.borrow().len() <= CACHE_LEN_MAX);
    }
}

#[test]
fn a_revoked_token_is_refused_at_once_with_and_without_an_id() {
    let revoked = Revoked::default();
    let verifier = Verifier::new(key().key_set().without(&revoked));
    let grant = Grant::new(Role::Viewer).subject("ada");
    let (token, issued) = key().issue(&grant, NOW_S).expect("signed");
    let old = signed(&header(), &claims());
    let other = good();
    let verify = |token: &str| verifier.verify(token, NOW_S).map(drop);
    let all = || [verify(&token), verify(&old), verify(&other)];
    assert_eq!(all(), [Ok(()), Ok(()), Ok(())]);
    assert!(verifier.remembers(&token, NOW_S) && !verifier.remembers("junk", NOW_S));

    assert!(revoked.set([issued.id.as_str().into()].into()));
    assert!(!verifier.remembers(&token, NOW_S));
    assert_eq!(all(), [Err(Denied::Revoked), Ok(()), Ok(())]);
    let id = blake3::hash(old.as_bytes()).to_hex()[..20].to_owned();
    assert!(revoked.set([issued.id.as_str().into(), id.as_str().into()].into()));
    assert_eq!(all(), [Err(Denied::Revoked), Err(Denied::Revoked), Ok(())]);
}
