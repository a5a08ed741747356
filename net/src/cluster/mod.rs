//! Several nodes that share a store: whose a partition is, and the way to the node that has it.
//!
//! [`Cluster`] is what a node knows of the others; ops keeps it up to date from the store, net
//! cores read it. `pass` is how one node proves to another for whom it asks, `link` carries a
//! request there, `place` decides for each route where it is answered; `split` cuts what is for
//! several nodes and joins the answers, `lease` looks for a worker's tasks on all of them.
//!
//! Nothing here is relied on for what is right: a node that is asked about a partition which it
//! does not have refuses, and one that has lost it cannot commit. This only finds the way.

mod lease;
mod link;
mod pass;
pub(crate) mod place;
mod split;

pub use link::Links;
pub use pass::NodeKey;
pub(crate) use pass::{PASS, PLACES};

use crate::body::OutBody;
use crate::core::Core;
use crate::extract::Request;
use crate::problem::{Code, Problem};
use crate::route::{Access, Outcome, Response, Router, handler};
use crate::time as clock;
use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use link::{Errand, Unreached};
use no_auth::{PermissionSet, Principal};
use no_engine::id::PartitionId;
use no_engine::rng::Rng;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Another node, as this one reaches it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its name.
    pub name: Arc<str>,
    /// Its base URL, without a slash at the end.
    pub address: Arc<str>,
}

/// Who has a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// This node, and its shard holds it.
    Here,
    /// Another one.
    There(Peer),
    /// Nobody that we know of: it is on its way.
    Nobody,
}

/// Who has what, at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By the partition's number.
    pub owners: Vec<Owner>,
    /// The other nodes that live, by name.
    pub peers: Vec<Peer>,
}

/// What came of requests that were sent on to another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClusterFigures {
    /// Answered by it.
    pub answered: u64,
    /// It had the partition no more; they were sent elsewhere.
    pub moved: u64,
    /// It was not reached, or did not answer.
    pub unreached: u64,
    /// Partitions that this node took, since the start.
    pub taken: u64,
    /// And gave away.
    pub given: u64,
    /// Nodes that live, this one among them.
    pub nodes: u64,
    /// Partitions that this node has.
    pub here: u64,
    /// That other nodes have.
    pub there: u64,
    /// That nobody has, as far as this node knows.
    pub unowned: u64,
    /// Whether this node's lease stands.
    pub is_valid: bool,
}

impl ClusterFigures {
    /// Those of a node whose store is its own.
    #[must_use]
    pub fn alone(partitions: u16) -> ClusterFigures {
        let here = u64::from(partitions);
        ClusterFigures { nodes: 1, here, is_valid: true, ..ClusterFigures::default() }
    }
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    moved: AtomicU64,
    unreached: AtomicU64,
    taken: AtomicU64,
    given: AtomicU64,
}

/// A node among those that share a store. Made once, shared by its net cores and the thread that
/// keeps it.
pub struct Cluster {
    name: Arc<str>,
    key: NodeKey,
    begun: Instant,
    /// Until when we may take ourselves for the owner of what we hold: ms since `begun`.
    valid_until_ms: AtomicU64,
    view: watch::Sender<Arc<View>>,
    asked: Mutex<u64>,
    bell: Condvar,
    looked: watch::Sender<u64>,
    counts: Counts,
}

impl Cluster {
    /// A node that holds nothing yet and knows no other.
    #[must_use]
    pub fn new(name: &str, key: NodeKey, partitions: u16) -> Cluster {
        let owners = vec![Owner::Nobody; usize::from(partitions)];
        Cluster {
            name: name.into(),
            key,
            begun: Instant::now(),
            valid_until_ms: AtomicU64::new(0),
            view: watch::channel(Arc::new(View { owners, peers: Vec::new() })).0,
            asked: Mutex::new(0),
            bell: Condvar::new(),
            looked: watch::channel(0).0,
            counts: Counts::default(),
        }
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The key that the nodes share.
    pub(crate) fn key(&self) -> &NodeKey {
        &self.key
    }

    /// We may take ourselves for the owner of what we hold until then.
    pub fn set_valid_until(&self, until: Instant) {
        let ms = until.saturating_duration_since(self.begun).as_millis();
        self.valid_until_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Whether our lease stands.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        now_ms < self.valid_until_ms.load(Ordering::Acquire)
    }

    /// Changes who has what.
    pub fn change(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
    }

    /// Who has what.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Who has a partition, as far as we may say.
    #[must_use]
    pub fn owner(&self, partition: PartitionId) -> Owner {
        let view = self.view.borrow();
        match view.owners.get(usize::from(partition.0)) {
            Some(Owner::Here) if !self.is_valid() => Owner::Nobody,
            Some(owner) => owner.clone(),
            None => Owner::Nobody,
        }
    }

    /// Any partition that this node has.
    pub(crate) fn any_here(&self, rng: &mut Rng) -> Option<PartitionId> {
        if !self.is_valid() {
            return None;
        }
        let view = self.view.borrow();
        let len = view.owners.len();
        // Most often all or a good part of them are ours.
        let first = rng.index(len);
        let places = (0..len).map(|more| (first + more) % len);
        let mut here = places.filter(|place| view.owners[*place] == Owner::Here);
        here.next().map(|place| PartitionId(place as u16))
    }

    /// Returns when who has what has changed since `seen`, or after a while.
    pub(crate) async fn changed(&self, seen: &Arc<View>, patience: Duration) {
        let mut view = self.view.subscribe();
        let changed = view.wait_for(|now| !Arc::ptr_eq(now, seen));
        let _ = tokio::time::timeout(patience, changed).await;
    }

    /// What comes of asking a node, unless it is taken for dead before it answers.
    pub(crate) async fn unless_gone<T>(
        &self,
        peer: &Peer,
        asking: impl Future<Output = Result<T, Unreached>>,
    ) -> Result<T, Unreached> {
        let mut view = self.view.subscribe();
        let gone = view.wait_for(|view| !view.peers.contains(peer));
        tokio::select! {
            biased;
            answer = asking => answer,
            _ = gone => Err(Unreached::MaybeDone),
        }
    }

    /// Has the thread that keeps this look at the store now, and waits until it has, within
    /// `patience`.
    pub async fn look_now(&self, patience: Duration) {
        let turn = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            *asked += 1;
            *asked
        };
        self.bell.notify_all();
        let mut looked = self.looked.subscribe();
        let _ = tokio::time::timeout(patience, looked.wait_for(|looked| turn <= *looked)).await;
    }

    /// Counts partitions that this node took and gave.
    pub fn count_moves(&self, taken: u64, given: u64) {
        self.counts.taken.fetch_add(taken, Ordering::Relaxed);
        self.counts.given.fetch_add(given, Ordering::Relaxed);
    }

    /// Counts a request that was sent on.
    fn count_sent<T>(&self, came: Result<bool, T>) {
        let count = match came {
            Ok(true) => &self.counts.answered,
            Ok(false) => &self.counts.moved,
            Err(_) => &self.counts.unreached,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The figures now.
    #[must_use]
    pub fn figures(&self) -> ClusterFigures {
        let view = self.view();
        let count = |is: &dyn Fn(&Owner) -> bool| {
            view.owners.iter().filter(|owner| is(owner)).count() as u64
        };
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { answered, moved, unreached, taken, given } = &self.counts;
        ClusterFigures {
            answered: read(answered),
            moved: read(moved),
            unreached: read(unreached),
            taken: read(taken),
            given: read(given),
            nodes: view.peers.len() as u64 + 1,
            here: count(&|owner| *owner == Owner::Here),
            there: count(&|owner| matches!(owner, Owner::There(_))),
            unowned: count(&|owner| *owner == Owner::Nobody),
            is_valid: self.is_valid(),
        }
    }

    /// Has the thread that keeps this go on at once.
    pub fn wake(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.bell.notify_all();
    }

    /// Waits until a look is due or asked for; the number to give to [`Cluster::looked`]. For the
    /// thread that keeps this.
    #[must_use]
    pub fn await_look(&self, patience: Duration) -> u64 {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |asked: &mut u64| *asked <= *self.looked.borrow();
        let waited = self.bell.wait_timeout_while(asked, patience, is_idle);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The look that this number asked for is done.
    pub fn looked(&self, turn: u64) {
        self.looked.send_replace(turn);
    }
}

/// A node among others, as one net core has it.
#[derive(Clone)]
pub struct Joined {
    cluster: Arc<Cluster>,
    links: Rc<Links>,
}

impl Joined {
    /// With this core's own connections to the others.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, links: Links) -> Joined {
        Joined { cluster, links: Rc::new(links) }
    }

    /// For whom a request asks that another node has sent on; `None` for any other.
    pub(crate) fn passed(&self, parts: &Parts) -> Option<Result<Principal, &'static str>> {
        self.cluster.key.check(&self.cluster.name, parts, clock::wall().0)
    }

    /// Any partition that this node has.
    pub(crate) fn any_here(&self, rng: &mut Rng) -> Option<PartitionId> {
        self.cluster.any_here(rng)
    }
}

/// The route by which a node has another look at the store.
const LOOK: &str = "/cluster/look";
/// How long a look of another node is waited for.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// Mounts what nodes ask of each other beside the API, where there may be others.
pub(crate) fn mount(router: &mut Router) {
    if router.core().cluster.is_some() {
        router.mount(Method::POST, LOOK, Access::Open, handler(look));
    }
}

/// `POST /cluster/look`: what the nodes share has changed. Only for a node.
async fn look(request: Request) -> Outcome {
    let core = &request.core;
    let is_node = request.parts.extensions.get::<place::Inner>().is_some();
    let Some(joined) = core.cluster.as_ref().filter(|_| is_node) else {
        return Err(Problem::new(Code::NotFound, ""));
    };
    joined.cluster.look_now(LOOK_PATIENCE).await;
    let mut response = Response::new(OutBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Has all other nodes look at the store, and waits until they have, for a while.
pub(crate) async fn tell(core: &Core) {
    let Some(Joined { cluster, links }) = &core.cluster else { return };
    let principal =
        Principal { subject: "node".into(), tenant: "".into(), permissions: PermissionSet::NONE };
    let telling: Vec<_> = cluster
        .view()
        .peers
        .iter()
        .cloned()
        .map(|peer| {
            let (cluster, links) = (Arc::clone(cluster), Rc::clone(links));
            let principal = principal.clone();
            tokio::task::spawn_local(async move {
                let errand = Errand {
                    method: Method::POST,
                    path: LOOK,
                    headers: &HeaderMap::new(),
                    more: None,
                    principal: &principal,
                    body: Bytes::new(),
                };
                let sending = links.send(&cluster, &peer, errand);
                let _ = tokio::time::timeout(LOOK_PATIENCE, sending).await;
            })
        })
        .collect();
    for told in telling {
        let _ = told.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        Cluster::new("a", NodeKey::of_hex(&"01".repeat(32)).expect("a key"), 4)
    }

    #[test]
    fn what_is_here_is_ours_only_while_the_lease_stands() {
        let cluster = cluster();
        cluster.change(|view| view.owners[2] = Owner::Here);
        assert_eq!(cluster.owner(PartitionId(2)), Owner::Nobody);
        assert_eq!(cluster.any_here(&mut Rng::new(1)), None);
        cluster.set_valid_until(Instant::now() + Duration::from_secs(3_600));
        assert_eq!(cluster.owner(PartitionId(2)), Owner::Here);
        assert_eq!(cluster.owner(PartitionId(1)), Owner::Nobody);
        for seed in 0..20 {
            assert_eq!(cluster.any_here(&mut Rng::new(seed)), Some(PartitionId(2)));
        }
        cluster.set_valid_until(Instant::now());
        assert_eq!(cluster.owner(PartitionId(2)), Owner::Nobody);
    }

    #[tokio::test]
    async fn who_asks_for_a_look_waits_for_one_that_began_later() {
        let cluster = Arc::new(cluster());
        let keeper = Arc::clone(&cluster);
        let thread = std::thread::spawn(move || {
            let turn = keeper.await_look(Duration::from_secs(60));
            keeper.looked(turn);
            turn
        });
        cluster.look_now(Duration::from_secs(60)).await;
        assert_eq!(thread.join().expect("no panic"), 1);
        assert_eq!(cluster.await_look(Duration::ZERO), 1, "nobody asks");
    }
}
