//! What the outside must do for a shard: one closed enum. An effect leaves a shard only once the
//! events that it rests on are durable.

use crate::agent::definition::Agent;
use crate::agent::state::Message;
use crate::command::Answer;
use crate::event::Record;
use crate::id::{Attempt, Fence, ReplyTo, Step, TaskId};
use crate::payload::Payload;
use crate::trace::Trace;
use std::sync::Arc;

/// An order to the outside.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer a request.
    Reply {
        /// To whom.
        to: ReplyTo,
        /// What.
        answer: Answer,
    },
    /// Make a call, and send a [`crate::command::Command::Outcome`] with what came of it.
    Call(Box<Call>),
    /// Drop the calls of this task under way with this fence: their outcome is of no use any more.
    Abort {
        /// The task.
        task: TaskId,
        /// The fence that the calls carry.
        fence: Fence,
    },
    /// Tasks for a waiting `Lease` have come: ask again. Sent once.
    Offer {
        /// Who waits.
        to: ReplyTo,
    },
    /// A subscribed task's event.
    Publish {
        /// Who subscribed.
        to: ReplyTo,
        /// What happened.
        record: Record,
        /// Whether the stream ends here: the task has ended.
        is_last: bool,
    },
}

/// One outside call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The task.
    pub task: TaskId,
    /// Goes back with the outcome.
    pub fence: Fence,
    /// Goes back with the outcome. With the task it makes the `Idempotency-Key` `<task>-<step>`.
    pub step: Step,
    /// The attempt.
    pub attempt: Attempt,
    /// The task's place in its trace.
    pub trace: Trace,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The name of the agent.
    pub agent_name: Arc<str>,
    /// The agent that it is made for.
    pub agent: Arc<Agent>,
    /// Give up after this, in ms.
    pub timeout_ms: u64,
    /// What to do.
    pub work: Work,
}

/// The kinds of calls.
#[derive(Clone, Debug)]
pub enum Work {
    /// POST the input to the agent's `url`; the JSON answer is the output.
    Http {
        /// The task's input.
        input: Payload,
    },
    /// Ask the agent's model.
    Model {
        /// The task's input: a JSON string is the user's message as it stands.
        input: Payload,
        /// The iteration, from 1: a scripted model gives its answer of that number.
        iteration: u32,
        /// What the context is made of.
        context: Context,
    },
    /// Call the agent's tool at `tool`.
    Tool {
        /// Its place in `agent.tools`.
        tool: usize,
        /// The arguments: a JSON object.
        arguments: Payload,
    },
}

/// How the messages of a model call come together: those of the call for step `after`, then
/// `fresh`.
#[derive(Clone, Debug)]
pub struct Context {
    /// The model step before this one (0: there was none). Its messages may still be in the
    /// caller's cache; else they are the input and all ended model, tool and timer steps up to this
    /// one, from the store.
    pub after: Step,
    /// What came since, in order; `None` when this process does not know: read it from the store.
    pub fresh: Option<Vec<Message>>,
}
