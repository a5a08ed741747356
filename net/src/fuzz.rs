//! The API in process for the fuzzer of `ops/fuzz`: a request in, its answer out. Behind it stand
//! the real routes and a shard and store of a few lines, all on the caller's thread, with a clock
//! that goes on only while nothing happens. Only with the feature `fuzz`; nothing that is given
//! away has it.

use crate::body::InBody;
use crate::testing::World;
use http_body_util::BodyExt as _;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// The longest that an answer is waited for, in virtual time.
const PATIENCE: Duration = Duration::from_millis(200);
/// Places in a shard's ring.
const RING_LEN: usize = 64;

/// A whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The media type; empty without one.
    pub content_type: String,
    /// The body.
    pub text: String,
}

/// A node that remembers nothing of any other. Its agents are the built-in ones and `work`, whose
/// tasks wait for a worker.
pub struct Node {
    runtime: Runtime,
    world: World,
}

impl Default for Node {
    fn default() -> Node {
        Node::new()
    }
}

impl Node {
    /// A new one.
    #[must_use]
    pub fn new() -> Node {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime needs nothing from outside");
        let world = runtime.block_on(async { World::of(2, RING_LEN) });
        Node { runtime, world }
    }

    /// What the node answers an admin of tenant `t`; `None` when that takes longer than a moment,
    /// or the path is no path.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Option<Answer> {
        let mut request = hyper::Request::builder().method(method).uri(path);
        request = request.header(AUTHORIZATION, "Bearer t:admin");
        if !kind.is_empty() {
            request = request.header(CONTENT_TYPE, kind);
        }
        let bytes = (!body.is_empty()).then(|| body.to_owned().into());
        let (parts, body) = request.body(InBody::Given(bytes)).ok()?.into_parts();
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let asked = async {
            let response = self.world.router.serve(parts, body, from).await;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.ok()?.to_bytes();
            let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            Some(Answer {
                status: parts.status.as_u16(),
                content_type: kind.unwrap_or_default().to_owned(),
                text: String::from_utf8(bytes.to_vec()).expect("what is rendered is text"),
            })
        };
        let whole = async { tokio::time::timeout(PATIENCE, asked).await };
        self.runtime.block_on(self.world.run(whole)).ok()?
    }

    /// The id of a new task of `work`.
    #[must_use]
    pub fn task(&self) -> String {
        let made = self.ask("POST", "/v1/tasks", "application/json", r#"{"agent":"work"}"#);
        member(&made.expect("at once").text, "id")
    }

    /// A lease of such a task.
    #[must_use]
    pub fn lease(&self) -> String {
        let body = r#"{"agents":["work"]}"#;
        let leased = self.ask("POST", "/v1/worker/lease", "application/json", body);
        member(&leased.expect("at once").text, "lease")
    }
}

/// The first text of that name in a JSON text.
fn member(text: &str, name: &str) -> String {
    let found =
        text.split(&format!("\"{name}\":\"")).nth(1).and_then(|rest| rest.split('"').next());
    found.unwrap_or_else(|| panic!("no {name}: {text}")).to_owned()
}
