//! The doorbell: what wakes a thread that sleeps because its rings were empty.
//!
//! The sleeper announces that it parks, looks at its rings once more, and only then blocks; the
//! other side rings after each send, which costs a fence and a load and reaches for the waker only
//! when someone is parked. Either the sleeper's second look sees the item, or the sender sees the
//! announcement (Dekker's mutual exclusion, 1965; both sides need the full fence). `shuttle` checks
//! it.

use crate::port::Wake;

use crate::sync::{Arc, AtomicBool, Ordering, fence};

struct Shared {
    parked: AtomicBool,
    wake: Box<dyn Wake>,
}

/// The ringing side; one for each thread that sends.
#[derive(Clone)]
pub struct Bell(Arc<Shared>);

/// The sleeping side; one for each thread that receives.
pub struct Sleeper(Arc<Shared>);

/// Makes the doorbell of one thread, woken by `wake`.
#[must_use]
pub fn doorbell(wake: Box<dyn Wake>) -> (Bell, Sleeper) {
    let shared = Arc::new(Shared { parked: AtomicBool::new(false), wake });
    (Bell(Arc::clone(&shared)), Sleeper(shared))
}

impl Bell {
    /// Call after something was put where the sleeper looks. Wakes it if it is parked.
    pub fn ring(&self) {
        // ORDER: the fence puts the caller's push before the load below; see `Sleeper::park`.
        fence(Ordering::SeqCst);
        if self.0.parked.load(Ordering::Relaxed) && self.0.parked.swap(false, Ordering::AcqRel) {
            self.0.wake.wake();
        }
    }
}

impl Sleeper {
    /// Announces, looks once more with `is_idle`, then calls `block` if there is still nothing.
    ///
    /// `block` may return early (a time-out, a stray wake-up); the caller looks at its rings
    /// anyway.
    pub fn park(&self, is_idle: impl FnOnce() -> bool, block: impl FnOnce()) {
        self.announce();
        if is_idle() {
            block();
        }
        self.cancel();
    }

    /// The first part of [`Sleeper::park`], for a sleeper that cannot block in a closure: an async
    /// task. It must look at its rings after this and before it awaits the waker, and
    /// [`Sleeper::cancel`] once it is awake.
    pub fn announce(&self) {
        self.0.parked.store(true, Ordering::Relaxed);
        // ORDER: the fence puts the announcement before the look at the rings. The sender's fence
        // stands between its push and its look at the announcement; so one of the two sees the
        // other.
        fence(Ordering::SeqCst);
    }

    /// The last part of [`Sleeper::park`]: awake again, whatever the reason.
    pub fn cancel(&self) {
        self.0.parked.store(false, Ordering::Relaxed);
    }
}
