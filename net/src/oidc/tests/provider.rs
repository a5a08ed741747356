//! What is asked of the issuer, how often, and what becomes of those who wait.

use super::super::introspect::ASKING_MAX;
use super::super::refresh::FRESH;
use super::super::*;
use super::issuer::{CLIENT, TestKey, claims, id_claims, key_set, with};
use crate::out::tests::harness::{self, Act, Seen, Server, answer};
use crate::testing::{Proofs, World};
use jsonwebtoken::Algorithm;
use no_auth::Secret;
use no_auth::{Grant, IssuerRules, LocalKey, Role, Roles};
use serde_json::json;
use std::cell::RefCell;

/// What the issuer does now.
#[derive(Clone, Default)]
struct Mood {
    keys: Value,
    word: Value,
    /// An answer to everything, in the place of the right one.
    instead: Option<String>,
    cache_control: &'static str,
    is_silent: bool,
}

struct Stage {
    server: Server,
    mood: Rc<RefCell<Mood>>,
    issuer: Arc<Issuer>,
    provider: Provider,
    verifier: Rc<Verifier>,
    local: LocalKey,
    key: TestKey,
}

fn plan(seen: &Seen, mood: &Mood) -> Vec<Act> {
    if mood.is_silent {
        return vec![Act::Hold];
    }
    if let Some(text) = &mood.instead {
        return vec![Act::Write(text.clone())];
    }
    let base = format!("http://{}", seen.header("host"));
    let body = match seen.target.as_str() {
        "/.well-known/openid-configuration" => json!({
            "issuer": base, "authorization_endpoint": format!("{base}/auth"),
            "token_endpoint": format!("{base}/token"), "jwks_uri": format!("{base}/jwks"),
            "introspection_endpoint": format!("{base}/introspect")
        }),
        "/jwks" => {
            let (body, head) = (mood.keys.to_string(), mood.cache_control);
            let len = body.len();
            let text = format!("HTTP/1.1 200 OK\r\n{head}content-length: {len}\r\n\r\n{body}");
            return vec![Act::Write(text)];
        }
        "/introspect" => mood.word.clone(),
        "/token" => {
            return vec![Act::Write(answer("400 Bad Request", r#"{"error":"invalid_grant"}"#))];
        }
        _ => json!({}),
    };
    vec![Act::Write(answer("200 OK", &body.to_string()))]
}

async fn stage() -> Stage {
    let key = TestKey::new("k1", Algorithm::EdDSA);
    let mood = Rc::new(RefCell::new(Mood { keys: key_set(&[&key]), ..Mood::default() }));
    let planned = Rc::clone(&mood);
    let server = Server::start(move |seen| plan(seen, &planned.borrow())).await;
    let rules = IssuerRules {
        issuer: server.url(""),
        audience: "no".to_owned(),
        client_id: Some(CLIENT.to_owned()),
        token_types: vec!["at+jwt".to_owned()],
        roles_claim: "roles".to_owned(),
        tenant_claim: "tenant".to_owned(),
        roles: Arc::new(Roles::default()),
    };
    let client_secret = Some(Secret::new("s%cret".to_owned()).expect("a secret"));
    let config = IssuerConfig { rules: Arc::new(rules), client_secret, redirect_uri: None };
    let issuer = Arc::new(Issuer::new(config).expect("an issuer"));
    let local = LocalKey::from_seed(&[5; 32]).expect("a key");
    let verifier = Verifier::new(local.key_set());
    let verifier = verifier.with_issuer(Arc::clone(&issuer.config().rules), issuer.keyring());
    let verifier = Rc::new(verifier);
    let provider = Provider::new(Arc::clone(&issuer), &out(), Rc::clone(&verifier));
    Stage { server, mood, issuer, provider, verifier, local, key }
}

fn out() -> OutConfig {
    OutConfig::new::<&str>(&[], &Default::default(), &|_| None).expect("a configuration")
}

fn now_s() -> u64 {
    crate::time::wall().0 / 1_000
}

impl Stage {
    fn token(&self, key: &TestKey) -> String {
        let claims = with(claims(now_s()), &json!({"iss": self.issuer.config().rules.issuer}));
        key.token(&claims)
    }

    /// As a request is checked: at once where that does, else with the issuer's word.
    async fn prove(&self, bearer: &str) -> Result<Principal, Denied> {
        match self.verifier.verify(bearer, now_s()) {
            Err(why) if why.asks_issuer() => self.provider.prove(bearer, why, now_s()).await,
            proven => proven,
        }
    }

    fn asked(&self, target: &str) -> usize {
        (0..self.server.requests()).filter(|i| self.server.seen(*i).target == target).count()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_token_has_the_keys_fetched_and_later_ones_do_not() {
    harness::local(async {
        let stage = stage().await;
        assert_eq!(stage.issuer.fault().as_deref(), Some("its keys are not fetched yet"));
        let principal = stage.prove(&stage.token(&stage.key)).await.expect("accepted");
        assert_eq!((&*principal.subject, &*principal.tenant), ("ada", "acme"));
        assert_eq!(stage.issuer.fault(), None);
        for _ in 0..3 {
            stage.prove(&stage.token(&stage.key)).await.expect("accepted");
        }
        assert_eq!((stage.asked("/jwks"), stage.server.requests()), (1, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_have_them_fetched_once_in_a_while_whatever_comes() {
    harness::local(async {
        let stage = Rc::new(stage().await);
        stage.prove(&stage.token(&stage.key)).await.expect("accepted");
        // The issuer changes its keys; a hundred come at once, and wait for the same fetch.
        tokio::time::advance(UNKNOWN_KEY_PAUSE).await;
        let next = Rc::new(TestKey::new("k2", Algorithm::EdDSA));
        stage.mood.borrow_mut().keys = key_set(&[&next]);
        let all: Vec<_> = (0..100)
            .map(|_| {
                let (stage, token) = (Rc::clone(&stage), stage.token(&next));
                tokio::task::spawn_local(async move { stage.prove(&token).await })
            })
            .collect();
        for one in all {
            one.await.expect("no panic").expect("accepted");
        }
        assert_eq!(stage.asked("/jwks"), 2);
        // Names that exist nowhere, as many as one likes.
        let forged = |n: u32| stage.token(&TestKey::new(&format!("x{n}"), Algorithm::EdDSA));
        for n in 0..100 {
            assert_eq!(stage.prove(&forged(n)).await, Err(Denied::KeyUnknown));
        }
        assert_eq!(stage.asked("/jwks"), 2);
        tokio::time::advance(UNKNOWN_KEY_PAUSE).await;
        for n in 0..100 {
            assert_eq!(stage.prove(&forged(n)).await, Err(Denied::KeyUnknown));
        }
        assert_eq!(stage.asked("/jwks"), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_fetch_goes_on_when_who_began_it_leaves() {
    harness::local(async {
        let stage = stage().await;
        let begun = stage.provider.shared.learn_keys(Cause::UnknownKey);
        let token = stage.token(&stage.key);
        let mut begun = Box::pin(begun);
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(begun.as_mut().poll(cx).is_pending()))
                .await
        );
        drop(begun);
        stage.prove(&token).await.expect("it waited for the same");
        assert_eq!(stage.asked("/jwks"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_logs_nobody_out() {
    harness::local(async {
        let stage = stage().await;
        stage.prove(&stage.token(&stage.key)).await.expect("accepted");
        stage.mood.borrow_mut().instead = Some(answer("503 Service Unavailable", "{}"));
        tokio::time::advance(UNKNOWN_KEY_PAUSE).await;
        let other = stage.token(&TestKey::new("k2", Algorithm::EdDSA));
        assert_eq!(stage.prove(&other).await, Err(Denied::IssuerUnavailable));
        let fault = stage.issuer.fault().expect("it is down");
        assert!(fault.contains("status 503; the keys known before are used"), "{fault}");
        stage.prove(&stage.token(&stage.key)).await.expect("still accepted");
        assert_eq!(stage.prove(&other).await, Err(Denied::IssuerUnavailable), "not asked again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_its_issuer_says_when_to_come_again() {
    let (world, own) = harness::local(async {
        let stage = stage().await;
        let (verifier, token) = (Rc::clone(&stage.verifier), stage.token(&stage.key));
        let own = stage.local.create(&Grant::new(Role::Viewer), now_s()).expect("signed");
        stage.mood.borrow_mut().is_silent = true;
        let world = World::proving(Proofs {
            verify: Box::new(move |bearer, now_s| verifier.verify(bearer, now_s)),
            provider: Some(stage.provider),
            ..Proofs::default()
        });
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        let answer = world.drive(world.call_with("GET", "/v1/agents", "", &headers)).await;
        assert_eq!(answer.problem(), "401 unauthenticated -");
        assert_eq!(answer.headers["retry-after"], "5");
        (world, format!("Bearer {own}"))
    })
    .await;
    let headers = [("authorization", &*own)];
    let answer = world.run(world.call_with("GET", "/v1/agents", "", &headers)).await;
    assert_eq!(answer.status, 200, "local tokens work meanwhile");
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_when_they_are_due() {
    harness::local(async {
        let stage = Rc::new(stage().await);
        stage.mood.borrow_mut().is_silent = true;
        let kept = Rc::clone(&stage);
        let keeping = tokio::task::spawn_local(async move { kept.provider.keep_fresh().await });
        // 10 s of silence and a pause, twice as long each time.
        tokio::time::sleep(Duration::from_secs(80)).await;
        let tries = stage.server.requests();
        assert!((3..=7).contains(&tries), "{tries}");
        assert!(stage.issuer.fault().expect("down").contains("no answer within 10s"));
        stage.mood.borrow_mut().is_silent = false;
        tokio::time::sleep(Duration::from_secs(130)).await;
        assert_eq!((stage.issuer.fault(), stage.asked("/jwks")), (None, 1));
        stage.mood.borrow_mut().cache_control = "cache-control: max-age=600\r\n";
        tokio::time::sleep(FRESH).await;
        assert_eq!(stage.asked("/jwks"), 2);
        tokio::time::sleep(Duration::from_secs(1_200)).await;
        assert_eq!(stage.asked("/jwks"), 4);
        keeping.abort();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn documents_that_are_not_to_be_trusted_change_nothing() {
    harness::local(async {
        let stage = stage().await;
        let evil = "http://169.254.169.254/";
        let redirect = format!("HTTP/1.1 302 X\r\nlocation: {evil}\r\ncontent-length: 0\r\n\r\n");
        let other = json!({"issuer": "https://other.example"}).to_string();
        let large = answer("200 OK", &"x".repeat(ANSWER_BYTES_MAX + 1));
        let length = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{}".to_owned();
        for (instead, expected) in [
            (redirect, "status 302"),
            (answer("200 OK", &other), "not of"),
            (answer("200 OK", "[]"), "not a JSON object"),
            (answer("200 OK", "<html>"), "not a JSON object"),
            (large, "larger than"),
            (length, "larger than"),
        ] {
            stage.mood.borrow_mut().instead = Some(instead);
            tokio::time::advance(UNKNOWN_KEY_PAUSE).await;
            let error = stage.provider.metadata().await.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        stage.mood.borrow_mut().instead = None;
        stage.mood.borrow_mut().keys = json!({"keys": []});
        tokio::time::advance(UNKNOWN_KEY_PAUSE).await;
        assert!(stage.provider.metadata().await.is_err());
        assert!(stage.issuer.fault().expect("no keys").contains("that we can use"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn opaque_tokens_are_asked_about_and_the_word_is_kept_for_a_minute() {
    harness::local(async {
        let stage = stage().await;
        let word = json!({
            "active": true, "token_type": "Bearer", "aud": "no", "client_id": "cli",
            "exp": now_s() + 3_600, "roles": "worker", "tenant": "acme"
        });
        stage.mood.borrow_mut().word = word.clone();
        let principal = stage.prove("0paque-token").await.expect("accepted");
        assert_eq!((&*principal.subject, &*principal.tenant), ("cli", "acme"));
        assert_eq!(principal.permissions, Role::Worker.permissions());
        let seen = stage.server.last();
        assert_eq!(seen.body, "token=0paque-token&token_type_hint=access_token");
        // "no-console" and "s%cret", the latter form-encoded.
        assert_eq!(seen.header("authorization"), "Basic bm8tY29uc29sZTpzJTI1Y3JldA==");
        stage.prove("0paque-token").await.expect("remembered");
        assert_eq!(stage.asked("/introspect"), 1);
        assert!(stage.verifier.verify("0paque-token", now_s() + 59).is_ok());
        let later = stage.verifier.verify("0paque-token", now_s() + 61);
        assert_eq!(later, Err(Denied::Opaque), "its word is old");

        stage.mood.borrow_mut().word = json!({"active": false});
        assert_eq!(stage.prove("revoked").await, Err(Denied::Inactive));
        stage.mood.borrow_mut().word = with(word, &json!({"aud": "other"}));
        assert_eq!(stage.prove("of-another").await, Err(Denied::Audience));
        assert_eq!(stage.prove("not a token").await, Err(Denied::Malformed));
        assert_eq!(stage.asked("/introspect"), 3);
        stage.mood.borrow_mut().instead = Some(answer("401 Unauthorized", "{}"));
        assert_eq!(stage.prove("any").await, Err(Denied::IssuerUnavailable));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn junk_does_not_bury_the_issuer_under_questions() {
    harness::local(async {
        let stage = Rc::new(stage().await);
        stage.provider.metadata().await.expect("there");
        stage.mood.borrow_mut().is_silent = true;
        let all: Vec<_> = (0..ASKING_MAX + 10)
            .map(|n| {
                let stage = Rc::clone(&stage);
                tokio::task::spawn_local(async move { stage.prove(&format!("junk{n}")).await })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.expect("no panic"), Err(Denied::IssuerUnavailable));
        }
        assert_eq!(stage.asked("/introspect"), ASKING_MAX);
        assert_eq!(stage.provider.shared.asking.get(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_login_ends_with_an_id_token_of_a_key_that_may_be_new() {
    harness::local(async {
        let stage = stage().await;
        let issuer = stage.issuer.config().rules.issuer.clone();
        let claims = with(id_claims(now_s()), &json!({"iss": issuer}));
        let header = with(stage.key.header(), &json!({"typ": null})).to_string();
        let token = stage.key.signed(&header, &claims.to_string());
        let claims = stage.provider.id_token(&token, "n-1", now_s()).await.expect("accepted");
        assert_eq!(stage.provider.principal(&claims).permissions, Role::Operator.permissions());
        let wrong = stage.provider.id_token(&token, "n-2", now_s()).await;
        assert_eq!(wrong, Err(Denied::Claims));
        // Somebody's junk has just had the keys fetched; a login still learns the newest at once.
        let junk = TestKey::new("k8", Algorithm::EdDSA);
        assert_eq!(stage.prove(&stage.token(&junk)).await, Err(Denied::KeyUnknown));
        let newer = TestKey::new("k9", Algorithm::EdDSA);
        stage.mood.borrow_mut().keys = key_set(&[&newer]);
        assert_eq!(stage.prove(&stage.token(&newer)).await, Err(Denied::KeyUnknown));
        let claims = with(id_claims(now_s()), &json!({"iss": issuer}));
        let header = with(newer.header(), &json!({"typ": null})).to_string();
        let token = newer.signed(&header, &claims.to_string());
        stage.provider.id_token(&token, "n-1", now_s()).await.expect("accepted");
        let metadata = stage.provider.metadata().await.expect("known");
        let fields = [("grant_type", "authorization_code"), ("code", "a b")];
        let refused = stage.provider.form(&metadata.token_endpoint, &fields).await;
        let Err(ProviderError::Refused { status: 400, code, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(code, "invalid_grant");
        assert_eq!(stage.server.last().body, "grant_type=authorization_code&code=a+b");
    })
    .await;
}
