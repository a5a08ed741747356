//! One limiter by itself, several that tell each other, and the bounds.

use super::book::PARTS;
use super::*;
use governor::clock::FakeRelativeClock;

fn limiter(rate: Rate, keys_max: usize) -> (Limiter<u32, FakeRelativeClock>, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (Limiter::with_clock(rate, clock.clone(), keys_max), clock)
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_burst_and_then_the_rate() {
    let (limiter, clock) = limiter(Rate::new(10, 3), 100);
    let takes = || limiter.take(&1);
    assert_eq!([takes(), takes(), takes()], [Ok(2), Ok(1), Ok(0)]);
    assert_eq!(takes(), Err(100 * MS));
    assert_eq!(limiter.take(&2), Ok(2), "another key has its own");
    clock.advance(99 * MS);
    assert_eq!(takes(), Err(MS));
    clock.advance(MS);
    assert_eq!(takes(), Ok(0));
    clock.advance(300 * MS);
    assert_eq!(takes(), Ok(2));
}

#[test]
fn spending_all_makes_wait_and_looking_takes_nothing() {
    let (limiter, clock) = limiter(Rate::new(1, 2), 100);
    assert_eq!(limiter.wait(&1), None);
    assert!(!limiter.spend(&1));
    assert_eq!(limiter.wait(&1), None);
    assert!(limiter.spend(&1));
    for _ in 0..5 {
        assert_eq!(limiter.wait(&1), Some(1_000 * MS));
    }
    assert_eq!(limiter.wait(&2), None);
    clock.advance(1_000 * MS);
    assert_eq!(limiter.wait(&1), None);
    assert!(limiter.spend(&1));
    assert_eq!(limiter.wait(&1), Some(1_000 * MS));
}

#[test]
fn keys_are_bounded_and_those_without_room_share_a_bucket() {
    let (limiter, clock) = limiter(Rate::new(1, 2), 32);
    let taken = (0..10_000).filter(|key| limiter.take(key).is_ok()).count();
    assert!(limiter.keys() <= 32, "{}", limiter.keys());
    assert!(taken <= 32 + 2 * PARTS, "{taken}");
    clock.advance(10_000 * MS);
    limiter.tidy();
    assert_eq!(limiter.keys(), 0);
    assert_eq!(limiter.take(&10_001), Ok(1));
}

#[test]
fn keys_at_rest_make_room_by_themselves() {
    let (limiter, clock) = limiter(Rate::new(1, 2), 32);
    (0..1_000).for_each(|key| assert!(limiter.take(&key) != Ok(9)));
    clock.advance(10_000 * MS);
    let taken = (2_000..2_016).filter(|key| limiter.take(key) == Ok(1)).count();
    assert!(8 < taken, "{taken}");
}

/// What all nodes have in common: when a key's bucket is whole, in ns on a clock of its own.
fn add(whole_at: &mut u64, now: u64, taken: u32, each: u64) -> Duration {
    *whole_at = (*whole_at).max(now) + each * u64::from(taken);
    Duration::from_nanos(*whole_at - now)
}

#[test]
fn nodes_that_tell_each_other_keep_one_limit() {
    let rate = Rate::new(10, 4);
    let ((one, clock), (two, other)) = (limiter(rate, 100), limiter(rate, 100));
    for limiter in [&one, &two] {
        limiter.share();
        assert!(limiter.taken(9).is_empty());
    }
    // Both let a burst through before they hear of each other.
    for limiter in [&one, &two] {
        assert_eq!((0..9).filter(|_| limiter.take(&1).is_ok()).count(), 4);
    }
    let mut common = 0;
    for limiter in [&one, &two, &one] {
        for (key, taken) in limiter.taken(9) {
            limiter.learn(&key, add(&mut common, 0, taken, limiter.each()));
        }
    }
    // The second has heard of the first's; the first hears when it takes again.
    assert_eq!(two.take(&1), Err(500 * MS));
    for _ in 0..20 {
        clock.advance(100 * MS);
        other.advance(100 * MS);
    }
    let mut let_through = 0;
    for ms in (2_000..12_000).step_by(100) {
        for (limiter, clock) in [(&one, &clock), (&two, &other)] {
            let_through += (0..9).filter(|_| limiter.take(&1).is_ok()).count();
            for (key, taken) in limiter.taken(9) {
                let now = ms * 1_000_000;
                limiter.learn(&key, add(&mut common, now, taken, limiter.each()));
            }
            clock.advance(100 * MS);
        }
    }
    // Ten seconds at 10 a second, a burst of each node, and what one lets through in between.
    assert!((100..=100 + 4 + 4 + 2).contains(&let_through), "{let_through}");
}

#[test]
fn learning_makes_stricter_only_and_never_for_long() {
    let (limiter, clock) = limiter(Rate::new(10, 4), 100);
    limiter.share();
    assert_eq!(limiter.take(&1), Ok(3));
    limiter.learn(&1, Duration::ZERO);
    assert_eq!(limiter.take(&1), Ok(2));
    assert_eq!(limiter.taken(9), [(1, 2)]);
    // What is told later than it is learnt is added.
    assert_eq!(limiter.take(&1), Ok(1));
    limiter.learn(&1, 200 * MS);
    assert_eq!(limiter.take(&1), Ok(0));
    limiter.learn(&1, Duration::MAX);
    let most = 100 * 4 * u32::try_from(AHEAD_WINDOWS_MAX).expect("small");
    let wait = limiter.take(&1).expect_err("spent");
    assert!(wait <= (most + 300) * MS, "{wait:?}");
    assert_eq!(limiter.wait(&1), Some(wait), "whoever asks without taking sees it too");
    clock.advance(wait);
    assert_eq!(limiter.take(&1), Ok(0));
    assert_eq!(limiter.taken(0), []);
    assert_eq!(limiter.taken(9).len(), 1);
}

#[test]
fn what_is_to_be_told_is_bounded() {
    let (limiter, _clock) = limiter(Rate::new(1, 9), 100_000);
    limiter.share();
    for key in 0..50_000 {
        assert!(limiter.take(&key).is_ok());
    }
    let first = limiter.taken(usize::MAX);
    assert!(first.len() <= TAKEN_MAX && TAKEN_MAX / 2 < first.len(), "{}", first.len());
    // Those that found no room are told when they take again, with all that they took.
    let is_left_out = |key: &u32| first.iter().all(|(told, _)| told != key);
    let late = (49_000..50_000).find(is_left_out).expect("one is");
    assert!(limiter.take(&late).is_ok());
    assert_eq!(limiter.taken(usize::MAX), [(late, 2)]);
}

#[test]
fn ipv6_counts_by_its_network() {
    let key = |text: &str| AddressKey::of(text.parse().expect("an address"));
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
}

#[test]
fn headers_are_structured_fields() {
    let rate = Rate::new(100, 250);
    assert_eq!(rate.policy("principal"), r#""principal";q=250;w=3"#);
    assert_eq!(rate.standing("principal", 250), r#""principal";r=250;t=0"#);
    assert_eq!(rate.standing("principal", 0), r#""principal";r=0;t=3"#);
    assert_eq!(Rate::new(0, 0), Rate::new(1, 1));
}
