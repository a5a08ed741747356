//! Starts the net cores: each a pinned thread with a single-threaded runtime, its listener, its
//! routes and its calls out.

use super::links::NetEnds;
use super::outside::Outside;
use super::shards::{pin, spawn};
use crate::admin::{self, About};
use crate::database::DatabaseHealth;
use crate::error::{Error, Result};
use crate::health::{self, Health};
use crate::metrics::AuthTally;
use crate::monitor::Monitor;
use crate::spans::SpanCounts;
use crate::{console, demo, live, monitor};
use no_auth::{KeySet, Roles, Verifier};
use no_engine::command::Command;
use no_engine::doorbell::Bell;
use no_engine::id::NetId;
use no_net::audit::AuditLink;
use no_net::browser::Browsers;
use no_net::cluster::{Cluster, Joined, Links};
use no_net::core::Verify;
use no_net::gate::{Gate, Limits, Remembers};
use no_net::oidc::{Issuer, Provider};
use no_net::out::{OutConfig, Outbound, Ports};
use no_net::reads::{self, ReaderLink};
use no_net::redis::Redis;
use no_net::route::Router;
use no_net::server::{Door, ServerLimits};
use no_net::stats::HttpStats;
use no_net::tls::TlsSource;
use no_net::{NetCore, NetCoreParts, NetOrdered, Registry};
use no_storage::sqlite::StoreWatch;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::runtime;
use tokio::task::LocalSet;

/// Routes beside the usual ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extra {
    /// None.
    None,
    /// The sample tool of `no dev`.
    Demo,
}

/// What every net core is built from.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) registry: Arc<Registry>,
    pub(super) out: OutConfig,
    /// Keys of local tokens; `None` when access control is off.
    pub(super) keys: Option<KeySet>,
    pub(super) roles: Arc<Roles>,
    pub(super) issuer: Option<Arc<Issuer>>,
    pub(super) browsers: Option<Arc<Browsers>>,
    pub(super) redis: Option<Arc<Redis>>,
    pub(super) database: DatabaseHealth,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) health: Arc<Health>,
    pub(super) about: About,
    pub(super) stats: Vec<Arc<HttpStats>>,
    pub(super) ordered: NetOrdered,
    pub(super) reader_bell: Bell,
    pub(super) partitions: u16,
    pub(super) connections_max: usize,
    pub(super) tally: Arc<AuthTally>,
    pub(super) limits: Arc<Limits>,
    pub(super) audit: Option<AuditLink>,
    pub(super) tls: Option<TlsSource>,
    pub(super) needs_certificates: bool,
    pub(super) store: StoreWatch,
    pub(super) spans: Arc<SpanCounts>,
    pub(super) is_prometheus_on: bool,
    pub(super) is_metrics_open: bool,
    pub(super) seed: u64,
    pub(super) extra: Extra,
}

/// What checks who asks on one net core; nothing does when access control is off.
#[derive(Default)]
struct Proofs {
    verify: Option<Verify>,
    /// The issuer as that core deals with it.
    provider: Option<Provider>,
    remembers: Option<Remembers>,
}

impl Plan {
    fn proofs(&self) -> Proofs {
        let Some(keys) = self.keys.clone() else { return Proofs::default() };
        let mut verifier = Verifier::new(keys).with_roles(Arc::clone(&self.roles));
        if let Some(issuer) = &self.issuer {
            verifier = verifier.with_issuer(Arc::clone(&issuer.config().rules), issuer.keyring());
        }
        let verifier = Rc::new(verifier);
        let provider = self
            .issuer
            .as_ref()
            .map(|issuer| Provider::new(Arc::clone(issuer), &self.out, Rc::clone(&verifier)));
        let knows = Rc::clone(&verifier);
        Proofs {
            provider,
            verify: Some(Box::new(move |bearer, now_s| verifier.verify(bearer, now_s))),
            remembers: Some(Box::new(move |bearer, now_s| knows.remembers(bearer, now_s))),
        }
    }

    /// The other nodes as one net core reaches them.
    fn joined(&self) -> Result<Option<Joined>> {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let tls = no_net::out::connect::tls_config();
        let tls = tls.map_err(|error| Error::Outbound { why: error.to_string() })?;
        Ok(Some(Joined::new(Arc::clone(cluster), Links::new(&tls))))
    }

    fn shown(&self) -> monitor::Shown {
        monitor::Shown {
            health: Arc::clone(&self.health),
            stats: self.stats.clone(),
            tally: Arc::clone(&self.tally),
            store: self.store.clone(),
            spans: Arc::clone(&self.spans),
            audit: self.audit.clone(),
            cluster: self.cluster.clone(),
            redis: self.redis.clone(),
            out: self.out.clone(),
            is_open: self.is_metrics_open,
        }
    }
}

/// The thread of one net core.
pub struct NetThread(JoinHandle<Result<()>>);

impl NetThread {
    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why it ended other than as told.
    pub fn join(self) -> Result<()> {
        let gone = || Error::Outbound { why: "a net core's thread is gone".into() };
        self.0.join().unwrap_or_else(|_| Err(gone()))
    }
}

/// The threads, and their links to the reader.
pub(super) struct Nets {
    pub(super) threads: Vec<NetThread>,
    pub(super) reader_links: Vec<ReaderLink>,
}

/// Starts one net core for each listener.
///
/// # Errors
/// When a thread cannot be started or a net core cannot be set up.
pub(super) fn start(
    plan: &Plan,
    ends: Vec<NetEnds>,
    listeners: Vec<TcpListener>,
    cores: &[Option<usize>],
) -> Result<Nets> {
    assert_eq!(ends.len(), listeners.len(), "a listener for each net core");
    let (made, links) = mpsc::channel();
    let mut threads = Vec::new();
    for (number, (ends, listener)) in ends.into_iter().zip(listeners).enumerate() {
        let (plan, made) = (plan.clone(), made.clone());
        let core = cores.get(number).copied().flatten();
        let net = NetId(number as u16);
        threads.push(NetThread(spawn(&format!("no-net-{number}"), move || {
            pin(core);
            let shard_bells = ends.shard_bells.clone();
            let ended = run(&plan, net, ends, listener, &made);
            // The shards end when all net cores are gone; they may be asleep.
            shard_bells.iter().for_each(Bell::ring);
            ended
        })?));
    }
    drop(made);
    let reader_links = threads.iter().map_while(|_| links.recv().ok()).collect();
    Ok(Nets { threads, reader_links })
}

fn run(
    plan: &Plan,
    net: NetId,
    ends: NetEnds,
    listener: TcpListener,
    made: &mpsc::Sender<ReaderLink>,
) -> Result<()> {
    let failed = |source| Error::File { path: "the net core's runtime".into(), source };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (reads, reader_link) = reads::link(plan.reader_bell.clone(), ends.door.bell.clone());
    let _ = made.send(reader_link);
    let bell = ends.door.eventfd.try_clone().map_err(failed)?;
    let Proofs { verify, provider, remembers } = plan.proofs();
    let tally = Arc::clone(&plan.tally);
    let parts = NetCoreParts {
        net,
        shards: ends.shards,
        partitions: plan.partitions,
        reads: reads.clone(),
        sleeper: ends.door.sleeper,
        bell,
        agents: Arc::clone(&plan.registry),
        stats: Arc::clone(&plan.stats[usize::from(net.0)]),
        ordered: plan.ordered.clone(),
        verify,
        provider,
        browsers: plan.browsers.clone(),
        cluster: plan.joined()?,
        redis: plan.redis.clone(),
        count_proof: Box::new(move |proof| tally.count(proof)),
        gate: Gate { limits: Arc::clone(&plan.limits), audit: plan.audit.clone(), remembers },
        sampling: plan.out.sampling(),
        seed: plan.seed ^ u64::from(net.0) << 48,
    };
    let mut core = NetCore::new(parts);
    mount(plan, core.router());
    let (shards, deltas) = (core.shards(), core.deltas());
    let ports = Ports {
        reads: reads.clone(),
        commands: Rc::new(move |command: Command| shards.send_outcome(command)),
        deltas: Rc::new(move |task, step, text| deltas.publish(task, step, text)),
    };
    let outbound = Outbound::new(&plan.out, ports)
        .map_err(|error| Error::Outbound { why: error.to_string() })?;
    let limits = ServerLimits { connections_max: plan.connections_max, ..ServerLimits::default() };
    let local = LocalSet::new();
    let door = Door { listener, tls: plan.tls.clone() };
    let served = core.run(door, limits, Box::new(Outside(outbound)));
    let kept = async {
        match net {
            NetId(0) => plan.database.keep(&reads).await,
            _ => std::future::pending().await,
        }
    };
    let both = async {
        tokio::select! {
            served = served => served,
            () = kept => Ok(()),
        }
    };
    runtime.block_on(local.run_until(both)).map_err(failed)
}

/// Adds the routes that are not the API's.
fn mount(plan: &Plan, router: &mut Router) {
    if plan.needs_certificates {
        router.need_certificate("/v1/worker/");
    }
    health::mount(router, &plan.health);
    admin::mount(router, &plan.health, plan.about.clone());
    let figures = Monitor::new(plan.shown());
    live::mount(router, figures, plan.health.vitals(), plan.about.started_at);
    console::mount(router);
    if plan.is_prometheus_on {
        monitor::mount(router, plan.shown());
    }
    if plan.extra == Extra::Demo {
        demo::mount(router);
    }
}

#[cfg(test)]
#[path = "nets/tests.rs"]
mod tests;
