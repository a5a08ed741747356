//! What a request costs this net core, by layer, from sampled clocks.
//!
//! What the net core does for its connections it does in *polls*: a connection is looked at, reads,
//! parses, runs handlers, writes. One poll of [`SAMPLE_ONE_OF`] is timed, and what it took counts
//! that many times, so the sums estimate all of them while an untimed poll pays a multiplication.
//! Which one is drawn, not counted: polls come in a fixed order (a request in, an answer out), and
//! a count would always meet the same kind. Inside a timed poll the inner layers time themselves
//! and are taken off the layer around them, so that the layers add up.
//!
//! Times are of the wall clock: on a core that is shared, what others took of it is in them.

use crate::stats::HttpStats;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// One poll in so many is timed, on average.
pub const SAMPLE_ONE_OF: u64 = 64;
const _: () = assert!(SAMPLE_ONE_OF.is_power_of_two());

/// The layers of a net core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// Reading sockets, parsing HTTP and JSON, routing, admission, writing sockets: what is not of
    /// another layer.
    Net,
    /// Checking the token and the permission.
    Auth,
    /// Pushing into rings, with the system call that wakes the other side, and taking out of them.
    Ring,
    /// Making the bytes of an answer.
    Render,
}

/// All layers, in the order of [`CostFigures::ns`].
pub const LAYERS: [Layer; 4] = [Layer::Net, Layer::Auth, Layer::Ring, Layer::Render];

impl Layer {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Layer::Net => "net",
            Layer::Auth => "auth",
            Layer::Ring => "ring",
            Layer::Render => "render",
        }
    }
}

/// The sums of one net core. One writer; read by whoever shows them.
#[derive(Debug, Default)]
pub struct CostStats {
    ns: [AtomicU64; LAYERS.len()],
    tasks: AtomicU64,
}

/// A copy of the sums.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CostFigures {
    /// Estimated work since start, in ns, by [`LAYERS`].
    pub ns: [u64; LAYERS.len()],
    /// Tasks that were accepted here, which is what the work was for.
    pub tasks: u64,
}

impl CostStats {
    /// The sums now.
    #[must_use]
    pub fn figures(&self) -> CostFigures {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CostFigures { ns: std::array::from_fn(|i| load(&self.ns[i])), tasks: load(&self.tasks) }
    }
}

/// The timing side, on the net core's thread.
pub struct Costs {
    stats: Arc<HttpStats>,
    draw: Cell<u64>,
    /// What the inner layers took of the poll that is being timed, in ns; `None` when none is.
    inner_ns: Cell<Option<u64>>,
}

impl Costs {
    /// Times nothing yet.
    #[must_use]
    pub fn new(stats: Arc<HttpStats>) -> Costs {
        Costs { stats, draw: Cell::new(0), inner_ns: Cell::new(None) }
    }

    /// So many tasks were accepted.
    pub fn accepted(&self, tasks: u64) {
        crate::stats::add(&self.stats.cost.tasks, tasks);
    }

    /// Does `work`, one poll, which is timed when it is drawn.
    pub fn poll<T>(&self, layer: Layer, work: impl FnOnce() -> T) -> T {
        if !self.is_drawn() {
            return work();
        }
        self.timed(layer, work)
    }

    /// Does `work`, a part of a poll; timed when the poll is.
    pub fn part<T>(&self, layer: Layer, work: impl FnOnce() -> T) -> T {
        let Some(before) = self.inner_ns.get() else { return work() };
        let begun = Instant::now();
        let done = work();
        let took = ns_since(begun);
        let inner = self.inner_ns.get().unwrap_or(before) - before;
        self.add(layer, took.saturating_sub(inner));
        self.inner_ns.set(Some(before + took));
        done
    }

    /// Awaits `work`, each of whose polls may be timed.
    pub async fn always<F: Future>(&self, layer: Layer, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| self.poll(layer, || work.as_mut().poll(cx))).await
    }

    fn timed<T>(&self, layer: Layer, work: impl FnOnce() -> T) -> T {
        self.inner_ns.set(Some(0));
        let begun = Instant::now();
        let done = work();
        let took = ns_since(begun);
        let inner = self.inner_ns.take().unwrap_or(0);
        self.add(layer, took.saturating_sub(inner));
        done
    }

    fn add(&self, layer: Layer, ns: u64) {
        crate::stats::add(&self.stats.cost.ns[layer as usize], ns * SAMPLE_ONE_OF);
    }

    /// Draws by Knuth's linear congruential generator for 64 bits ("MMIX", 1999), whose high bits
    /// are the good ones.
    fn is_drawn(&self) -> bool {
        let next = self.draw.get().wrapping_mul(6_364_136_223_846_793_005);
        let next = next.wrapping_add(1_442_695_040_888_963_407);
        self.draw.set(next);
        next >> (64 - SAMPLE_ONE_OF.trailing_zeros()) == 0
    }
}

fn ns_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_one_poll_in_so_many_is_timed() {
        let costs = Costs::new(Arc::default());
        let drawn = (0..SAMPLE_ONE_OF * 1_000).filter(|_| costs.is_drawn()).count();
        assert!((900..1_100).contains(&drawn), "{drawn}");
    }

    #[test]
    fn no_poll_order_hides_a_kind() {
        let costs = Costs::new(Arc::default());
        let even = (0..SAMPLE_ONE_OF * 1_000).filter(|i| costs.is_drawn() && i % 2 == 0).count();
        assert!((400..600).contains(&even), "{even}");
    }

    #[test]
    fn layers_add_up_to_the_poll() {
        let costs = Costs::new(Arc::default());
        costs.part(Layer::Auth, || ());
        assert_eq!(costs.stats.cost.figures().ns, [0; 4], "an untimed poll times nothing");
        let begun = Instant::now();
        costs.timed(Layer::Net, || {
            costs.part(Layer::Ring, || costs.part(Layer::Render, || std::hint::black_box(())));
        });
        let all = ns_since(begun);
        let ns = costs.stats.cost.figures().ns;
        assert!(ns.iter().sum::<u64>() <= all * SAMPLE_ONE_OF, "{ns:?}");
        assert_eq!(ns[Layer::Auth as usize], 0);
        costs.accepted(3);
        assert_eq!(costs.stats.cost.figures().tasks, 3);
    }
}
