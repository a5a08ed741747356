//! The pass that a node gives a request which it sends on: for whom it asks, under a code that only
//! nodes of the cluster can make.
//!
//! The code (BLAKE3 with a key) is over the sender, the receiver, the time, the principal, the
//! method and the path with its query: a pass opens one thing, on one node, for a short while. The
//! body is not under it, nor is a replay within that while noticed: the nodes' network is private,
//! or they speak TLS.

use crate::time;
use hyper::http::request::Parts;
use no_auth::{Permission, PermissionSet, Principal};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The header with the pass.
pub(crate) const PASS: &str = "no-pass";
/// The header that says which places of a batch the items of its part had.
pub(crate) const PLACES: &str = "no-places";

/// How old a pass may be, in ms: nodes' clocks differ by up to 10 s where each differs from the
/// database's by up to 5.
const AGE_MS_MAX: u64 = 30_000;
/// Characters of the code.
const CODE_LEN: usize = 64;

/// The key that all nodes of a cluster have, and nobody else.
#[derive(Clone)]
pub struct NodeKey([u8; 32]);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey([redacted])")
    }
}

impl NodeKey {
    /// The key written in hex; `None` when it is not 32 bytes.
    #[must_use]
    pub fn of_hex(text: &str) -> Option<NodeKey> {
        let hash = blake3::Hash::from_hex(text).ok()?;
        Some(NodeKey(*hash.as_bytes()))
    }

    fn code(&self, method: &str, path: &str, claims: &str) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in [method, path, claims] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize()
    }

    /// The header's value, for a request of `principal` that `from` sends on to `to`.
    pub(crate) fn pass(
        &self,
        (from, to): (&str, &str),
        (method, path): (&str, &str),
        principal: &Principal,
    ) -> String {
        let claims = Claims {
            from: from.into(),
            to: to.into(),
            at: time::wall().0,
            subject: (&*principal.subject).into(),
            tenant: (&*principal.tenant).into(),
            permissions: principal.permissions.iter().map(|each| each.name().into()).collect(),
        };
        // A map of texts is always JSON; `ascii` as it goes into a header.
        let claims = ascii(&serde_json::to_string(&claims).unwrap_or_default());
        format!("{}{claims}", self.code(method, path, &claims).to_hex())
    }

    /// For whom a request asks that another node has sent on to `me`; `None` without a pass.
    ///
    /// # Errors
    /// Why its pass is none.
    pub(crate) fn check(
        &self,
        me: &str,
        parts: &Parts,
        now_ms: u64,
    ) -> Option<Result<Principal, &'static str>> {
        let value = parts.headers.get(PASS)?;
        Some(self.checked(me, parts, value.to_str().unwrap_or_default(), now_ms))
    }

    fn checked(
        &self,
        me: &str,
        parts: &Parts,
        value: &str,
        now_ms: u64,
    ) -> Result<Principal, &'static str> {
        let (code, claims) = value.split_at_checked(CODE_LEN).ok_or("it is too short")?;
        let code = blake3::Hash::from_hex(code).map_err(|_| "its code is not hex")?;
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        // Compared in constant time.
        if code != self.code(parts.method.as_str(), path, claims) {
            return Err("its code is not of this cluster's key, or of another request");
        }
        let claims: Claims<'_> = serde_json::from_str(claims).map_err(|_| "it is not JSON")?;
        if claims.to != me {
            return Err("it is for another node");
        }
        if AGE_MS_MAX < now_ms.abs_diff(claims.at) {
            return Err("it is too old, or the nodes' clocks differ");
        }
        // A right that this build does not know is none.
        let permissions: PermissionSet =
            claims.permissions.iter().filter_map(|name| Permission::of_name(name)).collect();
        let (subject, tenant) = (claims.subject.as_ref().into(), claims.tenant.as_ref().into());
        Ok(Principal { subject, tenant, permissions })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    /// In ms since 1970.
    at: u64,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    permissions: Vec<String>,
}

/// The same JSON with every character beyond ASCII escaped.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: &str) -> NodeKey {
        NodeKey::of_hex(&byte.repeat(32)).expect("a key")
    }

    fn parts(method: &str, path: &str, pass: &str) -> Parts {
        let request = hyper::Request::builder().method(method).uri(path).header(PASS, pass);
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_pass_opens_one_thing_on_one_node_for_a_short_while() {
        let principal = Principal {
            subject: "Zoë \"quoted\" 🦀".into(),
            tenant: "acme".into(),
            permissions: [Permission::TasksRead, Permission::TasksControl].into_iter().collect(),
        };
        let path = "/v1/tasks/x/cancel?a=1";
        let pass = key("01").pass(("a", "b"), ("POST", path), &principal);
        let now_ms = time::wall().0;
        let check = |key: &NodeKey, me: &str, method: &str, path: &str, now_ms: u64| {
            key.check(me, &parts(method, path, &pass), now_ms).expect("it has a pass")
        };
        assert_eq!(check(&key("01"), "b", "POST", path, now_ms), Ok(principal));
        assert!(check(&key("02"), "b", "POST", path, now_ms).is_err(), "another cluster");
        assert!(check(&key("01"), "c", "POST", path, now_ms).is_err(), "another node");
        assert!(check(&key("01"), "b", "GET", path, now_ms).is_err(), "another method");
        assert!(check(&key("01"), "b", "POST", "/v1/tasks/y/cancel", now_ms).is_err());
        assert!(check(&key("01"), "b", "POST", path, now_ms + 31_000).is_err(), "too old");
        for bad in ["", "00", &"0".repeat(64), &format!("{}{{}}", "0".repeat(64))] {
            let checked = key("01").check("b", &parts("POST", path, bad), now_ms);
            assert!(checked.expect("it has a pass").is_err(), "{bad}");
        }
        let bare = hyper::Request::new(()).into_parts().0;
        assert!(key("01").check("b", &bare, now_ms).is_none());
        assert!(!format!("{:?}", key("01")).contains('1'));
    }
}
