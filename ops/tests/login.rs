//! A browser logs in at an issuer that does what a test wants, right or wrong.

mod e2e;
mod issuer;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::client::JSON;
use e2e::{Home, PATIENCE, Reply};
use issuer::{Browser, CALLBACK, CLIENT, Issuer, now_s};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;
use url::Url;

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

#[test]
fn logins_in_several_tabs_leave_each_other_alone_and_are_bounded() {
    let issuer = Issuer::start();
    let (_home, node) = issuer.node();
    let mut browser = Browser::new(&node);
    let tabs =
        [browser.begin("/auth/login?return_to=/a"), browser.begin("/auth/login?return_to=/b")];
    for (login, expected) in tabs.iter().zip(["/a", "/b"]) {
        let reply = browser.back(&issuer, login, &[]).expect(303);
        assert_eq!(reply.header("location"), expected);
    }
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["no_session"]);
    let tabs: Vec<_> = (0..8).map(|_| browser.begin("/auth/login")).collect();
    let under_way = browser.cookies.keys().filter(|name| name.starts_with("no_login_")).count();
    assert_eq!(under_way, 5, "{:?}", browser.cookies.keys());
    browser.back(&issuer, &tabs[7], &[]).expect(303);
    node.stop();
}

#[test]
fn a_logout_leads_back_where_it_is_configured_to() {
    let issuer = Issuer::start();
    let back = "http://127.0.0.1/console/";
    let home = issuer.home(&json!({"oauth": {"postLogoutRedirectUri": back}}));
    let node = home.start();
    let mut browser = Browser::new(&node);
    browser.log_in(&issuer);
    let csrf = browser.csrf();
    let headers = [("accept", "application/json"), ("x-csrf-token", &*csrf)];
    let out = browser.send("POST", "/auth/logout", &headers, "").ok(200);
    let end = Url::parse(out["logout_url"].as_str().expect("a URL")).expect("a URL");
    let asked: BTreeMap<_, _> = end.query_pairs().into_owned().collect();
    assert_eq!((&*asked["post_logout_redirect_uri"], &*asked["client_id"]), (back, CLIENT));
    node.stop();
}
