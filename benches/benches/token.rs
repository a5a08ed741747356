//! The check of a bearer token: one that the verifier remembers, one that it sees for the first
//! time and whose Ed25519 signature it must check, and bad ones. What a refusal costs here
//! nobody sees outside: over HTTP each is answered at the same time after it came.

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

fn denied(criterion: &mut Criterion) {
    let key = LocalKey::from_seed(&[7; 32]).expect("a key");
    let other = LocalKey::from_seed(&[8; 32]).expect("a key");
    let grant = Grant::new(Role::Submitter);
    let token = key.create(&grant, NOW_S).expect("a token");
    let (message, _) = token.rsplit_once('.').expect("three parts");
    let claims = message.split_once('.').expect("two parts").1;
    let earlier = key.create(&grant, NOW_S - 1).expect("a token");
    let another = earlier.rsplit_once('.').expect("three parts").1;
    let cases = [
        ("garbage", "x".repeat(200)),
        ("too_long", "x".repeat(20_000)),
        ("alg_none", format!("eyJhbGciOiJub25lIn0.{claims}.")),
        ("key_unknown", other.create(&grant, NOW_S).expect("a token")),
        ("signature", format!("{message}.{another}")),
        ("expired", key.create(&grant, NOW_S - 1_000_000).expect("a token")),
    ];
    let verifier = Verifier::new(key.key_set());
    let mut group = criterion.benchmark_group("denied");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for (name, token) in &cases {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| verifier.verify(black_box(token), NOW_S).expect_err("refused"));
        });
    }
}

criterion_group!(benches, tokens, denied);
criterion_main!(benches);
