//! Streams and sinks made from futures (feature `stream`), like `futures::stream::unfold`.
//!
//! A stream polls one future until an item comes, and then makes the next future. Each future needs
//! the stream's handle, but a value cannot hold a future that borrows from the value itself. So the
//! future owns the handle while it runs, and returns it with its outcome.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// A future that owns the handle, and returns it with its outcome.
pub(crate) type UnfoldStep<H, R> = Pin<Box<dyn Future<Output = (H, R)> + Send>>;

/// The state of a stream or sink: who owns the handle.
pub(crate) enum Unfold<H, R> {
    /// No step is under way.
    Idle(H),
    /// The step owns the handle.
    Busy(UnfoldStep<H, R>),
    /// The handle was dropped, and no step follows.
    Over,
}

impl<H, R> Unfold<H, R> {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Unfold::Over)
    }

    /// Begins a step with the handle, unless a step is under way or none follows.
    pub(crate) fn begin(&mut self, step: impl FnOnce(H) -> UnfoldStep<H, R>) {
        *self = match std::mem::replace(self, Unfold::Over) {
            Unfold::Idle(handle) => Unfold::Busy(step(handle)),
            other => other,
        };
    }

    /// Polls the step that is under way. Returns `None` if there is none.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<R>> {
        let Unfold::Busy(step) = self else { return Poll::Ready(None) };
        let (handle, outcome) = ready!(step.as_mut().poll(context));
        *self = Unfold::Idle(handle);
        Poll::Ready(Some(outcome))
    }
}

/// The steps of a sink.
impl<H, E> Unfold<H, Result<(), E>> {
    /// Completes the step that is under way.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(ready!(self.poll(context)).unwrap_or(Ok(())))
    }

    /// Completes the step that is under way, and drops the handle.
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        ready!(self.poll_flush(context))?;
        *self = Unfold::Over;
        Poll::Ready(Ok(()))
    }

    /// Begins a step, and polls it once, because usually there is room.
    ///
    /// # Panics
    ///
    /// If a step is under way, because the caller has not waited for `poll_ready`.
    pub(crate) fn start(
        &mut self,
        step: impl FnOnce(H) -> UnfoldStep<H, Result<(), E>>,
    ) -> Result<(), E> {
        assert!(!matches!(self, Unfold::Busy(_)), "`start_send` without a `poll_ready` before it");
        self.begin(step);
        // This waker does nothing. If the step waits, the next `poll_ready` or `poll_flush` leaves one
        // that wakes the task.
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Ok(()),
        }
    }
}

impl<H, R> fmt::Debug for Unfold<H, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfold::Idle(_) => "Idle",
            Unfold::Busy(_) => "Busy",
            Unfold::Over => "Over",
        })
    }
}
