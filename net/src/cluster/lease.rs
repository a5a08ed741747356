//! A worker's poll on a cluster: tasks of this node first, then of the others in turn, then a wait
//! here for a while, and so on until there are some or the time is over. A worker of an idle node
//! gets a busy node's tasks within a second.

use super::place::{Inner, Kept};
use crate::render::json;
use crate::route::Outcome;
use bytes::Bytes;
use hyper::StatusCode;
use no_engine::limits::WAIT_MS_MAX;
use serde_json::{Map, Value};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The first and the longest wait here before the others are asked again, in ms.
const WAITS_MS: (u64, u64) = (50, 1_000);

/// An answer without leases.
const NONE: &[u8] = br#"{"leases":[]}"#;

/// `POST /v1/worker/lease`.
pub(super) async fn lease(kept: &Rc<Kept>) -> Outcome {
    let parsed = serde_json::from_slice::<Map<String, Value>>(&kept.body).ok();
    let wait_ms = |asked: &Map<String, Value>| match asked.get("wait_ms") {
        None => Some(0),
        Some(wait) => wait.as_u64().filter(|wait| *wait <= WAIT_MS_MAX),
    };
    let Some((asked, wait_ms)) = parsed.and_then(|asked| wait_ms(&asked).map(|ms| (asked, ms)))
    else {
        // The handler says what is wrong with it.
        return kept.here(kept.body.clone(), Inner::default()).await;
    };
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    let (mut here_ms, mut next_ms) = (0, WAITS_MS.0);
    loop {
        let mine = kept.here_whole(waiting(&asked, here_ms), Inner::default()).await?;
        if mine != NONE {
            return Ok(json(StatusCode::OK, mine.to_vec()));
        }
        if let Some(theirs) = elsewhere(kept, waiting(&asked, 0)).await {
            return Ok(json(StatusCode::OK, theirs.to_vec()));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if left_ms == 0 {
            return Ok(json(StatusCode::OK, NONE.to_vec()));
        }
        here_ms = next_ms.min(left_ms);
        next_ms = (next_ms * 2).min(WAITS_MS.1);
    }
}

/// The poll with another wait.
fn waiting(asked: &Map<String, Value>, wait_ms: u64) -> Bytes {
    let mut asked = asked.clone();
    asked.insert("wait_ms".into(), wait_ms.into());
    Value::Object(asked).to_string().into()
}

/// The first leases that another node has; nobody is waited for who is not there.
async fn elsewhere(kept: &Kept, body: Bytes) -> Option<Bytes> {
    let view = kept.cluster.view();
    let peers = view.peers.len();
    let first = if 0 < peers { kept.core.rng.borrow_mut().index(peers) } else { 0 };
    for more in 0..peers {
        let peer = &view.peers[(first + more) % peers];
        let answer = kept.whole_there(peer, body.clone(), None).await;
        let Ok((StatusCode::OK, _, body)) = answer else { continue };
        if body != NONE {
            return Some(body);
        }
    }
    None
}
