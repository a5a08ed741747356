//! What file, environment and command line say: each value with where it came from, held against
//! the table of keys one by one. Nothing here knows what a value is for. Secrets stand apart from
//! the values, so that what prints values cannot print one.

use super::fault::{Fault, nearest};
use super::keys::{self, KEYS, Key, Kind, Standing};
use super::place::{self, Path, Places};
use no_auth::Secret;
use no_auth::secret::REDACTED;
use serde_json::{Number, Value};
use std::collections::BTreeMap;

/// A value and where it was read. A secret's is [`REDACTED`]; see [`Raw::secret`].
#[derive(Clone)]
pub struct Found {
    /// The value, in the form its [`Kind`] settles on (durations are numbers of ms).
    pub value: Value,
    /// `file:line`, a variable, an option; empty for a default.
    pub place: String,
}

/// The configuration file: its name for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct File<'f> {
    /// Its name for messages.
    pub name: &'f str,
    /// Its text.
    pub text: &'f str,
}

/// Everything that was said.
#[derive(Default)]
pub struct Raw {
    found: BTreeMap<Path, Found>,
    secrets: BTreeMap<&'static str, Secret>,
    /// What was wrong so far.
    pub faults: Vec<Fault>,
    places: Places,
    file: String,
}

/// Reads variables; the process's own, or a test's.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;
/// Reads files with secrets that variables name; the error says what to do.
pub type Files<'e> = &'e dyn Fn(&str) -> Result<Secret, String>;

impl Raw {
    /// Reads the file, then lets the environment and then the options override it.
    ///
    /// Faults are gathered in [`Raw::faults`]; every value that is found is well-typed.
    #[must_use]
    pub fn read(file: Option<File>, env: Env, files: Files, options: &[(&str, String)]) -> Raw {
        let mut raw = Raw::default();
        if let Some(file) = file {
            raw.read_file(file);
        }
        for key in KEYS.iter().filter(|key| !key.env.is_empty()) {
            match key.kind {
                Kind::Secret => raw.read_secret(key, env, files),
                _ => raw.read_env(key, env),
            }
        }
        for (path, text) in options {
            let key = KEYS.iter().find(|key| key.path == *path).expect("options are keys");
            raw.set_text(key, text, &format!("option for {path}"));
        }
        raw
    }

    /// The value at a path, with defaults. The path must be in the table.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Found> {
        self.at(&parts(path))
    }

    /// The same for a path with names that the operator chose.
    #[must_use]
    pub fn at(&self, path: &[String]) -> Option<Found> {
        let key = keys::of_path(path);
        assert!(key.is_some(), "{path:?} is read but not documented in keys.rs");
        if let Some(found) = self.found.get(path) {
            return Some(found.clone());
        }
        let value = serde_json::from_str(key?.default).ok()?;
        Some(Found { value, place: String::new() })
    }

    /// The secret at a path of the table, when it was said.
    #[must_use]
    pub fn secret(&self, path: &str) -> Option<Secret> {
        self.secrets.get(path).cloned()
    }

    /// All values that were said, by path.
    pub fn said(&self) -> impl Iterator<Item = (&Path, &Found)> {
        self.found.iter()
    }

    /// The names that stand below a section of names, such as `models`.
    #[must_use]
    pub fn names(&self, section: &str) -> Vec<String> {
        self.names_below(&[section.to_owned()])
    }

    /// The same for a section further down.
    #[must_use]
    pub fn names_below(&self, head: &[String]) -> Vec<String> {
        let below = self.found.keys().filter(|path| path.starts_with(head));
        let mut names: Vec<String> =
            below.filter_map(|path| path.get(head.len()).cloned()).collect();
        names.dedup();
        names
    }

    /// The values below `section.name`, put together again as one object.
    #[must_use]
    pub fn object(&self, section: &str, name: &str) -> Value {
        let mut object = Value::Object(serde_json::Map::new());
        for (path, found) in &self.found {
            if let [first, second, rest @ ..] = &path[..]
                && first == section
                && second == name
            {
                let mut place = &mut object;
                for part in rest {
                    place = &mut place[part.as_str()];
                }
                *place = found.value.clone();
            }
        }
        object
    }

    /// Where the value at a path was read; for faults found later.
    #[must_use]
    pub fn place(&self, path: &[String]) -> String {
        let in_file =
            |place: &str| !self.file.is_empty() && place.starts_with(&format!("{}:", self.file));
        match self.found.get(path) {
            Some(found) if !in_file(&found.place) => found.place.clone(),
            _ if self.file.is_empty() => "configuration".to_owned(),
            _ => format!("{}:{}", self.file, self.places.line(path)),
        }
    }

    /// Notes a fault of a path that is known.
    pub fn fault(&mut self, path: &[String], problem: impl Into<String>, hint: Option<String>) {
        let (place, path) = (self.place(path), path.join("."));
        self.faults.push(Fault { place, path, problem: problem.into(), hint });
    }

    fn read_file(&mut self, file: File) {
        file.name.clone_into(&mut self.file);
        let document: Value = match serde_json::from_str(file.text) {
            Ok(document) => document,
            Err(e) => {
                let place = format!("{}:{}", file.name, e.line());
                let problem = format!("not valid JSON: {e}");
                self.faults.push(Fault { place, path: String::new(), problem, hint: None });
                return;
            }
        };
        self.places = place::places(file.text);
        for (path, line) in self.places.twice.clone() {
            let place = format!("{}:{line}", file.name);
            let problem = "stands twice".to_owned();
            self.faults.push(Fault { place, path: path.join("."), problem, hint: None });
        }
        if document.is_object() {
            self.walk(&mut Path::new(), document);
        } else {
            self.fault(&[], "must be an object", None);
        }
    }

    fn walk(&mut self, path: &mut Path, value: Value) {
        if let Some(key) = keys::of_path(path) {
            self.set(key, path, value);
        } else if !KEYS.iter().any(|key| path.is_empty() || key.is_under(path)) {
            self.fault(path, "unknown key", suggestion(path));
        } else if let Value::Object(members) = value {
            let is_named = |key: &Key| {
                let part = path.len().checked_sub(1).and_then(|last| key.path.split('.').nth(last));
                part == Some("*") && key.is_under(path)
            };
            if members.is_empty() && KEYS.iter().any(is_named) {
                self.fault(path, "is empty", None);
            }
            for (name, value) in members {
                path.push(name);
                self.walk(path, value);
                path.pop();
            }
        } else {
            self.fault(path, "must be an object", None);
        }
    }

    fn set(&mut self, key: &Key, path: &[String], value: Value) {
        if key.kind == Kind::Secret {
            let names = format!("set {} or {}_FILE", key.env[0], key.env[0]);
            return self.fault(path, "a secret does not belong into this file", Some(names));
        }
        match settled(key.kind, value) {
            Ok(value) => {
                let place = format!("{}:{}", self.file, self.places.line(path));
                self.keep(key, path.to_vec(), Found { value, place });
            }
            Err(problem) => self.fault(path, problem, None),
        }
    }

    fn read_env(&mut self, key: &Key, env: Env) {
        for name in key.env {
            if let Some(text) = env(name).filter(|text| !text.is_empty()) {
                return self.set_text(key, &text, name);
            }
        }
    }

    /// A secret comes from its variable, or from the file that the variable with `_FILE` names.
    fn read_secret(&mut self, key: &Key, env: Env, files: Files) {
        let said = |name: &str| env(name).filter(|text| !text.is_empty());
        for name in key.env {
            let file_name = format!("{name}_FILE");
            let (place, secret) = match (said(name), said(&file_name)) {
                (None, None) => continue,
                (Some(_), Some(_)) => {
                    let problem = format!("{name} and {file_name} are both set");
                    let hint = Some(format!("remove {name}: fewer can see a file"));
                    let path = key.path.to_owned();
                    return self.faults.push(Fault { place: file_name, path, problem, hint });
                }
                (Some(text), None) => {
                    ((*name).to_owned(), Secret::new(text).map_err(str::to_owned))
                }
                (None, Some(path)) => (file_name, files(&path)),
            };
            match secret {
                Ok(secret) => {
                    let found = Found { value: Value::from(REDACTED), place };
                    self.secrets.insert(key.path, secret);
                    self.keep(key, parts(key.path), found);
                }
                Err(problem) => {
                    let path = key.path.to_owned();
                    self.faults.push(Fault { place, path, problem, hint: None });
                }
            }
            return;
        }
    }

    /// Takes a value that is a text by nature: of a variable or an option.
    fn set_text(&mut self, key: &Key, text: &str, place: &str) {
        let json = || serde_json::from_str(text).unwrap_or(Value::String(text.to_owned()));
        let value = match key.kind {
            Kind::Text | Kind::OneOf(_) => Value::String(text.to_owned()),
            Kind::Flag => match text.to_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Value::Bool(true),
                "false" | "0" | "no" | "off" => Value::Bool(false),
                _ => Value::String(text.to_owned()),
            },
            _ => json(),
        };
        let place = place.to_owned();
        match settled(key.kind, value) {
            Ok(value) => self.keep(key, parts(key.path), Found { value, place }),
            Err(problem) => {
                let path = key.path.to_owned();
                self.faults.push(Fault { place, path, problem, hint: None });
            }
        }
    }

    fn keep(&mut self, key: &Key, path: Path, found: Found) {
        if key.standing == Standing::Refused && turns_on(&found.value) {
            self.faults.push(Fault {
                place: found.place,
                path: path.join("."),
                problem: "is not built yet".to_owned(),
                hint: Some(format!("it means: {}; remove it", key.about)),
            });
            return;
        }
        self.found.insert(path, found);
    }
}

/// Whether a value of a feature's switch turns it on.
fn turns_on(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// The value in its settled form, or what is wrong with it.
fn settled(kind: Kind, value: Value) -> Result<Value, String> {
    let wrong = |value: &Value| {
        let shown = match value {
            Value::Object(_) => "an object".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            other => other.to_string(),
        };
        Err(format!("must be {}, not {shown}", kind.words()))
    };
    let fits = match (kind, &value) {
        (Kind::Text, Value::String(_)) | (Kind::Flag, Value::Bool(_)) => true,
        (Kind::Whole(min, max), Value::Number(number)) => {
            number.as_u64().is_some_and(|n| min <= n && n <= max)
        }
        (Kind::Number, Value::Number(number)) => number.as_f64().is_some_and(|n| 0.0 <= n),
        (Kind::Duration(max), Value::Number(number)) => number.as_u64().is_some_and(|n| n <= max),
        (Kind::Duration(max), Value::String(text)) => {
            return match duration_ms(text) {
                Some(ms) if ms <= max => Ok(Value::Number(Number::from(ms))),
                _ => wrong(&value),
            };
        }
        (Kind::OneOf(texts), Value::String(text)) => texts.contains(&text.as_str()),
        (Kind::Texts, Value::Array(items)) => items.iter().all(Value::is_string),
        (Kind::Any, _) | (Kind::Agent, Value::Object(_)) => true,
        _ => false,
    };
    if fits { Ok(value) } else { wrong(&value) }
}

/// The ms of a text such as `30s`, `250ms`, `5m`, `12h`, `7d`.
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms)
}

/// The parts of a dotted path of the table.
#[must_use]
pub fn parts(path: &str) -> Path {
    path.split('.').map(str::to_owned).collect()
}

/// The key that was meant: a near name at the same place, or the same name elsewhere.
fn suggestion(path: &[String]) -> Option<String> {
    let (name, above) = path.split_last()?;
    let siblings = KEYS.iter().filter(|key| above.is_empty() || key.is_under(above));
    let names = siblings.filter_map(|key| key.path.split('.').nth(above.len()));
    if let Some(near) = nearest(name, names.filter(|part| *part != "*")) {
        let mut meant = above.to_vec();
        meant.push(near.to_owned());
        return Some(format!("did you mean {}?", meant.join(".")));
    }
    let elsewhere = KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(name))?;
    Some(format!("did you mean {}?", elsewhere.path))
}

#[cfg(test)]
#[path = "raw/tests.rs"]
mod tests;
