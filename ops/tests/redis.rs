//! Nodes that share sessions and limits over a real Redis, which comes and goes.

mod e2e;
mod issuer;
#[path = "redis/server.rs"]
mod server;

use e2e::client::JSON;
use e2e::{Home, Node, PATIENCE};
use issuer::{Browser, Issuer};
use serde_json::{Value, json};
use server::Redis;
use std::time::{Duration, Instant};

const KEY: &str = "a key that all nodes of this test have";
const TASK: &str = r#"{"agent":"echo","input":1}"#;

/// A home of a node that shares over this Redis.
fn home(issuer: &Issuer, redis: &Redis, more: &Value) -> Home {
    let mut config = more.clone();
    config["redis"]["host"] = redis.socket().to_str().expect("plain").into();
    issuer.home(&config)
}

fn start(home: &Home) -> Node {
    let mut command = home.serve();
    command.env("NO_SESSION_KEY", KEY);
    Node::start(command, home.data())
}

/// Two nodes that share over this Redis.
fn pair(issuer: &Issuer, redis: &Redis) -> ((Home, Node), (Home, Node)) {
    let node = || {
        let home = home(issuer, redis, &json!({"engine": {"netCores": 2}}));
        let node = start(&home);
        connected(&node);
        (home, node)
    };
    (node(), node())
}

/// Waits until it holds; gives up after a while.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The value of a sample.
#[track_caller]
fn sample(node: &Node, name: &str) -> u64 {
    let text = node.with_token(None).get("/metrics").expect(200).text;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

fn asked(node: &Node, purpose: &str, outcome: &str) -> u64 {
    sample(node, &format!(r#"no_redis_requests_total{{use="{purpose}",outcome="{outcome}"}}"#))
}

fn connected(node: &Node) {
    until("Redis is there", || sample(node, "no_redis_breaker_open") == 0);
}

fn away(node: &Node) {
    until("Redis is away", || sample(node, "no_redis_breaker_open") == 1);
}

fn is_in(browser: &mut Browser, node: &Node) -> bool {
    let reply = browser.at(node).get("/auth/me");
    match reply.status {
        200 => true,
        401 => false,
        other => panic!("{other}: {}", reply.text),
    }
}

#[track_caller]
fn log_out(browser: &mut Browser, node: &Node) {
    let csrf = browser.at(node).csrf();
    let headers = [("accept", "application/json"), ("x-csrf-token", &*csrf)];
    browser.send("POST", "/auth/logout", &headers, "").expect(200);
}

#[test]
fn a_session_is_good_on_all_nodes_and_ends_on_all() {
    let Some(redis) = Redis::started() else { return };
    let issuer = Issuer::start();
    let ((home, one), (_home, two)) = pair(&issuer, &redis);
    let mut browser = Browser::new(&one);
    // It begins on one node and comes back to the other; what came back is good once on both.
    let login = browser.begin("/auth/login");
    let cookies = browser.cookies.clone();
    browser.at(&two).back(&issuer, &login, &[]).expect(303);
    let session = browser.cookies.clone();
    for node in [&one, &two] {
        browser.cookies = cookies.clone();
        browser.at(node).back(&issuer, &login, &[]).problem(400, "bad_request");
    }
    browser.cookies = session;

    let me = browser.at(&one).get("/auth/me").ok(200);
    assert_eq!(
        (&me["subject"], &me["name"], &me["roles"]),
        (&json!("ann"), &json!("Ann"), &json!(["submitter"]))
    );
    assert_eq!(browser.at(&two).get("/auth/me").ok(200), me);
    let csrf = ("x-csrf-token", me["csrf_token"].as_str().expect("a token"));
    for node in [&one, &two] {
        let made = browser.at(node).send("POST", "/v1/tasks", &[JSON, csrf], TASK);
        assert!(matches!(made.status, 200 | 202), "{}", made.text);
        browser.at(node).send("POST", "/v1/tasks", &[JSON], TASK).problem(403, "forbidden");
    }
    // Who reads Redis can use nothing of it.
    let keys = redis.keys("no:session:");
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(redis.keys("no:login:").is_empty(), "each was answered");
    let stored = redis.says(&["--no-raw", "get", &keys[0]]);
    let cookie = browser.cookies["no_session"].clone();
    assert!(!keys[0].contains(&cookie) && !stored.contains(&cookie));
    assert!(!stored.contains("ann") && !stored.contains("acme"), "{stored}");
    let lives_ms: u64 = redis.says(&["pttl", &keys[0]]).parse().expect("a number");
    assert!(lives_ms <= 1_800_000, "{lives_ms}");

    // A node's end does not end it.
    one.stop();
    let one = start(&home);
    connected(&one);
    assert!(is_in(&mut browser, &one));
    // A logout does, on the other too, though that has it in memory.
    assert!(is_in(&mut browser, &two));
    let cookies = browser.cookies.clone();
    log_out(&mut browser, &one);
    browser.cookies = cookies;
    assert!(!is_in(&mut browser, &one));
    until("the other node hears of the logout", || !is_in(&mut browser, &two));
    browser.at(&two).send("POST", "/v1/tasks", &[JSON, csrf], TASK).problem(401, "unauthenticated");
    one.stop();
    two.stop();
}

#[test]
fn what_was_put_into_redis_by_others_is_no_session() {
    let Some(redis) = Redis::started() else { return };
    let issuer = Issuer::start();
    let ((_home, one), (_other, two)) = pair(&issuer, &redis);
    let (mut ann, mut eve) = (Browser::new(&one), Browser::new(&one));
    ann.log_in(&issuer);
    let theirs = redis.keys("no:session:")[0].clone();
    eve.log_in(&issuer);
    let all = redis.keys("no:session:");
    let eves = all.iter().find(|key| **key != theirs).expect("hers");
    // Put in place of another, changed, not a text, too long: the other node knows neither.
    for change in [
        &["copy", &theirs, eves, "replace"][..],
        &["setrange", eves, "20", "x"],
        &["set", eves, "{\"subject\":\"admin\"}"],
        &["eval", "redis.call('del', KEYS[1]) return redis.call('lpush', KEYS[1], 'x')", "1", eves],
        &["eval", "return redis.call('set', KEYS[1], string.rep('x', 70000))", "1", eves],
    ] {
        redis.says(change);
        assert!(!is_in(&mut eve, &two), "{change:?}");
    }
    assert!(is_in(&mut ann, &two));
    // Another key's nodes cannot open it, and say so.
    let home = home(&issuer, &redis, &json!({}));
    let mut command = home.serve();
    command.env("NO_SESSION_KEY", "a key that only this node has, and no other");
    let stranger = Node::start(command, home.data());
    connected(&stranger);
    assert!(!is_in(&mut ann, &stranger));
    until("it says so", || stranger.log().text().contains("security.session.key"));
    [one, two, stranger].into_iter().for_each(Node::stop);
}

#[test]
fn while_redis_is_away_sessions_go_on_in_memory_and_are_shared_when_it_is_back() {
    let Some(mut redis) = Redis::started() else { return };
    let issuer = Issuer::start();
    let ((_home, one), (_other, two)) = pair(&issuer, &redis);
    let mut before = Browser::new(&one);
    before.log_in(&issuer);
    assert!(is_in(&mut before, &two));
    redis.kill();
    [&one, &two].into_iter().for_each(away);
    let health = one.get("/health").ok(200);
    assert_eq!((&health["status"], &health["ready"]), (&json!("degraded"), &json!("ready")));
    assert_eq!(health["checks"]["redis"]["status"], "degraded", "{health}");
    assert!(is_in(&mut before, &one) && is_in(&mut before, &two));
    // Who is not known here is asked to log in, and can.
    let mut meanwhile = Browser::new(&one);
    meanwhile.log_in(&issuer);
    assert!(is_in(&mut meanwhile, &one) && !is_in(&mut meanwhile, &two));
    let page = meanwhile.at(&two).get("/v1/tasks");
    page.problem(401, "unauthenticated");

    redis.start();
    [&one, &two].into_iter().for_each(connected);
    // What Redis has lost has ended, what it never had is told it by the node that knows.
    until("all know the new one", || is_in(&mut meanwhile, &one) && is_in(&mut meanwhile, &two));
    for node in [&one, &two] {
        until("the old one is over", || !is_in(&mut before, node));
    }
    assert_eq!(one.get("/health").ok(200)["status"], "ok");
    redis.says(&["flushall"]);
    for node in [&one, &two] {
        until("all are over", || !is_in(&mut meanwhile, node));
    }
    assert_eq!(one.log().text().matches("Redis is away").count(), 1);
    one.stop();
    two.stop();
}

#[test]
fn a_redis_that_hangs_costs_a_few_time_outs_and_hears_of_a_logout_later() {
    let Some(redis) = Redis::started() else { return };
    let issuer = Issuer::start();
    let ((_home, one), (_other, two)) = pair(&issuer, &redis);
    let mut browser = Browser::new(&one);
    browser.log_in(&issuer);
    assert!(is_in(&mut browser, &two));
    redis.hang();
    // Each cookie is unknown, so that each would be asked for.
    let mut stranger = Browser::new(&one);
    for n in 0..50_u8 {
        use base64::Engine as _;
        let cookie = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([n; 32]);
        stranger.cookies.insert("no_session".to_owned(), cookie);
        stranger.get("/v1/tasks").problem(401, "unauthenticated");
    }
    let (timed_out, refused) =
        (asked(&one, "session", "timed_out"), asked(&one, "session", "refused"));
    assert!(timed_out <= 3 && 47 <= refused, "{timed_out} {refused}");
    one.get("/health/ready").expect(200);
    let cookies = browser.cookies.clone();
    log_out(&mut browser, &one);
    browser.cookies = cookies;
    assert!(!is_in(&mut browser, &one));
    assert!(is_in(&mut browser, &two), "nobody can have told it");
    redis.go_on();
    until("the other node hears of the logout", || !is_in(&mut browser, &two));
    assert!(!is_in(&mut browser, &one));
    one.stop();
    two.stop();
}

#[test]
fn a_node_starts_without_redis_says_so_once_and_finds_it_later() {
    let Some(mut redis) = Redis::new("") else { return };
    let issuer = Issuer::start();
    let home = home(&issuer, &redis, &json!({}));
    let node = start(&home);
    away(&node);
    let mut browser = Browser::new(&node);
    browser.log_in(&issuer);
    assert!(is_in(&mut browser, &node));
    until("its health says why", || {
        let check = node.order("/admin/health/check/redis").ok(200);
        check["status"] == "degraded"
            && check["error"].as_str().is_some_and(|why| why.contains("No such file"))
    });
    redis.start();
    connected(&node);
    until("the session is shared", || {
        is_in(&mut browser, &node) && redis.keys("no:session:").len() == 1
    });
    assert_eq!(node.order("/admin/health/check/redis").ok(200)["status"], "ok");
    assert_eq!(node.log().text().matches("Redis is away").count(), 1);
    node.stop();
}

#[test]
fn a_password_is_needed_and_never_shown() {
    let Some(mut redis) = Redis::new("hush-hush-1") else { return };
    redis.start();
    let issuer = Issuer::start();
    let home = home(&issuer, &redis, &json!({}));
    let start = |name: &str, value: &str| {
        let mut command = home.serve();
        command.env("NO_SESSION_KEY", KEY).env(name, value).env("NO_LOG", "debug");
        Node::start(command, home.data())
    };
    for (password, why) in [("wrong-hush-2", "does not take"), ("", "wants a password")] {
        let node = start("NO_REDIS_PASSWORD", password);
        let mut shown = String::new();
        until("its health says why", || {
            shown = node.get("/health/detailed").body["checks"]["redis"].to_string();
            shown.contains(why) && shown.contains("NO_REDIS_PASSWORD")
        });
        let status = node.get("/admin/status").expect(200).text;
        for text in [shown, status, node.log().text()] {
            assert!(!text.contains("hush"), "{text}");
        }
        node.stop();
    }
    let path = home.path().join("password");
    std::fs::write(&path, "hush-hush-1\n").expect("written");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, closed).expect("set");
    let node = start("NO_REDIS_PASSWORD_FILE", path.to_str().expect("plain"));
    connected(&node);
    assert!(!node.log().text().contains("hush"));
    node.stop();
}

#[test]
fn tls_is_spoken_and_the_certificate_checked() {
    let Some(mut redis) = Redis::new("") else { return };
    let port = redis.start_with_tls();
    let config = json!({"redis": {"host": "127.0.0.1", "port": port, "tls": true}});
    let home = Home::new(config);
    let mut command = home.serve();
    command.env("SSL_CERT_FILE", redis.certificate());
    let node = Node::start(command, home.data());
    connected(&node);
    node.stop();
    // Without the authority it is as if it were away.
    let node = home.start();
    until("its health says why", || {
        let check = node.order("/admin/health/check/redis").ok(200);
        check["error"].as_str().is_some_and(|why| why.contains("ertificate"))
    });
    away(&node);
    node.stop();
}

#[test]
fn nodes_keep_one_limit_together_and_each_its_own_without_redis() {
    let Some(mut redis) = Redis::started() else { return };
    let config = json!({
        "redis": {"host": redis.socket().to_str().expect("plain"), "prefix": "here:"},
        "security": {"rateLimit": {
            "enabled": true,
            "perPrincipal": {"perSecond": 1, "burst": 100},
            "perAddress": {"perSecond": 10_000, "burst": 10_000},
        }},
    });
    let (one_home, two_home) = (Home::new(config.clone()), Home::new(config));
    let (one, two) = (one_home.start(), two_home.start());
    [&one, &two].into_iter().for_each(connected);
    let taken = (0..300).filter(|_| one.get("/v1/agents").status == 200).count();
    assert!((100..200).contains(&taken), "{taken}");
    let is_told = || {
        let keys = redis.keys("here:limit:principal:");
        let ahead_ms = keys.first().map(|key| redis.says(&["pttl", key]));
        ahead_ms.is_some_and(|ms| 95_000 < ms.parse::<i64>().expect("a number"))
    };
    until("the first has told", is_told);
    // The same principal on the other node: it is let in until that has heard of the first, long
    // before it has taken a burst there.
    let mut let_in = 0;
    until("the second has heard", || {
        let reply = two.get("/v1/agents");
        let_in += usize::from(reply.status == 200);
        reply.status == 429 && !reply.header("retry-after").is_empty()
    });
    assert!(let_in < 60, "{let_in}");

    // Without Redis the limit of each node holds.
    redis.kill();
    [&one, &two].into_iter().for_each(away);
    for node in [&one, &two] {
        assert_eq!(node.get("/health").ok(200)["status"], "degraded");
        assert!((0..200).any(|_| node.get("/v1/agents").status == 429));
    }
    one.stop();
    two.stop();
}

#[test]
fn an_address_with_refused_proofs_is_slowed_on_all_nodes() {
    let Some(redis) = Redis::started() else { return };
    let config = json!({
        "redis": {"host": redis.socket().to_str().expect("plain")},
        "security": {"rateLimit": {"failures": {"perSecond": 1, "burst": 30}}},
    });
    let (one_home, two_home) = (Home::new(config.clone()), Home::new(config));
    let (one, two) = (one_home.start(), two_home.start());
    [&one, &two].into_iter().for_each(connected);
    let guess = |node: &Node| node.with_token(Some("nonsense")).get("/v1/agents").status;
    assert!((0..60).any(|_| guess(&one) == 429));
    until("the first has told", || !redis.keys("no:limit:failures:").is_empty());
    // The other hears when it has refused one itself. A second allows one more, so that a slow
    // machine may see a few; alone it would allow thirty.
    let is_slowed = |_| {
        let heard = asked(&two, "limit", "answered");
        let status = guess(&two);
        until("the second has heard", || heard < asked(&two, "limit", "answered"));
        status == 429 || guess(&two) == 429
    };
    assert!((0..5).any(is_slowed));
    one.stop();
    two.stop();
}

#[test]
fn sessions_are_not_shared_without_a_secret_to_seal_them() {
    let issuer = Issuer::start();
    let home = issuer.home(&json!({"redis": {"host": "redis.example"}}));
    let (code, said) = home.refused();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("security.session.key") && said.contains("openssl rand"), "{said}");
    let mut short = home.serve();
    short.env("NO_SESSION_KEY", "too short");
    let (code, said) = e2e::folder::refused(short);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("32 characters") && !said.contains("too short"), "{said}");
    for (redis, piece) in [
        (json!({"host": "redis://there:6379"}), "redis.port"),
        (json!({"host": "/run/redis.sock", "tls": true}), "Unix socket"),
        (json!({"host": "there", "timeout": 0}), "redis.timeout"),
        (json!({"host": "there", "prefix": "a b"}), "redis.prefix"),
    ] {
        let home = Home::new(json!({"redis": redis}));
        let (code, said) = home.refused();
        assert!(code == 3 && said.contains(piece), "{redis}: {said}");
    }
}
