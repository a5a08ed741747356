//! Tables of what is seen, second by second, and what the pool does about it.

use super::*;

const AIMS: Aims = Aims {
    slots_min: 5,
    slots_max: 50,
    cpu_ratio: 0.7,
    memory_ratio: 0.8,
    up_cooldown_ms: 180_000,
    down_cooldown_ms: 600_000,
};

/// So many seconds with these (used, queued, CPU, memory).
type Row = (u64, usize, usize, f64, f64);

/// Runs the rows, a reading each second; gives (second, from, to, reason) of each change.
fn run(aims: Aims, rows: &[Row]) -> Vec<(u64, usize, usize, &'static str)> {
    let mut pool = Pool::new(aims);
    let (mut second, mut changes) = (0, Vec::new());
    for (seconds, used, queued, cpu, memory) in rows {
        for _ in 0..*seconds {
            second += 1;
            let used = (*used).min(pool.size());
            let (cpu_ratio, memory_ratio) = (Some(*cpu), Some(*memory));
            let now = Mono(second * 1_000);
            let seen = Seen { now, used, queued: *queued, cpu_ratio, memory_ratio };
            if let Some(decision) = pool.decide(seen) {
                assert_eq!(decision.to, pool.size());
                assert_ne!(decision.from, decision.to, "a decision changes something");
                changes.push((second, decision.from, decision.to, decision.reason.name()));
            }
            assert!((aims.slots_min..=aims.slots_max).contains(&pool.size()));
        }
    }
    changes
}

fn check(rows: &[Row], expected: &[(u64, usize, usize, &'static str)]) {
    assert_eq!(run(AIMS, rows), expected, "{rows:?}");
}

#[test]
fn it_grows_under_queueing_with_cpu_to_spare() {
    // Three readings make a growth; it goes to where the need is 75 %.
    check(&[(10, 5, 7, 0.1, 0.2)], &[(3, 5, 16, "busy")]);
    // Never past the bound, whatever waits.
    check(&[(400, 50, 100_000, 0.01, 0.2)], &[(3, 5, 50, "busy")]);
    check(&[(400, 50, usize::MAX, 0.0, 0.2)], &[(3, 5, 50, "busy")]);
    // Within 70 to 80 % it is left alone.
    check(&[(2_000, 4, 0, 0.1, 0.2)], &[]);
    // Full without a queue is too tight as well.
    check(&[(10, 5, 0, 0.1, 0.2)], &[(3, 5, 7, "busy")]);
}

#[test]
fn it_grows_as_far_as_cpu_allows() {
    // 5 make 35 %: 10 make 70.
    check(&[(10, 5, 100, 0.35, 0.2)], &[(3, 5, 10, "busy")]);
    check(&[(900, 5, 100, 0.7, 0.2)], &[]);
    check(&[(900, 5, 100, 0.8, 0.2)], &[]);
    check(&[(900, 5, 100, 0.1, 0.79)], &[]);
}

#[test]
fn it_shrinks_when_idle_and_never_below_its_bound() {
    let expected = [(3, 5, 40, "busy"), (603, 40, 14, "idle"), (1_203, 14, 5, "idle")];
    let rows = [(10, 5, 25, 0.08, 0.2), (700, 10, 0, 0.1, 0.2), (2_000, 0, 0, 0.0, 0.2)];
    check(&rows, &expected);
}

#[test]
fn cooldowns_hold() {
    // After the growth the queue doubles at once: the next growth waits for 180 s.
    let rows = [(10, 5, 5, 0.1, 0.2), (400, 14, 10, 0.1, 0.2)];
    check(&rows, &[(3, 5, 14, "busy"), (183, 14, 32, "busy")]);
    let quick = Aims { up_cooldown_ms: 0, down_cooldown_ms: 0, ..AIMS };
    let rows = [(10, 5, 5, 0.1, 0.2), (60, 14, 10, 0.1, 0.2), (60, 0, 0, 0.0, 0.2)];
    let expected = [(3, 5, 14, "busy"), (13, 14, 32, "busy"), (100, 32, 5, "idle")];
    assert_eq!(run(quick, &rows), expected);
}

#[test]
fn memory_pressure_shrinks_at_once_and_again_after_a_pause() {
    // No cooldown is over, and the need is high.
    let rows = [(10, 5, 100, 0.01, 0.2), (25, 50, 100, 0.1, 0.81)];
    let expected = [
        (3, 5, 50, "busy"),
        (11, 50, 37, "memory"),
        (21, 37, 27, "memory"),
        (31, 27, 20, "memory"),
    ];
    check(&rows, &expected);
    // Down to the bound, not below.
    let last = run(AIMS, &[(10, 5, 100, 0.01, 0.2), (600, 50, 9, 0.1, 0.99)]);
    assert_eq!(last.last().map(|change| change.2), Some(5));
    // It grows again only with room to spare, and after its cooldown.
    let rows = [(10, 5, 100, 0.01, 0.2), (1, 50, 100, 0.1, 0.9), (300, 37, 100, 0.1, 0.78)];
    check(&rows, &[(3, 5, 50, "busy"), (11, 50, 37, "memory")]);
    let rows = [(10, 5, 100, 0.01, 0.2), (1, 50, 100, 0.1, 0.9), (300, 37, 100, 0.1, 0.7)];
    check(&rows, &[(3, 5, 50, "busy"), (11, 50, 37, "memory"), (191, 37, 50, "busy")]);
}

#[test]
fn cpu_pressure_shrinks_after_its_cooldown() {
    let rows = [(10, 5, 100, 0.01, 0.2), (700, 50, 0, 1.0, 0.2)];
    check(&rows, &[(3, 5, 50, "busy"), (603, 50, 35, "cpu")]);
    check(&[(10, 5, 100, 0.01, 0.2), (700, 50, 0, 0.8, 0.2)], &[(3, 5, 50, "busy")]);
}

#[test]
fn a_flapping_need_does_not_make_the_pool_flap() {
    let quick = Aims { up_cooldown_ms: 0, down_cooldown_ms: 0, ..AIMS };
    for period in [1, 2] {
        let mut rows: Vec<Row> = vec![(1, 0, 0, 0.0, 0.2)];
        for _ in 0..200 {
            rows.push((period, 5, 500, 0.1, 0.2));
            rows.push((period, 0, 0, 0.0, 0.2));
        }
        assert_eq!(run(quick, &rows), [], "period {period}");
    }
    // Longer bursts grow it once; it keeps what it has while they go on.
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..50 {
        rows.push((10, 5, 500, 0.01, 0.2));
        rows.push((10, 0, 0, 0.0, 0.2));
    }
    assert_eq!(run(quick, &rows), [(3, 5, 50, "busy")]);
    // Memory at its aim does not either: each shrinking is followed by a growth's cooldown.
    let mut rows: Vec<Row> = vec![(10, 5, 500, 0.01, 0.2)];
    for _ in 0..200 {
        rows.push((1, 50, 500, 0.1, 0.81));
        rows.push((1, 50, 500, 0.1, 0.79));
    }
    let changes = run(AIMS, &rows);
    assert!(changes.iter().skip(1).all(|change| change.3 == "memory"), "{changes:?}");
}

#[test]
fn what_the_kernel_does_not_say_holds_nothing_back() {
    let mut pool = Pool::new(AIMS);
    let seen = |second: u64| Seen {
        now: Mono(second * 1_000),
        used: 5,
        queued: 100,
        cpu_ratio: None,
        memory_ratio: None,
    };
    let changes: Vec<_> = (0..10).filter_map(|second| pool.decide(seen(second))).collect();
    assert_eq!(changes.iter().map(|change| change.to).collect::<Vec<_>>(), [50]);
}
