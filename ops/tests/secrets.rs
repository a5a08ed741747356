//! No secret is seen: every one is set to a marked value in every way it may come, the binary is
//! made to log at its loudest, to fail and to explain itself, and whatever it wrote is searched for
//! the marks.

mod e2e;

use e2e::{Act, Home, Node, Seen, Server};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What every marked value begins with. As plain as an error code, so that nothing filters it.
const MARK: &str = "marked_";
/// Variables of secrets, and the one that a model's `apiKeyEnv` names.
const VARIABLES: [&str; 5] = [
    "NO_DB_PASSWORD",
    "NO_REDIS_PASSWORD",
    "NO_OAUTH_CLIENT_SECRET",
    "NO_SESSION_KEY",
    "MODEL_KEY",
];

/// The marked value of a secret.
fn marked(name: &str) -> String {
    format!("{MARK}{}_0123456789abcdef", name.to_lowercase())
}

/// The value as nobody may see it either: how it is sent.
fn encoded(name: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("no:{}", marked(name)))
}

#[track_caller]
fn unseen(what: &str, text: &str) {
    let is_start = |at: &usize| text.is_char_boundary(*at);
    let shown = |at: usize| {
        let start = (0..=at.saturating_sub(200)).rev().find(is_start).unwrap_or(0);
        text[start..].chars().take(400).collect::<String>()
    };
    if let Some(at) = text.find(MARK) {
        panic!("a secret is in {what}: …{}…", shown(at));
    }
    for name in VARIABLES {
        assert!(!text.contains(&encoded(name)), "{name} is in {what} as it is sent");
    }
}

#[track_caller]
fn unseen_in(what: &str, output: &Output) {
    unseen(&format!("stdout of {what}"), &String::from_utf8_lossy(&output.stdout));
    unseen(&format!("stderr of {what}"), &String::from_utf8_lossy(&output.stderr));
}

/// Searches all files below a folder, whatever they hold; there must be some.
fn unseen_below(folder: &Path) {
    let (mut folders, mut count) = (vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("readable");
                unseen(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
                count += 1;
            }
        }
    }
    assert!(3 < count, "{} has no files", folder.display());
}

/// How secrets reach the process.
#[derive(Clone, Copy, Debug)]
enum Way {
    Variables,
    FileVariables,
    FileKeys,
}

/// Writes a secret's file, closed to others.
fn secret_file(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    path
}

impl Way {
    /// Sets every secret.
    fn set(self, home: &Home, command: &mut Command) {
        for name in VARIABLES {
            let file = || secret_file(home, name, &format!("{}\n", marked(name)));
            // The configuration names files only of some; see `configuration`.
            let has_key = matches!(name, "NO_OAUTH_CLIENT_SECRET" | "MODEL_KEY");
            match self {
                Way::FileKeys if has_key => {
                    file();
                }
                Way::Variables => {
                    command.env(name, marked(name));
                }
                Way::FileVariables | Way::FileKeys => {
                    command.env(format!("{name}_FILE"), file());
                }
            }
        }
        command.env("NO_LOG", "trace");
    }

    fn configuration(self, home: &Home, issuer: &str, model: &str) -> Value {
        let mut oauth = json!({"issuer": issuer, "clientId": "no"});
        let mut model = json!({"provider": "openai", "baseUrl": model, "model": "m"});
        if let Way::FileKeys = self {
            oauth["clientSecretFile"] = json!(home.path().join("NO_OAUTH_CLIENT_SECRET"));
            model["apiKeyFile"] = json!(home.path().join("MODEL_KEY"));
        } else {
            model["apiKeyEnv"] = json!("MODEL_KEY");
        }
        json!({
            "oauth": oauth, "models": {"m": model},
            "agents": {"a": {"kind": "model", "model": "m", "max_attempts": 1}}
        })
    }
}

/// An issuer that quotes what it was given when it refuses, and breaks off now and then.
fn quoting_issuer() -> Server {
    let secret = marked("NO_OAUTH_CLIENT_SECRET");
    let base = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = std::sync::Arc::clone(&base);
    let server = Server::start(move |seen, place| match seen.path.as_str() {
        "/.well-known/openid-configuration" => {
            let base = known.get().expect("started").as_str();
            Act::Answer(
                200,
                json!({
                    "issuer": base, "jwks_uri": format!("{base}/keys"),
                    "authorization_endpoint": format!("{base}/authorize"),
                    "token_endpoint": format!("{base}/token"),
                    "introspection_endpoint": format!("{base}/introspect"),
                    "response_types_supported": ["code"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"]
                }),
            )
        }
        // The public key of RFC 8037, appendix A.
        "/keys" => Act::Answer(
            200,
            json!({"keys": [{
                "kty": "OKP", "crv": "Ed25519", "kid": "k",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
            }]}),
        ),
        _ if place % 3 == 0 => Act::Answer(401, json!({"error": secret})),
        _ if place % 3 == 1 => Act::Answer(400, json!({"error": marked("bearer")})),
        _ => Act::Answer(500, json!({"error": secret, "error_description": secret})),
    });
    base.set(server.url("")).expect("once");
    server
}

/// A model's server that quotes the key: in a short error, cut in a long one, in a stream's.
fn quoting_model() -> Server {
    let key = marked("MODEL_KEY");
    Server::start(move |_: &Seen, place| match place {
        0 => Act::Answer(400, json!({"error": {"message": format!("bad key {key}")}})),
        1 => Act::Answer(400, json!({"error": "x".repeat(480) + &key})),
        2 => Act::Answer(401, json!({"error": format!("no such key: {key}")})),
        _ => Act::Answer(200, json!({"error": {"message": format!("bad key {key}")}})),
    })
}

/// The same command with what it says on stdout kept in a file.
fn kept(command: &Command, file: &Path) -> Command {
    let mut kept = Command::new("sh");
    kept.args(["-c", r#"out=$1; shift; exec "$@" >"$out""#, "sh"]).arg(file);
    kept.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => kept.env(name, value),
            None => kept.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        kept.current_dir(folder);
    }
    kept
}

/// Has the node use each secret, fail with it, and tell of it.
fn provoke(node: &Node, bearer: &str) {
    for _ in 0..4 {
        let id = node.submit(&json!({"agent": "a", "input": "hello"}));
        let ended = node.ended(&id);
        assert_eq!(ended["state"], "failed", "{ended}");
        unseen("a task", &ended.to_string());
        unseen("its steps", &node.get(&format!("/v1/tasks/{id}/steps")).expect(200).text);
    }
    // Opaque tokens are asked for with the client's secret. They are secrets as well.
    let opaque = node.with_token(Some(bearer));
    for _ in 0..3 {
        unseen("a refusal", &opaque.get("/v1/tasks").expect(401).text);
    }
    let login = "/auth/login?return_to=/console/";
    unseen("a login", &node.with_token(None).get(login).text);
    unseen("a callback", &node.with_token(None).get("/auth/callback?code=1&state=2").text);
    for path in [
        "/metrics",
        "/health",
        "/health/detailed",
        "/admin/status",
        "/v1/agents",
        "/v1/agents/a",
        "/openapi.json",
    ] {
        unseen(path, &node.get(path).text);
    }
}

/// Stops the node; its whole log.
fn stopped(mut node: Node) -> String {
    node.terminate();
    assert_eq!(node.exited().code(), Some(0));
    node.log().text()
}

fn serves_and_stays_silent(way: Way) {
    let (issuer, model) = (quoting_issuer(), quoting_model());
    let home = Home::new(json!({}));
    home.configure(way.configuration(&home, &issuer.url(""), &model.url("/v1")));
    let mut command = home.serve();
    way.set(&home, &mut command);
    let stdout = home.path().join("stdout");
    let node = Node::start(kept(&command, &stdout), home.data());
    provoke(&node, &marked("bearer"));
    let is_asked = |seen: &Seen| seen.path == "/introspect";
    assert!(4 <= model.count() && issuer.seen().iter().any(is_asked), "{:?}", issuer.seen());
    let log = stopped(node);
    assert!(log.contains("\"TRACE\""), "the log is not at its loudest: {log}");
    unseen("the log", &log);
    unseen("stdout", &fs::read_to_string(&stdout).expect("kept"));
    unseen_below(home.data());
    for args in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "validate"],
        &["config", "validate", "--json"],
        &["audit", "verify"],
        &["token", "list"],
    ] {
        let mut command = home.command(args);
        command.env("NO_CONFIG", home.config());
        way.set(&home, &mut command);
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{args:?}: {output:?}");
        unseen_in(&args.join(" "), &output);
        let text = String::from_utf8_lossy(&output.stdout);
        let is_shown = text.contains("[redacted]");
        assert_eq!(is_shown, args[..2] == ["config", "show"], "{args:?}: {text}");
    }
}

#[test]
fn secrets_of_variables_are_never_seen() {
    serves_and_stays_silent(Way::Variables);
}

#[test]
fn secrets_of_files_are_never_seen() {
    serves_and_stays_silent(Way::FileVariables);
}

#[test]
fn secrets_of_files_that_the_configuration_names_are_never_seen() {
    serves_and_stays_silent(Way::FileKeys);
}

#[test]
fn secrets_of_an_issuer_and_a_model_that_cannot_be_reached_are_never_seen() {
    let (way, gone) = (Way::Variables, "http://127.0.0.1:1");
    let home = Home::new(json!({}));
    home.configure(way.configuration(&home, gone, gone));
    let mut command = home.serve();
    way.set(&home, &mut command);
    let node = Node::start(command, home.data());
    provoke(&node, &marked("bearer"));
    let log = stopped(node);
    assert!(log.contains("refused"), "nothing was tried: {log}");
    unseen("the log", &log);
    unseen_below(home.data());
}

/// Starts a node that must be refused for `pieces` of what it says.
#[track_caller]
fn refused(home: &Home, set: &dyn Fn(&mut Command), pieces: &[&str]) {
    let mut serve = home.serve();
    set(serve.env("NO_LOG", "trace"));
    let output = serve.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    unseen_in("a refused start", &output);
    let said = String::from_utf8_lossy(&output.stderr);
    for piece in pieces {
        assert!(said.contains(piece), "{piece:?} is not in:\n{said}");
    }
}

#[test]
fn bad_secrets_are_refused_with_what_to_do_and_without_the_secret() {
    let home = Home::new(json!({}));
    let file = |text: &str| secret_file(&home, "s", text);
    let secret = marked("x");
    for name in &VARIABLES[..4] {
        let by_file = format!("{name}_FILE");
        let at = |path: &Path, pieces: &[&str]| {
            let pieces = [&[by_file.as_str()], pieces].concat();
            let set = |command: &mut Command| {
                command.env(&by_file, path);
            };
            refused(&home, &set, &pieces);
        };
        let both = |command: &mut Command| {
            command.env(name, &secret).env(&by_file, file(&secret));
        };
        refused(&home, &both, &["are both set", &format!("remove {name}")]);
        let two_lines = |command: &mut Command| {
            command.env(name, format!("{secret}\n{secret}"));
        };
        refused(&home, &two_lines, &[name, "give the secret alone"]);
        at(&file(""), &["is empty"]);
        at(&file(&format!("{secret}\n{secret}\n")), &["give the secret alone"]);
        at(&home.path().join("gone"), &["gone", "let the user that runs nO read it"]);
        at(home.path(), &["let the user that runs nO read it"]);
        let open = file(&secret);
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("set");
        at(&open, &["has mode 644", "chmod 600"]);
    }
}

#[test]
fn bad_keys_of_models_are_refused_with_what_to_do_and_without_the_key() {
    let home = Home::new(json!({}));
    let key = marked("key");
    let model = |key: Value| {
        let mut model =
            json!({"provider": "openai", "baseUrl": "http://127.0.0.1:1/v1", "model": "m"});
        for (name, value) in key.as_object().expect("an object") {
            model[name] = value.clone();
        }
        home.configure(json!({"models": {"m": model}}));
    };
    let nothing = |_: &mut Command| {};
    model(json!({"apiKeyEnv": "MODEL_KEY"}));
    refused(&home, &nothing, &["MODEL_KEY is not set: set it, or MODEL_KEY_FILE"]);
    let file = secret_file(&home, "key", &key);
    let both = |command: &mut Command| {
        command.env("MODEL_KEY", &key).env("MODEL_KEY_FILE", &file);
    };
    refused(&home, &both, &["models.m", "MODEL_KEY_FILE is set as well: remove MODEL_KEY"]);
    let blank = |command: &mut Command| {
        command.env("MODEL_KEY", format!("{key} {key}"));
    };
    refused(&home, &blank, &["models.m", "cannot stand in a header"]);
    model(json!({"apiKeyFile": &file}));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
    refused(&home, &nothing, &["models.m", "has mode 640", "chmod 600"]);
    // Where a key does not belong at all.
    model(json!({"apiKey": &key}));
    refused(&home, &nothing, &["models.m.apiKey: unknown key"]);
    model(json!({"apiKeyEnv": &[&key]}));
    refused(&home, &nothing, &["models.m.apiKeyEnv: must be text, not a list"]);
    model(json!({"baseUrl": format!("https://user:{key}@model.example/v1")}));
    refused(&home, &nothing, &["models.m.baseUrl: the url carries a user or password"]);
    home.configure(json!({"oauth": {"clientSecret": &key}, "database": {"password": [&key]}}));
    refused(
        &home,
        &nothing,
        &[
            "oauth.clientSecret: a secret does not belong into this file",
            "set NO_DB_PASSWORD or NO_DB_PASSWORD_FILE",
        ],
    );
    fs::write(home.config(), format!("{{\"oauth\": {{\"clientSecret\": \"{key}\"}}, {key}"))
        .expect("written");
    refused(&home, &nothing, &["not valid JSON"]);
}

#[test]
fn a_client_commands_token_is_never_seen() {
    let server = Server::start(|_, _| Act::Answer(401, json!({"code": "unauthenticated"})));
    let home = Home::new(json!({}));
    let token = marked("token");
    let file = secret_file(&home, "token", &format!("{token}\n"));
    let check = |env: &[(&str, &str)], more: &[&str], code: i32, piece: &str| {
        for url in [server.url("").as_str(), "http://127.0.0.1:1", "nowhere"] {
            let mut command = home.command(&["task", "list", "--url", url]);
            command.args(more).envs(env.iter().copied()).env("RUST_LOG", "trace");
            let output = command.output().expect("the binary runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            unseen_in("a client command", &output);
            let expected = if url == "nowhere" && code == 1 { 2 } else { code };
            assert_eq!(output.status.code(), Some(expected), "{url}: {said}");
            assert!(said.contains(piece) || url != server.url(""), "{piece:?} is not in: {said}");
        }
    };
    let path = file.to_str().expect("plain");
    check(&[("NO_TOKEN", &token)], &[], 1, "unauthenticated");
    check(&[("NO_TOKEN_FILE", path)], &[], 1, "unauthenticated");
    check(&[], &["--token-file", path], 1, "unauthenticated");
    check(&[("NO_TOKEN_FILE", path)], &["--token", &token], 1, "unauthenticated");
    let both = "NO_TOKEN and NO_TOKEN_FILE are both set: remove NO_TOKEN";
    check(&[("NO_TOKEN", &token), ("NO_TOKEN_FILE", path)], &[], 2, both);
    check(&[("NO_TOKEN", &format!("{token} ä"))], &[], 2, "cannot stand in a header");
    assert_eq!(server.count(), 4);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).expect("set");
    check(&[("NO_TOKEN_FILE", path)], &[], 3, "chmod 600");

    // One that works, by its file.
    let node = home.start();
    let admin = home.data().join("admin.token");
    let output = home.run(&[
        "task",
        "list",
        "--url",
        node.url(),
        "--data-dir",
        "/nowhere",
        "--token-file",
        admin.to_str().expect("plain"),
    ]);
    assert!(output.status.success(), "{output:?}");
    node.stop();
}
