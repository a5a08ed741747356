//! The one line between the pump and the calls out: what `no_net::pump` asks for, `no_net::out` does.

use no_engine::effect::Call;
use no_engine::id::{Fence, TaskId};
use no_net::out::Outbound;

/// A net core's calls out, as its pump wants them.
pub(super) struct Outside(pub(super) Outbound);

impl no_net::Outside for Outside {
    fn call(&self, call: Box<Call>) {
        self.0.call(call);
    }

    fn abort(&self, task: TaskId, fence: Fence) {
        self.0.abort(task, fence);
    }
}
