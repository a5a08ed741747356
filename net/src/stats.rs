//! The net core's own figures: requests by route and status, their latency, and how many are under
//! way.
//!
//! One writer, the net core; read by whoever shows them. Relaxed loads and stores on the writer's
//! side, so that a count costs no locked instruction. Latencies fall into buckets by powers of two.

mod exemplar;
mod security;

pub use exemplar::{ByBucket, Exemplar};
pub use security::{
    LIMITS, LOGIN_ENDS, Limit, LoginEnd, SUSPICIONS, SecurityFigures, SecurityStats, Suspicion,
    VIOLATIONS, Violation,
};

use crate::admit::{REFUSED, Refused};
use crate::cost::CostStats;
use crate::time;
use exemplar::Exemplars;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Statuses that are counted by themselves; any other counts as the last, 0.
pub const STATUSES: [u16; 25] = [
    200, 201, 202, 204, 302, 303, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 417, 422, 429,
    500, 501, 502, 503, 507, 0,
];
/// Buckets of a latency: the first holds up to 32 µs, each further one twice the one before, and
/// the last all that is longer than about 67 s.
pub const LATENCY_BUCKETS: usize = 23;
/// The upper bound of the first bucket, in µs.
const FIRST_US: u64 = 32;

/// One route's figures.
#[derive(Debug)]
pub struct RouteStats {
    /// The method.
    pub method: Box<str>,
    /// The pattern of the path; `none` for paths that nothing is at.
    pub pattern: Box<str>,
    by_status: [AtomicU64; STATUSES.len()],
    latency: [AtomicU64; LATENCY_BUCKETS],
    latency_us_sum: AtomicU64,
    exemplars: Exemplars,
}

/// A copy of one route's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFigures {
    /// The method.
    pub method: Box<str>,
    /// The pattern of the path.
    pub pattern: Box<str>,
    /// Requests by status, in the order of [`STATUSES`].
    pub by_status: [u64; STATUSES.len()],
    /// Requests by latency, without those that asked to wait; see [`bucket_us_max`].
    pub latency: [u64; LATENCY_BUCKETS],
    /// All latencies, in µs.
    pub latency_us_sum: u64,
    /// The last traced request of each bucket.
    pub exemplars: ByBucket,
}

/// The figures of one net core.
#[derive(Debug)]
pub struct HttpStats {
    routes: Mutex<Vec<Arc<RouteStats>>>,
    unmatched: Arc<RouteStats>,
    in_flight: AtomicU64,
    connections: AtomicU64,
    connections_refused: AtomicU64,
    refused: [AtomicU64; REFUSED.len()],
    foretold_us: AtomicU64,
    /// What requests cost, by layer.
    pub cost: CostStats,
    /// What the gate decided.
    pub security: SecurityStats,
}

/// The upper bound of a bucket in µs, inclusive; `None` for the last, which has none.
#[must_use]
pub fn bucket_us_max(bucket: usize) -> Option<u64> {
    (bucket + 1 < LATENCY_BUCKETS).then(|| FIRST_US << bucket)
}

fn bucket_of(us: u64) -> usize {
    let over = us.div_ceil(FIRST_US).max(1).next_power_of_two();
    (over.trailing_zeros() as usize).min(LATENCY_BUCKETS - 1)
}

/// Adds on the one writer's side.
pub(crate) fn add(count: &AtomicU64, more: u64) {
    // ORDER: one writer, and a reader that may see any recent value.
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl RouteStats {
    fn new(method: &str, pattern: &str) -> Arc<RouteStats> {
        Arc::new(RouteStats {
            method: method.into(),
            pattern: pattern.into(),
            by_status: Default::default(),
            latency: Default::default(),
            latency_us_sum: AtomicU64::new(0),
            exemplars: Exemplars::default(),
        })
    }

    /// Counts one request by its status. Called by the net core alone.
    pub fn count(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status);
        add(&self.by_status[place.unwrap_or(STATUSES.len() - 1)], 1);
    }

    /// Counts how long one request took, an example when its trace is kept. Called by the net core
    /// alone.
    pub fn took(&self, took: Duration, trace_id: Option<u128>) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.latency[bucket_of(us)], 1);
        add(&self.latency_us_sum, us);
        if let Some(trace_id) = trace_id {
            self.exemplars.keep(trace_id, took, time::wall());
        }
    }

    fn figures(&self) -> RouteFigures {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RouteFigures {
            method: self.method.clone(),
            pattern: self.pattern.clone(),
            by_status: std::array::from_fn(|i| load(&self.by_status[i])),
            latency: std::array::from_fn(|i| load(&self.latency[i])),
            latency_us_sum: load(&self.latency_us_sum),
            exemplars: self.exemplars.read(),
        }
    }
}

impl Default for HttpStats {
    fn default() -> HttpStats {
        HttpStats {
            routes: Mutex::default(),
            unmatched: RouteStats::new("any", "none"),
            in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            refused: Default::default(),
            foretold_us: AtomicU64::new(0),
            cost: CostStats::default(),
            security: SecurityStats::default(),
        }
    }
}

impl HttpStats {
    /// Adds a route; at start only.
    pub fn route(&self, method: &str, pattern: &str) -> Arc<RouteStats> {
        let stats = RouteStats::new(method, pattern);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.push(Arc::clone(&stats));
        stats
    }

    /// Where requests are counted that no route took.
    #[must_use]
    pub fn unmatched(&self) -> &Arc<RouteStats> {
        &self.unmatched
    }

    /// A request is under way until the guard is dropped.
    pub fn begin(&self) -> UnderWay<'_> {
        add(&self.in_flight, 1);
        UnderWay(&self.in_flight)
    }

    /// A connection is open until the guard is dropped.
    pub(crate) fn connected(self: &Arc<HttpStats>) -> Connected {
        add(&self.connections, 1);
        Connected(Arc::clone(self))
    }

    pub(crate) fn connection_refused(&self) {
        add(&self.connections_refused, 1);
    }

    pub(crate) fn refused(&self, why: Refused) {
        add(&self.refused[why as usize], 1);
    }

    pub(crate) fn set_foretold_us(&self, us: u64) {
        self.foretold_us.store(us, Ordering::Relaxed);
    }

    /// New work refused before anything was done for it, in the order of [`REFUSED`].
    #[must_use]
    pub fn refused_by_reason(&self) -> [u64; REFUSED.len()] {
        std::array::from_fn(|i| self.refused[i].load(Ordering::Relaxed))
    }

    /// How long the last submission was foretold to wait for its shard, in µs.
    #[must_use]
    pub fn foretold_us(&self) -> u64 {
        self.foretold_us.load(Ordering::Relaxed)
    }

    /// Copies of all routes' figures, those that no route took last.
    #[must_use]
    pub fn figures(&self) -> Vec<RouteFigures> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.iter().chain([&self.unmatched]).map(|route| route.figures()).collect()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections refused because there were too many, since the start.
    #[must_use]
    pub fn connections_refused(&self) -> u64 {
        self.connections_refused.load(Ordering::Relaxed)
    }
}

/// One request under way.
#[derive(Debug)]
pub struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        add(self.0, u64::MAX);
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Connected(Arc<HttpStats>);

impl Drop for Connected {
    fn drop(&mut self) {
        add(&self.0.connections, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_bucket() {
        for us in [0, 1, 32, 33, 64, 65, 1_000, 67_108_864, u64::MAX / 2] {
            let bucket = bucket_of(us);
            assert!(bucket_us_max(bucket).is_none_or(|max| us <= max), "{us}");
            if 0 < bucket {
                assert!(bucket_us_max(bucket - 1).expect("not the last") < us, "{us}");
            }
        }
    }

    #[test]
    fn counts_by_status() {
        let stats = HttpStats::default();
        let route = stats.route("GET", "/x");
        for status in [200, 418] {
            route.count(status);
            route.took(Duration::from_micros(40), None);
        }
        let figures = &stats.figures()[0];
        assert_eq!(figures.by_status[0], 1);
        assert_eq!(figures.by_status[STATUSES.len() - 1], 1);
        assert_eq!((figures.latency[1], figures.latency_us_sum), (2, 80));
        let under_way = stats.begin();
        assert_eq!(stats.in_flight(), 1);
        drop(under_way);
        assert_eq!(stats.in_flight(), 0);
    }
}
