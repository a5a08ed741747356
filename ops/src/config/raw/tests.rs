//! Files and variables that are read, and the messages for those that are not.

use super::*;
use expect_test::{Expect, expect};

fn read(text: &str, env: &[(&str, &str)]) -> Raw {
    let get =
        |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    let files = |path: &str| match path {
        "/run/secret" => Ok(Secret::new("hush\n".to_owned()).expect("a secret")),
        _ => Err(format!("{path} is not there")),
    };
    Raw::read(Some(File { name: "c.json", text }), &get, &files, &[])
}

#[track_caller]
fn check(text: &str, env: &[(&str, &str)], expected: &Expect) {
    let faults: Vec<String> = read(text, env).faults.iter().map(Fault::to_string).collect();
    expected.assert_eq(&faults.join("\n"));
}

#[test]
fn faults_name_line_path_and_what_was_meant() {
    check(
        "{\n\"service\": {\n\"prot\": 1},\n\"engine\": {\"shards\": 0, \"port\": 2},\n\"servce\": 1}",
        &[],
        &expect![[r#"
            c.json:4: engine.port: unknown key (did you mean service.port?)
            c.json:4: engine.shards: must be whole number from 1 to 256, not 0
            c.json:5: servce: unknown key (did you mean service?)
            c.json:3: service.prot: unknown key (did you mean service.port?)"#]],
    );
    check(
        "{\"a\":",
        &[],
        &expect!["c.json:1: not valid JSON: EOF while parsing a value at line 1 column 5"],
    );
    check("[]", &[], &expect!["c.json:1: must be an object"]);
    check("{\"service\":[]}", &[], &expect!["c.json:1: service: must be an object"]);
    check(
        "{\"service\":{\"port\":1,\n\"port\":2}}",
        &[],
        &expect!["c.json:2: service.port: stands twice"],
    );
}

#[test]
fn variables_override_and_are_checked() {
    let raw = read("{\"service\":{\"port\":1}}", &[("NO_SERVICE_PORT", "2"), ("NO_ENV", "")]);
    let port = raw.get("service.port").expect("set");
    assert_eq!((port.value, port.place.as_str()), (Value::from(2), "NO_SERVICE_PORT"));
    check(
        "{}",
        &[("NO_SERVICE_PORT", "http"), ("NO_RBAC_ENABLED", "maybe")],
        &expect![[r#"
            NO_SERVICE_PORT: service.port: must be whole number from 0 to 65535, not "http"
            NO_RBAC_ENABLED: security.rbac.enabled: must be true or false, not "maybe""#]],
    );
    let raw = read("{}", &[("NODE_ENV", "production")]);
    assert_eq!(raw.get("service.environment").expect("set").value, "production");
}

#[test]
fn what_is_not_built_is_refused_when_it_is_turned_on() {
    check(
        "{\"performance\":{\"caching\":{\"enabled\":true},\"autoscaling\":{\"enabled\":false}}}",
        &[("NO_DB_HOST", "db"), ("NO_DB_PORT", "5433")],
        &expect![[r#"
            c.json:1: performance.caching.enabled: is not built yet (it means: cache model and tool answers; remove it)"#]],
    );
}

#[test]
fn secrets_come_from_variables_and_their_files_and_are_not_shown() {
    for (name, value) in [("NO_DB_PASSWORD_FILE", "/run/secret"), ("NO_DB_PASSWORD", "hush")] {
        let raw = read("{}", &[(name, value)]);
        let found = raw.get("database.password").expect("set");
        assert_eq!((found.value, &*found.place), (Value::from(REDACTED), name));
        assert_eq!(raw.secret("database.password").expect("set").reveal(), "hush");
        assert!(raw.secret("redis.password").is_none());
    }
    check(
        "{\"redis\":{\"password\":\"hush\"}}",
        &[("NO_DB_PASSWORD_FILE", "/gone")],
        &expect![[r#"
            c.json:1: redis.password: a secret does not belong into this file (set NO_REDIS_PASSWORD or NO_REDIS_PASSWORD_FILE)
            NO_DB_PASSWORD_FILE: database.password: /gone is not there"#]],
    );
    check(
        "{}",
        &[
            ("NO_DB_PASSWORD_FILE", "/run/secret"),
            ("NO_DB_PASSWORD", "hush"),
            ("NO_REDIS_PASSWORD", "hush\nhush"),
        ],
        &expect![[r#"
            NO_DB_PASSWORD_FILE: database.password: NO_DB_PASSWORD and NO_DB_PASSWORD_FILE are both set (remove NO_DB_PASSWORD: fewer can see a file)
            NO_REDIS_PASSWORD: redis.password: has a line break or control character in it: give the secret alone"#]],
    );
    assert!(read("{}", &[("NO_DB_PASSWORD_FILE", ""), ("NO_DB_PASSWORD", "a")]).faults.is_empty());
}

#[test]
fn durations_take_both_forms() {
    for (text, ms) in [("250ms", 250), ("30s", 30_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
        assert_eq!(duration_ms(text), Some(ms));
    }
    for text in ["", "30", "s", "-1s", "1w", "99999999999999999999s", "1.5h"] {
        assert_eq!(duration_ms(text), None, "{text}");
    }
    let raw = read("{\"service\":{\"drainTimeout\":\"45s\"}}", &[]);
    assert_eq!(raw.get("service.drainTimeout").expect("set").value, 45_000);
}

#[test]
fn objects_are_put_together_again() {
    let raw = read(
        "{\"models\":{\"gpt-4.1\":{\"provider\":\"openai\",\"prices\":{\"inputPerMillion\":2}}}}",
        &[],
    );
    assert_eq!(raw.names("models"), ["gpt-4.1"]);
    let model = raw.object("models", "gpt-4.1");
    assert_eq!(model.to_string(), r#"{"prices":{"inputPerMillion":2},"provider":"openai"}"#);
}

#[test]
fn no_text_makes_the_reader_panic() {
    let text = include_str!("../../../../deploy/config/operational.example.json");
    assert!(read(text, &[]).faults.is_empty());
    for at in (0..text.len()).step_by(7) {
        drop(read(&text[..at], &[]));
        for other in ["\"", "{", "]", "null", "0"] {
            drop(read(&format!("{}{other}{}", &text[..at], &text[at + 1..]), &[]));
        }
    }
}
