//! What the last calls of each configured model came to, over all net cores: for a health check
//! that makes no call of its own.

use crate::out::error::CallError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// So many calls in a row that all failed make a model failing.
pub const FAILURES_MAX: u32 = 5;
/// Codes of answers that are no use, but answers: the model is there.
const ANSWERED: [&str; 2] = ["model_filtered", "model_length"];
/// Codes of calls that nO itself could not make.
const NOT_MADE: [&str; 2] = ["context_malformed", "store_failed"];

/// A model of which the last calls all failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failing {
    /// Its name in `models`.
    pub model: Box<str>,
    /// Calls in a row that failed, [`FAILURES_MAX`] or more.
    pub failures: u32,
    /// Code of the last one's error.
    pub code: &'static str,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    failures: u32,
    code: &'static str,
}

/// All models' last outcomes. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct ModelOutcomes(Arc<BTreeMap<Box<str>, Mutex<Last>>>);

impl ModelOutcomes {
    /// Of these models, none of which was called yet.
    pub fn new(names: impl Iterator<Item = Box<str>>) -> ModelOutcomes {
        ModelOutcomes(Arc::new(names.map(|name| (name, Mutex::default())).collect()))
    }

    /// Whether no model is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a call that ended; one that nO itself could not make says nothing.
    pub fn ended(&self, model: &str, error: Option<&CallError>) {
        let Some(last) = self.0.get(model) else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = match error {
            Some(error) if NOT_MADE.contains(&error.code()) => return,
            Some(error) if ANSWERED.contains(&error.code()) => Last::default(),
            Some(error) => Last { failures: last.failures.saturating_add(1), code: error.code() },
            None => Last::default(),
        };
    }

    /// Models of which the last [`FAILURES_MAX`] calls all failed, by name.
    #[must_use]
    pub fn failing(&self) -> Vec<Failing> {
        let mut failing = Vec::new();
        for (model, last) in &*self.0 {
            let Last { failures, code } = *last.lock().unwrap_or_else(PoisonError::into_inner);
            if FAILURES_MAX <= failures {
                failing.push(Failing { model: model.clone(), failures, code });
            }
        }
        failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_make_a_model_failing() {
        let outcomes = ModelOutcomes::new(["small".into(), "large".into()].into_iter());
        let coded = |code| CallError::Coded {
            code,
            message: String::new(),
            retryable: true,
            maybe_done: false,
            retry_after_ms: None,
        };
        let timeout = CallError::Timeout { timeout_ms: 1, maybe_done: false };
        for _ in 1..FAILURES_MAX {
            outcomes.ended("small", Some(&timeout));
            outcomes.ended("unknown", Some(&timeout));
        }
        assert_eq!(outcomes.failing(), []);
        outcomes.ended("small", Some(&CallError::Store("ours".into())));
        assert_eq!(outcomes.failing(), [], "what nO failed at says nothing");
        outcomes.ended("small", Some(&coded("model_failed")));
        let small = Failing { model: "small".into(), failures: 5, code: "model_failed" };
        assert_eq!(outcomes.failing(), [small]);
        outcomes.ended("small", Some(&coded("model_length")));
        assert_eq!(outcomes.failing(), [], "it answers");
        (0..9).for_each(|_| outcomes.ended("small", Some(&coded("model_unauthorized"))));
        assert_eq!(outcomes.failing().len(), 1);
        outcomes.ended("small", None);
        assert_eq!(outcomes.failing(), []);
    }
}
