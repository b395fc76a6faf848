//! Two ways to wait for the owner: a thread blocks, a task is polled.
//!
//! Each operation that may wait is written once, as an `async fn` over a [`Driver`]; see
//! [`ipc::block`](crate::ipc::block).

use crate::ipc::deadline::{TimeLimit, WaitEnd};
use crate::queue::client::attachment::AttachedQueue;
use crate::queue::outcome::QueueFailure;

pub(in crate::queue) trait Driver {
    /// The proof that the time is over. Has no values if the driver has no deadline.
    type Elapsed;

    /// Waits until `ready` returns something. It is called again whenever this process was rung.
    async fn until<R>(
        &self,
        queue: &AttachedQueue,
        ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitEnd<Self::Elapsed, QueueFailure>>;
}

/// Blocks the calling thread.
pub(in crate::queue) struct Blocking<'a, L>(pub(in crate::queue) &'a L);

impl<L: TimeLimit> Driver for Blocking<'_, L> {
    type Elapsed = L::Elapsed;

    async fn until<R>(
        &self,
        queue: &AttachedQueue,
        ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitEnd<L::Elapsed, QueueFailure>> {
        queue.session().wait(self.0, ready).map_err(WaitEnd::convert)
    }
}

/// Suspends the calling task. Waits without a deadline: a caller that has one drops the future.
#[cfg(feature = "async")]
pub(in crate::queue) struct Polled;

#[cfg(feature = "async")]
impl Driver for Polled {
    type Elapsed = std::convert::Infallible;

    async fn until<R>(
        &self,
        queue: &AttachedQueue,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitEnd<Self::Elapsed, QueueFailure>> {
        use crate::ipc::reactor::{self, Interest};

        let register = || queue.session().register();
        let check = |interest: Interest<'_>| {
            let outcome = queue.session().poll(interest, &mut ready);
            if outcome.is_pending() && interest.is_some() {
                // The owner may not know that this task waits, or that everything it sent was
                // taken.
                queue.ring();
            }
            outcome
        };
        let outcome = reactor::until(register, check).await;
        let outcome = outcome.map_err(QueueFailure::unregistered)?;
        outcome.map_err(|failure| WaitEnd::Failed(failure.into()))
    }
}
