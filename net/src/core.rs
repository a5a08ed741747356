//! What every handler of one net core works with, and the one way of asking a shard.

use crate::admit::Admission;
use crate::agents::Registry;
use crate::bodies::Bodies;
use crate::browser::Browsers;
use crate::cluster::Joined;
use crate::cost::{Costs, Layer};
use crate::deltas::Deltas;
use crate::gate::Gate;
use crate::oidc::Provider;
use crate::pending::{Pending, TableFull, Ticket};
use crate::problem::{Code, Problem};
use crate::reads::Reads;
use crate::shards::{NotSent, Shards};
use crate::stats::HttpStats;
use crate::time;
use no_auth::{Denied, Principal};
use no_engine::command::{Answer, Command, Intake, Refusal, partition_of_key};
use no_engine::id::{PartitionId, ReplyTo, ShardId, TaskId};
use no_engine::rng::Rng;
use no_engine::stats::ShardStats;
use no_engine::task::Key;
use no_engine::trace::Sampling;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Checks a bearer token at a time in seconds since 1970.
pub type Verify = Box<dyn Fn(&str, u64) -> Result<Principal, Denied>>;
/// Counts what a request's proof of identity came to; once for each.
pub type CountProof = Box<dyn Fn(Result<(), Denied>)>;

/// How long an answer is waited for that rests on nothing but the disk, in ms.
const ANSWER_MS_MAX: u64 = 30_000;
/// How long figures of a shard are waited for, in ms.
const STATS_MS_MAX: u64 = 1_000;

/// How far the node has come towards its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Phase {
    /// Serving.
    #[default]
    Serving,
    /// No new connections; what is open is served, new work is refused by the intake.
    Draining,
    /// Waits are cut short and connections close after what is under way.
    Stopping,
}

/// Tells of the phase.
pub type PhaseReceiver = tokio::sync::watch::Receiver<Phase>;

/// Returns once the phase is `reached` or beyond; for ever pending when nobody will say so.
pub async fn until(phase: &PhaseReceiver, reached: Phase) {
    let mut phase = phase.clone();
    if phase.wait_for(|now| reached <= *now).await.is_err() {
        std::future::pending().await
    }
}

/// The state of one net core. It holds no task.
pub struct Core {
    /// The links to the shards.
    pub shards: Rc<Shards>,
    /// Requests that wait for them.
    pub pending: Rc<Pending>,
    /// The link to the reader.
    pub reads: Reads,
    /// All agents, shared by the net cores.
    pub agents: Arc<Registry>,
    /// Text of running model calls.
    pub deltas: Rc<Deltas>,
    /// Counts and latencies.
    pub stats: Arc<HttpStats>,
    /// The other nodes that share the store, if it is shared.
    pub cluster: Option<Joined>,
    /// What new work must pass.
    pub admission: Rc<Admission>,
    /// Bodies on their way in.
    pub bodies: Bodies,
    /// What requests cost.
    pub costs: Rc<Costs>,
    /// Whether new work is taken; kept by the server from what ops says.
    pub intake: Cell<Intake>,
    /// How far the node has come towards its end.
    pub phase: PhaseReceiver,
    /// Checks tokens; `None` when access control is off.
    pub verify: Option<Verify>,
    /// The issuer of tokens that are not our own; `None` when none is configured.
    pub provider: Option<Rc<Provider>>,
    /// Browsers that log in or have; `None` without a client at the issuer.
    pub browsers: Option<Arc<Browsers>>,
    /// Counts proofs.
    pub count_proof: CountProof,
    /// Rate limits and the audit log.
    pub gate: Gate,
    /// Which traces are kept, where their caller does not say.
    pub sampling: Sampling,
    /// For ids only.
    pub rng: RefCell<Rng>,
}

/// A command that was sent and whose answer is awaited.
pub struct Asked {
    ticket: Ticket,
    shards: Rc<Shards>,
    shard: ShardId,
    /// Takes the request back when nobody waits for it any more.
    undo: Cell<Option<Command>>,
}

impl Core {
    /// An id for a new task: in the partition of its key, or in any.
    pub fn new_task_id(&self, key: Option<&Key>) -> TaskId {
        let mut rng = self.rng.borrow_mut();
        let partitions = self.shards.partitions();
        let here = || self.cluster.as_ref().and_then(|joined| joined.any_here(&mut rng));
        let partition = match key.map(|key| partition_of_key(key.hash, partitions)).or_else(here) {
            Some(partition) => partition,
            None => PartitionId(rng.index(usize::from(partitions)) as u16),
        };
        TaskId::new(time::wall().0, rng.next_u64(), partition)
    }

    /// Whether waits are cut short because the node ends.
    pub(crate) fn is_stopping(&self) -> bool {
        Phase::Stopping <= *self.phase.borrow()
    }

    /// The shard of a task.
    ///
    /// # Errors
    /// 404 when no partition has the id's number.
    pub fn shard_of(&self, task: TaskId) -> Result<ShardId, Problem> {
        self.shards.of_task(task).ok_or_else(Problem::task_unknown)
    }

    /// Sends a command and gives a handle on its answer.
    ///
    /// # Errors
    /// 503 when the table or the lane is full, or the shard is gone.
    pub fn ask(
        &self,
        shard: ShardId,
        make: impl FnOnce(ReplyTo) -> Command,
    ) -> Result<Asked, Problem> {
        let ticket = self.pending.open()?;
        let command = make(ticket.reply_to());
        let undo = undo_of(&command);
        self.costs.part(Layer::Ring, || self.shards.try_send(shard, command))?;
        Ok(Asked { ticket, shards: Rc::clone(&self.shards), shard, undo: Cell::new(undo) })
    }

    /// Sends a command now or as soon as there is room, and gives a handle on its answer.
    ///
    /// # Errors
    /// 503 when the table is full.
    pub fn ask_surely(
        &self,
        shard: ShardId,
        make: impl FnOnce(ReplyTo) -> Command,
    ) -> Result<Asked, Problem> {
        let ticket = self.pending.open()?;
        let command = make(ticket.reply_to());
        self.costs.part(Layer::Ring, || self.shards.send_surely(shard, command));
        Ok(Asked { ticket, shards: Rc::clone(&self.shards), shard, undo: Cell::new(None) })
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// As [`Core::ask`].
    pub async fn answer(
        &self,
        shard: ShardId,
        make: impl FnOnce(ReplyTo) -> Command,
    ) -> Result<Answer, Problem> {
        Ok(self.ask(shard, make)?.answer().await)
    }

    /// The figures of all shards, in order; `None` for one that does not answer.
    pub async fn shard_stats(&self) -> Vec<Option<Box<ShardStats>>> {
        let asked: Vec<_> = self
            .shards
            .all()
            .map(|shard| self.ask(shard, |reply| Command::Stats { reply }).ok())
            .collect();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(STATS_MS_MAX);
        let mut all = Vec::with_capacity(asked.len());
        for asked in asked {
            all.push(match asked {
                Some(asked) => match tokio::time::timeout_at(deadline, asked.answer()).await {
                    Ok(Answer::Stats(stats)) => Some(stats),
                    Ok(_) | Err(_) => None,
                },
                None => None,
            });
        }
        all
    }
}

/// The command that takes back one that may wait for long.
fn undo_of(command: &Command) -> Option<Command> {
    use no_engine::command::AnswerWhen;
    match command {
        Command::Submit { reply, tasks, when: AnswerWhen::Ended } => {
            tasks.first().map(|new| Command::Unwatch { reply: *reply, task: new.id })
        }
        Command::Watch { reply, task } => Some(Command::Unwatch { reply: *reply, task: *task }),
        Command::Subscribe { reply, task } => {
            Some(Command::Unsubscribe { reply: *reply, task: *task })
        }
        Command::Lease { reply, waits: true, .. } => Some(Command::Unlease { reply: *reply }),
        _ => None,
    }
}

impl Asked {
    /// The answer; [`Refusal::Unanswered`] when none comes in time, as the disk is full or hangs.
    pub async fn answer(&self) -> Answer {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let answer = tokio::time::timeout(limit, self.untimed_answer()).await;
        answer.unwrap_or(Answer::Refused(Refusal::Unanswered))
    }

    /// The answer, however long it takes.
    pub(crate) async fn untimed_answer(&self) -> Answer {
        let answer = self.ticket.answer().await;
        if let Some(undo) = self.undo.take() {
            // A wait for a task's end is over with its answer; a subscription only begins.
            if !matches!(undo, Command::Unwatch { .. }) {
                self.undo.set(Some(undo));
            }
        }
        answer
    }

    /// The answer within `wait_ms`, or else what the task is by then; sooner when the node stops.
    pub async fn answer_within(&self, phase: &PhaseReceiver, wait_ms: u64) -> Answer {
        let wait = Duration::from_millis(wait_ms);
        tokio::select! {
            biased;
            answer = self.untimed_answer() => return answer,
            () = tokio::time::sleep(wait) => {}
            () = until(phase, Phase::Stopping) => {}
        }
        self.take_back();
        self.answer().await
    }

    /// Returns when an offer has come.
    pub async fn offered(&self) {
        self.ticket.offered().await;
    }

    /// The next event of a subscription.
    pub async fn fed(&self) -> crate::pending::Fed {
        self.ticket.fed().await
    }

    /// Nothing is to be taken back: the shard holds no waiter any more.
    pub fn settled(&self) {
        self.undo.take();
    }

    fn take_back(&self) {
        if let Some(undo) = self.undo.take() {
            self.shards.send_surely(self.shard, undo.clone());
            self.undo.set(Some(undo));
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.shards.send_surely(self.shard, undo);
        }
    }
}

impl From<TableFull> for Problem {
    fn from(_: TableFull) -> Problem {
        Problem::new(Code::QueueFull, "too many requests are waiting")
    }
}

impl From<NotSent> for Problem {
    fn from(not_sent: NotSent) -> Problem {
        match not_sent {
            NotSent::Full => Problem::new(Code::QueueFull, "the ring to the shard is full"),
            NotSent::Gone => Problem::new(Code::ShardHalted, "the shard has stopped"),
        }
    }
}
