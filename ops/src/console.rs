//! The operator's page at `/console/`: files that are part of the binary, open to anybody as they
//! hold no data. What the page shows it asks of the API, with the session or the token of whoever
//! sits before it.
//!
//! A browser keeps the files and asks each time whether they are still those: by a hash of the
//! bytes (RFC 9110, section 8.8.3), so that a new nO is seen at once and an old one costs no bytes.

use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION,
};
use hyper::{Method, StatusCode};
use no_net::body::OutBody;
use no_net::extract::Request;
use no_net::headers::secure_page;
use no_net::problem::{Code, Problem};
use no_net::route::{Access, Outcome, Response, Router, handler};
use std::rc::Rc;

/// Kept, but asked about before each use.
const CACHED: &str = "no-cache";
const PAGE: &str = "index.html";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and bytes of each file.
const FILES: [(&str, &str, &[u8]); 10] = [
    (PAGE, "text/html; charset=utf-8", include_bytes!("console/index.html")),
    ("console.css", "text/css; charset=utf-8", include_bytes!("console/console.css")),
    ("console.js", SCRIPT, include_bytes!("console/console.js")),
    ("api.js", SCRIPT, include_bytes!("console/api.js")),
    ("dom.js", SCRIPT, include_bytes!("console/dom.js")),
    ("charts.js", SCRIPT, include_bytes!("console/charts.js")),
    ("node.js", SCRIPT, include_bytes!("console/node.js")),
    ("tasks.js", SCRIPT, include_bytes!("console/tasks.js")),
    ("detail.js", SCRIPT, include_bytes!("console/detail.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("console/icon.svg")),
];

/// A file as it is sent.
struct File {
    name: &'static str,
    kind: HeaderValue,
    bytes: &'static [u8],
    etag: HeaderValue,
}

fn files() -> Vec<File> {
    let file = |(name, kind, bytes): (&'static str, &'static str, &'static [u8])| {
        let hash = blake3::hash(bytes).to_hex();
        let etag = HeaderValue::from_str(&format!("\"{}\"", &hash[..32]));
        let etag = etag.expect("hexadecimal digits");
        File { name, kind: HeaderValue::from_static(kind), bytes, etag }
    };
    FILES.into_iter().map(file).collect()
}

/// Adds `/console/` and its files; `/console` leads there.
pub fn mount(router: &mut Router) {
    let files = Rc::new(files());
    let shown = Rc::clone(&files);
    let page = handler(move |request: Request| {
        std::future::ready(request.no_query().and_then(|()| serve(&shown, PAGE, &request)))
    });
    router.mount(Method::GET, "/console/", Access::Open, page);
    let named = handler(move |request: Request| {
        let served = request.no_query().and_then(|()| serve(&files, request.param(), &request));
        std::future::ready(served)
    });
    router.mount(Method::GET, "/console/{file}", Access::Open, named);
    let beside = handler(|request: Request| {
        std::future::ready(request.no_query().map(|()| {
            let mut response = Response::new(OutBody::empty());
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/console/"));
            response
        }))
    });
    router.mount(Method::GET, "/console", Access::Open, beside);
}

fn serve(files: &[File], name: &str, request: &Request) -> Outcome {
    let file = files.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| Problem::new(Code::NotFound, "the console is at /console/"))?;
    let is_known = has_it(&request.parts.headers, &file.etag);
    let mut response =
        Response::new(if is_known { OutBody::empty() } else { OutBody::full(file.bytes) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, file.kind.clone());
    headers.insert(ETAG, file.etag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHED));
    secure_page(headers);
    Ok(response)
}

/// Whether the client says that it has these bytes. Weakly, as a proxy that compresses marks them.
fn has_it(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let etag = etag.to_str().unwrap_or_default();
    let named = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, value.parse().expect("a value"));
        has_it(&headers, &HeaderValue::from_static("\"a\""))
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        for has in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(asks(has), "{has}");
        }
        for has_not in ["\"b\"", "a", ""] {
            assert!(!asks(has_not), "{has_not}");
        }
    }

    #[test]
    fn files_need_nothing_from_outside_and_nothing_inline() {
        for (name, kind, bytes) in FILES {
            let text = std::str::from_utf8(bytes).expect("text");
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{name} names another place");
            for inline in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "<style"] {
                assert!(!text.contains(inline), "{name}: {inline}");
            }
            if kind.starts_with("text/html") {
                for inline in [" style=", " onclick=", "<script>", "javascript:"] {
                    assert!(!text.contains(inline), "{name}: {inline}");
                }
            }
        }
    }
}
