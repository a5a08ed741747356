//! An issuer's tokens that are accepted, and what they come to. The forged ones stand in the
//! attacks of `no-net`, where they end in a 401.

mod issuer;

use issuer::{CLIENT, ISSUER, TestKey, claims, id_claims, key_set, with};
use jsonwebtoken::Algorithm;
use no_auth::issued::LEEWAY_S;
use no_auth::roles::{RoleRules, Roles};
use no_auth::{
    Denied, Grant, IssuerKeys, IssuerRules, Keyring, LocalKey, PermissionSet, Principal, Role,
    Verifier,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const NOW_S: u64 = 1_800_000_000;

fn rules() -> IssuerRules {
    let dbas = RoleRules { claims: Some(vec!["dba team".to_owned()]), ..RoleRules::default() };
    let roles = Roles::new(&[("admin".to_owned(), dbas)].into()).expect("roles");
    IssuerRules {
        issuer: ISSUER.to_owned(),
        audience: "no".to_owned(),
        client_id: Some(CLIENT.to_owned()),
        token_types: vec!["at+jwt".to_owned()],
        roles_claim: "roles".to_owned(),
        tenant_claim: "tenant".to_owned(),
        roles: Arc::new(roles),
    }
}

struct World {
    rules: IssuerRules,
    key: TestKey,
    keys: IssuerKeys,
}

fn world() -> World {
    let key = TestKey::new("k1", Algorithm::EdDSA);
    let keys = IssuerKeys::parse(key_set(&[&key]).to_string().as_bytes()).expect("keys");
    World { rules: rules(), key, keys }
}

impl World {
    fn access(&self, changes: &Value) -> Result<Principal, Denied> {
        let token = self.key.token(&with(claims(NOW_S), changes));
        self.rules.access(&token, NOW_S, &self.keys).map(|issued| issued.principal)
    }
}

#[test]
fn all_four_algorithms_are_taken() {
    let rsa = TestKey::new("r", Algorithm::RS256);
    let (p256, ed) = (TestKey::new("e", Algorithm::ES256), TestKey::new("o", Algorithm::EdDSA));
    let set = key_set(&[&rsa, &p256, &ed]);
    let keys = IssuerKeys::parse(set.to_string().as_bytes()).expect("keys");
    let check = |token: &str| {
        let issued = rules().access(token, NOW_S, &keys).expect("accepted");
        assert_eq!((&*issued.principal.subject, &*issued.principal.tenant), ("ada", "acme"));
        assert_eq!(issued.principal.permissions, Role::Operator.permissions());
        assert_eq!(issued.until_s, NOW_S + 300 + LEEWAY_S);
    };
    for key in [&rsa, &p256, &ed] {
        check(&key.token(&claims(NOW_S)));
    }
    let encode = |value: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let header = encode(&with(rsa.header(), &json!({"alg": "PS256"})));
    check(&rsa.signed_as(Algorithm::PS256, &header, &encode(&claims(NOW_S))));
}

#[test]
fn clocks_may_be_a_minute_apart() {
    let world = world();
    assert!(world.access(&json!({"exp": NOW_S - 59})).is_ok());
    assert_eq!(world.access(&json!({"exp": NOW_S - 60})), Err(Denied::Expired));
    for name in ["nbf", "iat"] {
        assert!(world.access(&json!({name: NOW_S + 60})).is_ok());
        assert_eq!(world.access(&json!({name: NOW_S + 61})), Err(Denied::NotYet));
    }
    assert!(world.access(&json!({"iat": null})).is_ok());
    assert!(world.access(&json!({"exp": NOW_S as f64 + 0.5})).is_ok());
}

#[test]
fn roles_and_tenant_are_found_where_they_are_configured() {
    let mut world = world();
    let check = |world: &World, changes: Value, permissions: PermissionSet, tenant: &str| {
        let principal = world.access(&changes).expect("accepted");
        assert_eq!((principal.permissions, &*principal.tenant), (permissions, tenant), "{changes}");
    };
    let (operator, viewer) = (Role::Operator.permissions(), Role::Viewer.permissions());
    check(&world, json!({"tenant": null}), operator, "default");
    check(&world, json!({"roles": "stranger viewer  "}), viewer, "acme");
    check(&world, json!({"roles": ["viewer", 7, "operator", "root"]}), operator, "acme");
    check(&world, json!({"roles": ["dba team"]}), PermissionSet::ALL, "acme");
    for nothing in [json!(null), json!([]), json!(7), json!({"admin": 1}), json!(["admin"])] {
        check(&world, json!({"roles": nothing}), PermissionSet::NONE, "acme");
    }
    for bad in [json!(""), json!(7), json!("a\nb"), json!("x".repeat(129)), json!(["acme"])] {
        assert_eq!(world.access(&json!({"tenant": bad})), Err(Denied::Claims));
    }
    world.rules.roles_claim = "realm_access.roles".to_owned();
    world.rules.tenant_claim = "https://id.example/tenant".to_owned();
    let changes = json!({"realm_access": {"roles": ["viewer"]}, "https://id.example/tenant": "t2"});
    check(&world, changes, viewer, "t2");
    check(&world, json!({"realm_access": ["viewer"]}), PermissionSet::NONE, "default");
    let literal = json!({"realm_access.roles": "operator", "realm_access": {"roles": ["viewer"]}});
    check(&world, literal, operator, "default");
}

#[test]
fn a_configured_type_does_not_let_id_tokens_in() {
    let mut world = world();
    world.rules.token_types = vec!["at+jwt".to_owned(), "jwt".to_owned()];
    let check = |header: Value, changes: Value, expected: Result<(), Denied>| {
        let header = with(world.key.header(), &header).to_string();
        let claims = with(claims(NOW_S), &changes).to_string();
        let token = world.key.signed(&header, &claims);
        let got = world.rules.access(&token, NOW_S, &world.keys).map(|_| ());
        assert_eq!(got, expected, "{header} {claims}");
    };
    for header in [json!({"typ": "JWT"}), json!({"typ": null}), json!({"typ": "application/jwt"})] {
        check(header.clone(), json!({}), Ok(()));
        for id in [
            json!({"nonce": "n-1"}),
            json!({"at_hash": "x"}),
            json!({"aud": ["no", CLIENT]}),
            json!({"typ": "ID"}),
            json!({"token_use": "id"}),
        ] {
            check(header.clone(), id, Err(Denied::TokenType));
        }
    }
    check(json!({"typ": "at+jwt"}), json!({"aud": ["no", CLIENT]}), Ok(()));
    check(json!({"typ": "logout+jwt"}), json!({}), Err(Denied::TokenType));
}

#[test]
fn an_id_token_names_who_logged_in() {
    let world = world();
    let id_header = with(world.key.header(), &json!({"typ": null}));
    let check = |header: Value, changes: Value, nonce: &str| {
        let header = with(id_header.clone(), &header).to_string();
        let token = world.key.signed(&header, &with(id_claims(NOW_S), &changes).to_string());
        world.rules.id(&token, nonce, NOW_S, &world.keys)
    };
    let claims = check(json!({}), json!({}), "n-1").expect("accepted");
    assert_eq!(
        (&*claims.sub, claims.tenant.as_deref(), claims.exp),
        ("ada", Some("acme"), NOW_S + 300)
    );
    assert_eq!((claims.name.as_deref(), claims.sid.as_deref()), (Some("Ada"), Some("s-1")));
    let principal = claims.principal(&world.rules.roles);
    assert_eq!(principal.permissions, Role::Operator.permissions());
    let least = json!({"name": null, "email": null, "sid": null, "preferred_username": "al"});
    let claims = check(json!({"typ": "JWT"}), least, "n-1").expect("accepted");
    assert_eq!((claims.name.as_deref(), claims.email, claims.sid), (Some("al"), None, None));
    let shared = json!({"aud": [CLIENT, "other"], "azp": CLIENT});
    assert!(check(json!({}), shared, "n-1").is_ok());

    let refused = |header: Value, changes: Value, nonce: &str, why: Denied| {
        assert_eq!(check(header, changes.clone(), nonce), Err(why), "{changes}");
    };
    refused(json!({"typ": "at+jwt"}), json!({}), "n-1", Denied::TokenType);
    refused(json!({"alg": "none"}), json!({}), "n-1", Denied::Algorithm);
    for nonce in ["", "n-2", "N-1"] {
        refused(json!({}), json!({}), nonce, Denied::Claims);
    }
    refused(json!({}), json!({"nonce": null}), "", Denied::Claims);
    refused(json!({}), json!({"nonce": ""}), "", Denied::Claims);
    refused(json!({}), json!({"aud": "no"}), "n-1", Denied::Audience);
    refused(json!({}), json!({"aud": [CLIENT, "other"]}), "n-1", Denied::Audience);
    refused(json!({}), json!({"azp": "other"}), "n-1", Denied::Audience);
    refused(json!({}), json!({"iss": "https://other.example"}), "n-1", Denied::Issuer);
    refused(json!({}), json!({"exp": NOW_S - 60}), "n-1", Denied::Expired);
    refused(json!({}), json!({"exp": null}), "n-1", Denied::Malformed);
    refused(json!({}), json!({"iat": null}), "n-1", Denied::Malformed);
    refused(json!({}), json!({"sub": null}), "n-1", Denied::Claims);
    let token = world.key.token(&id_claims(NOW_S));
    let nobody = IssuerRules { client_id: None, ..rules() };
    assert_eq!(nobody.id(&token, "n-1", NOW_S, &world.keys), Err(Denied::TokenType));
}

#[test]
fn what_an_id_token_left_out_userinfo_fills_in() {
    let world = world();
    let claims = |changes: Value| {
        let header = with(world.key.header(), &json!({"typ": null})).to_string();
        let token = world.key.signed(&header, &with(id_claims(NOW_S), &changes).to_string());
        world.rules.id(&token, "n-1", NOW_S, &world.keys).expect("accepted")
    };
    let told = |changes: Value| -> Map<String, Value> {
        let told = json!({"sub": "ada", "name": "A.", "roles": ["worker", "x"], "tenant": "zeta"});
        serde_json::from_value(with(told, &changes)).expect("an object")
    };
    let whole = claims(json!({}));
    assert!(!whole.is_partial());
    let mut kept = whole.clone();
    assert_eq!(world.rules.complete(&mut kept, &told(json!({}))), Ok(()));
    assert_eq!(kept, whole, "what the token says stands");

    let least = json!({"name": null, "email": null, "roles": null, "tenant": null});
    let mut claims = claims(least);
    assert!(claims.is_partial());
    assert_eq!(&*claims.principal(&world.rules.roles).tenant, "default");
    for (changes, sub) in [(json!({"sub": "eve"}), "another"), (json!({"sub": null}), "none")] {
        let mut claims = claims.clone();
        let refused = world.rules.complete(&mut claims, &told(changes));
        assert_eq!((refused, claims.is_partial()), (Err(Denied::Claims), true), "{sub}");
    }
    let odd = world.rules.complete(&mut claims.clone(), &told(json!({"tenant": ["a"]})));
    assert_eq!(odd, Err(Denied::Claims));
    assert_eq!(world.rules.complete(&mut claims, &told(json!({"email": "x".repeat(256)}))), Ok(()));
    let principal = claims.principal(&world.rules.roles);
    assert_eq!((&*principal.tenant, principal.permissions), ("zeta", Role::Worker.permissions()));
    let shown = claims.profile(&world.rules.roles);
    assert_eq!((shown.name.as_deref(), &*shown.roles), (Some("A."), &["worker".to_owned()][..]));
    assert_eq!(claims.email, None, "too long to be one");
}

#[test]
fn the_issuers_word_on_an_opaque_token_is_held_to_the_same() {
    let word = |changes: Value| -> Map<String, Value> {
        let word = json!({
            "active": true, "token_type": "Bearer", "iss": ISSUER, "aud": ["no"],
            "client_id": "cli", "exp": NOW_S + 30, "roles": ["operator"], "tenant": "acme"
        });
        with(word, &changes).as_object().expect("an object").clone()
    };
    let check = |changes: Value| rules().introspected(&word(changes), NOW_S);
    let issued = check(json!({})).expect("accepted");
    assert_eq!((&*issued.principal.subject, &*issued.principal.tenant), ("cli", "acme"));
    assert_eq!(issued.until_s, NOW_S + 30 + LEEWAY_S);
    assert_eq!(&*check(json!({"sub": "ada"})).expect("accepted").principal.subject, "ada");
    let open = check(json!({"exp": null, "iss": null, "token_type": null})).expect("accepted");
    assert_eq!(open.until_s, u64::MAX);
    for (changes, why) in [
        (json!({"active": false}), Denied::Inactive),
        (json!({"active": "true"}), Denied::Inactive),
        (json!({"active": null}), Denied::Inactive),
        (json!({"token_type": "DPoP"}), Denied::TokenType),
        (json!({"token_type": 1}), Denied::Malformed),
        (json!({"iss": "https://other.example"}), Denied::Issuer),
        (json!({"iss": 7}), Denied::Issuer),
        (json!({"aud": "other"}), Denied::Audience),
        (json!({"aud": null}), Denied::Audience),
        (json!({"exp": NOW_S - 60}), Denied::Expired),
        (json!({"nbf": NOW_S + 61}), Denied::NotYet),
        (json!({"client_id": null}), Denied::Claims),
        (json!({"cnf": {"jkt": "x"}}), Denied::Claims),
    ] {
        assert_eq!(check(changes.clone()), Err(why), "{changes}");
    }
}

#[test]
fn local_and_issued_tokens_are_told_apart_and_both_remembered() {
    let world = world();
    let local = LocalKey::from_seed(&[7; 32]).expect("a key");
    let keyring = Arc::new(Keyring::default());
    let verifier =
        Verifier::new(local.key_set()).with_issuer(Arc::new(rules()), Arc::clone(&keyring));
    let own = local.create(&Grant::new(Role::Viewer), NOW_S).expect("signed");
    let issued = world.key.token(&claims(NOW_S));
    assert!(verifier.verify(&own, NOW_S).is_ok(), "without the issuer");
    assert_eq!(verifier.verify(&issued, NOW_S), Err(Denied::IssuerUnavailable));
    assert_eq!(verifier.verify("opaque", NOW_S), Err(Denied::Opaque));
    keyring.set(world.keys);
    assert!(verifier.verify(&issued, NOW_S).is_ok());
    // Another set of keys does not end what was found good: for 5 minutes at most.
    let other = TestKey::new("k2", Algorithm::EdDSA);
    let set = key_set(&[&other]).to_string();
    keyring.set(IssuerKeys::parse(set.as_bytes()).expect("keys"));
    assert!(verifier.verify(&issued, NOW_S + 299).is_ok());
    assert_eq!(verifier.verify(&issued, NOW_S + 300), Err(Denied::KeyUnknown));
    // The issuer's key under the name of ours, and ours under its name.
    let header = with(world.key.header(), &json!({"kid": local.kid()})).to_string();
    let token = world.key.signed(&header, &claims(NOW_S).to_string());
    assert_eq!(verifier.verify(&token, NOW_S), Err(Denied::Malformed), "at+jwt is none of ours");
    let header = with(world.key.header(), &json!({"kid": local.kid(), "typ": "JWT"})).to_string();
    let token = world.key.signed(&header, &claims(NOW_S).to_string());
    assert_eq!(verifier.verify(&token, NOW_S), Err(Denied::Signature));
}

#[test]
fn roles_of_local_tokens_are_those_of_the_configuration() {
    let local = LocalKey::from_seed(&[7; 32]).expect("a key");
    let own = RoleRules { permissions: Some(vec!["ops:read".to_owned()]), claims: None };
    let roles = Arc::new(Roles::new(&[("watch".to_owned(), own)].into()).expect("roles"));
    let token = local.create(&Grant::of_role("watch"), NOW_S).expect("signed");
    let verifier = Verifier::new(local.key_set()).with_roles(roles);
    let principal = verifier.verify(&token, NOW_S).expect("accepted");
    assert_eq!(format!("{:?}", principal.permissions), r#"["ops:read"]"#);
    let others = Verifier::new(local.key_set());
    assert_eq!(others.verify(&token, NOW_S), Err(Denied::Claims));
}
