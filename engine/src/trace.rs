//! Where a task stands in a distributed trace (W3C Trace Context, 2021): whose request submitted
//! it, and the ids of the spans that tell what became of it.
//!
//! Every id comes of what is durable: the trace is the caller's, whose `traceparent` is kept with
//! the task, or else the task's own id (a UUID is a trace id); a span's id is a hash of the task,
//! the attempt and the step. So a retry, a crash or a restart goes on in the same trace, nothing is
//! stored for a task that nobody traces, and no span is held open anywhere. Random ids were
//! rejected: they would have to be kept for as long as a loop is parked.

use crate::error::Error;
use crate::id::{Attempt, Step, TaskId};
use crate::map::{mix, stable_hash};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The span of the request that submitted a task: what its `traceparent` said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The trace, 16 bytes as they are written; never all 0.
    pub trace: [u8; 16],
    /// The caller's span; never 0.
    pub span: u64,
    /// Whether the caller keeps its trace: we do the same then.
    pub is_sampled: bool,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, flags) = (u128::from_be_bytes(self.trace), u8::from(self.is_sampled));
        write!(f, "00-{trace:032x}-{:016x}-{flags:02x}", self.span)
    }
}

impl FromStr for Caller {
    type Err = Error;

    /// Reads a `traceparent`; [`Error::TraceMalformed`] for what the standard has a receiver
    /// ignore.
    ///
    /// A version after 00 may have more fields behind ours.
    fn from_str(text: &str) -> Result<Caller, Error> {
        caller_of(text).ok_or(Error::TraceMalformed)
    }
}

fn caller_of(text: &str) -> Option<Caller> {
    let mut fields = text.split('-');
    let mut hex = |len: usize| {
        let field = fields.next().filter(|field| field.len() == len)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let field = field.bytes().all(is_hex).then_some(field)?;
        u128::from_str_radix(field, 16).ok()
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_whole = version != 0 || fields.next().is_none();
    let is_good = version != 0xff && trace != 0 && span != 0 && is_whole;
    let (trace, span) = (trace.to_be_bytes(), span as u64);
    is_good.then_some(Caller { trace, span, is_sampled: flags & 1 == 1 })
}

impl Serialize for Caller {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Caller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Caller, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What few tasks have, and is kept with those: a caller with a trace; times that a dead letter was
/// sent round again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// Who submitted it, if that was said.
    pub caller: Option<Caller>,
    /// How often it was a dead letter that was sent round again. Each time it gets a span of its
    /// own, as the one before has ended.
    pub redrives: u32,
}

/// A task's place in its trace. Shown as the trace's id, as logs have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    task: TaskId,
    origin: Origin,
    sampling: Sampling,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id())
    }
}

impl Trace {
    /// The trace of a task, kept unless its caller says otherwise.
    #[must_use]
    pub fn new(task: TaskId, origin: Origin) -> Trace {
        Trace { task, origin, sampling: Sampling::ALL }
    }

    /// The same, kept as `sampling` says where its caller does not.
    #[must_use]
    pub fn under(self, sampling: Sampling) -> Trace {
        Trace { sampling, ..self }
    }

    /// The trace's id.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.origin.caller.map_or(self.task.to_u128(), |caller| u128::from_be_bytes(caller.trace))
    }

    /// The span that a task's own is a child of, if any: the caller's, or that of its first round.
    #[must_use]
    pub fn parent(&self) -> Option<u64> {
        match self.origin.redrives {
            0 => self.origin.caller.map(|caller| caller.span),
            _ => Some(self.span(&[b"task"])),
        }
    }

    /// The span of the task, from its submission (or redrive) to its end.
    #[must_use]
    pub fn task_span(&self) -> u64 {
        match self.origin.redrives {
            0 => self.span(&[b"task"]),
            n => self.span(&[b"redrive", &n.to_be_bytes()]),
        }
    }

    /// The span of an attempt.
    #[must_use]
    pub fn attempt_span(&self, attempt: Attempt) -> u64 {
        self.span(&[b"attempt", &attempt.0.to_be_bytes()])
    }

    /// The span of a step in an attempt; step 0 is the attempt's only call, and so its span.
    #[must_use]
    pub fn step_span(&self, attempt: Attempt, step: Step) -> u64 {
        if step == Step(0) {
            return self.attempt_span(attempt);
        }
        self.span(&[b"step", &attempt.0.to_be_bytes(), &step.0.to_be_bytes()])
    }

    /// Whether it is kept: as its caller says, else by a hash of its task.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        match self.origin.caller {
            Some(caller) => caller.is_sampled,
            None => self.sampling == Sampling::ALL || self.span(&[b"sample"]) < self.sampling.below,
        }
    }

    /// What a call carries: the trace, with the span of its step.
    #[must_use]
    pub fn traceparent(&self, attempt: Attempt, step: Step) -> String {
        let (span, is_sampled) = (self.step_span(attempt, step), self.is_sampled());
        Caller { trace: self.id().to_be_bytes(), span, is_sampled }.to_string()
    }

    /// How often it was sent round again.
    #[must_use]
    pub fn redrives(&self) -> u32 {
        self.origin.redrives
    }

    /// Never 0, which is no span.
    fn span(&self, what: &[&[u8]]) -> u64 {
        let id = self.task.to_bytes();
        let (task, what) = (stable_hash(&[&id]), stable_hash(what));
        mix(task, what).max(1)
    }
}

/// Which traces are kept where no caller has said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampling {
    below: u64,
}

impl Sampling {
    /// All.
    pub const ALL: Sampling = Sampling { below: u64::MAX };

    /// This part of them, from 0 to 1; the same ones on every node and after every start.
    #[must_use]
    pub fn of_ratio(ratio: f64) -> Sampling {
        if 1.0 <= ratio {
            Sampling::ALL
        } else {
            Sampling { below: (ratio * 2_f64.powi(64)) as u64 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PartitionId;
    use std::collections::BTreeSet;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn task(n: u64) -> TaskId {
        TaskId::new(1_764_000_000_000, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), PartitionId(3))
    }

    #[test]
    fn a_traceparent_is_read_or_refused() {
        let caller: Caller = PARENT.parse().expect("well formed");
        assert_eq!(caller.to_string(), PARENT);
        assert!(caller.is_sampled);
        let json = serde_json::to_string(&caller).expect("text");
        assert_eq!(serde_json::from_str::<Caller>(&json).expect("own text"), caller);
        let later = PARENT.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(later.parse::<Caller>().expect("a later version"), caller);
        let (trace, span) = (&PARENT[..36], &PARENT[..53]);
        for bad in [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &format!("{PARENT}-x"),
            &format!("{PARENT} "),
            &format!("{trace}0000000000000000-01"),
            &format!("{span}1"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(bad.parse::<Caller>(), Err(Error::TraceMalformed), "{bad}");
        }
    }

    #[test]
    fn spans_are_told_apart_and_stay_the_same() {
        let mut seen = BTreeSet::new();
        for n in 0..50 {
            let one = Trace::new(task(n), Origin::default());
            assert_eq!(one.id(), task(n).to_u128());
            let again = Trace::new(task(n), Origin { caller: None, redrives: 1 });
            assert_eq!(again.parent(), Some(one.task_span()));
            assert!(seen.insert(one.task_span()) && seen.insert(again.task_span()));
            for attempt in (1..5).map(Attempt) {
                assert_eq!(one.step_span(attempt, Step(0)), one.attempt_span(attempt));
                for step in (0..20).map(Step) {
                    assert!(seen.insert(one.step_span(attempt, step)), "{n} {attempt:?} {step:?}");
                }
            }
        }
    }

    #[test]
    fn the_caller_decides_and_else_the_ratio() {
        let of = |n, ratio| Trace::new(task(n), Origin::default()).under(Sampling::of_ratio(ratio));
        let kept = |n: &u64| of(*n, 0.5).is_sampled();
        let count = (0..1_000).filter(kept).count();
        assert!((400..600).contains(&count), "{count}");
        for is_sampled in [true, false] {
            let mut caller: Caller = PARENT.parse().expect("well formed");
            caller.is_sampled = is_sampled;
            let trace = Trace::new(task(1), Origin { caller: Some(caller), redrives: 0 });
            for ratio in [0.0, 0.5, 1.0] {
                assert_eq!(trace.under(Sampling::of_ratio(ratio)).is_sampled(), is_sampled);
            }
            assert_eq!(trace.parent(), Some(caller.span));
            assert_eq!(trace.id(), u128::from_be_bytes(caller.trace));
        }
        assert!(!of(1, 0.0).is_sampled());
        let parent = of(1, 1.0).traceparent(Attempt(1), Step(2));
        let caller: Caller = parent.parse().expect("well formed");
        assert_eq!(caller.span, of(1, 1.0).step_span(Attempt(1), Step(2)));
    }
}
