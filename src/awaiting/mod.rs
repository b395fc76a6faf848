//! Awaiting what the other layers wait for (feature `async`).
//!
//! Each wait is a look, a seat among the waiters of the thing with the task's waker on it, and a look again; what is
//! taken is taken in the call that ends the future. So a future that is dropped has taken nothing, and its seat goes
//! with it. There is no thread a wait, and no executor is asked for anything but its waker.

use std::io;
use std::task::Poll;

use crate::watch::{self, Seat, Target};

mod channel;
mod process;

/// Waits until an operation on it would end at once.
async fn ready(target: &dyn Target) -> io::Result<()> {
    let look = |seat: Seat<'_>| {
        if target.is_ready(seat) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    };
    watch::until(|| target.sit(), look).await
}
