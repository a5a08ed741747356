//! Tests of the context cache: it never changes what a model is asked, only how fast that is known.

use super::*;
use crate::reads::{ReaderLink, link, serve};
use no_engine::agent::state::{ModelAnswer, ToolCall};
use no_engine::doorbell::doorbell;
use no_engine::id::PartitionId;
use no_engine::payload::Hash;
use no_engine::port::{Filter, Page, Reader, Wake};
use no_engine::task::{Task, Usage};
use no_engine::time::Millis;
use proptest::prelude::*;
use std::sync::Arc;

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// A store with the history of one task; its blobs are `"big"`.
#[derive(Default)]
struct History(Vec<Record>);

impl Reader for History {
    fn task(&mut self, _: TaskId) -> Result<Option<Task>, String> {
        Ok(None)
    }

    fn events(&mut self, _: TaskId, after: u32, limit: usize) -> Result<Vec<Record>, String> {
        Ok(self.0.iter().filter(|record| after < record.n).take(limit).cloned().collect())
    }

    fn list(&mut self, _: &Filter, _: Option<TaskId>, _: usize) -> Result<Page, String> {
        Ok(Page::default())
    }

    fn blob(&mut self, _: TaskId, _: Hash) -> Result<Option<Arc<[u8]>>, String> {
        Ok(Some(Arc::from(&b"\"big\""[..])))
    }
}

impl History {
    fn add(&mut self, step: u32, kind: StepKind, call_id: Option<Box<str>>, output: Payload) {
        let n = u32::try_from(self.0.len() + 1).expect("few");
        let event = Event::StepEnded {
            step: Step(step),
            kind,
            name: Arc::from("x"),
            call_id,
            output,
            usage: Usage::default(),
            planned: Vec::new(),
            empty: false,
            reported: 0,
        };
        self.0.push(Record { task: task(), n, at: Millis(0), event: Arc::new(event) });
    }
}

fn task() -> TaskId {
    TaskId::new(1, 2, PartitionId(3))
}

fn run<T>(
    history: &mut History,
    links: &mut [ReaderLink],
    reads: &Reads,
    asked: impl Future<Output = T>,
) -> T {
    let mut asked = std::pin::pin!(asked);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(answer) = asked.as_mut().poll(&mut cx) {
            return answer;
        }
        serve(history, links);
        reads.pump();
    }
}

/// One iteration: how many calls, the order in which their results come, and what the process still
/// knows when it asks the next time.
#[derive(Clone, Debug)]
struct Iteration {
    calls: usize,
    order: Vec<usize>,
    is_warm: bool,
    is_asked_again: bool,
    has_blob: bool,
}

fn iteration() -> impl Strategy<Value = Iteration> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (0_usize..4, flags).prop_flat_map(|(calls, (is_warm, is_asked_again, has_blob))| {
        let order: Vec<usize> = (0..calls).collect();
        Just(order).prop_shuffle().prop_map(move |order| Iteration {
            calls,
            order,
            is_warm,
            is_asked_again,
            has_blob,
        })
    })
}

/// Plays a loop and asks for each call's messages; `cache` decides how they come together.
fn play(iterations: &[Iteration], bytes_max: usize) -> Vec<Vec<u8>> {
    let (bell, _sleeper) = doorbell(Box::new(Silent));
    let (reads, reader_link) = link(bell.clone(), bell);
    let mut links = vec![reader_link];
    let mut history = History::default();
    let cache = RefCell::new(Contexts::new(bytes_max));
    let input = Payload::inline(br#"{"q": "x"}"#);
    let (mut after, mut step) = (Step(0), Step(1));
    let mut fresh: Option<Vec<Message>> = None;
    let mut asked = Vec::new();
    for (i, iteration) in iterations.iter().enumerate() {
        let context = Context { after, fresh: fresh.take() };
        let wanted = Wanted { task: task(), step, input: &input, context: &context };
        let got = run(&mut history, &mut links, &reads, messages(&cache, &reads, &wanted));
        asked.push(got.expect("a context").to_vec());
        if iteration.is_asked_again {
            let context = Context { after, fresh: None };
            let wanted = Wanted { task: task(), step, input: &input, context: &context };
            let again = run(&mut history, &mut links, &reads, messages(&cache, &reads, &wanted));
            assert_eq!(again.expect("a context").to_vec(), *asked.last().expect("just pushed"));
        }
        let call = |k: usize| ToolCall {
            id: format!("c{i}_{k}").into(),
            name: "f".into(),
            arguments: "{}".into(),
        };
        let answer = ModelAnswer {
            text: (iteration.calls == 0).then(|| "hm".into()),
            tool_calls: (0..iteration.calls).map(call).collect(),
            usage: Usage::default(),
        };
        let output = Payload::inline(&serde_json::to_vec(&answer).expect("serialises"));
        history.add(step.0, StepKind::Model, None, output.clone());
        let mut came = vec![Message::Assistant(output)];
        for &k in &iteration.order {
            let result = if iteration.has_blob && k == 0 {
                Payload::blob(Hash([7; 32]), 5, None)
            } else {
                Payload::inline(format!("[{i}, {k}]").as_bytes())
            };
            let id = call(k).id;
            let kind = if k % 2 == 0 { StepKind::Tool } else { StepKind::Timer };
            let tool_step = step.0 + 1 + u32::try_from(k).expect("few");
            history.add(tool_step, kind, Some(id.clone()), result.clone());
            came.push(Message::Tool { call_id: id, result });
        }
        fresh = iteration.is_warm.then_some(came);
        after = step;
        step = Step(step.0 + 1 + u32::try_from(iteration.calls).expect("few"));
    }
    asked
}

proptest! {
    #[test]
    fn a_context_that_grew_and_one_built_again_are_the_same(
        iterations in prop::collection::vec(iteration(), 1..12),
        bytes_max in 0_usize..4_000,
    ) {
        let cold: Vec<Iteration> = iterations
            .iter()
            .map(|one| Iteration { is_warm: false, is_asked_again: false, ..one.clone() })
            .collect();
        let rebuilt = play(&cold, 0);
        prop_assert_eq!(&play(&iterations, CONTEXT_BYTES_MAX), &rebuilt);
        prop_assert_eq!(&play(&iterations, bytes_max), &rebuilt);
    }
}

#[test]
fn a_long_history_is_read_in_pieces() {
    let one = Iteration {
        calls: 3,
        order: vec![2, 0, 1],
        is_warm: true,
        is_asked_again: false,
        has_blob: false,
    };
    let warm = vec![one.clone(); 200];
    let cold = vec![Iteration { is_warm: false, ..one }; 200];
    assert_eq!(play(&warm, CONTEXT_BYTES_MAX).last(), play(&cold, 0).last());
}

#[test]
fn the_cache_keeps_to_its_bound_and_drops_the_oldest() {
    let mut cache = Contexts::new(3 * (ENTRY_BYTES + 100));
    let id = |n: u64| TaskId::new(n, 0, PartitionId(0));
    for n in 0..5 {
        cache.put(id(n), Step(1), Step(0), Rc::new(vec![0; 100]));
        assert!(cache.bytes() <= 3 * (ENTRY_BYTES + 100));
    }
    assert!(cache.take(id(1)).is_none());
    assert!(cache.take(id(2)).is_some());
    cache.put(id(9), Step(1), Step(0), Rc::new(vec![0; 10_000]));
    assert!(cache.take(id(9)).is_none());
    for n in [3, 4] {
        assert!(cache.take(id(n)).is_some());
    }
    assert_eq!(cache.bytes(), 0);
}
