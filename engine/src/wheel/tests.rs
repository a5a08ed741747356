//! What the wheel keeps in memory.

use super::*;

#[test]
fn a_steady_wheel_keeps_its_memory() {
    let mut wheel = Wheel::new(1_000_000);
    let mut out = Vec::new();
    for turn in 0..10_000_u64 {
        let now_ms = 1_000_000 + turn;
        let late = wheel.insert(turn, turn);
        let soon = wheel.insert(now_ms + 1, turn);
        let lease = wheel.insert(now_ms + 30_000, turn);
        assert_eq!(wheel.cancel(late), Some(turn));
        assert_eq!(wheel.cancel(lease), Some(turn));
        assert_eq!(wheel.cancel(lease), None);
        assert!(!wheel.advance(now_ms + 1, 10, &mut out));
        assert_eq!(wheel.cancel(soon), None, "it fired");
        assert!(wheel.nodes.len() <= 3 && wheel.overdue.len() <= STALE_MIN);
    }
    assert_eq!(out, (0..10_000).collect::<Vec<_>>());
    wheel.assert_valid();
}

#[test]
fn cancelled_overdue_timers_do_not_pile_up() {
    let mut wheel = Wheel::new(1_000_000);
    wheel.insert(0, 0);
    for number in 1..10_000 {
        let id = wheel.insert(number, number);
        assert_eq!(wheel.cancel(id), Some(number));
        assert!(wheel.overdue.len() <= 2 * STALE_MIN);
    }
    wheel.assert_valid();
}
