//! URL templates of tools: `{name}` is replaced by that argument, percent-encoded.
//!
//! A model writes the arguments, so a value must stay where it was put: it cannot end a path
//! segment, climb out of it with dots, vanish, or begin a query. Values are kept as the JSON texts
//! they came as, so that long numbers keep their digits.

use super::answer::compact;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A tool call's arguments: JSON texts by name.
pub(super) type Arguments = BTreeMap<String, Box<RawValue>>;

/// What a template came to.
#[derive(Debug)]
pub(super) struct Filled {
    /// The URL, not yet checked by the guard.
    pub(super) url: String,
    /// The arguments that the template did not use.
    pub(super) rest: Arguments,
}

/// Fills `template`; the error is a sentence for the model.
pub(super) fn fill(template: &str, mut arguments: Arguments) -> Result<Filled, String> {
    let mut url = String::with_capacity(template.len() + 32);
    let mut used = Vec::new();
    let mut left = template;
    while let Some((before, after)) = left.split_once('{') {
        let Some((name, rest)) = after.split_once('}') else { break };
        url.push_str(before);
        let value = arguments.get(name).and_then(|value| text_of(value));
        let value = value.ok_or_else(|| format!("argument {name} is missing"))?;
        if value.is_empty() && !url.contains(['?', '#']) {
            return Err(format!("argument {name} must not be empty"));
        }
        encode(&value, &mut url);
        used.push(name);
        left = rest;
    }
    url.push_str(left);
    if !used.is_empty() && climbs(&url) {
        return Err("an argument must not be a path of dots".into());
    }
    for name in used {
        arguments.remove(name);
    }
    Ok(Filled { url, rest: arguments })
}

/// Whether scheme, host and port stand in the template itself: a model fills none of them.
pub(super) fn names_origin(template: &str) -> bool {
    let authority = template.find("://").map_or(0, |at| at + 3);
    let end = template[authority..].find(['/', '?', '#']).map_or(template.len(), |n| authority + n);
    !template[..end].contains('{')
}

/// Adds arguments to the query: lists as repeated keys, objects as JSON texts, nulls not at all.
pub(super) fn add_query(url: &mut url::Url, arguments: &Arguments) {
    let had_query = url.query().is_some();
    let mut query = url.query_pairs_mut();
    for (name, value) in arguments {
        match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(values) => {
                for text in values.into_iter().filter_map(text_of) {
                    query.append_pair(name, &text);
                }
            }
            Err(_) => {
                if let Some(text) = text_of(value) {
                    query.append_pair(name, &text);
                }
            }
        }
    }
    drop(query);
    if !had_query && url.query() == Some("") {
        url.set_query(None);
    }
}

/// A value as it stands in a URL: a string's content, any other JSON text; `None` for null.
fn text_of(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        text => serde_json::from_str::<String>(text)
            .ok()
            .or_else(|| String::from_utf8(compact(text.as_bytes())).ok()),
    }
}

/// Encodes all but RFC 3986's unreserved characters.
fn encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Whether a path segment is `.` or `..`, which a URL parser takes as a step and not as a name.
fn climbs(url: &str) -> bool {
    let path = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(json: &str) -> Arguments {
        serde_json::from_str(json).expect("an object")
    }

    fn check(template: &str, json: &str, expected: Result<(&str, &str), &str>) {
        let got = fill(template, arguments(json));
        let got = got.map(|f| (f.url, serde_json::to_string(&f.rest).expect("serialises")));
        let got = got.as_ref().map(|(url, rest)| (url.as_str(), rest.as_str()));
        assert_eq!(got.map_err(String::as_str), expected, "{template}");
    }

    #[test]
    fn arguments_go_where_the_template_says_and_stay_there() {
        let dots = Err("an argument must not be a path of dots");
        check("http://h/a", r#"{"x":1}"#, Ok(("http://h/a", r#"{"x":1}"#)));
        check("http://h/{x}/b", r#"{"x":1,"y":2}"#, Ok(("http://h/1/b", r#"{"y":2}"#)));
        let odd = "http://h/%C3%A9%20%2F%3F%23%26-%C3%A9%20%2F%3F%23%26";
        check("http://h/{x}-{x}", r#"{"x":"é /?#&"}"#, Ok((odd, "{}")));
        check("http://h/?q={q}", r#"{"q":""}"#, Ok(("http://h/?q=", "{}")));
        check("http://h/?q={q}", r#"{"q":[1, true]}"#, Ok(("http://h/?q=%5B1%2Ctrue%5D", "{}")));
        let long = "123456789012345678901234567890";
        check(
            "http://h/{x}",
            &format!(r#"{{"x":{long}}}"#),
            Ok((&format!("http://h/{long}"), "{}")),
        );
        check("http://h/{x}", "{}", Err("argument x is missing"));
        check("http://h/{x}", r#"{"x":null}"#, Err("argument x is missing"));
        check("http://h/{x}", r#"{"x":""}"#, Err("argument x must not be empty"));
        check("http://h/{x}", r#"{"x":".."}"#, dots);
        check("http://h/.{x}", r#"{"x":"."}"#, dots);
        check("http://h/{x}", r#"{"x":"%2e%2e"}"#, Ok(("http://h/%252e%252e", "{}")));
        check("http://h/{x", r#"{"x":1}"#, Ok(("http://h/{x", r#"{"x":1}"#)));
    }

    #[test]
    fn an_origin_that_a_model_fills_is_seen() {
        for template in ["http://h:81/{x}", "http://h", "https://h?q={x}", "http://h:81/a:{x}"] {
            assert!(names_origin(template), "{template}");
        }
        for template in ["http://{h}/", "http://h:{p}/", "{x}://h/", "http://h.{d}:81", "{u}"] {
            assert!(!names_origin(template), "{template}");
        }
    }

    #[test]
    fn the_rest_becomes_a_query() {
        let mixed = r#"{"a":"x&y","b":[1,"z"],"c":{"k": 1},"d":null}"#;
        let mut url = url::Url::parse("http://h/p?q=1").expect("a url");
        add_query(&mut url, &arguments(mixed));
        assert_eq!(url.as_str(), "http://h/p?q=1&a=x%26y&b=1&b=z&c=%7B%22k%22%3A1%7D");
        for json in ["{}", r#"{"d":null}"#] {
            let mut url = url::Url::parse("http://h/p").expect("a url");
            add_query(&mut url, &arguments(json));
            assert_eq!(url.as_str(), "http://h/p");
        }
    }
}
