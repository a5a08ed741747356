//! The provider as a child of the test.

use crate::e2e::pipe::Lines;
use crate::e2e::{Client, Home, PATIENCE};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A running provider; ended when dropped.
pub(crate) struct Provider {
    child: Child,
    /// Its name, which is its URL.
    pub(crate) issuer: String,
    /// Where it sends browsers back to; empty for nowhere.
    callback: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Provider {
    /// Starts it on a free port; `None`, and a word about it, when it is not there.
    pub(crate) fn start() -> Option<Provider> {
        Provider::start_at("0")
    }

    /// The same on that port.
    pub(crate) fn start_at(port: &str) -> Option<Provider> {
        Provider::start_for(port, "")
    }

    /// The same for a client that has browsers sent back there.
    pub(crate) fn start_for(port: &str, callback: &str) -> Option<Provider> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tools = ours.join("../target/test-tools");
        let module = tools.join("node_modules/oidc-provider/lib/index.js");
        let node = Some(tools.join("bin/node")).filter(|node| node.exists());
        let child = Command::new(node.unwrap_or_else(|| "node".into()))
            .arg(ours.join("tests/oidc/provider.mjs"))
            .arg(&tools)
            .args([port, callback])
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
        let (issuer, callback) = (issuer.unwrap_or_default(), callback.to_owned());
        let provider = Provider { child, issuer, callback };
        assert!(!provider.issuer.is_empty(), "it does not listen:\n{}", faults.text());
        Some(provider)
    }

    /// The same place with other keys, as after a rotation that kept none.
    pub(crate) fn restarted(self) -> Provider {
        let (issuer, callback, port) = (self.issuer.clone(), self.callback.clone(), self.port());
        drop(self);
        let provider = Provider::start_for(&port, &callback).expect("it was there before");
        assert_eq!(provider.issuer, issuer);
        provider
    }

    /// Its port.
    pub(crate) fn port(&self) -> String {
        self.issuer.rsplit(':').next().expect("a port").to_owned()
    }

    /// A form sent as one of its clients.
    pub(crate) fn form(&self, path: &str, client: &str, fields: &[(&str, &str)]) -> Value {
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
    pub(crate) fn token(&self, client: &str, resource: &str, alg: &str) -> String {
        let fields = [("grant_type", "client_credentials"), ("resource", resource), ("scope", alg)];
        let answer = self.form("/token", client, &fields);
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// A home of a node that takes its tokens.
    pub(crate) fn home(&self) -> Home {
        let mut oauth = json!({"issuer": self.issuer, "audience": "urn:no", "clientId": "no",
                               "clientSecretFile": "secret"});
        if !self.callback.is_empty() {
            oauth["redirectUri"] = self.callback.as_str().into();
            let back = self.callback.replace("/auth/callback", "/auth/me");
            oauth["postLogoutRedirectUri"] = back.into();
        }
        let home = Home::new(json!({"oauth": oauth}));
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
