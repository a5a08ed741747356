//! The check of a bearer token: one that the verifier remembers, and one that it sees for the first
//! time and whose Ed25519 signature it must check.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use no_auth::{Grant, LocalKey, Role, Verifier};
use std::hint::black_box;
use std::time::Duration;

/// When the token is made and checked, in s since 1970.
const NOW_S: u64 = 1_800_000_000;

fn tokens(criterion: &mut Criterion) {
    let key = LocalKey::from_seed(&[7; 32]).expect("a key");
    let token = key.create(&Grant::new(Role::Submitter), NOW_S).expect("a token");
    let mut group = criterion.benchmark_group("token");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    let verifier = Verifier::new(key.key_set());
    group.bench_function("known", |bencher| {
        bencher.iter(|| verifier.verify(black_box(&token), NOW_S).expect("accepted"));
    });
    group.bench_function("new", |bencher| {
        let fresh = || Verifier::new(key.key_set());
        let check =
            |verifier: Verifier| verifier.verify(black_box(&token), NOW_S).expect("accepted");
        bencher.iter_batched(fresh, check, BatchSize::SmallInput);
    });
}

criterion_group!(benches, tokens);
criterion_main!(benches);
