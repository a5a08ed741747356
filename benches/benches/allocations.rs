//! Allocations per `echo` task in the pure machine, from submission to success, counted. No times:
//! the allocator that counts is not the one that the server has. Printed, and written to
//! `target/bench/allocations.json`.

use no_benches::shard::{Asked, LoneShard};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Turns before counting: maps and queues have their size by then.
const WARM_UP: usize = 200;

/// Allocations and bytes per task, of turns of so many tasks; without what makes the commands.
fn per_task(shard: &mut LoneShard, tasks: usize) -> (f64, f64) {
    for _ in 0..WARM_UP {
        let commands = shard.submissions(tasks, Asked::ECHO);
        shard.run(commands);
    }
    let commands = shard.submissions(tasks, Asked::ECHO);
    let counted = allocation_counter::measure(|| {
        shard.run(commands);
    });
    (counted.count_total as f64 / tasks as f64, counted.bytes_total as f64 / tasks as f64)
}

fn main() {
    println!("allocations of an echo task, submission to success, in the pure machine");
    let mut rows = Vec::new();
    for tasks in [1, 64, 1_024] {
        let (count, bytes) = per_task(&mut LoneShard::new(), tasks);
        println!("  {tasks:>5} tasks in a turn: {count:>6.2} allocations, {bytes:>7.0} B a task");
        rows.push(json!({"tasks_in_turn": tasks, "allocations": count, "bytes": bytes}));
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let file = folder.join("allocations.json");
    let text = json!({"per_echo_task": rows}).to_string();
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, text))
        .unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    println!("written to {}", file.display());
}
