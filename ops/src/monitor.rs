//! The performance monitor: on each scrape it asks every shard for a copy of its figures, merges
//! them with those of the net cores and the process, and writes them out.

use crate::exposition::{Distribution, Format, Sample};
use crate::health::Health;
use crate::metrics::{
    AuditLines, AuthCounts, AuthTally, CostCounts, HttpSeries, HttpStats, Snapshot,
};
use crate::process::ProcessReader;
use crate::spans::SpanCounts;
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use no_auth::Permission;
use no_engine::stats::ShardStats;
use no_net::audit::AuditLink;
use no_net::body::OutBody;
use no_net::cluster::{Cluster, ClusterFigures};
use no_net::core::Core;
use no_net::out::OutConfig;
use no_net::redis::Redis;
use no_net::route::{Access, Outcome, Response, Router, handler};
use no_net::stats::{self, Exemplar, LATENCY_BUCKETS, RouteFigures, STATUSES, SecurityFigures};
use no_storage::sqlite::StoreWatch;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What a scrape reads beside the shards.
pub struct Shown {
    /// Signs of life, and the checks.
    pub health: Arc<Health>,
    /// What each net core counts.
    pub stats: Vec<Arc<stats::HttpStats>>,
    /// What the token checks came to.
    pub tally: Arc<AuthTally>,
    /// What journals and indexes do.
    pub store: StoreWatch,
    /// What became of spans.
    pub spans: Arc<SpanCounts>,
    /// What the audit log wrote, when there is one.
    pub audit: Option<AuditLink>,
    /// The other nodes, where the store is shared.
    pub cluster: Option<Arc<Cluster>>,
    /// What nodes share, when it is configured.
    pub redis: Option<Arc<Redis>>,
    /// Counts what the outbound guard refused.
    pub out: OutConfig,
    /// Whether anybody may scrape.
    pub is_open: bool,
}

/// What one net core keeps between scrapes, or between the frames of the live figures.
pub struct Monitor {
    shown: Shown,
    process: RefCell<ProcessReader>,
    /// The last figures of each shard: a shard too busy to answer in time is shown as it was.
    last: RefCell<BTreeMap<u16, ShardStats>>,
}

/// Adds `/metrics`.
pub fn mount(router: &mut Router, shown: Shown) {
    let access = if shown.is_open { Access::Open } else { Access::Needs(Permission::OpsRead) };
    let monitor = Rc::new(Monitor::new(shown));
    let scrape = handler(move |request: no_net::extract::Request| {
        let monitor = Rc::clone(&monitor);
        async move {
            let accept = request.parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::of_accept(accept.unwrap_or(""));
            monitor.scrape(&request.core, format).await
        }
    });
    router.mount(Method::GET, "/metrics", access, scrape);
}

impl Monitor {
    /// Without any figures yet.
    #[must_use]
    pub fn new(shown: Shown) -> Monitor {
        let process = RefCell::new(ProcessReader::new(shown.health.vitals().data_dir()));
        Monitor { shown, process, last: RefCell::default() }
    }

    /// All figures now: asks the shards, and waits for them a second at most.
    pub async fn snapshot(&self, core: &Core) -> Snapshot {
        let fresh = core.shard_stats().await;
        let mut last = self.last.borrow_mut();
        for stats in fresh.into_iter().flatten() {
            last.insert(stats.shard.0, *stats);
        }
        let shards = last.values().cloned().collect();
        let named = core.agents.all().into_iter().map(|(name, _)| name);
        let process = self.process.borrow_mut().read();
        let (http, cost) = (http(&self.shown.stats), self.cost());
        let store = self.shown.store.read().collect();
        Snapshot::new(shards, named, http, self.auth(), cost, process)
            .with_store(store)
            .with_life(self.shown.health.life())
            .with_spans(self.shown.spans.read())
            .with_cluster(self.cluster(core))
    }

    /// What is known of the other nodes; a node with a store of its own is all there is.
    fn cluster(&self, core: &Core) -> ClusterFigures {
        match &self.shown.cluster {
            Some(cluster) => cluster.figures(),
            None => ClusterFigures::alone(core.shards.partitions()),
        }
    }

    async fn scrape(&self, core: &Core, format: Format) -> Outcome {
        let text = crate::exposition::render(&self.snapshot(core).await, format);
        let mut response = Response::new(OutBody::full(text.into_bytes()));
        let kind = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }
}

impl Monitor {
    fn auth(&self) -> AuthCounts {
        let mut counts = self.shown.tally.counts();
        counts.outbound_refused = self.shown.out.refused();
        let mut security = SecurityFigures::default();
        self.shown.stats.iter().for_each(|core| core.security.add_to(&mut security));
        counts.add_security(&security);
        if let Some(audit) = &self.shown.audit {
            counts.audit = AuditLines::of(audit.counts());
        }
        if let Some(redis) = &self.shown.redis {
            counts.redis = redis.figures();
        }
        counts
    }

    fn cost(&self) -> CostCounts {
        let mut all = CostCounts::default();
        self.shown.stats.iter().for_each(|core| all.add(&core.cost.figures()));
        all
    }
}

/// The net cores' figures, merged by route.
fn http(cores: &[Arc<stats::HttpStats>]) -> HttpStats {
    let mut routes: BTreeMap<(Box<str>, Box<str>), RouteFigures> = BTreeMap::new();
    let mut merged = HttpStats::default();
    for core in cores {
        merged.in_flight += core.in_flight();
        merged.connections += core.connections();
        merged.connections_refused += core.connections_refused();
        merged.foretold_us = merged.foretold_us.max(core.foretold_us());
        for (sum, more) in merged.refused.iter_mut().zip(core.refused_by_reason()) {
            *sum += more;
        }
        for figures in core.figures() {
            match routes.get_mut(&(figures.pattern.clone(), figures.method.clone())) {
                Some(sum) => add(sum, &figures),
                None => {
                    let key = (figures.pattern.clone(), figures.method.clone());
                    routes.insert(key, figures);
                }
            }
        }
    }
    merged.series = routes.into_values().map(series).collect();
    merged
}

fn add(sum: &mut RouteFigures, more: &RouteFigures) {
    for (sum, more) in sum.by_status.iter_mut().zip(more.by_status) {
        *sum += more;
    }
    for (sum, more) in sum.latency.iter_mut().zip(more.latency) {
        *sum += more;
    }
    sum.latency_us_sum += more.latency_us_sum;
    for (last, more) in sum.exemplars.iter_mut().zip(more.exemplars) {
        if last.is_none_or(|last| more.is_some_and(|more| last.at < more.at)) {
            *last = more;
        }
    }
}

fn sample(exemplar: Exemplar) -> Sample {
    let Exemplar { trace_id, took_us, at } = exemplar;
    Sample { trace_id, value: took_us as f64 / 1e6, at_s: at.0 as f64 / 1e3 }
}

fn series(figures: RouteFigures) -> HttpSeries {
    let counted = STATUSES.into_iter().zip(figures.by_status).filter(|(_, count)| 0 < *count);
    let mut so_far = 0;
    let mut buckets = Vec::with_capacity(LATENCY_BUCKETS);
    for (bucket, count) in figures.latency.into_iter().enumerate() {
        so_far += count;
        if let Some(us) = stats::bucket_us_max(bucket) {
            buckets.push((us as f64 / 1e6, so_far));
        }
    }
    let sum = figures.latency_us_sum as f64 / 1e6;
    let exemplars = figures.exemplars.iter().map(|exemplar| exemplar.map(sample)).collect();
    HttpSeries {
        method: figures.method.into(),
        route: figures.pattern.into(),
        by_status: counted.collect(),
        duration: Distribution { buckets, count: so_far, sum, exemplars },
    }
}
