//! Tokens that were forged, stolen from another use, or are merely broken: each gets the same 401,
//! and each for the reason that it should.

use super::issuer::{CLIENT, ISSUER, TestKey, claims, id_claims, key_set, with};
use crate::gate::{Gate, Limits, Rates};
use crate::proxies::Proxies;
use crate::testing::{Proofs, World};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use no_auth::limit::Rate;
use no_auth::{Denied, Grant, IssuerKeys, IssuerRules, Keyring, LocalKey, Role, Roles, Verifier};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A key of 1024 bits, and a token that it signed well.
const SMALL_MODULUS: &str = "sM6SIE0uAYshYqaLT05ZmnlAuUWOBH1QmftYNzaKf5liM-0P6hMbxOJbAmgICJ8nw\
                             JMETlsdsSQq_NT1QFvwNWNyutC8TLbke3IT7f6j5189SxTV4exBl1c2ziyEoBwyB7\
                             fsLKJcSF_-uKb8IOguLJCRtmyNl0yAWf3a0UalHFE";
const SMALL_HEADER: &str = r#"{"alg":"RS256","typ":"at+jwt","kid":"small"}"#;
const SMALL_CLAIMS: &str =
    r#"{"iss":"https://id.example","aud":"no","sub":"ada","roles":["admin"],"exp":4102444800}"#;
const SMALL_SIGNATURE: &str = "rPsKJMWgqvu2lSwbN6L7ODxglZ931JpB8JbtGl8X-zEDhrmyaKMcps1WRwoJAS99ea\
                               lMcnT87RKYpCoJcrR8f0gJWxOy5sdHca45DEeNFHz8pR3uHzDx1jOKpSJXqSFXhWov\
                               YD6EcSF7KQi9EwaCSXkvnXVn7rHPyn3c2woOyWw";

/// The node under attack, the issuer's keys, and an attacker's own.
struct Range {
    world: World,
    seen: Rc<RefCell<Vec<Result<(), Denied>>>>,
    now_s: u64,
    rsa: TestKey,
    rsa_pkcs: TestKey,
    p256: TestKey,
    ed: TestKey,
    evil: TestKey,
    local: LocalKey,
}

fn rules(token_types: &[&str]) -> IssuerRules {
    IssuerRules {
        issuer: ISSUER.to_owned(),
        audience: "no".to_owned(),
        client_id: Some(CLIENT.to_owned()),
        token_types: token_types.iter().map(|typ| (*typ).to_owned()).collect(),
        roles_claim: "roles".to_owned(),
        tenant_claim: "tenant".to_owned(),
        roles: Arc::new(Roles::default()),
    }
}

/// A gate that slows nobody down: an attacker here comes from one address.
fn unlimited() -> Gate {
    let rates = Rates { asks: None, failures: Rate::new(1_000_000, 1_000_000) };
    Gate { limits: Arc::new(Limits::new(rates, Proxies::default())), ..Gate::default() }
}

impl Range {
    fn new(token_types: &[&str]) -> Range {
        let rsa = TestKey::new("rsa", Algorithm::RS256);
        let rsa_pkcs = TestKey::new("rsa-pkcs", Algorithm::RS256);
        let p256 = TestKey::new("p256", Algorithm::ES256);
        let ed = TestKey::new("ed", Algorithm::EdDSA);
        let mut set = key_set(&[&rsa, &p256, &ed]);
        let listed = set["keys"].as_array_mut().expect("keys");
        listed.push(with(rsa_pkcs.jwk(), &json!({"alg": "RS256"})));
        listed.push(json!({"kty": "RSA", "kid": "small", "n": SMALL_MODULUS, "e": "AQAB"}));
        listed.push(json!({"kty": "oct", "kid": "oct", "k": "c2VjcmV0"}));
        let keyring = Arc::new(Keyring::default());
        keyring.set(IssuerKeys::parse(set.to_string().as_bytes()).expect("keys"));
        let local = LocalKey::from_seed(&[9; 32]).expect("a key");
        let verifier =
            Verifier::new(local.key_set()).with_issuer(Arc::new(rules(token_types)), keyring);
        let seen: Rc<RefCell<Vec<_>>> = Rc::default();
        let counted = Rc::clone(&seen);
        let world = World::proving(Proofs {
            verify: Box::new(move |bearer, now_s| verifier.verify(bearer, now_s)),
            provider: None,
            count_proof: Box::new(move |proof| counted.borrow_mut().push(proof)),
            gate: unlimited(),
            ..Proofs::default()
        });
        let now_s = crate::time::wall().0 / 1_000;
        let evil = TestKey::new("evil", Algorithm::RS256);
        Range { world, seen, now_s, rsa, rsa_pkcs, p256, ed, evil, local }
    }

    /// Sends a token; the answer must be the one that all refused ones get, and as late.
    async fn refused(&self, name: &str, token: &str, expected: Denied) {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        let call = self.world.call_with("GET", "/v1/agents", "", &headers);
        let begun = tokio::time::Instant::now();
        let answer = self.world.run(call).await;
        assert_eq!(begun.elapsed().as_millis(), 1, "{name}");
        let body = r#"{"type":"urn:no:problem:unauthenticated","title":"A valid bearer token is required","status":401,"detail":"the token was not accepted","instance":"/v1/agents","code":"unauthenticated"}"#;
        assert_eq!((answer.status, &*answer.text), (401, body), "{name}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert_eq!(answer.headers.len(), 2, "{name}: {:?}", answer.headers);
        assert_eq!(self.seen.take(), [Err(expected)], "{name}");
    }

    async fn accepted(&self, name: &str, token: &str) {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        let call = self.world.call_with("GET", "/v1/agents", "", &headers);
        let begun = tokio::time::Instant::now();
        let answer = self.world.run(call).await;
        assert_eq!(begun.elapsed().as_millis(), 0, "{name}");
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        assert_eq!(self.seen.take(), [Ok(())], "{name}");
    }

    fn claims(&self) -> Value {
        claims(self.now_s)
    }

    /// A good token of `key` but for these members of header and claims.
    fn token(&self, key: &TestKey, header: &Value, claims: &Value) -> String {
        let header = with(key.header(), header).to_string();
        key.signed(&header, &with(self.claims(), claims).to_string())
    }
}

fn encoded(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

#[tokio::test(start_paused = true)]
async fn good_tokens_pass_so_that_the_others_are_refused_for_what_they_are() {
    let range = Range::new(&["at+jwt"]);
    for key in [&range.rsa, &range.rsa_pkcs, &range.p256, &range.ed] {
        range.accepted("good", &key.token(&range.claims())).await;
    }
    for typ in ["AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        let token = range.token(&range.ed, &json!({"typ": typ}), &json!({}));
        range.accepted(typ, &token).await;
    }
    let audiences = json!({"aud": ["other", "no"], "anything": {"else": [1]}});
    range.accepted("audiences", &range.token(&range.ed, &json!({"x5t": "a"}), &audiences)).await;
    let own = range.local.create(&Grant::new(Role::Viewer), range.now_s).expect("signed");
    range.accepted("local", &own).await;
}

#[tokio::test(start_paused = true)]
async fn algorithms_that_are_none_of_ours() {
    let range = Range::new(&["at+jwt"]);
    for alg in ["none", "None", "NONE", "nOnE", "", "RS384", "RS512", "ES384", "PS512", "rs256"] {
        let header = with(range.rsa.header(), &json!({"alg": alg})).to_string();
        let message = format!("{}.{}", encoded(&header), encoded(range.claims().to_string()));
        range.refused(alg, &format!("{message}."), Denied::Algorithm).await;
        let token = range.rsa.signed(&header, &range.claims().to_string());
        range.refused(alg, &token, Denied::Algorithm).await;
    }
    for alg in [json!(null), json!(7), json!(["RS256"])] {
        let token = range.token(&range.rsa, &json!({"alg": alg}), &json!({}));
        let expected = if alg.is_null() { Denied::Algorithm } else { Denied::Malformed };
        range.refused("no text", &token, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn public_keys_are_no_secrets() {
    let range = Range::new(&["at+jwt"]);
    let modulus = range.rsa.jwk()["n"].as_str().expect("a text").to_owned();
    let secrets = [
        range.rsa.public_pem.clone().into_bytes(),
        range.rsa.public_pem.trim().as_bytes().to_vec(),
        range.rsa.public_der.clone(),
        range.rsa.jwk().to_string().into_bytes(),
        URL_SAFE_NO_PAD.decode(&modulus).expect("base64url"),
        modulus.into_bytes(),
        b"secret".to_vec(),
        Vec::new(),
    ];
    let algs =
        [(Algorithm::HS256, "HS256"), (Algorithm::HS384, "HS384"), (Algorithm::HS512, "HS512")];
    for secret in secrets.iter().map(|secret| EncodingKey::from_secret(secret)) {
        for (alg, name) in algs {
            for (kid, named) in [("rsa", name), ("rsa", "RS256"), ("oct", name)] {
                let header = json!({"alg": named, "typ": "at+jwt", "kid": kid}).to_string();
                let message =
                    format!("{}.{}", encoded(header), encoded(range.claims().to_string()));
                let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, alg);
                let token = format!("{message}.{}", signature.expect("hmac"));
                let is_rsa = named == "RS256";
                let expected = if is_rsa { Denied::Signature } else { Denied::Algorithm };
                range.refused(named, &token, expected).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_a_token_brings_along_are_not_looked_at() {
    let range = Range::new(&["at+jwt"]);
    let evil = range.evil.jwk();
    let chain = json!([STANDARD.encode(&range.evil.public_der)]);
    for kid in [json!("rsa"), json!("evil"), json!(null)] {
        for brought in [
            json!({"jwk": evil}),
            json!({"jku": "https://evil.example/keys"}),
            json!({"x5u": "https://evil.example/chain"}),
            json!({"x5c": chain}),
            json!({"jwk": evil, "crit": ["jwk"]}),
        ] {
            let header = with(brought, &json!({"kid": kid}));
            let token = range.token(&range.evil, &header, &json!({"roles": ["admin"]}));
            range.refused(&header.to_string(), &token, Denied::Malformed).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn names_of_keys_are_only_compared() {
    let range = Range::new(&["at+jwt"]);
    let long = "k".repeat(10_000);
    for kid in [
        "../../../../dev/null",
        "/proc/self/environ",
        "file:///etc/passwd",
        "' OR '1'='1' --",
        "rsa'; DROP TABLE keys; --",
        "rsa\0",
        "\0",
        "rsa\n",
        "RSA",
        " rsa",
        "",
        "%72sa",
        "$(id)",
        "evil",
        &long,
    ] {
        let token = range.token(&range.evil, &json!({"kid": kid}), &json!({}));
        range.refused(kid, &token, Denied::KeyUnknown).await;
    }
    for kid in [json!(7), json!({"a": 1}), json!(["rsa"]), json!(true)] {
        let token = range.token(&range.evil, &json!({"kid": kid}), &json!({}));
        range.refused("no text", &token, Denied::Malformed).await;
    }
    // Without a name there is no telling which of two keys it should be.
    let token = range.token(&range.evil, &json!({"kid": null}), &json!({}));
    range.refused("no name", &token, Denied::KeyUnknown).await;
    let small = format!("{}.{}.{SMALL_SIGNATURE}", encoded(SMALL_HEADER), encoded(SMALL_CLAIMS));
    range.refused("1024 bits", &small, Denied::KeyUnknown).await;
    let token = range.token(&range.ed, &json!({"kid": range.local.kid()}), &json!({}));
    range.refused("the name of our own key", &token, Denied::Malformed).await;
}

#[tokio::test(start_paused = true)]
async fn extensions_that_we_do_not_know_and_members_that_stand_twice() {
    let range = Range::new(&["at+jwt"]);
    for header in [
        json!({"crit": ["exp"]}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": ["https://id.example/x"], "https://id.example/x": 1}),
        json!({"crit": []}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"zip": "DEF"}),
        json!({"enc": "A128GCM"}),
        json!({"typ": 7}),
    ] {
        let token = range.token(&range.ed, &header, &json!({}));
        range.refused(&header.to_string(), &token, Denied::Malformed).await;
    }
    let (header, claims) = (range.ed.header().to_string(), range.claims().to_string());
    let doubled = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    for member in [r#""alg":"EdDSA""#, r#""alg":"none""#, r#""kid":"ed""#, r#""k\u0069d":"evil""#] {
        let token = range.ed.signed(&doubled(&header, member), &claims);
        range.refused(member, &token, Denied::Malformed).await;
    }
    let unknown = doubled(&doubled(&header, r#""x":1"#), r#""x":2"#);
    range.refused("x twice", &range.ed.signed(&unknown, &claims), Denied::Malformed).await;
    for member in [
        r#""roles":["admin"]"#,
        r#""sub":"root""#,
        r#""aud":"no""#,
        r#""exp":9999999999"#,
        r#""\u0073ub":"root""#,
        r#""x":{"a":1,"a":2}"#,
    ] {
        let token = range.ed.signed(&header, &doubled(&claims, member));
        range.refused(member, &token, Denied::Malformed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn claims_that_are_wrong_or_missing() {
    let range = Range::new(&["at+jwt"]);
    let now_s = range.now_s;
    for (claims, expected) in [
        (json!({"iss": null}), Denied::Issuer),
        (json!({"iss": "https://id.example/"}), Denied::Issuer),
        (json!({"iss": "https://evil.example"}), Denied::Issuer),
        (json!({"iss": "no"}), Denied::Issuer),
        (json!({"iss": [ISSUER]}), Denied::Issuer),
        (json!({"aud": null}), Denied::Audience),
        (json!({"aud": ""}), Denied::Audience),
        (json!({"aud": "NO"}), Denied::Audience),
        (json!({"aud": []}), Denied::Audience),
        (json!({"aud": ["other"]}), Denied::Audience),
        (json!({"aud": ["no", 7]}), Denied::Audience),
        (json!({"aud": {"no": "no"}}), Denied::Audience),
        (json!({"exp": null}), Denied::Malformed),
        (json!({"exp": "never"}), Denied::Malformed),
        (json!({"exp": -1}), Denied::Malformed),
        (json!({"exp": 1e300}), Denied::Malformed),
        (json!({"exp": now_s - 120}), Denied::Expired),
        (json!({"exp": 0}), Denied::Expired),
        (json!({"nbf": now_s + 120}), Denied::NotYet),
        (json!({"nbf": "now"}), Denied::Malformed),
        (json!({"iat": now_s + 120}), Denied::NotYet),
        (json!({"sub": null}), Denied::Claims),
        (json!({"sub": ""}), Denied::Claims),
        (json!({"sub": "a\nb"}), Denied::Claims),
        (json!({"sub": "x".repeat(256)}), Denied::Claims),
        (json!({"sub": 7}), Denied::Malformed),
        (json!({"tenant": ""}), Denied::Claims),
        (json!({"tenant": ["acme", "other"]}), Denied::Claims),
        (json!({"cnf": {"jkt": "x"}}), Denied::Claims),
    ] {
        let token = range.token(&range.ed, &json!({}), &claims);
        range.refused(&claims.to_string(), &token, expected).await;
    }
    for claims in ["[]", "null", "1", "", "{", "\"a\"", "{\"a\":1}}"] {
        let token = range.ed.signed(&range.ed.header().to_string(), claims);
        range.refused(claims, &token, Denied::Malformed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_of_another_type() {
    let range = Range::new(&["at+jwt"]);
    for typ in [
        json!(null),
        json!("JWT"),
        json!("jwt"),
        json!("application/jwt"),
        json!("at+jwt "),
        json!("at jwt"),
        json!("id_token"),
        json!("logout+jwt"),
        json!("dpop+jwt"),
        json!("x/at+jwt"),
        json!(""),
    ] {
        let token = range.token(&range.ed, &json!({"typ": typ}), &json!({}));
        range.refused(&typ.to_string(), &token, Denied::TokenType).await;
        let header = with(range.ed.header(), &json!({"typ": typ})).to_string();
        let id = range.ed.signed(&header, &id_claims(range.now_s).to_string());
        range.refused("an ID token", &id, Denied::TokenType).await;
    }
    // Even with the right type it is not for us.
    let id = range.ed.token(&id_claims(range.now_s));
    range.refused("an ID token", &id, Denied::Audience).await;

    let range = Range::new(&["at+jwt", "JWT"]);
    let header = with(range.ed.header(), &json!({"typ": "JWT"})).to_string();
    let token = range.token(&range.ed, &json!({"typ": "JWT"}), &json!({}));
    range.accepted("configured", &token).await;
    for aud in [json!(CLIENT), json!([CLIENT, "no"]), json!("no")] {
        let claims = with(id_claims(range.now_s), &json!({"aud": aud})).to_string();
        let id = range.ed.signed(&header, &claims);
        range.refused("an ID token", &id, Denied::TokenType).await;
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_keys_and_broken_signatures() {
    let range = Range::new(&["at+jwt"]);
    for (name, alg) in [("rsa", "RS256"), ("rsa-pkcs", "RS256")] {
        let token = range.token(&range.evil, &json!({"kid": name, "alg": alg}), &json!({}));
        range.refused("the right name, another key", &token, Denied::Signature).await;
    }
    for (key, alg) in [
        (&range.rsa, "ES256"),
        (&range.rsa, "EdDSA"),
        (&range.p256, "RS256"),
        (&range.p256, "EdDSA"),
        (&range.ed, "ES256"),
        (&range.ed, "PS256"),
        (&range.rsa_pkcs, "PS256"),
    ] {
        let token = range.token(key, &json!({"alg": alg}), &json!({}));
        range.refused(alg, &token, Denied::Algorithm).await;
    }
    let token = range.token(&range.rsa, &json!({"alg": "PS256"}), &json!({}));
    range.refused("PKCS#1 as PSS", &token, Denied::Signature).await;
    for key in [&range.rsa, &range.p256, &range.ed] {
        let good = key.token(&range.claims());
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let zeros = vec![0; bytes.len()];
        let (short, long) = (&bytes[..bytes.len() - 1], [&bytes[..], &[0]].concat());
        let (before, doubled) = ([&[0], &bytes[..]].concat(), [&bytes[..], &bytes[..]].concat());
        for bad in [&zeros[..], short, &long, &before, &doubled, &[], &[0], &[1; 64]] {
            let token = format!("{message}.{}", encoded(bad));
            range.refused("bytes", &token, Denied::Signature).await;
        }
        for bad in [
            format!("{signature}="),
            format!("{signature}=="),
            format!("{signature}A"),
            format!("A{signature}"),
            signature.replace(['-', '_'], "+"),
            format!("{signature}%00"),
            format!(" {signature}"),
            loose(signature),
        ] {
            if bad != signature {
                range.refused(&bad, &format!("{message}.{bad}"), Denied::Signature).await;
            }
        }
    }
}

/// The same bytes in a spelling that has bits set behind its end.
fn loose(part: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = part.as_bytes().to_vec();
    let last = bytes.pop().expect("not empty");
    let place = ALPHABET.bytes().position(|byte| byte == last).expect("base64url");
    bytes.push(ALPHABET.as_bytes()[place ^ 1]);
    String::from_utf8(bytes).expect("ASCII")
}

#[tokio::test(start_paused = true)]
async fn encodings_and_shapes() {
    let range = Range::new(&["at+jwt"]);
    // 1 to 3 blanks more, so that one of them leaves bits over.
    let with_bits_over = |text: &str| {
        let texts = (0..3).map(|blanks| encoded(format!("{text}{}", " ".repeat(blanks))));
        texts.into_iter().find(|part| part.len() % 4 != 0).expect("one of three")
    };
    let (header, claims) = (range.ed.header().to_string(), range.claims().to_string());
    let token = range.ed.signed_parts(&loose(&with_bits_over(&header)), &encoded(&claims));
    range.refused("loose header", &token, Denied::Malformed).await;
    let token = range.ed.signed_parts(&encoded(&header), &loose(&with_bits_over(&claims)));
    range.refused("loose claims", &token, Denied::Malformed).await;
    for (header, claims) in [
        (format!("{}=", encoded(&header)), encoded(&claims)),
        (encoded(&header), format!("{}=", encoded(&claims))),
        (STANDARD.encode(format!("{header}>>>???")), encoded(&claims)),
        (encoded(&header), String::new()),
        (String::new(), encoded(&claims)),
        (encoded(b"\xff\xfe{}"), encoded(&claims)),
    ] {
        let token = range.ed.signed_parts(&header, &claims);
        range.refused(&token, &token, Denied::Malformed).await;
    }
    let good = range.ed.token(&range.claims());
    for other in [format!("{good}.x"), format!("x.{good}"), good.replace('.', ""), "junk".into()] {
        range.refused("no JWT", &other, Denied::Opaque).await;
    }
    range.refused("two dots", "..", Denied::Malformed).await;
    let megabyte = range.token(&range.ed, &json!({}), &json!({"x": "a".repeat(1 << 20)}));
    range.refused("1 MB", &megabyte, Denied::TooLong).await;
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let claims = claims.replacen('{', &format!(r#"{{"x":{deep},"#), 1);
    range.refused("deep", &range.ed.signed(&header, &claims), Denied::Malformed).await;
    let own = LocalKey::from_seed(&[1; 32]).expect("a key");
    let token = own.create(&Grant::new(Role::Admin), range.now_s).expect("signed");
    range.refused("of another nO", &token, Denied::KeyUnknown).await;
}
