//! The pump: the one task that takes what the shards and the reader sent, and hands it on.
//!
//! It waits on the net core's doorbell, an eventfd in the runtime's reactor, by the protocol of
//! `engine/doorbell.rs`: announce, look again, await.

use crate::cost::{Costs, Layer};
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
    /// What it costs.
    pub costs: Rc<Costs>,
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
        let Pump { mut effects, pending, shards, reads, outside, costs, sleeper, bell } = self;
        let bell = registered(bell)?;
        loop {
            let (taken, is_kept) = costs.poll(Layer::Ring, || {
                let taken = take(&mut effects, &pending, outside.as_ref());
                reads.pump();
                (taken, shards.flush())
            });
            if 0 < taken {
                // Those who were woken go first, then we look again.
                tokio::task::yield_now().await;
                continue;
            }
            sleeper.announce();
            if effects.iter().all(Receiver::is_empty) && reads.is_idle() {
                await_bell(&bell, &shards, is_kept).await?;
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

/// Hands on what waits in the rings, so much of each; how many.
fn take(effects: &mut [Receiver<Effect>], pending: &Pending, outside: &dyn Outside) -> usize {
    let mut taken = 0;
    for ring in effects {
        for _ in 0..EFFECTS_PER_PASS_MAX {
            let Some(effect) = ring.try_recv() else { break };
            hand_on(effect, pending, outside);
            taken += 1;
        }
    }
    taken
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
async fn await_bell(bell: &AsyncFd<OwnedFd>, shards: &Shards, is_kept: bool) -> io::Result<()> {
    let kept = async {
        if !is_kept {
            shards.kept().await;
        }
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    };
    tokio::select! {
        rung = drain(bell) => rung,
        () = kept => Ok(()),
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::reads::link;
    use crate::shards::Lanes;
    use crate::testing::silent_bell;
    use no_engine::command::{Answer, Command};
    use no_engine::doorbell::doorbell;
    use no_engine::id::{NetId, ShardId};
    use no_engine::port::Wake;
    use no_engine::ring::ring;
    use rustix::event::{EventfdFlags, eventfd};

    /// Wakes through an eventfd, as the real one does.
    pub(crate) struct Eventfd(pub(crate) OwnedFd);

    impl Wake for Eventfd {
        fn wake(&self) {
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }
    }

    /// Makes no calls.
    pub(crate) struct Nobody;

    impl Outside for Nobody {
        fn call(&self, _: Box<Call>) {}
        fn abort(&self, _: TaskId, _: Fence) {}
    }

    /// A shard on its own thread that answers each request, through a real eventfd.
    #[tokio::test]
    async fn what_a_shard_sends_reaches_who_waits_and_nothing_is_lost() {
        const ROUNDS: u64 = 200;
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("eventfd");
        let waker = Eventfd(bell.try_clone().expect("a clone"));
        let (to_net, sleeper) = doorbell(Box::new(waker));
        let (to_shard, mut commands) = ring(4, silent_bell());
        let (reserved, mut outcomes) = ring(1, silent_bell());
        let (mut effects, from_shard) = ring(4, to_net.clone());
        let (reads, _reader) = link(silent_bell(), to_net);
        let shard = std::thread::spawn(move || {
            let (mut answered, mut outcome_count) = (0, 0);
            while answered < ROUNDS || outcome_count < 10 {
                if let Some(Command::Stats { reply }) = commands.try_recv() {
                    let mut reply = Effect::Reply { to: reply, answer: Answer::Count(answered) };
                    while let Err(no_engine::ring::Full(back)) = effects.try_send(reply) {
                        reply = back;
                    }
                    answered += 1;
                }
                outcome_count += u64::from(outcomes.try_recv().is_some());
                std::thread::yield_now();
            }
        });
        // `Stats` is reserved; the lanes are crossed so that the small ring is for outcomes.
        let lanes = Lanes { normal: reserved, reserved: to_shard };
        let shards = Rc::new(Shards::new(vec![(lanes, std::sync::Arc::default())], 1));
        let pending = Pending::new(NetId(0), 8);
        let pump = Pump {
            effects: vec![from_shard],
            pending: Rc::clone(&pending),
            shards: Rc::clone(&shards),
            reads,
            outside: Box::new(Nobody),
            costs: Rc::new(Costs::new(Default::default())),
            sleeper,
            bell,
        };
        let ask = async {
            let reply_to = pending.open().expect("room").reply_to();
            for _ in 0..10 {
                // Ten for a ring of one place: nine are kept and sent later.
                let task = TaskId::new(0, 0, no_engine::id::PartitionId(0));
                shards.send_surely(ShardId(0), Command::Unwatch { reply: reply_to, task });
            }
            for round in 0..ROUNDS {
                let ticket = pending.open().expect("room");
                let reply = ticket.reply_to();
                shards.send_surely(ShardId(0), Command::Stats { reply });
                assert!(matches!(ticket.answer().await, Answer::Count(n) if n == round));
            }
            while shards.flush() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            stopped = pump.run() => panic!("the pump stopped: {stopped:?}"),
            () = ask => {}
        }
        shard.join().expect("the shard ends");
    }
}
