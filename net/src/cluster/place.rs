//! Where a request is answered: here, or by the node that has its partition. What moves while it is
//! asked for is asked for again, within a time that a takeover takes.

use super::link::{self, Errand, Unreached, is_moved, is_stream};
use super::{Cluster, Joined, Links, Owner, PLACES, Peer, View, lease, split};
use crate::body::{InBody, OutBody};
use crate::core::Core;
use crate::extract::{BodyKind, Request};
use crate::problem::{Code, Problem};
use crate::route::{Handler, Outcome, Response};
use crate::wire;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use no_auth::Principal;
use no_engine::command::partition_of_key;
use no_engine::id::{PartitionId, TaskId};
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a partition without an owner is waited for: longer than a takeover takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// The longest pause before who has what is looked at again without news of it.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the requests of a route are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// Wherever they come.
    Anywhere,
    /// Where the task of the path is.
    Task,
    /// Likewise, where it is waited for; what is stored anybody reads.
    TaskIfWaited,
    /// Where the key leads, or anywhere without one.
    Submission,
    /// Each of the tasks likewise.
    Batch,
    /// Here first, then elsewhere.
    Lease,
    /// Each of the reports where its task is.
    Reports,
    /// On every node, for each what it has.
    Everywhere,
}

impl Placed {
    /// That of a route.
    pub(crate) fn of(method: &Method, pattern: &str) -> Placed {
        match (method.as_str(), pattern) {
            ("POST", "/v1/tasks") => Placed::Submission,
            ("POST", "/v1/tasks/batch") => Placed::Batch,
            ("GET", "/v1/tasks/{id}") => Placed::TaskIfWaited,
            ("GET", "/v1/tasks/{id}/events") => Placed::Task,
            ("POST", pattern) if pattern.starts_with("/v1/tasks/{id}/") => Placed::Task,
            ("POST", "/v1/worker/lease") => Placed::Lease,
            ("POST", pattern) if pattern.starts_with("/v1/worker/") => Placed::Reports,
            ("POST", "/v1/dead-letters/redrive") => Placed::Everywhere,
            _ => Placed::Anywhere,
        }
    }
}

/// The mark of a request that is answered here and nowhere else: it was sent on by a node, or is
/// this node's part of one. `places` are those that its items had in the batch that was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inner {
    pub(crate) places: Option<Arc<[usize]>>,
}

impl Inner {
    /// That of a request which another node has sent on.
    pub(crate) fn of(parts: &Parts) -> Inner {
        let text = parts.headers.get(PLACES).and_then(|value| value.to_str().ok());
        let places = text.map(|text| text.split(',').filter_map(|place| place.parse().ok()));
        Inner { places: places.map(Iterator::collect) }
    }
}

/// A request that may be asked more than once.
pub(super) struct Kept {
    pub(super) core: Rc<Core>,
    pub(super) cluster: Arc<Cluster>,
    links: Rc<Links>,
    pub(super) parts: Parts,
    params: Vec<String>,
    pub(super) principal: Principal,
    pub(super) body: Bytes,
    peer: IpAddr,
    handler: Handler,
}

/// Answers a request where it has to be.
pub(crate) async fn answer(
    placed: Placed,
    joined: &Joined,
    mut request: Request,
    handler: &Handler,
) -> Outcome {
    let is_waited = || request.parts.uri.query().is_some_and(|query| query.contains("wait_ms="));
    // Without a key it belongs wherever it comes, and the handler finds it another place here.
    let stays = || {
        let has_key = request.parts.headers.contains_key("idempotency-key");
        !has_key && joined.any_here(&mut request.core.rng.borrow_mut()).is_some()
    };
    if placed == Placed::Anywhere
        || (placed == Placed::TaskIfWaited && !is_waited())
        || (placed == Placed::Submission && stays())
    {
        return handler(request).await;
    }
    let body = request.whole_body().await?;
    let Request { core, parts, params, principal, peer, .. } = request;
    let kept = Rc::new(Kept {
        core,
        cluster: Arc::clone(&joined.cluster),
        links: Rc::clone(&joined.links),
        parts,
        params,
        principal: principal.unwrap_or_else(Principal::unchecked),
        body,
        peer,
        handler: Rc::clone(handler),
    });
    match placed {
        Placed::Anywhere | Placed::Task | Placed::TaskIfWaited => match kept.task() {
            Some(task) => by_partition(&kept, Some(task.partition())).await,
            // It says what is wrong with the id.
            None => kept.here(kept.body.clone(), Inner::default()).await,
        },
        Placed::Submission => by_partition(&kept, kept.keyed()).await,
        Placed::Batch => split::batch(&kept).await,
        Placed::Reports => split::reports(&kept).await,
        Placed::Lease => lease::lease(&kept).await,
        Placed::Everywhere => everywhere(&kept).await,
    }
}

/// Asks whoever has the partition, or anybody who has one.
async fn by_partition(kept: &Rc<Kept>, partition: Option<PartitionId>) -> Outcome {
    ask(kept, partition, kept.is_repeatable()).await
}

/// Likewise what does no more when it is asked twice.
pub(super) async fn by_partition_surely(kept: &Rc<Kept>, partition: PartitionId) -> Outcome {
    ask(kept, Some(partition), true).await
}

async fn ask(kept: &Rc<Kept>, partition: Option<PartitionId>, is_repeatable: bool) -> Outcome {
    let begun = Instant::now();
    loop {
        let view = kept.cluster.view();
        let again = match kept.target(partition) {
            Owner::Here => match kept.here(kept.body.clone(), Inner::default()).await {
                Err(problem) if problem.code == Code::PartitionUnowned => problem,
                outcome => return outcome,
            },
            Owner::There(peer) => match kept.there(&peer, begun).await {
                Ok(Some(response)) => return Ok(response),
                Ok(None) => unowned(),
                Err(Unreached::MaybeDone) if !is_repeatable => {
                    return Err(Unreached::MaybeDone.into());
                }
                Err(unreached) => unreached.into(),
            },
            Owner::Nobody => unowned(),
        };
        if PATIENCE <= begun.elapsed() || kept.core.is_stopping() {
            return Err(again);
        }
        kept.cluster.changed(&view, PAUSE).await;
    }
}

/// What is said when nobody has a partition for too long.
pub(super) fn unowned() -> Problem {
    Problem::new(Code::PartitionUnowned, "no node has this partition now; it is being taken over")
}

impl Kept {
    fn task(&self) -> Option<TaskId> {
        self.params.first()?.parse().ok()
    }

    /// The partition that a submission's key leads to.
    fn keyed(&self) -> Option<PartitionId> {
        let name = self.key_name().ok()??;
        let key = wire::key(&self.principal.tenant, &name, None, &self.body);
        Some(partition_of_key(key.hash, self.core.shards.partitions()))
    }

    /// Who has the partition; without one, anybody who has some.
    pub(super) fn target(&self, partition: Option<PartitionId>) -> Owner {
        let partitions = self.core.shards.partitions();
        match partition {
            // It is for the handler to say that there is no such task.
            Some(partition) if partitions <= partition.0 => Owner::Here,
            Some(partition) => self.cluster.owner(partition),
            None => self.anybody(),
        }
    }

    fn anybody(&self) -> Owner {
        let mut rng = self.core.rng.borrow_mut();
        if self.cluster.any_here(&mut rng).is_some() {
            return Owner::Here;
        }
        let view: Arc<View> = self.cluster.view();
        let len = view.owners.len();
        let first = rng.index(len);
        let owners = (0..len).map(|more| &view.owners[(first + more) % len]);
        let mut there = owners.filter(|owner| matches!(owner, Owner::There(_)));
        there.next().cloned().unwrap_or(Owner::Nobody)
    }

    /// The client's name for the submission.
    pub(super) fn key_name(&self) -> Result<Option<String>, Problem> {
        let request = self.request(Bytes::new(), Inner::default());
        request.idempotency_key().map(|name| name.map(str::to_owned))
    }

    /// What the body is.
    pub(super) fn kind(&self) -> Result<BodyKind, Problem> {
        self.request(Bytes::new(), Inner::default()).body_kind()
    }

    /// Whether asking twice does no more than asking once: it only reads, or has a key.
    fn is_repeatable(&self) -> bool {
        self.parts.method.is_safe() || self.parts.headers.contains_key("idempotency-key")
    }

    /// The request, or a part of it with another body, for the handler here.
    fn request(&self, body: Bytes, inner: Inner) -> Request {
        let mut parts = self.parts.clone();
        parts.extensions.insert(inner);
        Request {
            core: Rc::clone(&self.core),
            parts,
            params: self.params.clone(),
            principal: Some(self.principal.clone()),
            body: InBody::Given((!body.is_empty()).then_some(body)),
            peer: self.peer,
        }
    }

    /// Has the handler here answer.
    pub(super) async fn here(&self, body: Bytes, inner: Inner) -> Outcome {
        (self.handler)(self.request(body, inner)).await
    }

    /// The whole answer of the handler here.
    pub(super) async fn here_whole(&self, body: Bytes, inner: Inner) -> Result<Bytes, Problem> {
        let response = self.here(body, inner).await?;
        let body = response.into_body().collect().await;
        Ok(body.map(http_body_util::Collected::to_bytes).unwrap_or_default())
    }

    /// The answer of another node; `None` when it has not what is asked for.
    async fn there(&self, peer: &Peer, begun: Instant) -> Result<Option<Response>, Unreached> {
        let path = self.path(begun.elapsed());
        let asking = async {
            let answer = self.send(peer, &path, self.body.clone(), None).await?;
            if is_stream(answer.headers()) {
                return Ok(Some(link::handed_on(answer)));
            }
            let (status, headers, body) = link::whole(answer).await?;
            let is_here = !is_moved(status, &body);
            Ok(is_here.then(|| link::with_head(status, &headers, OutBody::full(body))))
        };
        let came = self.cluster.unless_gone(peer, asking).await;
        self.cluster.count_sent(came.as_ref().map(Option::is_some));
        came
    }

    /// The whole answer of another node to the request, or to a part of it.
    pub(super) async fn whole_there(
        &self,
        peer: &Peer,
        body: Bytes,
        more: Option<(&'static str, String)>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Unreached> {
        let path = self.path(Duration::ZERO);
        let asking = async { link::whole(self.send(peer, &path, body, more).await?).await };
        let came = self.cluster.unless_gone(peer, asking).await;
        let is_here = came.as_ref().map(|(status, _, body)| !is_moved(*status, body));
        self.cluster.count_sent(is_here);
        came
    }

    /// Sends the request, or a part of it, to another node.
    async fn send(
        &self,
        peer: &Peer,
        path: &str,
        body: Bytes,
        more: Option<(&'static str, String)>,
    ) -> Result<hyper::Response<hyper::body::Incoming>, Unreached> {
        let errand = Errand {
            method: self.parts.method.clone(),
            path,
            headers: &self.parts.headers,
            more,
            principal: &self.principal,
            body,
        };
        self.links.send(&self.cluster, peer, errand).await
    }

    /// The path with its query, of whose `wait_ms` so much has passed.
    fn path(&self, passed: Duration) -> Cow<'_, str> {
        let path = self.parts.uri.path_and_query().map_or("/", |path| path.as_str());
        less_wait(path, u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A path with its query, whose `wait_ms` is less by so much.
fn less_wait(path: &str, passed_ms: u64) -> Cow<'_, str> {
    let Some(at) = path.find("wait_ms=").filter(|_| 0 < passed_ms) else { return path.into() };
    let (before, rest) = path.split_at(at + "wait_ms=".len());
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(wait_ms) = rest[..digits].parse::<u64>() else { return path.into() };
    format!("{before}{}{}", wait_ms.saturating_sub(passed_ms), &rest[digits..]).into()
}

/// Has every node do it to what it has, and adds up what came of it.
async fn everywhere(kept: &Rc<Kept>) -> Outcome {
    #[derive(serde::Deserialize)]
    struct Redriven {
        redriven: u64,
    }
    let mine = kept.here_whole(kept.body.clone(), Inner::default()).await?;
    let mut redriven = wire::parse::<Redriven>(&mine)?.redriven;
    for peer in &kept.cluster.view().peers {
        let (status, headers, body) = kept.whole_there(peer, kept.body.clone(), None).await?;
        if !status.is_success() {
            return Ok(link::with_head(status, &headers, OutBody::full(body)));
        }
        redriven += wire::parse::<Redriven>(&body)?.redriven;
    }
    let body = format!("{{\"redriven\":{redriven}}}").into_bytes();
    Ok(crate::render::json(StatusCode::OK, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_shortened_by_what_has_passed() {
        for (path, passed_ms, expected) in [
            ("/v1/tasks/x?wait_ms=500", 0, "/v1/tasks/x?wait_ms=500"),
            ("/v1/tasks/x?wait_ms=500", 200, "/v1/tasks/x?wait_ms=300"),
            ("/v1/tasks/x?a=1&wait_ms=500&b=2", 900, "/v1/tasks/x?a=1&wait_ms=0&b=2"),
            ("/v1/tasks/x?wait_ms=x", 900, "/v1/tasks/x?wait_ms=x"),
            ("/v1/tasks/x", 900, "/v1/tasks/x"),
        ] {
            assert_eq!(less_wait(path, passed_ms), expected);
        }
    }

    #[test]
    fn each_route_has_its_place() {
        for (method, pattern, placed) in [
            ("GET", "/v1/tasks", Placed::Anywhere),
            ("GET", "/v1/tasks/{id}", Placed::TaskIfWaited),
            ("GET", "/v1/tasks/{id}/steps", Placed::Anywhere),
            ("GET", "/v1/tasks/{id}/events", Placed::Task),
            ("POST", "/v1/tasks/{id}/cancel", Placed::Task),
            ("POST", "/v1/tasks/{id}/feedback", Placed::Task),
            ("POST", "/v1/worker/lease", Placed::Lease),
            ("POST", "/v1/worker/complete", Placed::Reports),
            ("PUT", "/v1/agents/{name}", Placed::Anywhere),
            ("GET", "/metrics", Placed::Anywhere),
        ] {
            let method = method.parse().expect("a method");
            assert_eq!(Placed::of(&method, pattern), placed, "{method} {pattern}");
        }
    }
}
