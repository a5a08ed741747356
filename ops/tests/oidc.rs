//! Tokens and logins of an issuer that others wrote and that is certified: npm `oidc-provider`,
//! started by `ops/tests/oidc/provider.mjs`.
//!
//! `make test` installs it under `target/test-tools`. Where it or Node.js is missing the tests say
//! so and show nothing; in CI that is a failure. Issuer and requests name the same host, as the
//! provider's endpoints follow what it is asked under.

#[path = "oidc/browser.rs"]
mod browser;
mod e2e;
#[path = "oidc/login.rs"]
mod login;
#[path = "oidc/provider.rs"]
mod provider;

use e2e::{Client, Node, PATIENCE};
use provider::Provider;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ECHO: &str = r#"{"agent":"echo","input":1}"#;

/// One who comes with this token.
fn with(node: &Node, token: &str) -> Client {
    node.with_token(Some(token))
}

/// What a submission with this token comes to.
fn submit(node: &Node, token: &str) -> e2e::Reply {
    with(node, token).send("POST", "/v1/tasks", &[e2e::client::JSON], Some(ECHO.as_bytes()))
}

/// What the check `oidc` says, once it says so; the patience is bounded, each look is a request.
#[track_caller]
fn wait_health(node: &Node, status: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let health = node.get("/health").body;
        if health["checks"]["oidc"]["status"] == status {
            return health;
        }
        assert!(Instant::now() < until, "not {status}: {health}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_clients_token_opens_what_its_role_and_tenant_do() {
    let Some(provider) = Provider::start() else { return };
    let home = provider.home();
    let node = home.start();
    for alg in ["ES256", "EdDSA", "PS256", "RS256"] {
        let token = provider.token("submitter.acme", "urn:no", alg);
        let task = submit(&node, &token);
        assert!(matches!(task.status, 200 | 202), "{alg}: {}", task.text);
        assert_eq!(task.body["tenant"], "acme", "{alg}");
    }
    let token = provider.token("submitter.acme", "urn:no", "ES256");
    let asking = with(&node, &token);
    let id = asking.submit(&json!({"agent": "echo", "input": 1}));
    asking.succeeded(&id);
    node.get(&format!("/v1/tasks/{id}")).problem(404, "task_unknown");
    asking.put("/v1/agents/a", &json!({"kind": "echo"})).problem(403, "forbidden");
    let viewer = provider.token("viewer", "urn:no", "ES256");
    submit(&node, &viewer).problem(403, "forbidden");
    with(&node, &viewer).get("/v1/tasks").ok(200);
    let nobody = provider.token("nobody.acme", "urn:no", "ES256");
    with(&node, &nobody).get("/v1/tasks").problem(403, "forbidden");
    let other = provider.token("submitter.acme", "urn:other", "ES256");
    submit(&node, &other).problem(401, "unauthenticated");
    let counted = node.get("/metrics").text;
    let line = r#"no_auth_failures_total{method="bearer",reason="audience"} 1"#;
    assert!(counted.contains(line), "{counted}");
    let health = wait_health(&node, "ok");
    assert_eq!(health["status"], "ok");
    node.stop();
}

#[test]
fn new_keys_are_learnt_and_an_outage_logs_nobody_out() {
    let Some(provider) = Provider::start() else { return };
    let home = provider.home();
    let node = home.start();
    let before = provider.token("submitter.acme", "urn:no", "ES256");
    assert!(submit(&node, &before).status < 300);
    let provider = provider.restarted();
    let after = provider.token("submitter.acme", "urn:no", "ES256");
    assert!(submit(&node, &after).status < 300, "the new key is learnt without a restart");
    assert!(submit(&node, &before).status < 300, "remembered for five minutes at most");
    let held = provider.token("submitter.acme", "urn:no", "EdDSA");
    let (issuer, url) = (provider.issuer.clone(), node.url().to_owned());
    drop(provider);
    assert!(submit(&node, &held).status < 300, "seen now for the first time, of a known key");
    node.get("/health/ready").ok(200);
    node.stop();

    // Without its issuer it starts, says so, and local tokens work.
    let node = home.start();
    assert_ne!(node.url(), url, "another process");
    let health = wait_health(&node, "failing");
    assert_eq!(health["ready"], "ready", "{health}");
    node.get("/health").expect(503);
    node.get("/health/ready").ok(200);
    node.submit(&json!({"agent": "echo", "input": 1}));
    let refused = submit(&node, &held);
    assert_eq!(refused.header("retry-after"), "5");
    refused.problem(401, "unauthenticated");
    let told = node.log().wait(Instant::now() + PATIENCE, |line| {
        (line.contains("NO_OAUTH_ISSUER") && line.contains(&issuer)).then_some(())
    });
    assert!(told.is_some(), "{}", node.log().text());
    let counted = node.get("/metrics").text;
    let line = r#"no_auth_failures_total{method="bearer",reason="issuer_unavailable"} 1"#;
    assert!(counted.contains(line), "{counted}");
    node.stop();
}

#[test]
fn a_node_goes_on_trying_until_its_issuer_is_there() {
    let Some(provider) = Provider::start() else { return };
    let home = provider.home();
    let port = provider.port();
    drop(provider);
    let node = home.start();
    wait_health(&node, "failing");
    let provider = Provider::start_at(&port).expect("it was there before");
    let token = provider.token("submitter.acme", "urn:no", "ES256");
    wait_health(&node, "ok");
    assert!(submit(&node, &token).status < 300);
    node.stop();
}

#[test]
fn opaque_tokens_are_what_the_issuer_says() {
    let Some(provider) = Provider::start() else { return };
    let home = provider.home();
    let node = home.start();
    let token = provider.token("submitter.acme", "urn:no:opaque", "ES256");
    assert!(!token.contains('.'), "{token}");
    let task = submit(&node, &token);
    assert!(matches!(task.status, 200 | 202), "{}", task.text);
    assert_eq!(task.body["tenant"], "acme");
    let other = provider.token("submitter.acme", "urn:other:opaque", "ES256");
    submit(&node, &other).problem(401, "unauthenticated");
    submit(&node, "never-issued").problem(401, "unauthenticated");
    let revoked = provider.token("submitter.acme", "urn:no:opaque", "ES256");
    provider.form("/token/revocation", "submitter.acme", &[("token", &revoked)]);
    submit(&node, &revoked).problem(401, "unauthenticated");
    drop(provider);
    assert!(submit(&node, &token).status < 300, "its word is good for a minute");
    let refused = submit(&node, "asked-in-vain");
    assert_eq!(refused.header("retry-after"), "5");
    refused.problem(401, "unauthenticated");
    node.stop();
}
