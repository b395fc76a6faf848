//! Operations of tasks in the owner process: the same steps as in `threads`, with a waker instead
//! of a condition variable.

use std::sync::Arc;
use std::task::Poll;

use crate::ipc::reactor::{self, Interest, WakerSlot};
use crate::queue::item::{NewItem, Taken};
use crate::queue::outcome::{QueueFailure, QueueJoined};
use crate::queue::owner::lock::QueueOwner;
use crate::queue::owner::state::Wait;
use crate::queue::owner::wakers::{Bell, Bells};

/// A future that counts as a waiting thread until it is done or dropped.
struct Counted<'a> {
    owner: &'a QueueOwner,
    wait: Wait,
}

impl<'a> Counted<'a> {
    fn new(owner: &'a QueueOwner, wait: Wait) -> Counted<'a> {
        owner.lock().begin(wait);
        Counted { owner, wait }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // Others may use the thing that this future was woken for.
        self.owner.update(|state| state.end(self.wait));
    }
}

/// Sets the waker of a task that may have to wait. This comes before the lock is taken, since the
/// waker's code must not run under it, and before the check, which finds what changed earlier.
fn set_waker(interest: Interest<'_>) {
    if let Some((slot, waker)) = interest {
        slot.set(waker);
    }
}

impl QueueOwner {
    /// Waits until `step` returns something. A bell wakes it.
    async fn wait_for<R>(
        &self,
        bell: fn(&Bells) -> &Bell,
        step: impl FnMut(Interest<'_>) -> Poll<Result<R, QueueFailure>>,
    ) -> Result<R, QueueFailure> {
        let register = || -> std::io::Result<WakerSlot> { bell(self.lock().bells()).register() };
        let outcome = reactor::until(register, step).await;
        outcome.map_err(QueueFailure::unregistered)?
    }

    pub(in crate::queue) async fn get_async(self: &Arc<Self>) -> Result<Taken, QueueFailure> {
        match self.poll_get(None) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let _counted = Counted::new(self, Wait::ItemAsync);
                self.wait_for(|bells| &bells.items, |interest| self.poll_get(interest)).await
            }
        }
    }

    /// Takes an item if there is one.
    #[cfg(feature = "stream")]
    pub(in crate::queue) fn take_now(&self) -> Option<Result<Taken, QueueFailure>> {
        match self.poll_get(None) {
            Poll::Ready(Ok(taken)) => Some(Ok(taken)),
            _ => None,
        }
    }

    fn poll_get(&self, interest: Interest<'_>) -> Poll<Result<Taken, QueueFailure>> {
        set_waker(interest);
        let mut state = self.lock();
        state.begin(Wait::Item);
        let outcome = state.check_item(false);
        state.end(Wait::Item);
        let outcome = match outcome {
            Some(outcome) => Poll::Ready(outcome.and_then(|item| state.deliver(item))),
            None => Poll::Pending,
        };
        if outcome.is_ready() {
            state.schedule();
        }
        outcome
    }

    pub(in crate::queue) async fn put_async(
        self: &Arc<Self>,
        item: NewItem<'_>,
    ) -> Result<(), QueueFailure> {
        let mut item = Some(item);
        match self.poll_put(&mut item, None) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let _counted = Counted::new(self, Wait::Room);
                let step = |interest: Interest<'_>| self.poll_put(&mut item, interest);
                self.wait_for(|bells| &bells.room, step).await
            }
        }
    }

    fn poll_put(
        &self,
        item: &mut Option<NewItem<'_>>,
        interest: Interest<'_>,
    ) -> Poll<Result<(), QueueFailure>> {
        set_waker(interest);
        let mut state = self.lock();
        let mut outcome = state.check_room(false);
        if outcome.is_none() && interest.is_some() {
            // Decides when to take back room that clients do not use.
            state.schedule();
            outcome = state.check_room(false);
        }
        match outcome {
            None => return Poll::Pending,
            Some(Err(failure)) => return Poll::Ready(Err(failure)),
            Some(Ok(())) => state.put(item.take().expect("an item is put once")),
        }
        state.schedule();
        Poll::Ready(Ok(()))
    }

    pub(in crate::queue) async fn join_async(
        self: &Arc<Self>,
    ) -> Result<QueueJoined, QueueFailure> {
        let _counted = Counted::new(self, Wait::Done);
        self.wait_for(|bells| &bells.done, |interest| self.poll_done(interest)).await
    }

    fn poll_done(&self, interest: Interest<'_>) -> Poll<Result<QueueJoined, QueueFailure>> {
        set_waker(interest);
        let mut state = self.lock();
        let outcome = state.check_done();
        if outcome.is_none() {
            state.schedule();
        }
        outcome.map_or(Poll::Pending, Poll::Ready)
    }
}
