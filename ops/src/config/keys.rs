//! Every key of the configuration, once: its path, what it takes, its default, its variable, its
//! meaning. `raw` refuses what does not stand here, `checked` can read nothing else, and
//! `no config keys` prints it; so a key without documentation cannot exist.
//!
//! A `*` in a path stands for a name that the operator chooses. The keys are in `table` and `work`,
//! what they are made of is here.

mod otlp;
mod table;
mod work;

/// All keys, by section.
pub const KEYS: &[Key] = &joined::<{ table::KEYS.len() + work::KEYS.len() }>();

const fn joined<const N: usize>() -> [Key; N] {
    let (first, second) = (table::KEYS, work::KEYS);
    let mut all = [first[0]; N];
    let mut at = 1;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A text.
    Text,
    /// A text that is never shown, and never read from the configuration file itself.
    Secret,
    /// true or false.
    Flag,
    /// A whole number in this range.
    Whole(u64, u64),
    /// A number, zero or more.
    Number,
    /// Milliseconds as a number, or a text such as "30s", "5m", "12h", "7d"; at most this many ms.
    Duration(u64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// Any JSON.
    Any,
    /// An agent's definition as `PUT /v1/agents/{name}` takes it.
    Agent,
}

/// What the key does in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Works,
    /// It belongs to a feature that is not built yet; accepted, as by itself it turns nothing on.
    Waits,
    /// It would turn on a feature that is not built yet; refused when it does.
    Refused,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands in the file, with dots.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default as JSON; empty when there is none.
    pub default: &'static str,
    /// Variables that set it, the first that is set wins; empty texts count as unset.
    pub env: &'static [&'static str],
    /// What it does in this version.
    pub standing: Standing,
    /// What it means.
    pub about: &'static str,
}

/// Days in ms.
const DAY_MS: u64 = 86_400_000;

const fn works(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    env: &'static [&'static str],
    about: &'static str,
) -> Key {
    Key { path, kind, default, env, standing: Standing::Works, about }
}

const fn waits(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    env: &'static [&'static str],
    about: &'static str,
) -> Key {
    Key { path, kind, default, env, standing: Standing::Waits, about }
}

const fn refused(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    env: &'static [&'static str],
    about: &'static str,
) -> Key {
    Key { path, kind, default, env, standing: Standing::Refused, about }
}

use Kind::{Agent, Any, Duration, Flag, Number, OneOf, Secret, Text, Texts, Whole};

impl Kind {
    /// What it takes, in words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Text => "text".to_owned(),
            Secret => "secret text".to_owned(),
            Flag => "true or false".to_owned(),
            Whole(min, max) => format!("whole number from {min} to {max}"),
            Number => "number, 0 or more".to_owned(),
            Duration(_) => "ms, or text such as \"30s\"".to_owned(),
            OneOf(texts) => texts.join(" or "),
            Texts => "list of texts".to_owned(),
            Any => "any JSON".to_owned(),
            Agent => "agent definition".to_owned(),
        }
    }
}

impl Key {
    /// Whether the path, part by part, is this key's.
    #[must_use]
    pub fn is_at(&self, path: &[String]) -> bool {
        let mut parts = self.path.split('.');
        path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == name))
            && parts.next().is_none()
    }

    /// Whether the path leads towards this key.
    #[must_use]
    pub fn is_under(&self, path: &[String]) -> bool {
        let mut parts = self.path.split('.');
        path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == name))
            && parts.next().is_some()
    }
}

/// The key at a path.
#[must_use]
pub fn of_path(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.is_at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_key_and_variable_stands_once_with_a_meaning() {
        let mut seen = BTreeSet::new();
        for key in KEYS {
            assert!(seen.insert(key.path), "{} twice", key.path);
            assert!(!key.about.is_empty(), "{} has no meaning", key.path);
            for env in key.env {
                assert!(seen.insert(env), "{env} twice");
            }
            assert!(
                key.default.is_empty()
                    || serde_json::from_str::<serde_json::Value>(key.default).is_ok()
            );
        }
    }

    #[test]
    fn paths_are_matched_with_names() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert!(of_path(&path("service.port")).is_some());
        assert!(of_path(&path("models.m.provider")).is_some());
        assert!(of_path(&path("models.m")).is_none());
        assert!(of_path(&path("service.port.x")).is_none());
        assert!(KEYS.iter().any(|key| key.is_under(&path("models.m"))));
        assert!(!KEYS.iter().any(|key| key.is_under(&path("service.port"))));
    }
}
