//! What a task in the middle of a loop needs to go on: the calls that are open and what the loop
//! detector remembers. Its size does not grow with the loop's history.

use crate::agent::definition::ToolEffect;
use crate::id::Step;
use crate::payload::Payload;
use crate::task::Usage;
use crate::time::Millis;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// What a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A call of the model.
    Model,
    /// A call of a tool.
    Tool,
    /// A durable timer.
    Timer,
    /// Reported by a worker.
    Worker,
    /// The single call of kind `http`.
    Http,
}

impl StepKind {
    /// The name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StepKind::Model => "model",
            StepKind::Tool => "tool",
            StepKind::Timer => "timer",
            StepKind::Worker => "worker",
            StepKind::Http => "http",
        }
    }
}

/// One tool call that a model asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's own name for the call, given back with its result.
    pub id: Box<str>,
    /// The tool.
    pub name: Box<str>,
    /// The arguments, a JSON text as the model wrote it (perhaps not valid).
    pub arguments: Box<str>,
}

impl ToolCall {
    /// The arguments as a payload: as they are where they are JSON, else as a JSON string.
    #[must_use]
    pub fn arguments_payload(&self) -> Payload {
        let text = if self.arguments.trim().is_empty() { "{}" } else { &*self.arguments };
        assert!(text.len() <= crate::limits::TOOL_ARGUMENTS_BYTES_MAX, "checked at the edge");
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            return Payload::Inline(Arc::from(text.as_bytes()));
        }
        let quoted = serde_json::to_string(text).expect("a string serialises");
        Payload::Inline(Arc::from(quoted.as_bytes()))
    }
}

/// A model's answer, whatever its provider.
///
/// Serialised (`{"text":…,"tool_calls":[…]}`) it is the output of the model's step, from which a
/// context is built again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ModelAnswer {
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// What it asks to be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// What the call used. Not part of the stored output: it stands beside it.
    #[serde(skip)]
    pub usage: Usage,
}

/// Where an open step stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenState {
    /// Asked for, not begun: it waits for a place among the parallel calls.
    Planned,
    /// Its intent is journaled; the call is or was under way.
    Called,
    /// It failed in a way that another attempt may mend.
    Failed,
    /// A timer is running.
    Timer(Millis),
    /// A crash left its outcome unknown, and it may not be repeated.
    Unknown,
}

/// A step without a result.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(from = "FlatStep")]
pub struct OpenStep {
    /// Its number.
    pub step: Step,
    /// What it is.
    pub kind: StepKind,
    /// The tool's or the model's name.
    pub name: Arc<str>,
    /// What was asked for, if that was more than a name.
    pub asked: Option<Box<AskedCall>>,
    /// Whether it may be repeated.
    pub effect: ToolEffect,
    /// Where it stands.
    pub state: OpenState,
}

/// What a step was asked for with. Timers and the calls of models have neither.
#[derive(Clone, PartialEq, Debug)]
pub struct AskedCall {
    /// The model's name for a tool call.
    pub call_id: Option<Box<str>>,
    /// The arguments of a tool call.
    pub arguments: Option<Payload>,
}

impl AskedCall {
    /// `None` where both are.
    #[must_use]
    pub fn packed(call_id: Option<Box<str>>, arguments: Option<Payload>) -> Option<Box<AskedCall>> {
        let is_empty = call_id.is_none() && arguments.is_none();
        (!is_empty).then(|| Box::new(AskedCall { call_id, arguments }))
    }
}

/// An [`OpenStep`] as it is stored.
#[derive(Serialize, Deserialize)]
struct FlatStep<N = Arc<str>, C = Box<str>, P = Payload, S = OpenState> {
    step: Step,
    kind: StepKind,
    name: N,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    call_id: Option<C>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    arguments: Option<P>,
    effect: ToolEffect,
    state: S,
}

fn none<T>() -> Option<T> {
    None
}

impl From<FlatStep> for OpenStep {
    fn from(flat: FlatStep) -> OpenStep {
        let FlatStep { step, kind, name, call_id, arguments, effect, state } = flat;
        OpenStep { step, kind, name, asked: AskedCall::packed(call_id, arguments), effect, state }
    }
}

impl Serialize for OpenStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FlatStep {
            step: self.step,
            kind: self.kind,
            name: &*self.name,
            call_id: self.call_id(),
            arguments: self.arguments(),
            effect: self.effect,
            state: &self.state,
        }
        .serialize(serializer)
    }
}

impl OpenStep {
    /// The model's name for a tool call.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        self.asked.as_ref()?.call_id.as_deref()
    }

    /// The arguments of a tool call.
    #[must_use]
    pub fn arguments(&self) -> Option<&Payload> {
        self.asked.as_ref()?.arguments.as_ref()
    }

    /// When its timer fires, if it is one.
    #[must_use]
    pub fn timer(&self) -> Option<Millis> {
        match self.state {
            OpenState::Timer(until) => Some(until),
            _ => None,
        }
    }
}

/// A piece of context that the next model call adds to those before.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// The output of a model's step: a serialised [`ModelAnswer`].
    Assistant(Payload),
    /// A tool's result.
    Tool {
        /// The call that it answers.
        call_id: Box<str>,
        /// The result, any JSON.
        result: Payload,
    },
}

/// A vector that is mostly empty, and then one word instead of three.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<T>", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Thin<T>(
    #[expect(clippy::box_collection, reason = "one word is the point")] Option<Box<Vec<T>>>,
);

impl<T> Thin<T> {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Appends an item.
    pub fn push(&mut self, item: T) {
        self.0.get_or_insert_default().push(item);
    }

    /// Takes the first item out, if there is one.
    pub fn remove_first(&mut self) {
        let Some(items) = &mut self.0 else { return };
        items.remove(0);
        if items.is_empty() {
            self.0 = None;
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Takes all items out.
    #[must_use]
    pub fn take(&mut self) -> Vec<T> {
        self.0.take().map_or_else(Vec::new, |items| *items)
    }
}

impl<T> Default for Thin<T> {
    fn default() -> Thin<T> {
        Thin(None)
    }
}

impl<T> From<Vec<T>> for Thin<T> {
    fn from(items: Vec<T>) -> Thin<T> {
        Thin((!items.is_empty()).then(|| Box::new(items)))
    }
}

impl<T> std::ops::Deref for Thin<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |items| items)
    }
}

/// A list that mostly has one item, and then no allocation for it.
#[derive(Clone, PartialEq, Debug)]
pub struct Few<T>(Items<T>);

#[derive(Clone, PartialEq, Debug)]
enum Items<T> {
    One(T),
    /// None, or several.
    Other(Vec<T>),
}

impl<T> Few<T> {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends an item.
    pub fn push(&mut self, item: T) {
        self.0 = match std::mem::replace(&mut self.0, Items::Other(Vec::new())) {
            Items::Other(items) if items.is_empty() => Items::One(item),
            Items::One(first) => Items::Other(vec![first, item]),
            Items::Other(mut items) => {
                items.push(item);
                Items::Other(items)
            }
        };
    }

    /// Keeps the items of which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.0 = match std::mem::replace(&mut self.0, Items::Other(Vec::new())) {
            Items::One(item) if keep(&item) => Items::One(item),
            Items::One(_) => Items::Other(Vec::new()),
            Items::Other(mut items) => {
                items.retain(keep);
                match <[T; 1]>::try_from(items) {
                    Ok([item]) => Items::One(item),
                    Err(items) => Items::Other(items),
                }
            }
        };
    }
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Items::Other(Vec::new()))
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Few<T> {
        let mut few = Few::default();
        for item in items {
            few.push(item);
        }
        few
    }
}

impl<T> std::ops::Deref for Few<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.0 {
            Items::One(item) => std::slice::from_ref(item),
            Items::Other(items) => items,
        }
    }
}

impl<T> std::ops::DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Items::One(item) => std::slice::from_mut(item),
            Items::Other(items) => items,
        }
    }
}

impl<T: Serialize> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Few<T>, D::Error> {
        struct Sequence<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Sequence<T> {
            type Value = Few<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Few<T>, A::Error> {
                let mut few = Few::default();
                while let Some(item) = items.next_element()? {
                    few.push(item);
                }
                Ok(few)
            }
        }
        deserializer.deserialize_seq(Sequence(PhantomData))
    }
}

// A parked loop has one, beside its header.
const _: () = {
    // With the counts of its `Arc` 96 bytes: the allocator's classes are 32 bytes apart there.
    assert!(size_of::<LoopState>() == 80);
    assert!(size_of::<Few<OpenStep>>() == size_of::<OpenStep>());
};

/// The loop of one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoopState {
    /// Steps without a result, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub open: Few<OpenStep>,
    /// Hashes of the last tool calls, oldest first, at most [`crate::limits::LOOP_WINDOW`].
    #[serde(default, skip_serializing_if = "Thin::is_empty")]
    pub calls: Thin<u64>,
    /// Empty answers in a row; few, as they end the attempt.
    #[serde(default)]
    pub empty: u16,
    /// The last model step that was answered; 0 before the first.
    #[serde(default)]
    pub model_step: Step,
    /// Hash of the last step that a worker reported, to know it when it is sent again.
    #[serde(default)]
    pub reported: u64,
    /// Soft: what came in since the last model call, by step. Lost in a crash; then the store has
    /// it.
    #[serde(skip)]
    pub fresh: Thin<(Step, Message)>,
    /// Soft: whether `fresh` is all that came since the last model call of this process.
    #[serde(skip)]
    pub warm: bool,
}

impl LoopState {
    /// Has the names of open steps point to copies that others have, where `shared` knows one.
    pub(crate) fn share_names<'a>(&mut self, shared: impl Fn(&str) -> Option<&'a Arc<str>>) {
        for open in self.open.iter_mut() {
            if let Some(name) = shared(&open.name) {
                open.name = Arc::clone(name);
            }
        }
    }
}

impl PartialEq for LoopState {
    /// Equal in what a store gives back; soft fields do not count.
    fn eq(&self, other: &LoopState) -> bool {
        self.open == other.open
            && self.calls == other.calls
            && self.empty == other.empty
            && self.model_step == other.model_step
            && self.reported == other.reported
    }
}
