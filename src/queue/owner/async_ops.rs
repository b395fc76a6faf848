//! Awaiting in the owner's process: looks at the state, and wakers in it.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Poll;

use crate::ipc::reactor::{self, Interest};
use crate::queue::async_ops::unwatched;
use crate::queue::client::attachment::{RemoteEnd, Taken};
use crate::queue::owner::state::{Core, Item, Local, Over, Payload};

/// A future that is counted as a thread would be, until it is done or dropped.
struct Counted<'a> {
    core: &'a Core,
    of: fn(&mut Local) -> &mut usize,
}

impl<'a> Counted<'a> {
    fn new(core: &'a Core, of: fn(&mut Local) -> &mut usize) -> Counted<'a> {
        *of(&mut core.lock().local) += 1;
        Counted { core, of }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut state = self.core.lock();
        *(self.of)(&mut state.local) -= 1;
        // What was told to this one is for others now.
        self.core.settle(&mut state);
        self.core.watch(&mut state);
    }
}

/// Leaves a waker after a look in vain.
fn leave(seat: Interest<'_>) {
    if let Some((waiter, waker)) = seat {
        waiter.set(waker);
    }
}

impl Core {
    pub(crate) async fn take_async(self: &Arc<Core>) -> Result<Taken, RemoteEnd> {
        let outcome = match self.poll_get(None) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let _counted = Counted::new(self, |local| &mut local.futures);
                let sit = || self.lock().local.tasks.items.register();
                reactor::until(sit, |seat| self.poll_get(seat))
                    .await
                    .map_err(unwatched)?
            }
        };
        outcome.map(Taken::from).map_err(RemoteEnd::Over)
    }

    fn poll_get(&self, seat: Interest<'_>) -> Poll<Result<(Item, u64), Over>> {
        let mut state = self.lock();
        state.local.has_got = true;
        state.local.getters += 1;
        let outcome = self.look_for_item(&mut state, false);
        state.local.getters -= 1;
        match outcome {
            Some(outcome) => Poll::Ready(self.hand_over(&mut state, outcome)),
            None => {
                leave(seat);
                self.watch(&mut state);
                Poll::Pending
            }
        }
    }

    pub(crate) async fn put_async(self: &Arc<Core>, payload: Payload) -> Result<(), RemoteEnd> {
        let mut payload = Some(payload);
        let mut outcome = self.poll_put(&mut payload, None);
        if outcome.is_pending() {
            let _counted = Counted::new(self, |local| &mut local.putters);
            let sit = || self.lock().local.tasks.room.register();
            outcome = reactor::until(sit, |seat| self.poll_put(&mut payload, seat))
                .await
                .map(Poll::Ready)
                .map_err(unwatched)?;
        }
        match outcome {
            Poll::Ready(Err(over)) => Err(RemoteEnd::Over(over)),
            _ => Ok(()),
        }
    }

    fn poll_put(
        &self,
        payload: &mut Option<Payload>,
        seat: Interest<'_>,
    ) -> Poll<Result<(), Over>> {
        let mut state = self.lock();
        let mut outcome = self.look_for_room(&mut state);
        if outcome.is_none() && seat.is_some() {
            // As a thread that puts: consumers are told to ring; then one more look, for what they took before.
            leave(seat);
            self.settle(&mut state);
            fence(Ordering::SeqCst);
            outcome = self.look_for_room(&mut state);
        }
        match outcome {
            None => {
                self.watch(&mut state);
                return Poll::Pending;
            }
            Some(Ok(())) => {
                let payload = payload.take().expect("it is put once");
                self.put_in(&mut state, payload);
            }
            Some(Err(over)) => return Poll::Ready(Err(over)),
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) async fn join_async(self: &Arc<Core>) -> Result<(), RemoteEnd> {
        let _counted = Counted::new(self, |local| &mut local.joiners);
        let sit = || self.lock().local.tasks.done.register();
        let joined = reactor::until(sit, |seat| self.poll_end(seat)).await;
        joined.map_err(unwatched)?.map_err(RemoteEnd::Over)
    }

    fn poll_end(&self, seat: Interest<'_>) -> Poll<Result<(), Over>> {
        let mut state = self.lock();
        let outcome: Option<Result<(), Over>> = self.look_for_end(&mut state);
        if outcome.is_none() {
            leave(seat);
            self.settle(&mut state);
        }
        outcome.map_or(Poll::Pending, Poll::Ready)
    }
}
