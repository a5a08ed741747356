//! The configuration that was accepted: typed, complete, and sound as a whole. What starts nO reads
//! this and nothing else.

mod database;
mod guarding;
mod otlp;
mod outbound;
mod peer;
mod pool;
mod redis;

pub use database::Database;
pub use guarding::Guarding;

use super::fault::Fault;
use super::oauth::{self, OAuth};
use super::raw::{Raw, parts};
use crate::process;
use crate::spans::Otlp;
use crate::vitals::Bounds;
use no_auth::Roles;
use no_engine::agent::definition::Agent;
use no_engine::breaker::BreakerRules;
use no_engine::control::pool::Aims;
use no_engine::control::share;
use no_engine::id::ShardId;
use no_engine::limits::{Limits, NAME_BYTES_MAX};
use no_net::out::model::config::ModelConfig;
use no_net::redis::RedisConfig;
use no_net::tls::{ClientCertificates, TlsFiles};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where and how nO answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Name of the environment.
    pub environment: String,
    /// What TLS is spoken with; plain HTTP is when absent.
    pub tls: Option<TlsFiles>,
    /// Whether a proxy in front ends TLS.
    pub is_tls_terminated_upstream: bool,
    /// How long running steps may finish after SIGTERM.
    pub drain_timeout: Duration,
    /// Open connections, at most.
    pub connections_max: usize,
}

/// Threads, store and bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// Folder of the store, the token key and the admin token.
    pub data_dir: PathBuf,
    /// Shard threads.
    pub shards: u16,
    /// Threads that speak HTTP.
    pub net_cores: u16,
    /// Whether each thread is pinned to a core.
    pub pin_cores: bool,
    /// Parts of all tasks in a new store.
    pub partitions: u16,
    /// How long an idle shard looks at its rings before it sleeps.
    pub busy_poll: Duration,
    /// Slots of the whole node at start; see [`Engine::limits`] for a shard's share.
    pub slots: usize,
    /// What they are scaled by; `None` where they stay as they are.
    pub slots_aims: Option<Aims>,
    /// From a task's first start to its end, so long is in time, in ms.
    pub latency_objective_ms: u64,
    /// When agents that keep failing are held back; `None`: never.
    pub breaker: Option<BreakerRules>,
    /// Ended tasks are kept this long, in ms.
    pub retention_ms: u64,
    /// An idempotency key is kept this long after its task ended, in ms.
    pub key_kept_ms: u64,
    /// Idempotency keys of one shard, at most.
    pub keys_max: usize,
    /// Waiting that raises a priority by one, in ms.
    pub ageing_ms: u64,
    /// Live tasks of one shard, at most.
    pub live_tasks_max: usize,
    /// Payload bytes of one shard in memory, at most.
    pub live_bytes_max: usize,
    /// Free disk below which new work is refused, in bytes.
    pub disk_reserve_bytes: u64,
    /// Resident memory past which it is; absent for a share of what there is.
    pub memory_max_bytes: Option<u64>,
    /// Bytes of each shard's journal file: whole blocks of 4 KiB.
    pub journal_bytes: u64,
}

/// Of the memory that the cgroup or the machine allows, in percent, when nothing is configured. The
/// rest is for what is on its way when the bound is reached, and for the kernel's cache of files.
const MEMORY_PERCENT: u64 = 85;

impl Engine {
    /// What the whole node may use of this machine.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let share = || process::memory_max_bytes().map(|bytes| bytes / 100 * MEMORY_PERCENT);
        Bounds {
            disk_reserve_bytes: self.disk_reserve_bytes,
            memory_max_bytes: self.memory_max_bytes.or_else(share).unwrap_or(u64::MAX),
        }
    }

    /// One shard's bounds; shares of the pool differ by one slot at most, and none is empty.
    #[must_use]
    pub fn limits(&self, shard: u16) -> Limits {
        Limits {
            live_tasks_max: self.live_tasks_max,
            live_bytes_max: self.live_bytes_max,
            slots: share(self.slots, ShardId(shard), self.shards),
            key_kept_ms: self.key_kept_ms,
            keys_max: self.keys_max,
            retention_ms: self.retention_ms,
            ageing_ms: self.ageing_ms,
            latency_objective_ms: self.latency_objective_ms,
            breaker: self.breaker,
            ..Limits::default()
        }
    }
}

/// Who may do what, and where calls may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Whether tokens and roles are checked; false on loopback only.
    pub is_rbac_on: bool,
    /// Whether `/metrics` answers without a token.
    pub is_metrics_open: bool,
    /// Private hosts, host:port, addresses or CIDR that all agents' calls may reach.
    pub outbound_allow: Vec<String>,
    /// The same for one agent's calls alone, by its name.
    pub outbound_agents: BTreeMap<String, Vec<String>>,
    /// Limits, proxies and the audit log.
    pub guarding: Guarding,
}

/// What others see of nO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// Log filter: a level, or `target=level,…`.
    pub log_filter: String,
    /// Whether `/metrics` is served.
    pub is_prometheus_on: bool,
    /// Whether dashboards read this node.
    pub is_grafana_on: bool,
    /// Where traces go; `None` when none are made.
    pub otlp: Option<Otlp>,
}

/// An accepted configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where and how nO answers.
    pub service: Service,
    /// Threads, store and bounds.
    pub engine: Engine,
    /// Who may do what.
    pub security: Security,
    /// The store that nodes share; `None` where it is files of the data folder.
    pub database: Option<Database>,
    /// What nodes share; `None` when each is by itself.
    pub redis: Option<RedisConfig>,
    /// The issuer of tokens that are not our own.
    pub oauth: Option<OAuth>,
    /// What roles may, and who has them.
    pub roles: Arc<Roles>,
    /// What others see of nO.
    pub monitoring: Monitoring,
    /// Models by name, as `no_net` reads them (camelCase).
    pub models: BTreeMap<String, Value>,
    /// Agents by name.
    pub agents: BTreeMap<String, Arc<Agent>>,
    /// All of it as `no config show --json` has it, to be shown to operators.
    pub shown: Arc<Value>,
}

/// Raises what was said to what is accepted.
///
/// # Errors
/// All faults that were found, in the order of reading.
pub fn check(mut raw: Raw, cores: usize) -> Result<Config, Vec<Fault>> {
    let shown = Arc::new(super::show::json(&raw));
    let config = Config {
        shown,
        service: service(&mut raw),
        engine: engine(&raw, cores),
        security: security(&mut raw),
        database: database::database(&mut raw),
        redis: redis::redis(&mut raw),
        oauth: oauth::oauth(&mut raw),
        roles: oauth::roles(&mut raw),
        monitoring: Monitoring {
            log_filter: text(&raw, "monitoring.logFilter"),
            is_prometheus_on: flag(&raw, "monitoring.prometheus.enabled"),
            is_grafana_on: flag(&raw, "monitoring.grafana.enabled"),
            otlp: otlp::otlp(&mut raw),
        },
        models: models(&mut raw),
        agents: agents(&mut raw),
    };
    check_whole(&config, &mut raw);
    if raw.faults.is_empty() { Ok(config) } else { Err(raw.faults) }
}

fn service(raw: &mut Raw) -> Service {
    let host = text(raw, "service.host");
    let ip = match host.as_str() {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        other => other.trim_matches(['[', ']']).parse(),
    };
    if ip.is_err() {
        let hint = "0.0.0.0 is every address of this machine".to_owned();
        let problem = format!("must be an IP address or localhost, not {host:?}");
        raw.fault(&parts("service.host"), problem, Some(hint));
    }
    let port = u16::try_from(whole(raw, "service.port")).unwrap_or_default();
    Service {
        listen: SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port),
        environment: text(raw, "service.environment"),
        tls: tls(raw),
        is_tls_terminated_upstream: flag(raw, "service.tlsTerminatedUpstream"),
        drain_timeout: Duration::from_millis(whole(raw, "service.drainTimeout")),
        connections_max: size(raw, "service.maxConnections"),
    }
}

impl Service {
    /// Whether workers must show a certificate.
    #[must_use]
    pub fn needs_certificates(&self) -> bool {
        let asked = self.tls.as_ref().map(|tls| tls.client_certs);
        asked == Some(ClientCertificates::Workers)
    }
}

fn tls(raw: &mut Raw) -> Option<TlsFiles> {
    let file = |path: &str| Some(text(raw, path)).filter(|text| !text.is_empty());
    let (cert, key) = (file("service.tls.certFile"), file("service.tls.keyFile"));
    let client_ca = file("service.tls.clientCaFile");
    let client_certs = match text(raw, "service.tls.clientCerts").as_str() {
        "workers" => ClientCertificates::Workers,
        "optional" => ClientCertificates::Optional,
        _ => ClientCertificates::Off,
    };
    let is_asked = client_certs != ClientCertificates::Off;
    let mut fault = |path: &str, problem: &str, hint: &str| {
        raw.fault(&parts(path), problem, Some(hint.to_owned()));
    };
    if is_asked && client_ca.is_none() {
        let hint = "name the authorities of the clients' certificates";
        fault("service.tls.clientCaFile", "is missing", hint);
    }
    if is_asked && cert.is_none() {
        let hint = "set service.tls.certFile and service.tls.keyFile";
        fault("service.tls.clientCerts", "means nothing without TLS", hint);
    }
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let client_ca = client_ca.map(PathBuf::from);
            Some(TlsFiles { cert: cert.into(), key: key.into(), client_ca, client_certs })
        }
        (None, None) => None,
        (Some(_), None) => {
            fault("service.tls.keyFile", "is missing", "name the key of service.tls.certFile");
            None
        }
        (None, Some(_)) => {
            fault("service.tls.certFile", "is missing", "name the certificate of the key");
            None
        }
    }
}

fn engine(raw: &Raw, cores: usize) -> Engine {
    let net_cores = small(raw, "engine.netCores");
    let left = cores.saturating_sub(usize::from(net_cores)).clamp(1, 256);
    let shards = match raw.get("engine.shards") {
        Some(_) => small(raw, "engine.shards"),
        None => u16::try_from(left).unwrap_or(1),
    };
    let (slots, slots_aims) = pool::pool(raw, shards);
    Engine {
        data_dir: text(raw, "engine.dataDir").into(),
        shards,
        net_cores,
        pin_cores: flag(raw, "engine.pinCores"),
        partitions: small(raw, "engine.partitions"),
        busy_poll: Duration::from_micros(whole(raw, "engine.busyPollUs")),
        slots,
        slots_aims,
        latency_objective_ms: whole(raw, "performance.latencyObjective"),
        breaker: pool::breaker(raw),
        retention_ms: whole(raw, "engine.retention"),
        key_kept_ms: whole(raw, "engine.keyKept"),
        keys_max: size(raw, "engine.keysMax"),
        ageing_ms: whole(raw, "engine.ageing"),
        live_tasks_max: size(raw, "engine.liveTasksMax"),
        live_bytes_max: size(raw, "engine.liveBytesMax"),
        disk_reserve_bytes: whole(raw, "engine.diskReserveBytes"),
        memory_max_bytes: Some(whole(raw, "engine.memoryMaxBytes")).filter(|bytes| 0 < *bytes),
        journal_bytes: whole(raw, "engine.journalBytes") / 4_096 * 4_096,
    }
}

fn security(raw: &mut Raw) -> Security {
    Security {
        is_rbac_on: flag(raw, "security.rbac.enabled"),
        is_metrics_open: flag(raw, "security.metricsOpen"),
        outbound_allow: outbound::allow(raw),
        outbound_agents: outbound::agents(raw),
        guarding: guarding::guarding(raw),
    }
}

fn models(raw: &mut Raw) -> BTreeMap<String, Value> {
    let mut models = BTreeMap::new();
    for name in raw.names("models") {
        // What the table of keys refused is said already.
        let head = format!("models.{name}.");
        let is_refused = raw.faults.iter().any(|fault| fault.path.starts_with(&head));
        if is_refused || entry(raw, "models", &name, ModelConfig::check).is_some() {
            models.insert(name.clone(), raw.object("models", &name));
        }
    }
    models
}

fn agents(raw: &mut Raw) -> BTreeMap<String, Arc<Agent>> {
    let mut agents = BTreeMap::new();
    for name in raw.names("agents") {
        let path = ["agents".to_owned(), name.clone()];
        if matches!(name.as_str(), "echo" | "sleep") {
            raw.fault(&path, "is built in and does not change; choose another name", None);
        }
        if !is_agent_name(&name) {
            raw.fault(&path, "must have a name of 1 to 128 bytes of plain text", None);
        }
        if let Some(agent) = entry(raw, "agents", &name, Agent::check) {
            agents.insert(name, Arc::new(agent));
        }
    }
    agents
}

fn is_agent_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control)
}

/// Reads `section.name` into its type and checks it; a fault is noted at the field it names.
fn entry<T: DeserializeOwned>(
    raw: &mut Raw,
    section: &str,
    name: &str,
    check: impl FnOnce(&T) -> Result<(), (String, String)>,
) -> Option<T> {
    let mut path = vec![section.to_owned(), name.to_owned()];
    // Read from text, not from the value: raw JSON (a tool's parameters) needs its text.
    let text = raw.object(section, name).to_string();
    let reader = &mut serde_json::Deserializer::from_str(&text);
    match serde_path_to_error::deserialize::<_, T>(reader) {
        Err(error) => {
            path.extend(error.path().iter().map(ToString::to_string));
            let problem = error.inner().to_string();
            let end = problem.rfind(" at line").unwrap_or(problem.len());
            raw.fault(&path, &problem[..end], None);
            None
        }
        Ok(value) => match check(&value) {
            Ok(()) => Some(value),
            Err((pointer, detail)) => {
                path.extend(pointer.split('/').skip(1).map(str::to_owned));
                raw.fault(&path, detail, None);
                None
            }
        },
    }
}

/// Holds the parts against each other.
fn check_whole(config: &Config, raw: &mut Raw) {
    let service = &config.service;
    if !service.listen.ip().is_loopback() {
        let host = parts("service.host");
        if !service.is_tls_terminated_upstream && service.tls.is_none() {
            let problem = format!("{} is not loopback and there is no TLS", service.listen.ip());
            let hint = "set service.tls.certFile and keyFile, or service.tlsTerminatedUpstream \
                        (NO_TLS_TERMINATED_UPSTREAM=true) when a proxy ends TLS, or listen on \
                        127.0.0.1";
            raw.fault(&host, problem, Some(hint.to_owned()));
        }
        if !config.security.is_rbac_on {
            let problem = format!("may not be off on {}", service.listen.ip());
            raw.fault(&parts("security.rbac.enabled"), problem, Some("loopback only".to_owned()));
        }
    }
    pool::check_bounds(raw);
    if config.engine.partitions < config.engine.shards {
        let problem = format!("must not be above engine.partitions, {}", config.engine.partitions);
        raw.fault(&parts("engine.shards"), problem, None);
    }
    if config.monitoring.is_grafana_on && !config.monitoring.is_prometheus_on {
        let problem = "needs monitoring.prometheus.enabled";
        raw.fault(&parts("monitoring.grafana.enabled"), problem, None);
    }
    redis::check_sessions(config, raw);
    check_models_exist(config, raw);
}

fn check_models_exist(config: &Config, raw: &mut Raw) {
    let names = raw.names("models");
    for (name, agent) in &config.agents {
        if let Some(model) = &agent.model
            && !names.iter().any(|name| **name == **model)
        {
            let path = ["agents", name.as_str(), "model"].map(str::to_owned);
            let near = super::fault::nearest(model, names.iter().map(String::as_str));
            let hint = near.map(|near| format!("did you mean {near}?"));
            raw.fault(&path, format!("there is no model {model:?} in models"), hint);
        }
    }
}

pub(super) fn texts(raw: &Raw, path: &str) -> Vec<String> {
    match raw.get(path).map(|found| found.value) {
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn text(raw: &Raw, path: &str) -> String {
    let found = raw.get(path).and_then(|found| found.value.as_str().map(str::to_owned));
    found.unwrap_or_default()
}

fn flag(raw: &Raw, path: &str) -> bool {
    raw.get(path).and_then(|found| found.value.as_bool()).unwrap_or_default()
}

pub(super) fn whole(raw: &Raw, path: &str) -> u64 {
    raw.get(path).and_then(|found| found.value.as_u64()).unwrap_or_default()
}

fn size(raw: &Raw, path: &str) -> usize {
    usize::try_from(whole(raw, path)).unwrap_or(usize::MAX)
}

fn small(raw: &Raw, path: &str) -> u16 {
    u16::try_from(whole(raw, path)).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[path = "checked/tests.rs"]
mod tests;
