//! Tests of the link to the reader thread.

use super::*;
use no_engine::doorbell::doorbell;
use no_engine::id::PartitionId;
use no_engine::port::Wake;
use std::task::{Context, Poll, Waker};

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// Knows one blob, no task, and fails on lists.
struct Fake;

impl Reader for Fake {
    fn task(&mut self, _: TaskId) -> Result<Option<Task>, String> {
        Ok(None)
    }

    fn events(&mut self, _: TaskId, _: u32, _: usize) -> Result<Vec<Record>, String> {
        Ok(Vec::new())
    }

    fn list(&mut self, _: &Filter, _: Option<TaskId>, _: usize) -> Result<Page, String> {
        Err("no lists".into())
    }

    fn blob(&mut self, _: TaskId, hash: Hash) -> Result<Option<Arc<[u8]>>, String> {
        Ok((hash == Hash([1; 32])).then(|| Arc::from(&b"\"big\""[..])))
    }
}

fn id() -> TaskId {
    TaskId::new(1, 2, PartitionId(3))
}

fn linked() -> (Reads, Vec<ReaderLink>) {
    let (bell, _sleeper) = doorbell(Box::new(Silent));
    let (reads, link) = link(bell.clone(), bell);
    (reads, vec![link])
}

fn blob(hash: u8) -> Payload {
    Payload::blob(Hash([hash; 32]), 5, None)
}

/// Polls `asked` with the reader served in between.
async fn answered<T>(reads: &Reads, links: &mut [ReaderLink], asked: impl Future<Output = T>) -> T {
    let mut asked = std::pin::pin!(asked);
    loop {
        tokio::select! {
            biased;
            answer = &mut asked => return answer,
            () = tokio::task::yield_now() => {}
        }
        serve(&mut Fake, links);
        reads.pump();
    }
}

#[tokio::test]
async fn each_question_gets_its_answer() {
    let (reads, mut links) = linked();
    assert_eq!(answered(&reads, &mut links, reads.task(id())).await, Ok(None));
    assert_eq!(answered(&reads, &mut links, reads.events(id(), 0, 9)).await, Ok(Vec::new()));
    let list = answered(&reads, &mut links, reads.list(Filter::default(), None, 9)).await;
    assert_eq!(list, Err("no lists".into()));
    let bytes = answered(&reads, &mut links, reads.resolve(id(), &blob(1))).await;
    assert_eq!(bytes.as_deref(), Ok(&b"\"big\""[..]));
    let missing = answered(&reads, &mut links, reads.resolve(id(), &blob(2))).await;
    assert!(missing.is_err_and(|e| e.ends_with("is missing")));
    assert!(reads.is_idle());
}

#[tokio::test]
async fn what_is_at_hand_needs_no_reader() {
    let (reads, _links) = linked();
    let inline = reads.resolve(id(), &Payload::null()).await;
    assert_eq!(inline.as_deref(), Ok(&b"null"[..]));
}

#[test]
fn more_than_the_rings_hold_waits_and_the_rest_is_refused() {
    let (reads, mut links) = linked();
    let mut cx = Context::from_waker(Waker::noop());
    let all = READS_IN_FLIGHT_MAX + READS_WAITING_MAX;
    let mut asked: Vec<_> = (0..=all).map(|_| Box::pin(reads.task(id()))).collect();
    let mut refused = asked.pop().expect("there are many");
    for one in &mut asked {
        assert!(one.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(refused.as_mut().poll(&mut cx), Poll::Ready(Err("reader is busy".into())));
    while 0 < serve(&mut Fake, &mut links) {
        reads.pump();
    }
    for mut one in asked {
        assert_eq!(one.as_mut().poll(&mut cx), Poll::Ready(Ok(None)));
    }
}

#[test]
fn a_question_given_up_is_not_asked() {
    let (reads, mut links) = linked();
    let mut asked: Vec<_> =
        (0..READS_IN_FLIGHT_MAX + 1).map(|_| Box::pin(reads.task(id()))).collect();
    for one in &mut asked {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(one.as_mut().poll(&mut cx).is_pending());
    }
    drop(asked);
    let mut served = 0;
    while 0 < serve(&mut Fake, &mut links) {
        served += 1;
        reads.pump();
    }
    assert_eq!(served, READS_IN_FLIGHT_MAX);
}

#[test]
fn the_loop_serves_until_it_is_told_to_stop() {
    let (bell, sleeper) = doorbell(Box::new(Silent));
    let (reads, link) = link(bell.clone(), bell);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let stop = std::cell::Cell::new(false);
    let mut asked = Box::pin(reads.task(id()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(asked.as_mut().poll(&mut cx).is_pending());
    run_reader(&mut Fake, vec![link], &sleeper, || stop.set(true), || stop.get());
    reads.pump();
    assert_eq!(runtime.block_on(asked), Ok(None));
}
