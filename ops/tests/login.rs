//! A browser logs in at an issuer that does what a test wants, right or wrong.

mod e2e;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::client::JSON;
use e2e::{Act, Client, Home, Node, PATIENCE, Reply, Seen, Server};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use url::Url;

/// Our client at the issuer.
const CLIENT: &str = "console";
/// Where it sends browsers back to; nothing listens there, as the test plays the browser.
const CALLBACK: &str = "http://127.0.0.1/auth/callback";

/// PKCS#8 of an Ed25519 key without its seed (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// What the issuer's next ID token says otherwise than it should: claims that replace the right
/// ones, null for none.
type Twist = Arc<Mutex<BTreeMap<&'static str, Value>>>;

/// An issuer, with the codes that it gave and what they were asked with.
struct Issuer {
    url: Arc<OnceLock<String>>,
    twist: Twist,
    codes: Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>>,
}

fn signing() -> EncodingKey {
    EncodingKey::from_ed_der(&[&PKCS8[..], &[7; 32]].concat())
}

fn jwks() -> Value {
    let jwk = Jwk::from_encoding_key(&signing(), Algorithm::EdDSA).expect("a key");
    let AlgorithmParameters::OctetKeyPair(pair) = jwk.algorithm else { panic!("no Ed25519") };
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": pair.x, "kid": "k1", "alg": "EdDSA"}]})
}

fn signed(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = signing();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA);
    format!("{message}.{}", signature.expect("signed"))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn form(text: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

impl Issuer {
    fn start() -> Issuer {
        let (url, twist) = (Arc::<OnceLock<String>>::default(), Twist::default());
        let codes = Arc::<Mutex<BTreeMap<String, BTreeMap<String, String>>>>::default();
        let own = (Arc::clone(&url), Arc::clone(&twist), Arc::clone(&codes));
        let server = Server::start(move |seen, _| {
            let (url, twist, codes) = &own;
            let url = url.get().expect("set before anybody asks");
            match seen.path.as_str() {
                "/.well-known/openid-configuration" => Act::Answer(200, metadata(url)),
                "/jwks" => Act::Answer(200, jwks()),
                "/token" => exchange(seen, url, twist, codes),
                "/userinfo" => userinfo(twist),
                _ => Act::Answer(404, json!({})),
            }
        });
        url.set(server.url("")).expect("once");
        Issuer { url, twist, codes }
    }

    fn url(&self) -> &str {
        self.url.get().expect("set at the start")
    }

    /// A node that knows it, with a session that ends as configured.
    fn node(&self) -> (Home, Node) {
        self.node_with(&json!({}))
    }

    fn node_with(&self, security: &Value) -> (Home, Node) {
        let home = Home::new(json!({
            "oauth": {"issuer": self.url(), "clientId": CLIENT, "redirectUri": CALLBACK},
            "security": security,
        }));
        let node = home.start();
        (home, node)
    }

    /// What the browser would do there: log in, and be given a code for what was asked.
    fn code(&self, login: &Url) -> String {
        let asked: BTreeMap<String, String> = login.query_pairs().into_owned().collect();
        let mut codes = self.codes.lock().expect("no panic");
        let code = format!("code-{}", codes.len());
        codes.insert(code.clone(), asked);
        code
    }
}

fn metadata(url: &str) -> Value {
    json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize?from=metadata"),
        "token_endpoint": format!("{url}/token"),
        "end_session_endpoint": format!("{url}/end"),
        "userinfo_endpoint": format!("{url}/userinfo"),
        "jwks_uri": format!("{url}/jwks"),
        "authorization_response_iss_parameter_supported": true,
    })
}

/// The token endpoint: a code is good once, with its verifier.
fn exchange(
    seen: &Seen,
    url: &str,
    twist: &Twist,
    codes: &Mutex<BTreeMap<String, BTreeMap<String, String>>>,
) -> Act {
    let sent = form(seen.body.as_str().unwrap_or_default());
    let given = codes.lock().expect("no panic").remove(&sent["code"]);
    let Some(asked) = given else { return Act::Answer(400, json!({"error": "invalid_grant"})) };
    let challenge = no_auth::login::challenge_of(&sent["code_verifier"]);
    if challenge != asked["code_challenge"] || sent["redirect_uri"] != CALLBACK {
        return Act::Answer(400, json!({"error": "invalid_grant"}));
    }
    let mut claims = json!({
        "iss": url, "aud": CLIENT, "sub": "ann", "nonce": asked["nonce"], "name": "Ann",
        "iat": now_s(), "exp": now_s() + 300, "roles": ["submitter"], "tenant": "acme",
    });
    let mut header = json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"});
    for (name, value) in &*twist.lock().expect("no panic") {
        match name.strip_prefix("header.") {
            Some(name) => header[name] = value.clone(),
            None if name.starts_with("userinfo.") => {}
            None if value.is_null() => {
                claims.as_object_mut().expect("an object").remove(*name);
            }
            None => claims[*name] = value.clone(),
        }
    }
    let id_token = signed(&header, &claims);
    Act::Answer(200, json!({"id_token": id_token, "token_type": "Bearer", "access_token": "x"}))
}

/// The UserInfo endpoint.
fn userinfo(twist: &Twist) -> Act {
    let (mut status, mut told) =
        (200, json!({"sub": "ann", "roles": ["viewer"], "tenant": "zeta"}));
    for (name, value) in &*twist.lock().expect("no panic") {
        match name.strip_prefix("userinfo.") {
            Some("status") => status = value.as_u64().expect("a status") as u16,
            Some(name) => told[name] = value.clone(),
            None => {}
        }
    }
    Act::Answer(status, told)
}

/// A browser: a client without a token, with cookies.
struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new(node: &Node) -> Browser {
        Browser { client: node.with_token(None), cookies: BTreeMap::new() }
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let mut all = headers.to_vec();
        if !cookies.is_empty() {
            all.push(("cookie", &cookies));
        }
        let body = (method != "GET").then_some(body.as_bytes());
        let reply = self.client.send(method, path, &all, body);
        for cookie in reply.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("ASCII");
            assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
            let (name, rest) = cookie.split_once('=').expect("a cookie");
            let value = rest.split(';').next().expect("a value").to_owned();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value);
            }
        }
        reply
    }

    fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], "")
    }

    /// Begins a login; where it is sent.
    fn begin(&mut self, path: &str) -> Url {
        let reply = self.get(path).expect(302);
        assert_eq!(reply.header("cache-control"), "no-store");
        Url::parse(reply.header("location")).expect("a URL")
    }

    /// Comes back from the issuer with these, in place of the right ones; empty for none.
    fn back(&mut self, issuer: &Issuer, login: &Url, wrong: &[(&str, &str)]) -> Reply {
        let asked: BTreeMap<_, _> = login.query_pairs().into_owned().collect();
        let code = issuer.code(login);
        let mut right = BTreeMap::from([
            ("code", code.as_str()),
            ("state", asked["state"].as_str()),
            ("iss", issuer.url()),
        ]);
        right.extend(wrong.iter().copied());
        let right = right.into_iter().filter(|(_, value)| !value.is_empty());
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(right)
            .append_pair("session_state", "what some issuers add")
            .finish();
        self.get(&format!("/auth/callback?{query}"))
    }

    fn log_in(&mut self, issuer: &Issuer) {
        let login = self.begin("/auth/login");
        let reply = self.back(issuer, &login, &[]).expect(303);
        assert_eq!(reply.header("location"), "/auth/me");
    }
}

#[test]
fn a_browser_logs_in_works_and_logs_out() {
    let issuer = Issuer::start();
    let (_home, node) = issuer.node();
    let mut browser = Browser::new(&node);
    browser.get("/auth/me").problem(401, "unauthenticated");
    let login = browser.begin("/auth/login?return_to=/v1/tasks");
    let asked: BTreeMap<_, _> = login.query_pairs().into_owned().collect();
    assert_eq!((&*asked["response_type"], &*asked["client_id"]), ("code", CLIENT));
    assert_eq!((&*asked["code_challenge_method"], &*asked["from"]), ("S256", "metadata"));
    assert_eq!((&*asked["redirect_uri"], &*asked["scope"]), (CALLBACK, "openid profile email"));
    let reply = browser.back(&issuer, &login, &[]).expect(303);
    assert_eq!(reply.header("location"), "/v1/tasks");
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["no_session"]);

    let me = browser.get("/auth/me").ok(200);
    assert_eq!(
        (&me["subject"], &me["tenant"], &me["name"]),
        (&json!("ann"), &json!("acme"), &json!("Ann"))
    );
    assert_eq!(me["method"], "session");
    assert!(me["permissions"].as_array().expect("a list").contains(&json!("tasks:submit")), "{me}");
    let csrf = me["csrf_token"].as_str().expect("a token").to_owned();
    browser.get("/v1/tasks").expect(200);
    let task = r#"{"agent":"echo","input":1}"#;
    browser.send("POST", "/v1/tasks", &[JSON], task).problem(403, "forbidden");
    browser
        .send("POST", "/v1/tasks", &[JSON, ("x-csrf-token", "x")], task)
        .problem(403, "forbidden");
    let made = browser.send("POST", "/v1/tasks", &[JSON, ("x-csrf-token", &csrf)], task);
    assert!(matches!(made.status, 200 | 202), "{}", made.text);
    assert_eq!(made.body["tenant"], "acme");
    // A role that has it not, even with everything else right.
    let put = [JSON, ("x-csrf-token", csrf.as_str())];
    browser.send("PUT", "/v1/agents/x", &put, r#"{"kind":"worker"}"#).problem(403, "forbidden");

    let cookies = browser.cookies.clone();
    browser.send("POST", "/auth/logout", &[], "").problem(403, "forbidden");
    let json = ("accept", "application/json");
    let out = browser.send("POST", "/auth/logout", &[json, ("x-csrf-token", &csrf)], "").ok(200);
    let end = Url::parse(out["logout_url"].as_str().expect("a URL")).expect("a URL");
    assert!(end.as_str().starts_with(&format!("{}/end?", issuer.url())), "{end}");
    assert!(end.query_pairs().any(|(name, value)| name == "id_token_hint" && !value.is_empty()));
    assert!(browser.cookies.is_empty());
    browser.cookies = cookies;
    browser.get("/auth/me").problem(401, "unauthenticated");
    browser.get("/v1/tasks").problem(401, "unauthenticated");
    let counted = node.get("/metrics").text;
    for line in [
        r#"no_auth_attempts_total{method="login"} 1"#,
        r#"no_auth_attempts_total{method="session"} 5"#,
        r#"no_auth_failures_total{method="session",reason="csrf"} 2"#,
        r#"no_auth_failures_total{method="login",reason="refused"} 0"#,
    ] {
        assert!(counted.lines().any(|counted| counted == line), "{line}: {counted}");
    }
    node.stop();
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let issuer = Issuer::start();
    let (_home, node) = issuer.node();
    let other = |n: u8| URL_SAFE_NO_PAD.encode([n; 32]);
    for (wrong, status) in [
        (("state", ""), 400),
        (("state", other(1).as_str()), 400),
        (("state", "x"), 400),
        (("iss", ""), 400),
        (("iss", "https://evil.example"), 400),
        (("code", ""), 422),
        (("code", "never given"), 401),
        (("error", "access_denied"), 401),
    ] {
        let mut browser = Browser::new(&node);
        let login = browser.begin("/auth/login");
        let reply = browser.back(&issuer, &login, &[wrong]);
        assert_eq!(reply.status, status, "{wrong:?}: {}", reply.text);
        assert!(!browser.cookies.contains_key("no_session"), "{wrong:?}");
        // Whatever was wrong, this state is used up, unless it was not shown.
        if wrong.0 != "state" {
            let again = browser.back(&issuer, &login, &[]);
            assert_eq!(again.status, 400, "{wrong:?}: {}", again.text);
        }
    }
    // Another browser, and one without its cookie.
    let (mut one, mut two) = (Browser::new(&node), Browser::new(&node));
    let login = one.begin("/auth/login");
    two.begin("/auth/login");
    assert_eq!(two.back(&issuer, &login, &[]).status, 400);
    let login = one.begin("/auth/login");
    one.cookies.clear();
    assert_eq!(one.back(&issuer, &login, &[]).status, 400);
    node.stop();
}

#[test]
fn an_address_that_fails_to_log_in_is_slowed() {
    let issuer = Issuer::start();
    let failures = json!({"perSecond": 1, "burst": 3});
    let (_home, node) = issuer.node_with(&json!({"rateLimit": {"failures": failures}}));
    let deadline = Instant::now() + PATIENCE;
    let limited = loop {
        let mut browser = Browser::new(&node);
        let login = browser.begin("/auth/login");
        let reply = browser.back(&issuer, &login, &[("code", "never given")]);
        if reply.status != 401 {
            break reply;
        }
        assert!(Instant::now() < deadline, "never slowed");
    };
    assert!(!limited.header("retry-after").is_empty());
    limited.problem(429, "over_limit");
    let mut refused = 0;
    for line in node.get("/metrics").text.lines() {
        let name = r#"no_auth_failures_total{method="login",reason="refused"} "#;
        refused += line.strip_prefix(name).map_or(0, |count| count.parse().expect("a count"));
    }
    assert!(3 <= refused, "{refused}");
    node.stop();
}

#[test]
fn id_tokens_that_prove_nothing_are_refused() {
    let issuer = Issuer::start();
    let (_home, node) = issuer.node();
    let none = json!("none");
    for (name, value) in [
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("aud", json!("another client")),
        ("aud", json!([CLIENT, "another client"])),
        ("iss", json!("https://evil.example")),
        ("exp", json!(now_s() - 3_600)),
        ("exp", Value::Null),
        ("sub", Value::Null),
        ("header.alg", none),
        ("header.alg", json!("HS256")),
        ("header.kid", json!("another")),
        ("header.typ", json!("at+jwt")),
    ] {
        *issuer.twist.lock().expect("no panic") = BTreeMap::from([(name, value.clone())]);
        let mut browser = Browser::new(&node);
        let login = browser.begin("/auth/login");
        let reply = browser.back(&issuer, &login, &[]);
        assert_eq!(reply.status, 401, "{name}={value}: {}", reply.text);
        assert!(!browser.cookies.contains_key("no_session"), "{name}={value}");
    }
    issuer.twist.lock().expect("no panic").clear();
    Browser::new(&node).log_in(&issuer);
    node.stop();
}

#[test]
fn what_the_id_token_leaves_out_the_issuer_is_asked_for() {
    let issuer = Issuer::start();
    let (_home, node) = issuer.node();
    let said = |more: Option<(&'static str, Value)>| {
        let least = [("roles", Value::Null), ("tenant", Value::Null)];
        *issuer.twist.lock().expect("no panic") = least.into_iter().chain(more).collect();
        let mut browser = Browser::new(&node);
        let login = browser.begin("/auth/login");
        let reply = browser.back(&issuer, &login, &[]);
        (browser, reply)
    };
    let who = |(mut browser, reply): (Browser, Reply)| {
        reply.expect(303);
        let me = browser.get("/auth/me").ok(200);
        (me["roles"].clone(), me["tenant"].clone())
    };
    assert_eq!(who(said(None)), (json!(["viewer"]), json!("zeta")));
    let nothing = (json!([]), json!("default"));
    assert_eq!(who(said(Some(("userinfo.status", json!(403))))), nothing);
    said(Some(("userinfo.sub", json!("eve")))).1.problem(401, "unauthenticated");
    said(Some(("userinfo.status", json!(500)))).1.problem(503, "issuer_unavailable");
    issuer.twist.lock().expect("no panic").clear();
    let mut browser = Browser::new(&node);
    browser.log_in(&issuer);
    let me = browser.get("/auth/me").ok(200);
    assert_eq!((&me["roles"], &me["tenant"]), (&json!(["submitter"]), &json!("acme")));
    node.stop();
}

#[test]
fn nobody_is_sent_elsewhere_and_no_cookie_is_adopted() {
    let issuer = Issuer::start();
    let (_home, node) = issuer.node();
    let mut browser = Browser::new(&node);
    for path in ["//evil.example", "https://evil.example", "/%5Cevil.example", "evil", "/a%0d%0ab"]
    {
        let reply = browser.get(&format!("/auth/login?return_to={path}"));
        assert_eq!(reply.problem(422, "invalid")["pointer"], "?return_to");
    }
    // Who asks for JSON is not redirected.
    let reply = browser.send("POST", "/auth/login", &[("accept", "application/json")], "").ok(200);
    assert!(reply["url"].as_str().expect("a URL").starts_with(issuer.url()), "{reply}");
    // A cookie that somebody planted is not the one after the login.
    let planted = STANDARD.encode([1; 32]);
    browser.cookies.insert("no_session".to_owned(), planted.clone());
    browser.log_in(&issuer);
    assert_ne!(browser.cookies["no_session"], planted);
    // Nor is that of the login before.
    let before = browser.cookies.clone();
    browser.log_in(&issuer);
    assert_ne!(browser.cookies, before);
    browser.get("/auth/me").expect(200);
    browser.cookies = before;
    browser.get("/auth/me").problem(401, "unauthenticated");
    node.stop();
}

#[test]
fn without_a_client_there_is_no_login() {
    let home = Home::new(json!({}));
    let node = home.start();
    let client = node.with_token(None);
    let told = client.get("/auth/login").problem(404, "not_found");
    assert!(told["detail"].as_str().expect("a text").contains("oauth.issuer"), "{told}");
    let me = node.get("/auth/me").ok(200);
    assert_eq!((&me["method"], &me["tenant"]), (&json!("bearer"), &json!("default")));
    node.stop();
}
