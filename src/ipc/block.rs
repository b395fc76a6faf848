//! One code for threads and tasks. An operation that may wait is written once, as an `async fn`
//! over a driver. For a task, the future is polled. For a thread, the driver blocks inside the
//! future, so [`block`] completes it with one poll, which the compiler reduces to straight code.

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
