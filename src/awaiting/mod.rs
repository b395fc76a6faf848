//! Awaiting what the other layers wait for (feature `async`).
//!
//! Each wait is a look, a seat among the waiters of the thing with the task's waker on it, and a look again; what is
//! taken is taken in the call that ends the future. So a future that is dropped has taken nothing, and its seat goes
//! with it. There is no thread a wait, and no executor is asked for anything but its waker.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use crate::watch::Target;

mod channel;
mod process;

/// Waits until an operation on it would end at once.
async fn ready(target: &dyn Target) -> io::Result<()> {
    let mut waiter = None;
    poll_fn(|context| {
        // Most waits are over before they begin, and need no seat.
        if waiter.is_none() && !target.is_ready(None) {
            waiter = Some(target.sit()?);
        }
        let seat = waiter.as_ref().map(|waiter| (waiter, context.waker()));
        if target.is_ready(seat) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Lets other tasks run. For one that was told, and then found that another was faster.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
