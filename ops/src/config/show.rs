//! The configuration and its keys as texts: for `no config show` and `no config keys`.

use super::keys::{KEYS, Kind, Standing};
use super::raw::Raw;
use no_auth::secret::REDACTED;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Every value in force with where it came from, one line each; secrets are not shown.
#[must_use]
pub fn text(raw: &Raw) -> String {
    let mut text = String::new();
    for (path, value, place) in in_force(raw) {
        let place = if place.is_empty() { "default" } else { &place };
        let _ = writeln!(text, "{path} = {value}  ({place})");
    }
    text
}

/// The same as one JSON document of the file's form, without the origins.
#[must_use]
pub fn json(raw: &Raw) -> Value {
    let mut document = json!({});
    for (path, found) in raw.said().map(|(path, found)| (path.clone(), found.value.clone())) {
        put(&mut document, &path, shown(&path, found));
    }
    for key in KEYS.iter().filter(|key| !key.path.contains('*') && !key.default.is_empty()) {
        let path = super::raw::parts(key.path);
        if let Some(found) = raw.get(key.path) {
            put(&mut document, &path, shown(&path, found.value));
        }
    }
    document
}

fn put(document: &mut Value, path: &[String], value: Value) {
    let mut place = document;
    for part in path {
        place = &mut place[part.as_str()];
    }
    *place = value;
}

fn in_force(raw: &Raw) -> Vec<(String, Value, String)> {
    let mut all = Vec::new();
    for key in KEYS.iter().filter(|key| !key.path.contains('*')) {
        if let Some(found) = raw.get(key.path) {
            let path = super::raw::parts(key.path);
            all.push((key.path.to_owned(), shown(&path, found.value), found.place));
        }
    }
    for (path, found) in raw.said().filter(|(path, _)| is_named(path)) {
        all.push((path.join("."), shown(path, found.value.clone()), found.place.clone()));
    }
    all
}

fn is_named(path: &[String]) -> bool {
    super::keys::of_path(path).is_some_and(|key| key.path.contains('*'))
}

fn shown(path: &[String], value: Value) -> Value {
    let is_secret = super::keys::of_path(path).is_some_and(|key| key.kind == Kind::Secret);
    if is_secret { Value::from(REDACTED) } else { value }
}

/// The table of keys, for people.
#[must_use]
pub fn keys_text() -> String {
    let mut text = String::from(
        "Keys of config/operational.json. A variable wins over the file, an option over both.\n",
    );
    let mut section = "";
    for key in KEYS {
        let first = key.path.split('.').next().unwrap_or_default();
        if first != section {
            section = first;
            let _ = writeln!(text, "\n{section}");
        }
        let default = if key.default.is_empty() { "none" } else { key.default };
        let _ = writeln!(text, "  {}", key.path);
        let _ = writeln!(text, "      {}", key.about);
        let _ = write!(text, "      {}; default {default}", key.kind.words());
        for env in key.env {
            let _ = write!(text, "; {env}");
            if key.kind == Kind::Secret {
                let _ = write!(text, " or {env}_FILE");
            }
        }
        text.push('\n');
        match key.standing {
            Standing::Works => {}
            Standing::Waits => text.push_str("      (of a feature that is not built yet)\n"),
            Standing::Refused => text.push_str("      (not built yet: refused when set)\n"),
        }
    }
    text
}

/// The table of keys, for machines.
#[must_use]
pub fn keys_json() -> Value {
    let row = |key: &super::keys::Key| {
        json!({
            "path": key.path,
            "type": key.kind.words(),
            "default": serde_json::from_str::<Value>(key.default).unwrap_or(Value::Null),
            "env": key.env,
            "about": key.about,
            "built": key.standing == Standing::Works,
        })
    };
    Value::Array(KEYS.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let env = |name: &str| (name == "NO_DB_PASSWORD").then(|| "hush-hush".to_owned());
        let files = |_: &str| Err("no files here".to_owned());
        let raw = Raw::read(None, &env, &files, &[("service.port", "8080".to_owned())]);
        let (text, json) = (text(&raw), json(&raw).to_string());
        assert!(!text.contains("hush") && !json.contains("hush"), "{text}{json}");
        assert!(text.contains("database.password = \"[redacted]\"  (NO_DB_PASSWORD)"), "{text}");
        assert!(json.contains("\"port\":8080"), "{json}");
    }

    #[test]
    fn every_key_is_printed() {
        let text = keys_text();
        for key in KEYS {
            assert!(text.contains(key.path) && text.contains(key.about));
        }
        assert_eq!(keys_json().as_array().map(Vec::len), Some(KEYS.len()));
    }
}
