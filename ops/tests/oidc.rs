//! Tokens of an issuer that others wrote and that is certified: npm `oidc-provider`, started by
//! `ops/tests/oidc/provider.mjs`.
//!
//! `make test` installs it under `target/test-tools`. Where it or Node.js is missing the tests say
//! so and show nothing; in CI that is a failure. Issuer and requests name the same host, as the
//! provider's endpoints follow what it is asked under.

mod e2e;

use e2e::pipe::Lines;
use e2e::{Client, Home, Node, PATIENCE};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running provider; ended when dropped.
struct Provider {
    child: Child,
    issuer: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Provider {
    /// Starts it on a free port; `None`, and a word about it, when it is not there.
    fn start() -> Option<Provider> {
        Provider::start_at("0")
    }

    fn start_at(port: &str) -> Option<Provider> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tools = ours.join("../target/test-tools");
        let module = tools.join("node_modules/oidc-provider/lib/index.js");
        let node = Some(tools.join("bin/node")).filter(|node| node.exists());
        let child = Command::new(node.unwrap_or_else(|| "node".into()))
            .arg(ours.join("tests/oidc/provider.mjs"))
            .arg(&tools)
            .arg(port)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) if module.is_file() => child,
            other => return missing(&module, other.ok()),
        };
        let lines = Lines::read(child.stdout.take().expect("piped"));
        let faults = Lines::read(child.stderr.take().expect("piped"));
        let issuer = lines.wait(Instant::now() + PATIENCE, |line| {
            line.strip_prefix("listening ").map(|url| url.trim().to_owned())
        });
        let provider = Provider { child, issuer: issuer.unwrap_or_default() };
        assert!(!provider.issuer.is_empty(), "it does not listen:\n{}", faults.text());
        Some(provider)
    }

    /// The same place with other keys, as after a rotation that kept none.
    fn restarted(self) -> Provider {
        let issuer = self.issuer.clone();
        let port = issuer.rsplit(':').next().expect("a port").to_owned();
        drop(self);
        let provider = Provider::start_at(&port).expect("it was there before");
        assert_eq!(provider.issuer, issuer);
        provider
    }

    /// A form sent as one of its clients.
    fn form(&self, path: &str, client: &str, fields: &[(&str, &str)]) -> Value {
        use base64::Engine as _;
        let encoded = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let pair = format!("{}:{}", encoded(client), encoded(&format!("secret-of-{client}")));
        let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let body = body.extend_pairs(fields).finish();
        let headers =
            [("authorization", &*basic), ("content-type", "application/x-www-form-urlencoded")];
        let asking = Client::new(&self.issuer, None);
        asking.send("POST", path, &headers, Some(body.as_bytes())).ok(200)
    }

    /// An access token by a client's credentials, signed with that algorithm.
    fn token(&self, client: &str, resource: &str, alg: &str) -> String {
        let fields = [("grant_type", "client_credentials"), ("resource", resource), ("scope", alg)];
        let answer = self.form("/token", client, &fields);
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// A home of a node that takes its tokens.
    fn home(&self) -> Home {
        let home = Home::new(json!({
            "oauth": {"issuer": self.issuer, "audience": "urn:no", "clientId": "no",
                      "clientSecretFile": "secret"},
        }));
        let secret = home.path().join("secret");
        std::fs::write(&secret, "secret-of-no\n").expect("written");
        let closed = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&secret, closed).expect("set");
        home
    }
}

fn missing(module: &Path, child: Option<Child>) -> Option<Provider> {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = format!("SKIPPED: oidc-provider is missing ({}): run `make test`", module.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
    eprintln!("{text}");
    None
}

const ECHO: &str = r#"{"agent":"echo","input":1}"#;

/// One who comes with this token, over connections of their own: that of a request that was refused
/// before its body was read is closed behind the answer.
fn with(node: &Node, token: &str) -> Client {
    Client::new(node.url(), Some(token))
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
    let port = provider.issuer.rsplit(':').next().expect("a port").to_owned();
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
