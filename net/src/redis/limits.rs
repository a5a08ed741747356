//! Rate limits that all nodes keep together, off the path of any request.
//!
//! Each node limits by its own numbers, as one by itself does. Every [`EVERY`] it adds what its
//! keys took since to the number in Redis that all nodes have in common (the generic cell rate
//! algorithm's theoretical arrival time, by Redis' clock, so that the nodes' do not matter), and
//! learns from the answer when the key's bucket is whole again for all of them. One script does
//! it for up to [`KEYS_OF_ONE`] keys.
//!
//! What they let through together, for one key with a rate and a burst, N nodes, and the time t
//! from a request to its node's learning of the others (`EVERY` and one answer of Redis):
//!
//! * over any time T at most `N × (burst + rate × t) + rate × T`: a node that has heard of
//!   nobody has a whole bucket of its own, once;
//! * in the long run `rate × T`, as what was let through too much stands in the common number:
//!   all nodes wait until it is paid off, up to 16 bursts;
//! * while Redis is away each node by itself, so up to N times the limit. What was taken then is
//!   not told afterwards.
//!
//! Keys are named by a hash, so that all are of one length; it hides nothing from who can guess
//! them. A key that found no room in this node's book shares a bucket here and is not told.

use super::{Purpose, Redis};
use ::redis::cmd;
use no_auth::limit::Limiter;
use std::hash::Hash;
use std::time::Duration;

/// How often a node tells and learns.
pub const EVERY: Duration = Duration::from_millis(100);
/// Keys of one script: it takes Redis about a millisecond.
pub const KEYS_OF_ONE: usize = 512;
/// Scripts of one limit each time; the other keys come the next time.
const SCRIPTS_MAX: usize = 8;

/// For each key: adds what it took (ARGV[i + 1], of ARGV[1] µs each) to when its bucket is whole
/// again, and answers in how many µs that is. A key is kept until then.
const ADD: &str = "local t = redis.call('TIME') \
    local now = t[1] * 1000000 + t[2] \
    local out = {} \
    for i, key in ipairs(KEYS) do \
      local whole = math.max(tonumber(redis.call('GET', key)) or now, now) \
        + ARGV[i + 1] * ARGV[1] \
      redis.call('SET', key, string.format('%.0f', whole), \
        'PX', string.format('%.0f', math.ceil((whole - now) / 1000) + 1)) \
      out[i] = string.format('%.0f', whole - now) \
    end \
    return out";

/// Tells what the keys of a limiter took, and learns what all nodes make of them.
pub(crate) async fn share<K: Hash + Eq + Clone>(
    redis: &Redis,
    what: &str,
    limiter: &Limiter<K>,
    name: impl Fn(&K) -> blake3::Hash,
) {
    for _ in 0..SCRIPTS_MAX {
        // Taken also when nobody can be told: then it is too late.
        let taken = limiter.taken(KEYS_OF_ONE);
        if taken.is_empty() {
            return;
        }
        let each_us = 1e6 / f64::from(limiter.rate().per_second.get());
        let mut add = cmd("EVAL");
        add.arg(ADD).arg(taken.len());
        for (key, _) in &taken {
            add.arg(redis.key(what, &name(key).to_hex()[..32]));
        }
        add.arg(each_us);
        for (_, count) in &taken {
            add.arg(*count);
        }
        let Ok(ahead) = redis.ask::<Vec<u64>>(Purpose::Limit, &add).await else { continue };
        for ((key, _), ahead_us) in taken.iter().zip(ahead) {
            limiter.learn(key, Duration::from_micros(ahead_us));
        }
    }
}
