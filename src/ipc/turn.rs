//! Streams and sinks out of futures (feature `stream`).
//!
//! A stream polls the same future until its item comes, and then makes the next one. That future
//! borrows the handle, and a value cannot hold a future that borrows from the value itself. So the
//! future takes the handle along, and returns it with its outcome.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// A future that takes the handle along.
pub(crate) type Step<H, R> = Pin<Box<dyn Future<Output = (H, R)> + Send>>;

/// Whose turn it is: the caller's, or that of a step.
pub(crate) enum Turn<H, R> {
    /// No step is under way.
    Idle(H),
    Busy(Step<H, R>),
    /// Nothing follows.
    Over,
}

impl<H, R> Turn<H, R> {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Turn::Over)
    }

    /// Makes a step of the handle, unless one is under way or nothing follows.
    pub(crate) fn begin(&mut self, step: impl FnOnce(H) -> Step<H, R>) {
        *self = match std::mem::replace(self, Turn::Over) {
            Turn::Idle(handle) => Turn::Busy(step(handle)),
            other => other,
        };
    }

    /// Polls the step that is under way. `None` if there is none.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<R>> {
        let Turn::Busy(step) = self else { return Poll::Ready(None) };
        let (handle, outcome) = ready!(step.as_mut().poll(context));
        *self = Turn::Idle(handle);
        Poll::Ready(Some(outcome))
    }
}

/// The turns of a sink.
impl<H, E> Turn<H, Result<(), E>> {
    /// Completes the step that is under way.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(ready!(self.poll(context)).unwrap_or(Ok(())))
    }

    /// Completes the step that is under way, and drops the handle.
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        ready!(self.poll_flush(context))?;
        *self = Turn::Over;
        Poll::Ready(Ok(()))
    }

    /// Makes a step, and polls it once: usually there is room.
    ///
    /// # Panics
    ///
    /// If a step is under way: the caller has not waited for `poll_ready`.
    pub(crate) fn start(
        &mut self,
        step: impl FnOnce(H) -> Step<H, Result<(), E>>,
    ) -> Result<(), E> {
        assert!(!matches!(self, Turn::Busy(_)), "`start_send` without a `poll_ready` before it");
        self.begin(step);
        // If it waits, the next `poll_ready` or `poll_flush` leaves a waker that wakes.
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Ok(()),
        }
    }
}

impl<H, R> fmt::Debug for Turn<H, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Turn::Idle(_) => "Idle",
            Turn::Busy(_) => "Busy",
            Turn::Over => "Over",
        })
    }
}
