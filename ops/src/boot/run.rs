//! A running node: what was started, the watch over it, and the reasons to stop.

use super::guards::Guards;
use super::joined::{joined, start_cluster};
use super::kept::Kept;
use super::nets::{self, Extra, Nets};
use super::{links, shards, store};
use crate::admin::About;
use crate::agents::AgentsWatch;
use crate::config::oauth::OAuth;
use crate::config::{Config, Fault};
use crate::cores::{self, Eventfd, SystemClock};
use crate::drain::{Keepers, Parts, Watch};
use crate::error::{Error, Result};
use crate::health::{self, Health};
use crate::pool::{PoolKeeper, PoolView};
use crate::vitals::{Stage, Vitals};
use no_auth::shared::SealingKey;
use no_auth::{KeySet, LocalKey, Secret};
use no_engine::doorbell::{Bell, Sleeper, doorbell};
use no_engine::machine::LastStop;
use no_engine::port::Clock as _;
use no_engine::trace::Sampling;
use no_net::browser::Browsers;
use no_net::cluster::Cluster;
use no_net::oidc::Issuer;
use no_net::out::OutConfig;
use no_net::out::model::config::ModelConfig;
use no_net::reads::{self, ReaderLink};
use no_net::redis::Redis;
use no_net::redis::sessions::SharedSessions;
use no_net::stats::HttpStats;
use no_net::{NetOrders, Registry};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The reader thread looks for its end at least this often.
const READER_PAUSE: Duration = Duration::from_millis(500);

/// A started node.
pub struct Node {
    parts: Parts,
    watch: Watch,
    drain_timeout: Duration,
    url: String,
}

/// The reader thread and what stops it.
pub struct ReaderThread {
    thread: JoinHandle<()>,
    bell: Bell,
    is_over: Arc<AtomicBool>,
}

impl ReaderThread {
    /// Ends the thread.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.bell.ring();
        // It panics only where it ends the process.
        let _ = self.thread.join();
    }
}

impl Node {
    /// Starts everything: store, shards, net cores.
    ///
    /// # Errors
    /// Whatever part could not start; what had started ends with the process.
    pub fn start(config: &Config, listeners: Vec<TcpListener>, extra: Extra) -> Result<Node> {
        let engine = &config.engine;
        let clock = SystemClock::start();
        let mut store = store::open(config)?;
        let (keys, mut guards) = keys(config, &clock)?;
        let tap = guards.trace(config, &store)?;
        let Outer { issuer, redis, browsers } = outer(config, keys.is_some())?;
        let out = outbound(config)?.with_audit(guards.audit.clone());
        let registry = registry(config, &store)?;
        let seed = seed(&clock);
        let (shard_ends, net_ends) =
            links::make(engine.shards, engine.net_cores).map_err(out_of_files)?;
        let (net_cores, shard_cores) = placed(config);
        let last_stop = if store.was_clean() { LastStop::Clean } else { LastStop::Crash };
        let plan = shards::Plan { config, registry: &registry, clock, last_stop, seed, tap };
        let shards = shards::start(&plan, &mut store, shard_ends, &shard_cores)?;
        let (vitals, pool_view, keepers) = watched(config, &registry, &shards, clock);
        let (orders, ordered) = NetOrders::new();
        let (reader_bell, reader_sleeper, reader_fd) = reader_door()?;
        let url = url(&guards, &listeners)?;
        let (cluster, place) = joined(config, &store, &url)?.unzip();
        let others = others(&guards, &issuer, &redis, &registry, &out, &cluster);
        let plan = nets::Plan {
            registry,
            out,
            keys,
            roles: Arc::clone(&config.roles),
            issuer,
            browsers,
            redis,
            database: others.database.clone(),
            cluster: cluster.clone(),
            health: Arc::new(Health::new(Arc::clone(&vitals), others)),
            about: about(config, &clock, pool_view),
            stats: (0..engine.net_cores).map(|_| Arc::new(HttpStats::default())).collect(),
            ordered,
            reader_bell: reader_bell.clone(),
            partitions: engine.partitions,
            connections_max: config.service.connections_max,
            tally: Arc::default(),
            limits: Arc::clone(&guards.limits),
            audit: guards.audit.clone(),
            tls: guards.tls.clone(),
            needs_certificates: config.service.needs_certificates(),
            store: store.watch(),
            spans: Arc::clone(&guards.spans),
            is_prometheus_on: config.monitoring.is_prometheus_on,
            is_metrics_open: config.security.is_metrics_open,
            seed,
            extra,
        };
        let nets = nets::start(&plan, net_ends, listeners, &net_cores)?;
        let Nets { threads: nets, reader_links } = nets;
        let reader = start_reader(&store, reader_links, reader_bell, reader_sleeper, reader_fd)?;
        let checkpoints = store.checkpoints()?;
        let cluster = start_cluster(config, &store, cluster.zip(place), &orders)?;
        let parts = Parts {
            orders,
            vitals,
            keepers,
            nets,
            cluster,
            shards,
            reader,
            checkpoints,
            store,
            guards,
        };
        Node::ready(config, parts, url)
    }

    fn ready(config: &Config, parts: Parts, url: String) -> Result<Node> {
        let watch = Watch::new()?;
        let node = Node { parts, watch, drain_timeout: config.service.drain_timeout, url };
        node.parts.vitals.enter(Stage::Ready);
        tracing::info!(target: "no", listening = true, url = node.url, "listening");
        crate::systemd::ready(&node.url);
        Ok(node)
    }

    /// Watches over the node until a signal or a failed disk, then drains it.
    ///
    /// # Errors
    /// [`Error::Disk`] when a shard's journal failed.
    pub fn run_until_stopped(self) -> Result<()> {
        self.watch.run(self.parts, self.drain_timeout)
    }
}

fn keys(config: &Config, clock: &SystemClock) -> Result<(Option<KeySet>, Guards)> {
    let data_dir = &config.engine.data_dir;
    let key = LocalKey::open_or_create(data_dir)?;
    key.ensure_admin_token(data_dir, clock.now().wall.0 / 1_000)?;
    let guards = Guards::start(config)?;
    if !config.security.is_rbac_on {
        tracing::warn!(target: "rbac", "access control is off: anybody who reaches nO may do all");
        return Ok((None, guards));
    }
    Ok((Some(key.key_set().without(guards.ledger.revoked())), guards))
}

/// The signs of life of the shards, and what is kept by them while the node runs.
fn watched(
    config: &Config,
    registry: &Arc<Registry>,
    shards: &[shards::ShardThreads],
    clock: SystemClock,
) -> (Arc<Vitals>, Arc<PoolView>, Keepers) {
    let engine = &config.engine;
    let pulses = shards.iter().map(|shard| Arc::clone(&shard.pulse)).collect();
    let vitals = Arc::new(Vitals::new(pulses, clock, &engine.data_dir, engine.bounds()));
    let view = Arc::new(PoolView::new(engine.slots, engine.slots_aims));
    let pool = PoolKeeper::new(Arc::clone(&view), &vitals, clock);
    (vitals, view, Keepers { pool, agents: AgentsWatch::new(Arc::clone(registry)) })
}

/// Whom the node asks about who asks it.
struct Outer {
    issuer: Option<Arc<Issuer>>,
    redis: Option<Arc<Redis>>,
    browsers: Option<Arc<Browsers>>,
}

fn outer(config: &Config, has_access_control: bool) -> Result<Outer> {
    let issuer = issuer(config)?.filter(|_| has_access_control);
    let redis = redis(config)?;
    let browsers = config.oauth.as_ref().zip(issuer.as_deref());
    let browsers = browsers.and_then(|(oauth, issuer)| browsers_of(oauth, issuer, &redis));
    Ok(Outer { issuer, redis, browsers })
}

/// The issuer of tokens, with our client's secret read.
fn issuer(config: &Config) -> Result<Option<Arc<Issuer>>> {
    let Some(oauth) = &config.oauth else { return Ok(None) };
    let refused = |key: &str, problem: String| {
        let (place, path) = ("configuration".to_owned(), format!("oauth.{key}"));
        Error::Config(vec![Fault { place, path, problem, hint: None }])
    };
    let client_secret = match (&oauth.client_secret, &oauth.client_secret_file) {
        (Some(secret), _) => Some(secret.clone()),
        (None, Some(path)) => {
            let secret = Secret::from_file(path);
            Some(secret.map_err(|why| refused("clientSecretFile", why.to_string()))?)
        }
        (None, None) => None,
    };
    let issuer = oauth.issuer_config(client_secret, &config.roles);
    let issuer = Issuer::new(issuer).map_err(|error| refused("issuer", error.to_string()))?;
    Ok(Some(Arc::new(issuer)))
}

/// What nodes share, when it is configured; nothing is connected yet.
fn redis(config: &Config) -> Result<Option<Arc<Redis>>> {
    let refused = |problem| {
        let (place, path) = ("configuration".to_owned(), "redis.host".to_owned());
        Error::Config(vec![Fault { place, path, problem, hint: None }])
    };
    let redis = config.redis.clone().map(Redis::new).transpose().map_err(refused)?;
    Ok(redis.map(Arc::new))
}

/// Browsers that log in at the issuer, if they can; shared by all nodes where there is Redis and a
/// secret that the nodes have in common.
fn browsers_of(
    oauth: &OAuth,
    issuer: &Issuer,
    redis: &Option<Arc<Redis>>,
) -> Option<Arc<Browsers>> {
    let browsers = Browsers::new(oauth.browser_config()?);
    let secret = oauth.session_key.as_ref().or(issuer.config().client_secret.as_ref());
    let shared = redis.as_ref().zip(secret).map(|(redis, secret)| {
        let key = SealingKey::of(secret);
        SharedSessions::new(Arc::clone(redis), key, oauth.session.idle_s)
    });
    Some(Arc::new(match shared {
        Some(shared) => browsers.shared(shared),
        None => browsers,
    }))
}

fn outbound(config: &Config) -> Result<OutConfig> {
    let refused = |why: String| Error::Outbound { why };
    let mut models = BTreeMap::new();
    for (name, value) in &config.models {
        let model: ModelConfig = serde_json::from_value(value.clone())
            .map_err(|error| refused(format!("models.{name}: {error}")))?;
        models.insert(Box::from(name.as_str()), model);
    }
    let env = |name: &str| std::env::var(name).ok();
    let security = &config.security;
    let sampling = config.monitoring.otlp.as_ref().map_or(Sampling::ALL, |otlp| otlp.sampling);
    OutConfig::new(&security.outbound_allow, &models, &env)
        .and_then(|out| out.with_agents(&security.outbound_agents))
        .map(|out| out.with_sampling(sampling))
        .map_err(|error| refused(error.to_string()))
}

fn registry(config: &Config, store: &Kept) -> Result<Arc<Registry>> {
    let models: BTreeSet<Arc<str>> =
        config.models.keys().map(|name| name.as_str().into()).collect();
    let rows = store::agents(store, config)?;
    for row in &rows {
        if let Some(model) = row.agent.model.as_ref().filter(|model| !models.contains(*model)) {
            let (agent, model) = (&row.name, model);
            tracing::warn!(target: "agent", %agent, %model, "its model is not configured");
        }
    }
    Ok(Arc::new(Registry::new(models, rows)))
}

/// Where the node answers.
fn url(guards: &Guards, listeners: &[TcpListener]) -> Result<String> {
    let scheme = if guards.tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{}", super::listen::address(listeners)?))
}

/// What is looked at where it is configured.
fn others(
    guards: &Guards,
    issuer: &Option<Arc<Issuer>>,
    redis: &Option<Arc<Redis>>,
    agents: &Arc<Registry>,
    out: &OutConfig,
    cluster: &Option<Arc<Cluster>>,
) -> health::Others {
    health::Others {
        agents: Some(Arc::clone(agents)),
        models: out.outcomes().clone(),
        issuer: issuer.clone(),
        redis: redis.clone(),
        cluster: cluster.clone(),
        audit: guards.audit.clone(),
        tls: guards.tls_health.clone(),
        ..health::Others::default()
    }
}

/// What the node says of itself.
fn about(config: &Config, clock: &SystemClock, pool: Arc<PoolView>) -> About {
    About {
        started_at: clock.now().wall,
        partitions: config.engine.partitions,
        drain_timeout: config.service.drain_timeout,
        config: Arc::clone(&config.shown),
        pool,
    }
}

/// A seed that differs at each start: only ids and jitter come of it, no secret.
fn seed(clock: &SystemClock) -> u64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = nanos.map_or(0, |nanos| nanos.as_nanos() as u64);
    no_engine::rng::Rng::new(nanos ^ u64::from(std::process::id()) << 32 ^ clock.micros())
        .next_u64()
}

/// Which core each net core and each shard is pinned to.
fn placed(config: &Config) -> (Vec<Option<usize>>, Vec<Option<usize>>) {
    let engine = &config.engine;
    let (nets, shards) = (usize::from(engine.net_cores), usize::from(engine.shards));
    let available = cores::available();
    if !engine.pin_cores {
        return (vec![None; nets], vec![None; shards]);
    }
    let core = |i: usize| Some(available[i % available.len()]);
    ((0..nets).map(core).collect(), (nets..nets + shards).map(core).collect())
}

fn reader_door() -> Result<(Bell, Sleeper, Eventfd)> {
    let eventfd = Eventfd::new().map_err(out_of_files)?;
    let (bell, sleeper) = doorbell(Box::new(eventfd.clone()));
    Ok((bell, sleeper, eventfd))
}

fn start_reader(
    store: &Kept,
    links: Vec<ReaderLink>,
    bell: Bell,
    sleeper: Sleeper,
    eventfd: Eventfd,
) -> Result<ReaderThread> {
    let mut reader = store.reader()?;
    let is_over = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&is_over);
    let thread = shards::spawn("no-reader", move || {
        let block = || eventfd.block(Some(READER_PAUSE));
        let stop = || theirs.load(Ordering::Relaxed);
        reads::run_reader(&mut reader, links, &sleeper, block, stop);
    })?;
    Ok(ReaderThread { thread, bell, is_over })
}

fn out_of_files(source: std::io::Error) -> Error {
    Error::File { path: "eventfd".into(), source }
}
