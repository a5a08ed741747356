//! An issuer that does what a test wants, and a browser that logs in there.

#![allow(dead_code, reason = "each test binary uses its own part")]

use crate::e2e::{Act, Client, Home, Node, Reply, Seen, Server};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use url::Url;

/// Our client at the issuer.
pub(crate) const CLIENT: &str = "console";
/// Where it sends browsers back to; nothing listens there, as the test plays the browser.
pub(crate) const CALLBACK: &str = "http://127.0.0.1/auth/callback";

/// PKCS#8 of an Ed25519 key without its seed (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// What the issuer's next ID token says otherwise than it should: claims that replace the right
/// ones, null for none.
pub(crate) type Twist = Arc<Mutex<BTreeMap<&'static str, Value>>>;

/// An issuer, with the codes that it gave and what they were asked with.
pub(crate) struct Issuer {
    url: Arc<OnceLock<String>>,
    pub(crate) twist: Twist,
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

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn form(text: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

impl Issuer {
    pub(crate) fn start() -> Issuer {
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

    pub(crate) fn url(&self) -> &str {
        self.url.get().expect("set at the start")
    }

    /// A node that knows it, with a session that ends as configured.
    pub(crate) fn node(&self) -> (Home, Node) {
        self.node_with(&json!({}))
    }

    pub(crate) fn node_with(&self, security: &Value) -> (Home, Node) {
        let home = self.home(&json!({"security": security}));
        let node = home.start();
        (home, node)
    }

    /// A home of a node that knows it, with this configuration beside.
    pub(crate) fn home(&self, more: &Value) -> Home {
        let mut config = more.clone();
        let oauth = json!({"issuer": self.url(), "clientId": CLIENT, "redirectUri": CALLBACK});
        for (name, value) in oauth.as_object().expect("an object") {
            config["oauth"][name] = value.clone();
        }
        Home::new(config)
    }

    /// What the browser would do there: log in, and be given a code for what was asked.
    pub(crate) fn code(&self, login: &Url) -> String {
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
pub(crate) struct Browser {
    client: Client,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn new(node: &Node) -> Browser {
        Browser { client: node.with_token(None), cookies: BTreeMap::new() }
    }

    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
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

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], "")
    }

    /// Begins a login; where it is sent.
    pub(crate) fn begin(&mut self, path: &str) -> Url {
        let reply = self.get(path).expect(302);
        assert_eq!(reply.header("cache-control"), "no-store");
        Url::parse(reply.header("location")).expect("a URL")
    }

    /// Comes back from the issuer with these, in place of the right ones; empty for none.
    pub(crate) fn back(&mut self, issuer: &Issuer, login: &Url, wrong: &[(&str, &str)]) -> Reply {
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

    pub(crate) fn log_in(&mut self, issuer: &Issuer) {
        let login = self.begin("/auth/login");
        let reply = self.back(issuer, &login, &[]).expect(303);
        assert_eq!(reply.header("location"), "/auth/me");
    }

    /// The same browser at another node, as behind a load balancer.
    pub(crate) fn at(&mut self, node: &Node) -> &mut Browser {
        self.client = node.with_token(None);
        self
    }

    /// The token against forgery of its session.
    pub(crate) fn csrf(&mut self) -> String {
        self.get("/auth/me").ok(200)["csrf_token"].as_str().expect("a token").to_owned()
    }
}
