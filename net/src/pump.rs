//! The pump: the one task that takes what the shards and the reader sent, and hands it on.
//!
//! It waits on the net core's doorbell, an eventfd in the runtime's reactor, by the protocol of
//! `engine/doorbell.rs`: announce, look again, await.

use crate::pending::Pending;
use crate::reads::Reads;
use crate::shards::Shards;
use no_engine::doorbell::Sleeper;
use no_engine::effect::{Call, Effect};
use no_engine::id::{Fence, TaskId};
use no_engine::ring::Receiver;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Effects taken from one shard before the others have their turn.
const EFFECTS_PER_PASS_MAX: usize = 1_024;
/// Wait before another try to send what found no room, in ms.
const RETRY_MS: u64 = 1;

/// Who makes the calls that shards order.
pub trait Outside {
    /// Makes the call, and sends its outcome by [`Shards::send_outcome`].
    fn call(&self, call: Box<Call>);
    /// Drops the calls of this task under way with this fence.
    fn abort(&self, task: TaskId, fence: Fence);
}

/// What the pump works on.
pub struct Pump {
    /// One ring from each shard.
    pub effects: Vec<Receiver<Effect>>,
    /// The waiting requests.
    pub pending: Rc<Pending>,
    /// The links to the shards.
    pub shards: Rc<Shards>,
    /// The link to the reader.
    pub reads: Reads,
    /// Who makes calls.
    pub outside: Box<dyn Outside>,
    /// This thread's side of the doorbell.
    pub sleeper: Sleeper,
    /// The eventfd that the doorbell's waker writes to; non-blocking.
    pub bell: OwnedFd,
}

impl Pump {
    /// Pumps for ever.
    ///
    /// # Errors
    /// When the reactor does not take the eventfd, or reading it fails.
    pub async fn run(self) -> io::Result<()> {
        let Pump { mut effects, pending, shards, reads, outside, sleeper, bell } = self;
        let bell = registered(bell)?;
        loop {
            let mut taken = 0;
            for ring in &mut effects {
                for _ in 0..EFFECTS_PER_PASS_MAX {
                    let Some(effect) = ring.try_recv() else { break };
                    hand_on(effect, &pending, outside.as_ref());
                    taken += 1;
                }
            }
            reads.pump();
            let is_kept = shards.flush();
            if 0 < taken {
                // Those who were woken go first, then we look again.
                tokio::task::yield_now().await;
                continue;
            }
            sleeper.announce();
            if effects.iter().all(Receiver::is_empty) && reads.is_idle() {
                await_bell(&bell, is_kept).await?;
            }
            sleeper.cancel();
        }
    }
}

/// The eventfd in the runtime's reactor.
#[expect(deprecated, reason = "an `OwnedFd` keeps its descriptor open; only other types could not")]
fn registered(bell: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(bell)
}

fn hand_on(effect: Effect, pending: &Pending, outside: &dyn Outside) {
    match effect {
        Effect::Reply { to, answer } => pending.reply(to, answer),
        Effect::Publish { to, record, is_last } => pending.publish(to, record, is_last),
        Effect::Offer { to } => pending.offer(to),
        Effect::Call(call) => outside.call(call),
        Effect::Abort { task, fence } => outside.abort(task, fence),
    }
}

/// Returns when the bell was rung, or soon when something waits for room in a ring.
async fn await_bell(bell: &AsyncFd<OwnedFd>, is_kept: bool) -> io::Result<()> {
    if is_kept {
        let soon = tokio::time::sleep(Duration::from_millis(RETRY_MS));
        tokio::select! {
            rung = drain(bell) => rung,
            () = soon => Ok(()),
        }
    } else {
        drain(bell).await
    }
}

async fn drain(bell: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut ready = bell.readable().await?;
    let mut count = [0_u8; 8];
    match rustix::io::read(bell.get_ref(), &mut count) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => {
            ready.clear_ready();
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}
