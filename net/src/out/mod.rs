//! HTTP out: performs the calls that shards order, and sends back what came of each.
//!
//! Runs on a net core's `LocalSet`, one local task per call. How many there are is bounded by the
//! engine's slots and its tool calls in parallel. Every call is behind the outbound guard, under
//! its time-out, and carries the key that lets the other side make it once.

pub mod address;
pub mod allow;
pub mod answer;
pub mod client;
pub mod connect;
pub mod error;
pub mod guard;
mod http;
pub mod model;
pub mod port;
mod template;
mod tool;

use crate::audit::AuditLink;
use crate::reads::Reads;
use crate::time;
use client::{Client, Sent};
use error::CallError;
use guard::Guard;
use model::config::ModelConfig;
use model::context::{CONTEXT_BYTES_MAX, Contexts};
use model::outcomes::ModelOutcomes;
use model::{Asked, Model, ModelError, Prepared};
use no_auth::audit::{Decision, Entry};
use no_engine::command::{Command, Outcome};
use no_engine::effect::{Call, Work};
use no_engine::id::{Fence, Step, TaskId};
use no_engine::trace::Sampling;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Takes pieces of a model's text as they come: whose, of which step, the piece.
pub type Deltas = Rc<dyn Fn(TaskId, Step, &str)>;

/// Calls under way by task and fence; there may be several, each for a step.
type Open = HashMap<(TaskId, Fence), Vec<(Step, AbortHandle)>>;

/// What calls out need besides the configuration.
#[derive(Clone)]
pub struct Ports {
    /// Reads large payloads and histories.
    pub reads: Reads,
    /// Takes each call's outcome to the task's shard.
    pub commands: Rc<dyn Fn(Command)>,
    /// Takes pieces of a model's text as they come.
    pub deltas: Deltas,
}

/// What the configuration says about calls out, checked: made once and shared by all net cores.
#[derive(Clone)]
pub struct OutConfig {
    guard: Guard,
    /// What agents with a list of their own may reach, by their name.
    agents: BTreeMap<Box<str>, Guard>,
    tls: rustls::ClientConfig,
    models: BTreeMap<Box<str>, Prepared>,
    outcomes: ModelOutcomes,
    context_bytes_max: usize,
    refused: Arc<AtomicU64>,
    audit: Option<AuditLink>,
    sampling: Sampling,
}

/// Why calls out cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An entry of `security.outbound.allow` is wrong.
    #[error("security.outbound.allow[{place}]: {why}")]
    Allow {
        /// Its place.
        place: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// An entry of `security.outbound.agents` is wrong.
    #[error("security.outbound.agents.{name}[{place}]: {why}")]
    AllowAgent {
        /// The agent.
        name: Box<str>,
        /// The entry's place in its list.
        place: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A model is wrong.
    #[error("models.{name}: {why}")]
    Model {
        /// Its name.
        name: Box<str>,
        /// What is wrong.
        why: ModelError,
    },
    /// TLS cannot be set up.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
}

pub(crate) struct Shared {
    client: Client,
    /// The clients of agents with a list of their own.
    agents: BTreeMap<Box<str>, Client>,
    models: BTreeMap<Box<str>, Model>,
    outcomes: ModelOutcomes,
    reads: Reads,
    contexts: RefCell<Contexts>,
    deltas: Deltas,
    commands: Rc<dyn Fn(Command)>,
    open: RefCell<Open>,
    refused: Arc<AtomicU64>,
    audit: Option<AuditLink>,
    sampling: Sampling,
}

/// A net core's calls out. Cheap to clone; not `Send`.
#[derive(Clone)]
pub struct Outbound(Rc<Shared>);

impl OutConfig {
    /// Checks `security.outbound.allow` and `models`, reads the models' keys and the system's
    /// roots. `env` gives environment variables.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new<S: AsRef<str>>(
        allow: &[S],
        models: &BTreeMap<Box<str>, ModelConfig>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<OutConfig, SetupError> {
        let guard = Guard::parse(allow).map_err(|(place, why)| SetupError::Allow { place, why })?;
        let mut prepared = BTreeMap::new();
        for (name, config) in models {
            let model = Prepared::new(config, env);
            let model = model.map_err(|why| SetupError::Model { name: name.clone(), why })?;
            prepared.insert(name.clone(), model);
        }
        let (tls, context_bytes_max) = (connect::tls_config()?, CONTEXT_BYTES_MAX);
        let (agents, refused, audit) = (BTreeMap::new(), Arc::default(), None);
        let sampling = Sampling::ALL;
        let (outcomes, models) = (ModelOutcomes::new(prepared.keys().cloned()), prepared);
        Ok(OutConfig {
            guard,
            agents,
            tls,
            models,
            outcomes,
            context_bytes_max,
            refused,
            audit,
            sampling,
        })
    }

    /// The same, with what `security.outbound.agents` allows the calls of each of these agents on
    /// top.
    ///
    /// # Errors
    /// [`SetupError::AllowAgent`].
    pub fn with_agents<S: AsRef<str>>(
        mut self,
        agents: &BTreeMap<String, Vec<S>>,
    ) -> Result<OutConfig, SetupError> {
        for (name, list) in agents {
            let name: Box<str> = name.as_str().into();
            let refused = |(place, why)| SetupError::AllowAgent { name: name.clone(), place, why };
            let own = Guard::parse(list).map_err(refused)?;
            self.agents.insert(name, self.guard.with(&own));
        }
        Ok(self)
    }

    /// The same, with what the guard refuses kept in this audit log.
    #[must_use]
    pub fn with_audit(self, audit: Option<AuditLink>) -> OutConfig {
        OutConfig { audit, ..self }
    }

    /// The same, with traces kept as `sampling` says: calls tell the other side.
    #[must_use]
    pub fn with_sampling(self, sampling: Sampling) -> OutConfig {
        OutConfig { sampling, ..self }
    }

    /// Which traces are kept.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Calls that the guard refused so far, of all net cores with this configuration.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What the last calls of each model came to, of all net cores with this configuration.
    #[must_use]
    pub fn outcomes(&self) -> &ModelOutcomes {
        &self.outcomes
    }

    /// A client with a pool of its own, which may reach the host of `url` though it is private: for
    /// one that the configuration names by itself.
    #[must_use]
    pub fn client_of(&self, url: &url::Url) -> Client {
        Client::new(self.guard.with_origin(url), &self.tls)
    }

    /// Whether there is a model of that name.
    #[must_use]
    pub fn has_model(&self, name: &str) -> bool {
        self.models.contains_key(name)
    }
}

impl Outbound {
    /// The calls out of one net core, with pools of their own.
    ///
    /// # Errors
    /// [`SetupError::Model`].
    pub fn new(config: &OutConfig, ports: Ports) -> Result<Outbound, SetupError> {
        let mut models = BTreeMap::new();
        for (name, prepared) in &config.models {
            let model = Model::new(prepared, &config.guard, &config.tls);
            let model = model.map_err(|why| SetupError::Model { name: name.clone(), why })?;
            models.insert(name.clone(), model);
        }
        let own = config.agents.iter();
        let own = own.map(|(name, guard)| (name.clone(), Client::new(guard.clone(), &config.tls)));
        Ok(Outbound(Rc::new(Shared {
            client: Client::new(config.guard.clone(), &config.tls),
            agents: own.collect(),
            models,
            outcomes: config.outcomes.clone(),
            reads: ports.reads,
            contexts: RefCell::new(Contexts::new(config.context_bytes_max)),
            deltas: ports.deltas,
            commands: ports.commands,
            open: RefCell::new(HashMap::new()),
            refused: Arc::clone(&config.refused),
            audit: config.audit.clone(),
            sampling: config.sampling,
        })))
    }

    /// Begins a call; its outcome goes to [`Ports::commands`] when it is there.
    ///
    /// Panics outside of a `LocalSet`.
    pub fn call(&self, mut call: Box<Call>) {
        call.trace = call.trace.under(self.0.sampling);
        let (task, fence, step) = (call.task, call.fence, call.step);
        let shared = Rc::clone(&self.0);
        let running = tokio::task::spawn_local(async move {
            let outcome = perform(&shared, &call).await;
            shared.forget(task, fence, step);
            (shared.commands)(Command::Outcome { task, fence, step, outcome });
        });
        let mut open = self.0.open.borrow_mut();
        open.entry((task, fence)).or_default().push((step, running.abort_handle()));
    }

    /// Drops the calls of this task with this fence: sockets close, nothing is sent back.
    pub fn abort(&self, task: TaskId, fence: Fence) {
        let calls = self.0.open.borrow_mut().remove(&(task, fence));
        for (_, running) in calls.unwrap_or_default() {
            running.abort();
        }
    }

    /// Calls under way.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.borrow().values().map(Vec::len).sum()
    }
}

impl Shared {
    /// The client for an agent's calls: its own pool when it may reach more than others.
    fn client_of(&self, agent: &str) -> &Client {
        self.agents.get(agent).unwrap_or(&self.client)
    }

    /// Has the audit log keep what the guard refused: the task, and which address or why.
    fn keep_refusal(&self, call: &Call, error: &CallError) {
        let Some(audit) = &self.audit else { return };
        let entry = Entry {
            who: None,
            from: None,
            what: "outbound.denied",
            on: call.task.to_string().into(),
            decision: Decision::Denied,
            reason: error.to_string().into(),
        };
        audit.deny(entry, time::wall().0 / 1_000);
    }

    fn forget(&self, task: TaskId, fence: Fence, step: Step) {
        let mut open = self.open.borrow_mut();
        let Some(calls) = open.get_mut(&(task, fence)) else { return };
        calls.retain(|(of, _)| *of != step);
        if calls.is_empty() {
            open.remove(&(task, fence));
        }
    }
}

/// Makes one call within its time-out.
async fn perform(shared: &Shared, call: &Call) -> Outcome {
    let sent = Sent::default();
    let limit = Duration::from_millis(call.timeout_ms);
    let done = tokio::time::timeout(limit, run(shared, call, &sent)).await;
    let done = done.unwrap_or_else(|_| {
        Err(CallError::Timeout { timeout_ms: call.timeout_ms, maybe_done: sent.get() })
    });
    if let (Work::Model { .. }, Some(model)) = (&call.work, &call.agent.model) {
        shared.outcomes.ended(model, done.as_ref().err());
    }
    done.unwrap_or_else(|error| {
        let step = call.step.0;
        if let CallError::Refused { .. } = error {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            shared.keep_refusal(call, &error);
            let (task, trace_id, agent) = (call.task, call.trace, &*call.agent_name);
            tracing::warn!(target: "agent", %task, %trace_id, agent, step, %error, "call refused");
        }
        let (task, trace_id) = (call.task, call.trace);
        tracing::debug!(target: "agent", %task, %trace_id, step, %error, "call failed");
        error.outcome()
    })
}

async fn run(shared: &Shared, call: &Call, sent: &Sent) -> Result<Outcome, CallError> {
    match &call.work {
        Work::Http { input } => http::run(shared, call, input, sent).await,
        Work::Tool { tool, arguments } => tool::run(shared, call, *tool, arguments, sent).await,
        Work::Model { input, iteration, context } => {
            let asked = Asked { input, iteration: *iteration, context };
            model::run(shared, call, &asked, sent).await
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
