//! The engine alone: `echo` tasks from submission to success through a shard's turns, with a
//! journal that is done at once.

use super::cores::cpu_s;
use no_engine::shard::lone::{Asked, LoneShard};
use std::time::{Duration, Instant};

/// Tasks of a turn under load.
const TURN: usize = 256;

/// CPU time of a task, in µs.
pub(super) fn measure(how_long: Duration) -> f64 {
    let mut shard = LoneShard::new();
    let warm = shard.submissions(TURN, Asked::ECHO);
    shard.run(warm);
    let (begun, mut spent_s, mut tasks) = (Instant::now(), 0.0, 0);
    while tasks == 0 || begun.elapsed() < how_long {
        let commands = shard.submissions(TURN, Asked::ECHO);
        let before_s = cpu_s();
        tasks += shard.run(commands);
        spent_s += cpu_s() - before_s;
    }
    spent_s * 1e6 / tasks as f64
}
