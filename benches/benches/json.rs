//! JSON in and out: a submission parsed as the net core does it, into borrowed fields with the
//! input left unparsed, and a task rendered as it does it, each against `serde_json::Value`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use no_benches::shard::{Asked, LoneShard};
use no_engine::command::Answer;
use no_engine::task::Task;
use no_net::{render, wire};
use serde_json::Value;
use std::hint::black_box;
use std::time::Duration;

/// A submission of the size that agents send.
const SUBMISSION: &str = concat!(
    r#"{"agent":"researcher","input":{"question":"Which of our customers in the north opened "#,
    r#"more than three tickets last month, and what were they about?","customer":"c-18842","#,
    r#""history":["greeting","clarified the time range"],"depth":3,"language":"en"},"#,
    r#""priority":7,"fairness_key":"tenant-42","tags":["support","report"],"timeout_ms":120000,"#,
    r#""max_attempts":3,"budget":{"max_iterations":12}}"#
);

/// A task as a shard answers it.
fn task() -> Box<Task> {
    let mut shard = LoneShard::new();
    let commands = shard.submissions(1, Asked { agent: "echo", fairness_keys: 1 });
    let mut task = None;
    let on_answer = |answer| {
        if let Answer::Task(answered) = answer {
            task = Some(answered);
        }
    };
    shard.run_with(commands, |_| {}, on_answer);
    task.expect("a task is the answer")
}

fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes(SUBMISSION.len() as u64));
    assert!(wire::parse::<wire::Submission<'_>>(SUBMISSION.as_bytes()).is_ok());
    group.bench_function("parse_submission/ours", |bencher| {
        bencher.iter(|| {
            let parsed = wire::parse::<wire::Submission<'_>>(black_box(SUBMISSION.as_bytes()));
            black_box(parsed.ok()).is_some()
        });
    });
    group.bench_function("parse_submission/value", |bencher| {
        bencher.iter(|| serde_json::from_slice::<Value>(black_box(SUBMISSION.as_bytes())));
    });
    let task = task();
    let mut out = Vec::new();
    render::push_task(&mut out, &task);
    let value: Value = serde_json::from_slice(&out).expect("a task is JSON");
    group.throughput(Throughput::Bytes(out.len() as u64));
    group.bench_function("render_task/ours", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::with_capacity(render::task_bytes(&task));
            render::push_task(&mut out, black_box(&task));
            out
        });
    });
    group.bench_function("render_task/value", |bencher| {
        bencher.iter(|| serde_json::to_vec(black_box(&value)));
    });
}

criterion_group!(benches, json);
criterion_main!(benches);
