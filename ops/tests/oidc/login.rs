//! People log in with a browser at the provider, and out again there.

use crate::browser::{Browser, Page};
use crate::e2e::client::JSON;
use crate::e2e::forward::Forward;
use crate::e2e::{Chromium, Home, Node, PATIENCE, Reply};
use crate::provider::Provider;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use url::Url;

const ANN: &str = "submitter.acme";
const TASK: &str = r#"{"agent":"echo","input":1}"#;

/// A node that is seen under an address which was known before it started, as behind a proxy, and
/// the provider that sends browsers back there.
struct World {
    provider: Option<Provider>,
    no: Url,
    front: Forward,
    home: Home,
    node: Option<Node>,
}

impl World {
    fn start() -> Option<World> {
        let mut world = World::without_node()?;
        world.start_node();
        Some(world)
    }

    fn without_node() -> Option<World> {
        let front = Forward::start("127.0.0.1:1");
        let no = Url::parse(front.url()).expect("a URL");
        let provider =
            Provider::start_for("0", no.join("/auth/callback").expect("a URL").as_str())?;
        let home = provider.home();
        Some(World { provider: Some(provider), no, front, home, node: None })
    }

    fn start_node(&mut self) {
        let node = self.home.start();
        self.front.turn(node.address());
        self.node = Some(node);
    }

    fn stop(mut self) {
        self.node.take().expect("it runs").stop();
    }

    fn at(&self, path: &str) -> Url {
        self.no.join(path).expect("a URL")
    }

    /// Logs somebody in who is asked this by the provider; where they come out.
    #[track_caller]
    fn log_in(&self, browser: &mut Browser, login: &str, asked: &[&str]) -> Page {
        let page = browser.open(self.at("/auth/login"));
        let (page, prompts) = browser.agree(page, login);
        assert_eq!(prompts, asked, "{}: {}", page.url, page.reply.text);
        page
    }

    fn me(&self, browser: &mut Browser) -> Reply {
        browser.send("GET", &self.at("/auth/me"), &[], "")
    }

    fn session(&self, browser: &Browser) -> Option<String> {
        browser.cookie(&self.no, "no_session")
    }

    /// A submission by this browser, with that token against forgery.
    fn submit(&self, browser: &mut Browser, csrf: &str) -> Reply {
        let headers = [JSON, ("x-csrf-token", csrf)];
        let headers = if csrf.is_empty() { &headers[..1] } else { &headers[..] };
        browser.send("POST", &self.at("/v1/tasks"), headers, TASK)
    }

    fn log_out(&self, browser: &mut Browser, csrf: &str) -> Page {
        let url = self.at("/auth/logout");
        let headers = [("accept", "text/html"), ("x-csrf-token", csrf)];
        let reply = browser.send("POST", &url, &headers, "").expect(303);
        browser.follow(Page { url, reply })
    }
}

fn query(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

fn csrf(me: &Value) -> String {
    me["csrf_token"].as_str().expect("a token").to_owned()
}

/// The URL among those that a browser went to whose path is this; the last one.
#[track_caller]
fn visited(browser: &Browser, path: &str) -> Url {
    let mut seen = browser.seen.iter().rev();
    seen.find(|url| url.path() == path).unwrap_or_else(|| panic!("not at {path}")).clone()
}

#[test]
fn a_person_logs_in_at_the_provider_works_and_logs_out_of_both() {
    let Some(world) = World::start() else { return };
    let mut browser = Browser::default();
    world.me(&mut browser).problem(401, "unauthenticated");
    let page = world.log_in(&mut browser, ANN, &["login", "consent"]);
    assert_eq!(page.url, world.at("/auth/me"));

    let asked = query(&visited(&browser, "/auth"));
    assert_eq!((&*asked["response_type"], &*asked["code_challenge_method"]), ("code", "S256"));
    for secret in ["state", "nonce", "code_challenge"] {
        assert_eq!(asked[secret].len(), 43, "{secret}: {asked:?}");
    }
    let back = query(&visited(&browser, "/auth/callback"));
    assert_eq!(back["state"], asked["state"]);
    assert_eq!(back["iss"], world.provider.as_ref().expect("it runs").issuer);

    let me = page.reply.ok(200);
    let told = (&me["subject"], &me["name"], &me["roles"], &me["tenant"], &me["method"]);
    let expected = (json!(ANN), json!(format!("The {ANN}")), json!(["submitter"]), json!("acme"));
    let (subject, name, roles, tenant) = &expected;
    assert_eq!(told, (subject, name, roles, tenant, &json!("session")));
    world.submit(&mut browser, "").problem(403, "forbidden");
    world.submit(&mut browser, "wrong").problem(403, "forbidden");
    let task = world.submit(&mut browser, &csrf(&me));
    assert!(matches!(task.status, 200 | 202), "{}", task.text);
    assert_eq!(task.body["tenant"], "acme");

    // Out of both: afterwards the provider asks again who it is.
    let session = world.session(&browser).expect("a session");
    let page = world.log_out(&mut browser, &csrf(&me));
    let hint = query(&visited(&browser, "/session/end"));
    assert_eq!(hint["id_token_hint"].split('.').count(), 3, "{hint:?}");
    let page = browser.submit(&page, &[("logout", "yes")]);
    assert_eq!(page.url.path(), "/auth/me", "{}", page.reply.text);
    page.reply.problem(401, "unauthenticated");
    assert_eq!(world.session(&browser), None);
    world.me(&mut browser).problem(401, "unauthenticated");
    browser.plant(&world.no, &format!("no_session={session}"));
    world.me(&mut browser).problem(401, "unauthenticated");
    world.submit(&mut browser, &csrf(&me)).problem(401, "unauthenticated");
    let page = world.log_in(&mut browser, "viewer", &["login", "consent"]);
    let me = page.reply.ok(200);
    assert_eq!((&me["subject"], &me["roles"]), (&json!("viewer"), &json!(["viewer"])));
    assert_eq!(me["tenant"], "default", "none was named");
    world.submit(&mut browser, &csrf(&me)).problem(403, "forbidden");
    world.stop();
}

#[test]
fn the_console_is_worked_by_who_logs_in_at_the_provider() {
    let (Some(world), Some(chromium)) = (World::start(), Chromium::find()) else { return };
    let provider = world.provider.as_ref().expect("it runs");
    let node = world.node.as_ref().expect("it runs");
    let submitter = node.with_token(Some(&provider.token(ANN, "urn:no", "ES256")));
    let task = submitter.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    let told = json!({"url": world.no.origin().ascii_serialization(), "issuer": provider.issuer,
                      "login": "operator.acme", "task": task});
    chromium.drive("oidc/console.mjs", &told);
    assert_eq!(submitter.task(&task)["state"], "cancelled");
    world.stop();
}

#[test]
fn each_login_has_a_session_of_its_own() {
    let Some(world) = World::start() else { return };
    let mut browser = Browser::default();
    let planted = "A".repeat(43);
    browser.plant(&world.no, &format!("no_session={planted}"));
    world.log_in(&mut browser, ANN, &["login", "consent"]).reply.expect(200);
    let first = world.session(&browser).expect("a session");
    assert_ne!(first, planted, "what was there before is not taken");
    let me = world.me(&mut browser).ok(200);

    // The provider knows them still and asks nothing.
    world.log_in(&mut browser, ANN, &[]).reply.expect(200);
    let second = world.session(&browser).expect("a session");
    assert_ne!(second, first);
    let again = world.me(&mut browser).ok(200);
    assert_ne!(csrf(&again), csrf(&me));
    world.submit(&mut browser, &csrf(&me)).problem(403, "forbidden");
    for ended in [planted, first] {
        let mut thief = Browser::default();
        thief.plant(&world.no, &format!("no_session={ended}"));
        world.me(&mut thief).problem(401, "unauthenticated");
    }
    world.me(&mut browser).expect(200);
    world.stop();
}

#[test]
fn a_callback_is_good_once_and_a_refusal_is_told() {
    let Some(world) = World::start() else { return };
    let mut browser = Browser::default();
    world.log_in(&mut browser, ANN, &["login", "consent"]).reply.expect(200);
    let spent = visited(&browser, "/auth/callback");
    let session = world.session(&browser);
    browser.send("GET", &spent, &[], "").problem(400, "bad_request");
    assert_eq!(world.session(&browser), session, "nothing changed");

    // The code is spent with any state.
    let mut thief = Browser::default();
    thief.stops_at = Some("/auth/callback");
    let page = world.log_in(&mut thief, ANN, &["login", "consent"]);
    let mut mixed = page.url.clone();
    let (code, state) = (&query(&spent)["code"], &query(&page.url)["state"]);
    let iss = &query(&spent)["iss"];
    mixed.query_pairs_mut().clear().extend_pairs([("code", code), ("state", state), ("iss", iss)]);
    let told = thief.send("GET", &mixed, &[], "").problem(401, "unauthenticated");
    assert!(told["detail"].as_str().expect("a text").contains("/auth/login"), "{told}");
    assert_eq!(world.session(&thief), None);
    thief.send("GET", &page.url, &[], "").problem(400, "bad_request");

    // Whoever cancels at the provider reads so.
    let mut shy = Browser::default();
    let page = shy.open(world.at("/auth/login"));
    assert_eq!(page.prompt(), Some("login"));
    let page = shy.open(page.abort());
    assert_eq!(query(&page.url)["error"], "access_denied");
    let told = page.reply.problem(401, "unauthenticated");
    let text = "the issuer refused the login, or it was cancelled there";
    assert_eq!(told["detail"], text);
    assert_eq!(world.session(&shy), None);
    world.stop();
}

#[test]
fn while_the_provider_is_down_a_login_says_so() {
    let Some(mut world) = World::without_node() else { return };
    let (port, callback) = {
        let provider = world.provider.take().expect("it runs");
        (provider.port(), world.at("/auth/callback"))
    };
    world.start_node();
    let mut browser = Browser::default();
    let login = world.at("/auth/login");
    let refused = browser.send("GET", &login, &[], "");
    assert_eq!(refused.header("retry-after"), "5");
    let told = refused.problem(503, "issuer_unavailable");
    assert!(told["detail"].as_str().expect("a text").contains("the issuer"), "{told}");

    world.provider = Provider::start_for(&port, callback.as_str());
    let until = Instant::now() + PATIENCE;
    while browser.send("GET", &login, &[], "").status != 302 {
        assert!(Instant::now() < until, "it is not seen that the issuer is back");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    browser.stops_at = Some("/auth/callback");
    let page = world.log_in(&mut browser, ANN, &["login", "consent"]);

    // Down again just before the code is exchanged. A session that there is goes on.
    let mut other = Browser::default();
    world.log_in(&mut other, "viewer", &["login", "consent"]).reply.expect(200);
    let provider = world.provider.take().expect("it runs");
    drop(provider);
    let refused = browser.send("GET", &page.url, &[], "");
    assert_eq!(refused.header("retry-after"), "5");
    refused.problem(503, "issuer_unavailable");
    assert_eq!(world.session(&browser), None);
    let me = world.me(&mut other).ok(200);
    world.provider = Provider::start_for(&port, callback.as_str());
    browser.stops_at = None;
    // The provider has forgotten everybody and has new keys; a session of before ends all the same.
    world.log_in(&mut browser, ANN, &["login", "consent"]).reply.expect(200);
    world.log_out(&mut other, &csrf(&me));
    world.me(&mut other).problem(401, "unauthenticated");
    world.stop();
}
