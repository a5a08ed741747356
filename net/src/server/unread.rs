//! What is left of a request's body once its answer is known: a refusal does not wait for it.
//!
//! A connection can carry the next request only behind the whole body of this one. So what is on
//! its way is thrown away, for a moment and up to a bound; where that is not all of it, the
//! connection closes behind the answer, and the answer says so (RFC 9112, 9.6).

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::time::Duration;

/// Longest time that the rest of a body is waited for, in ms: a client that writes its head and
/// its body apart has sent both by then.
const DISCARD_MS_MAX: u64 = 10;
/// Largest rest that is waited for, in bytes.
const DISCARD_BYTES_MAX: usize = 256 * 1024;

/// Throws away the rest of `body`; whether that was all of it.
pub(super) async fn discard(mut body: Incoming) -> bool {
    if (DISCARD_BYTES_MAX as u64) < body.size_hint().lower() {
        return false;
    }
    let discarding = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let len = frame.data_ref().map_or(0, bytes::Bytes::len);
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    let in_time = Duration::from_millis(DISCARD_MS_MAX);
    tokio::time::timeout(in_time, discarding).await.unwrap_or(false)
}
