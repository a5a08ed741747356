//! Headers that tell browsers what to refuse.

use hyper::HeaderMap;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// For a year, only over TLS (RFC 6797).
pub const STRICT_TRANSPORT: &str = "max-age=31536000";
/// What a page of ours may load: its own files and nothing else, in no frame (CSP level 3).
pub const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// Marks an answer that went over TLS: browsers come back over TLS only.
pub fn secure_transport(headers: &mut HeaderMap) {
    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT_TRANSPORT));
}

/// Marks a page: what it may load, that it stands in no frame, that its type is what it says, and
/// that other sites do not learn where its reader was.
pub fn secure_page(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Marks an answer that holds a token, or was made for one reader: no cache keeps it.
pub fn never_stored(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_them_all() {
        let mut headers = HeaderMap::new();
        secure_page(&mut headers);
        never_stored(&mut headers);
        secure_transport(&mut headers);
        assert_eq!(headers.len(), 6);
        assert!(!PAGE_POLICY.contains("  "), "one line");
        assert!(headers["content-security-policy"].to_str().is_ok_and(|p| !p.contains("unsafe")));
    }
}
