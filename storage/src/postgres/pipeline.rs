//! Several requests in one round trip: the library sends a request when its future is polled first,
//! and the server answers them in their order.

use crate::postgres::fault::{Fault, said};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use tokio_postgres::Error;

/// A request and its answer.
pub(crate) type Request<'c, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'c>>;

/// What became of requests that were sent in one go.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The first that failed.
    pub(crate) index: usize,
    /// Whether those after it were sent all the same. If not, the connection is of no more use.
    pub(crate) all_sent: bool,
    /// What it said.
    pub(crate) error: Error,
}

/// Sends `requests` in their order and waits for all answers.
///
/// One that fails before it is sent keeps those after it from being sent: a commit does not follow
/// on what was left out. One that the server refuses does not, as they are on their way: it is the
/// server that must then refuse the rest, which a transaction does.
pub(crate) async fn pipelined<T>(mut requests: Vec<Request<'_, T>>) -> Result<Vec<T>, Broken> {
    let mut answers: Vec<Option<Result<T, Error>>> = requests.iter().map(|_| None).collect();
    let (mut sent, mut unsent) = (0, None);
    poll_fn(|context| {
        for (i, request) in requests.iter_mut().enumerate() {
            if answers[i].is_some() {
                continue;
            }
            if let Poll::Ready(answer) = request.as_mut().poll(context) {
                match answer {
                    Err(error) if sent <= i => {
                        unsent = Some(Broken { index: i, all_sent: false, error });
                        return Poll::Ready(());
                    }
                    answer => answers[i] = Some(answer),
                }
            }
            sent = sent.max(i + 1);
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    if let Some(broken) = unsent {
        return Err(broken);
    }
    let mut done = Vec::with_capacity(answers.len());
    for (index, answer) in answers.into_iter().flatten().enumerate() {
        match answer {
            Ok(value) => done.push(value),
            Err(error) => return Err(Broken { index, all_sent: true, error }),
        }
    }
    Ok(done)
}

impl Broken {
    /// What is to be done about it. What could not be sent for what it is will never be.
    pub(crate) fn fault(&self) -> Fault {
        if !self.all_sent && !self.error.is_closed() {
            return Fault::Refused(said(&self.error));
        }
        Fault::of(&self.error)
    }
}
