//! The simulator over many seeds: the promises hold, and every planted bug is found.
//!
//! `SEED=n` runs one seed; `make sim` runs for ever from a random one.

use no_engine::machine::{BUGS, Bug};
use no_engine::sim::{Report, run};
use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::catch_unwind;

const STEPS: usize = 4_000;

fn check(seed: u64) -> Report {
    match run(seed, STEPS, None) {
        Ok(report) => report,
        Err(broken) => panic!("seed {seed}: {broken}\nagain with: SEED={seed} make sim"),
    }
}

fn seeds() -> Vec<u64> {
    let kept = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let kept = kept.map(|line| line.trim().parse().expect("a seed a line"));
    kept.chain(1..=64).collect()
}

#[test]
fn the_promises_hold_over_64_seeds_and_every_transition_is_visited() {
    let seed = std::env::var("SEED").ok().filter(|seed| !seed.is_empty());
    if let Some(seed) = seed {
        let report = check(seed.parse().expect("SEED is a number"));
        println!("{report:#?}");
        return;
    }
    if std::env::var_os("SIM").is_some() {
        return endless();
    }
    let mut seen = BTreeSet::new();
    let (mut acknowledged, mut crashes, mut restarts, mut held_back) = (0, 0, 0, 0);
    let mut moves = 0;
    for seed in seeds() {
        let report = check(seed);
        seen.extend(report.transitions);
        acknowledged += report.acknowledged;
        crashes += report.crashes;
        restarts += report.restarts;
        held_back += report.held_back;
        moves += report.moves;
    }
    // A run with too little going on shows nothing.
    assert!(5_000 < acknowledged, "only {acknowledged} tasks");
    assert!(300 < crashes, "only {crashes} crashes");
    assert!(50 < restarts, "only {restarts} clean stops");
    assert!(1_000 < moves, "only {moves} partitions moved");
    assert!(1_000 < held_back, "agents were held back for only {held_back} turns");
    for row in TRANSITIONS {
        assert!(seen.contains(row), "no seed visited {row:?}");
    }
}

/// New seeds until one fails or somebody stops it; `SIM_SEEDS` bounds how many.
fn endless() {
    // The standard library's hasher is the one source of randomness at hand here.
    let start = RandomState::new().build_hasher().finish() >> 1;
    let bound = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
    let mut acknowledged = 0;
    for n in 0..bound {
        acknowledged += check(start + n).acknowledged;
        if n % 100 == 99 {
            println!("{} seeds, {acknowledged} tasks acknowledged, none lost", n + 1);
        }
    }
}

/// The table of `machine/mod.rs`.
const TRANSITIONS: &[(&str, &str)] = &[
    ("(none)", "submitted"),
    ("scheduled", "queued"),
    ("queued", "started"),
    ("running", "step_started"),
    ("running", "step_ended"),
    ("running", "step_failed"),
    ("running", "step_unknown"),
    ("running", "waited"),
    ("waiting", "step_ended"),
    ("waiting", "step_reset"),
    ("waiting", "woken"),
    ("running", "retry_scheduled"),
    ("running", "interrupted"),
    ("running", "succeeded"),
    ("running", "dead_lettered"),
    ("waiting", "dead_lettered"),
    ("queued", "dead_lettered"),
    ("scheduled", "dead_lettered"),
    ("queued", "cancelled"),
    ("running", "cancelled"),
    ("waiting", "cancelled"),
    ("scheduled", "cancelled"),
    ("failed", "retried"),
    ("failed", "removed"),
];

#[test]
fn a_seed_gives_the_same_run_again() {
    assert_eq!(check(7), check(7));
}

#[test]
fn every_planted_bug_is_found() {
    let missed: Vec<Bug> = BUGS.into_iter().filter(|bug| !is_found(*bug)).collect();
    assert!(missed.is_empty(), "the simulator does not find {missed:?}");
}

fn is_found(bug: Bug) -> bool {
    (1..=64).any(|seed| !matches!(catch_unwind(|| run(seed, STEPS, Some(bug))), Ok(Ok(_))))
}
