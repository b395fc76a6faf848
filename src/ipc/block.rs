//! One code for threads and tasks: an operation that may wait is written once, as an `async fn` over
//! a driver. A task is polled; a thread has a driver that blocks inside, and [`block`] completes the
//! future with one poll. The compiler reduces that to straight code.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Completes a future whose waits all block the calling thread.
#[inline(always)]
pub(crate) fn block<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a blocking driver does not suspend"),
    }
}
