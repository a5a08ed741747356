//! Whether the embedded store answers: net core 0 reads from it every few seconds, through the same
//! link and thread as requests do, and notes what came of it for the health check.

use no_engine::id::{PartitionId, TaskId};
use no_net::reads::Reads;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// From one read's end to the next.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest wait for a read.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the last read came to. Cheap to clone; written by net core 0, read by any thread.
#[derive(Clone, Debug, Default)]
pub struct DatabaseHealth(Arc<Mutex<Option<String>>>);

impl DatabaseHealth {
    /// What is wrong; `None` when the last read was answered, and before the first.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, fault: Option<String>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = fault.as_ref().filter(|_| last.is_none()) {
            tracing::error!(target: "journal", fault, "the store does not answer");
        }
        *last = fault;
    }

    /// Reads and notes for ever. To be awaited on the net core's runtime.
    pub async fn keep(&self, reads: &Reads) {
        // No task has this id: it is found in the index that there is none.
        let nobody = TaskId::new(0, 0, PartitionId(0));
        loop {
            let answer = async { reads.task(nobody).await.map(|_| ()) };
            self.note(looked(TIMEOUT, answer).await);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What is wrong with a read that is waited for so long.
async fn looked(
    timeout: Duration,
    answer: impl Future<Output = Result<(), String>>,
) -> Option<String> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(format!("the store cannot be read: {why}")),
        Err(_) => Some(format!("the store did not answer within {} s", timeout.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[test]
    fn an_answer_an_error_and_silence_are_told_apart() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let timeout = Duration::ZERO;
            assert_eq!(looked(timeout, ready(Ok(()))).await, None);
            let failed = looked(timeout, ready(Err("torn page".into()))).await;
            assert_eq!(failed.as_deref(), Some("the store cannot be read: torn page"));
            let silent = looked(timeout, pending()).await;
            assert_eq!(silent.as_deref(), Some("the store did not answer within 0 s"));
        });
    }

    #[test]
    fn the_last_read_counts() {
        let health = DatabaseHealth::default();
        assert_eq!(health.fault(), None);
        health.note(Some("gone".into()));
        assert_eq!(health.clone().fault().as_deref(), Some("gone"));
        health.note(None);
        assert_eq!(health.fault(), None);
    }
}
