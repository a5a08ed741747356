//! A limit itself, and how headers say it (`RateLimit`: draft-ietf-httpapi-ratelimit-headers).

use std::num::NonZeroU32;

/// So many a second on average, and at most `burst` at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// On average.
    pub per_second: NonZeroU32,
    /// At once, after a rest.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate; zeros count as one.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Rate {
        let whole = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Rate { per_second: whole(per_second), burst: whole(burst) }
    }

    /// After how many seconds an empty bucket is whole again, rounded up.
    #[must_use]
    pub fn window_s(self) -> u32 {
        self.burst.get().div_ceil(self.per_second.get())
    }

    /// One item of a `RateLimit-Policy` header: quota and window of the named policy.
    #[must_use]
    pub fn policy(self, name: &str) -> String {
        format!("\"{name}\";q={};w={}", self.burst, self.window_s())
    }

    /// One item of a `RateLimit` header: what remains, and the seconds until all is there again.
    #[must_use]
    pub fn standing(self, name: &str, left: u32) -> String {
        let used = self.burst.get().saturating_sub(left);
        format!("\"{name}\";r={left};t={}", used.div_ceil(self.per_second.get()))
    }
}
