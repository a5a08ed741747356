//! Model checking of the doorbell's source, compiled here against shuttle's primitives: no wake-up
//! is lost.

#[expect(unreachable_pub, reason = "the source belongs to the engine's public interface")]
#[path = "../src/doorbell.rs"]
mod doorbell;

/// What `doorbell.rs` synchronises with; in the engine these are the standard library's.
mod sync {
    pub(crate) use shuttle::sync::Arc;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, Ordering, fence};
}

mod port {
    pub(crate) use no_engine::port::Wake;
}

use doorbell::doorbell;
use port::Wake;
use shuttle::sync::Arc;
use shuttle::sync::atomic::AtomicUsize;
use shuttle::sync::atomic::Ordering;
use shuttle::sync::{Condvar, Mutex};

/// An eventfd in terms that shuttle schedules.
#[derive(Default)]
struct Eventfd {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Eventfd {
    fn block(&self) {
        let mut rung = self.rung.lock().expect("no panics");
        while !*rung {
            rung = self.wake.wait(rung).expect("no panics");
        }
        *rung = false;
    }
}

struct Ringer(Arc<Eventfd>);
impl Wake for Ringer {
    fn wake(&self) {
        *self.0.rung.lock().expect("no panics") = true;
        self.0.wake.notify_one();
    }
}

#[test]
fn no_wake_up_is_lost() {
    shuttle::check_random(
        || {
            let eventfd = Arc::new(Eventfd::default());
            let (bell, sleeper) = doorbell(Box::new(Ringer(Arc::clone(&eventfd))));
            let sent = Arc::new(AtomicUsize::new(0));
            let sender = {
                let sent = Arc::clone(&sent);
                shuttle::thread::spawn(move || {
                    for _ in 0..3 {
                        sent.fetch_add(1, Ordering::SeqCst);
                        bell.ring();
                    }
                })
            };
            let mut seen = 0;
            while seen < 3 {
                seen = sent.load(Ordering::SeqCst);
                if seen < 3 {
                    // A lost wake-up blocks for ever, which shuttle reports as a deadlock.
                    sleeper.park(|| sent.load(Ordering::SeqCst) == seen, || eventfd.block());
                }
            }
            sender.join().expect("no panics");
        },
        2_000,
    );
}
