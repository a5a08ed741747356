//! What may be asked of a shard: one closed enum. Nothing else crosses from other threads.

use crate::agent::definition::Agent;
use crate::agent::state::ModelAnswer;
use crate::id::{Attempt, Fence, PartitionId, ReplyTo, Step, TaskId};
use crate::machine::LastStop;
use crate::payload::Payload;
use crate::port::Loaded;
use crate::task::{NewTask, Task, TaskError, Usage};
use crate::time::Millis;
use crate::trace::Trace;
use std::sync::Arc;

mod refusal;
pub use refusal::Refusal;

/// The right to report on one attempt, as a lease carries it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The fence that the lease was granted with.
    pub fence: Fence,
}

/// Whether a submission's answer waits for the end of the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerWhen {
    /// Once it is durable.
    Durable,
    /// Once it ended, or when [`Command::Unwatch`] comes.
    Ended,
}

/// A request to a shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take in tasks. A task whose key made an ended task before is refused with
    /// [`Refusal::NotLive`] of that one: the store has it. One answer: [`Answer::Task`] or
    /// [`Answer::Refused`] for one, [`Answer::Many`] for more.
    Submit {
        /// Who asks.
        reply: ReplyTo,
        /// One to [`crate::limits::BATCH_TASKS_MAX`] tasks, each of a partition of this shard.
        tasks: Vec<NewTask>,
        /// When to answer; [`AnswerWhen::Ended`] only for one task.
        when: AnswerWhen,
    },
    /// Answer with [`Answer::Task`] when the task ends; [`Refusal::NotLive`] when it is not in
    /// memory.
    Watch {
        /// Who asks.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
    },
    /// Answer a `Watch` or a waiting `Submit` now, with the task as it is.
    Unwatch {
        /// Who asked.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
    },
    /// Answer [`Answer::Subscribed`], then send [`crate::effect::Effect::Publish`] for every event
    /// from now on. Refused with [`Refusal::TaskEnded`] when none will come.
    Subscribe {
        /// Who asks.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
    },
    /// End a subscription; no answer.
    Unsubscribe {
        /// Who asked.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
    },
    /// End the task. [`Answer::Task`], or refused with [`Refusal::NotLive`],
    /// [`Refusal::TaskEnded`].
    Cancel {
        /// Who asks.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
    },
    /// Send a dead letter round again. [`Answer::Task`], or refused.
    Retry {
        /// Who asks.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
    },
    /// Send dead letters round again, in pieces over many turns. [`Answer::Count`].
    Redrive {
        /// Who asks.
        reply: ReplyTo,
        /// Of this tenant; of all when absent.
        tenant: Option<Arc<str>>,
        /// Of this agent; of all when absent.
        agent: Option<Arc<str>>,
    },
    /// Settle a step of unknown outcome. [`Answer::Task`], or refused.
    Resolve {
        /// Who asks.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
        /// What happened.
        resolution: Resolution,
    },
    /// Keep what somebody says of a task's result, which the asker has seen ended.
    /// [`Answer::Done`] once it is durable, or refused with [`Refusal::Moved`].
    Feedback {
        /// Who asks.
        reply: ReplyTo,
        /// The task.
        task: TaskId,
        /// Its agent.
        agent: Arc<str>,
        /// From 1, bad, to 5.
        score: u8,
    },
    /// Grant leases on ready tasks. [`Answer::Leases`], perhaps empty.
    Lease {
        /// Who asks.
        reply: ReplyTo,
        /// Of these agents.
        agents: Vec<Arc<str>>,
        /// Of this tenant alone.
        tenant: Arc<str>,
        /// At most so many.
        max_tasks: usize,
        /// For so long, in ms.
        lease_ms: u64,
        /// With none to grant: remember the asker beside the empty answer, and send
        /// [`crate::effect::Effect::Offer`] once when some come.
        waits: bool,
    },
    /// Forget a waiting `Lease`; no answer.
    Unlease {
        /// Who asked.
        reply: ReplyTo,
    },
    /// A worker's reports, each about one lease of a partition of this shard. [`Answer::Reports`],
    /// in order.
    Report {
        /// Who asks.
        reply: ReplyTo,
        /// Of this tenant alone.
        tenant: Arc<str>,
        /// The reports.
        reports: Vec<(Holder, Report)>,
    },
    /// What came of a call that this shard ordered. No answer.
    Outcome {
        /// The task.
        task: TaskId,
        /// The fence that the call carried.
        fence: Fence,
        /// The step that the call carried.
        step: Step,
        /// What came.
        outcome: Outcome,
    },
    /// Keep an agent's definition (to the shard that keeps them). [`Answer::Done`] once it is
    /// durable.
    KeepAgent {
        /// Who asks.
        reply: ReplyTo,
        /// The name.
        name: Arc<str>,
        /// The definition and whether it is paused; `None` deletes it.
        kept: Option<(Arc<Agent>, bool)>,
    },
    /// Know an agent from now on (to every shard). [`Answer::Done`].
    SetAgent {
        /// Who asks.
        reply: ReplyTo,
        /// The name.
        name: Arc<str>,
        /// The definition and whether it is paused; `None` forgets it.
        set: Option<(Arc<Agent>, bool, Arc<crate::permit::Permits>)>,
    },
    /// Answer [`Answer::Stats`].
    Stats {
        /// Who asks.
        reply: ReplyTo,
    },
    /// Take a partition in while the shard runs. [`Answer::Done`].
    Adopt {
        /// Who asks.
        reply: ReplyTo,
        /// Which.
        partition: PartitionId,
        /// As its store has it, under the fence that the shard writes with from now on.
        loaded: Box<Loaded>,
        /// How whoever had it before had stopped.
        last_stop: LastStop,
    },
    /// Let a partition go. [`Answer::Done`] when all that was decided of it is durable and nothing
    /// more will be.
    Leave {
        /// Who asks.
        reply: ReplyTo,
        /// Which.
        partition: PartitionId,
        /// What runs has so long to end, in ms.
        within_ms: u64,
    },
    /// Refuse or take new work for a reason that the node knows.
    SetIntake(Intake),
    /// So many nodes share out agents' rates from now on.
    SetNodes {
        /// Nodes, this one among them.
        nodes: u16,
    },
    /// So many slots on the whole node from now on; each shard takes its even share.
    SetPool {
        /// Slots of all shards together, at most [`crate::limits::SLOTS_MAX`].
        slots: usize,
    },
}

/// Whether new work is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Intake {
    /// Taken.
    #[default]
    Open,
    /// The disk is short of room: new tasks are refused, running ones go on.
    DiskFull,
    /// The process has used the memory that it may: the same.
    MemoryFull,
    /// The node is stopping: nothing new is taken, leased or started.
    Draining,
}

/// What somebody says about a call of unknown outcome.
#[derive(Clone, PartialEq, Debug)]
pub enum Resolution {
    /// It happened, with this result.
    Done(Payload),
    /// Make it again.
    Retry,
    /// Fail the task.
    Fail,
}

/// What a worker says about its lease.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// Still at it: extend the lease by `lease_ms`, or by what it was granted for.
    Heartbeat {
        /// In ms.
        lease_ms: Option<u64>,
    },
    /// A step has a result, to be kept.
    Step {
        /// The worker's name for it.
        name: Arc<str>,
        /// The result.
        result: Payload,
    },
    /// The attempt is done.
    Complete {
        /// The output.
        output: Payload,
    },
    /// The attempt failed.
    Fail {
        /// Why, and whether another may succeed.
        error: TaskError,
    },
}

/// What a report came to.
#[derive(Clone, PartialEq, Debug)]
pub enum Reported {
    /// A heartbeat was taken.
    Extended {
        /// Whether the task was cancelled meanwhile (then the lease is void).
        cancelled: bool,
        /// When the lease ends now, by the wall clock.
        expires_at: Millis,
    },
    /// A step, completion or failure was taken.
    Taken,
}

/// What came of an outside call.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// A tool's or an HTTP agent's answer.
    Output {
        /// Any JSON.
        output: Payload,
    },
    /// A model's answer.
    Model {
        /// The answer with its use.
        answer: ModelAnswer,
        /// The answer serialised: the step's output.
        output: Payload,
    },
    /// It failed.
    Failed {
        /// Why, and whether another try may succeed.
        error: TaskError,
        /// The other side asked to wait so long, in ms.
        retry_after_ms: Option<u64>,
        /// Whether the other side may have acted all the same.
        maybe_done: bool,
    },
}

impl Outcome {
    /// What it used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        match self {
            Outcome::Model { answer, .. } => answer.usage,
            Outcome::Output { .. } | Outcome::Failed { .. } => Usage::default(),
        }
    }
}

/// A lease, as granted.
#[derive(Clone, PartialEq, Debug)]
pub struct Grant {
    /// Names task, attempt and fence.
    pub holder: Holder,
    /// The agent.
    pub agent: Arc<str>,
    /// The input.
    pub input: Payload,
    /// Steps journaled so far: 0 means that there is no need to look.
    pub steps: u32,
    /// When the lease ends, by the wall clock.
    pub expires_at: Millis,
    /// The task's place in its trace.
    pub trace: Trace,
}

/// What a shard answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The task as it is.
    Task(Box<Task>),
    /// One result each, in the order asked.
    Many(Vec<std::result::Result<Box<Task>, Refusal>>),
    /// No.
    Refused(Refusal),
    /// Leases, perhaps none.
    Leases(Vec<Grant>),
    /// One result each, in the order asked.
    Reports(Vec<std::result::Result<Reported, Refusal>>),
    /// A subscription stands; events with greater numbers will follow.
    Subscribed {
        /// The task's last event before the subscription.
        n: u32,
    },
    /// How many.
    Count(u64),
    /// Done.
    Done,
    /// A copy of the shard's figures.
    Stats(Box<crate::stats::ShardStats>),
}

impl Command {
    /// Whether it rides the reserved lane: what keeps a busy node from looking dead.
    ///
    /// What takes a request back (`Unwatch`, `Unsubscribe`, `Unlease`) rides the lane of what it
    /// takes back: it must not come before it, or the shard would hold a waiter that nobody
    /// releases.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(
            self,
            Command::Outcome { .. }
                | Command::Report { .. }
                | Command::Stats { .. }
                | Command::SetIntake(_)
                | Command::SetPool { .. }
                | Command::SetNodes { .. }
                | Command::Cancel { .. }
                | Command::SetAgent { .. }
                | Command::KeepAgent { .. }
                | Command::Adopt { .. }
                | Command::Leave { .. }
        )
    }

    /// Who waits for an answer, if anybody.
    #[must_use]
    pub fn reply(&self) -> Option<ReplyTo> {
        match self {
            Command::Submit { reply, .. }
            | Command::Watch { reply, .. }
            | Command::Subscribe { reply, .. }
            | Command::Cancel { reply, .. }
            | Command::Retry { reply, .. }
            | Command::Redrive { reply, .. }
            | Command::Resolve { reply, .. }
            | Command::Feedback { reply, .. }
            | Command::Lease { reply, .. }
            | Command::Report { reply, .. }
            | Command::KeepAgent { reply, .. }
            | Command::SetAgent { reply, .. }
            | Command::Adopt { reply, .. }
            | Command::Leave { reply, .. }
            | Command::Stats { reply } => Some(*reply),
            Command::Unwatch { .. }
            | Command::Unsubscribe { .. }
            | Command::Unlease { .. }
            | Command::Outcome { .. }
            | Command::SetIntake(_)
            | Command::SetNodes { .. }
            | Command::SetPool { .. } => None,
        }
    }
}

/// The partition of a keyed submission: duplicates meet in one place.
#[must_use]
pub fn partition_of_key(hash: u128, partitions: u16) -> PartitionId {
    assert!(0 < partitions);
    PartitionId((hash % u128::from(partitions)) as u16)
}
