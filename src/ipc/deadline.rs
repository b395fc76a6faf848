//! How long a call may wait, and why its wait ended.
//!
//! A call that can wait takes a [`TimeLimit`]: [`Forever`] or a [`Deadline`]. The limit's type
//! decides whether the wait can time out: [`Forever::Elapsed`](TimeLimit::Elapsed) has no values,
//! so the error of a wait without a deadline cannot be [`WaitEnd::Timeout`], and its caller need
//! not invent an error for that case.
//!
//! ```ignore
//! fn take<L: TimeLimit>(&self, limit: &L) -> Waited<Item, GetError, L> {
//!     loop {
//!         if let Some(item) = self.try_take()? {
//!             return Ok(item);
//!         }
//!         if let Err(elapsed) = limit.check() {
//!             return Err(WaitEnd::Timeout(elapsed));
//!         }
//!         self.sleep(limit.deadline());
//!     }
//! }
//!
//! fn get(&self) -> Result<Item, GetError> {
//!     self.take(&Forever).map_err(WaitEnd::into_failed)
//! }
//!
//! fn get_timeout(&self, timeout: Duration) -> Result<Item, GetTimeoutError> {
//!     Ok(self.take(&Deadline::after(timeout))?) // From<WaitEnd<Elapsed, GetError>>
//! }
//! ```

use std::cell::OnceCell;
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

/// How long a call may wait.
pub(crate) trait TimeLimit {
    /// The proof that the time is over. Has no values if it never is.
    type Elapsed: Copy + fmt::Debug;

    /// Returns when the time is over; `None` for never. The first call may start the clock.
    fn deadline(&self) -> Option<Instant>;

    /// Returns an error if the time is over.
    fn check(&self) -> Result<(), Self::Elapsed>;

    /// Returns the time that is left; `None` if the deadline never comes.
    fn left(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// The limit of a call that waits as long as it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forever;

impl TimeLimit for Forever {
    type Elapsed = Infallible;

    #[inline]
    fn deadline(&self) -> Option<Instant> {
        None
    }

    #[inline]
    fn check(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// A point in time, for calls that mostly do not wait. A timeout counts from the first time that
/// this point is asked for, so a call that succeeds at once never reads the clock.
#[derive(Debug)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    /// Set when first asked for. `None` means never: no timeout was set, or the clock cannot
    /// express the sum.
    deadline: OnceCell<Option<Instant>>,
}

impl Deadline {
    /// No deadline. A call that always waits forever takes [`Forever`] instead.
    pub(crate) fn never() -> Deadline {
        None.into()
    }

    /// A deadline that is over: the call checks once, and does not wait.
    pub(crate) fn now() -> Deadline {
        Deadline::after(Duration::ZERO)
    }

    /// A deadline after this timeout. If the clock cannot express it, it is never over.
    pub(crate) fn after(timeout: Duration) -> Deadline {
        Deadline { timeout: Some(timeout), deadline: OnceCell::new() }
    }

    /// Returns when it is over; `None` for never. The first call starts the clock.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let start = || self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        *self.deadline.get_or_init(start)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.timeout == Some(Duration::ZERO)
            || self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns the deadline, for callers that need a point in time: instead of never, a year from
    /// now.
    pub(crate) fn instant(&self) -> Instant {
        const YEAR: Duration = Duration::from_secs(86_400 * 365);
        self.deadline().unwrap_or_else(|| Instant::now() + YEAR)
    }
}

impl TimeLimit for Deadline {
    type Elapsed = Elapsed;

    fn deadline(&self) -> Option<Instant> {
        self.deadline()
    }

    fn check(&self) -> Result<(), Elapsed> {
        if self.is_over() { Err(Elapsed) } else { Ok(()) }
    }
}

impl From<Option<Instant>> for Deadline {
    fn from(deadline: Option<Instant>) -> Deadline {
        Deadline { timeout: None, deadline: OnceCell::from(deadline) }
    }
}

impl From<Instant> for Deadline {
    fn from(deadline: Instant) -> Deadline {
        Some(deadline).into()
    }
}

/// Why a call ended without a result: it ran out of time, or it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd<E, F> {
    /// The time is over. `E` has no values if the call had no deadline.
    Timeout(E),
    Failed(F),
}

/// What a call that can wait returns.
pub(crate) type Waited<T, F, L> = Result<T, WaitEnd<<L as TimeLimit>::Elapsed, F>>;

impl<E, F> WaitEnd<E, F> {
    pub(crate) fn map<G>(self, change: impl FnOnce(F) -> G) -> WaitEnd<E, G> {
        match self {
            WaitEnd::Timeout(elapsed) => WaitEnd::Timeout(elapsed),
            WaitEnd::Failed(failed) => WaitEnd::Failed(change(failed)),
        }
    }

    /// Converts the error to another type, as `?` would.
    pub(crate) fn convert<G: From<F>>(self) -> WaitEnd<E, G> {
        self.map(G::from)
    }
}

impl<F> WaitEnd<Infallible, F> {
    /// Returns the error of a call without a deadline.
    pub(crate) fn into_failed(self) -> F {
        let WaitEnd::Failed(failed) = self;
        failed
    }
}

impl<E, F> From<F> for WaitEnd<E, F> {
    fn from(failed: F) -> Self {
        WaitEnd::Failed(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_counts_from_the_first_question_on() {
        let limit = Deadline::after(Duration::from_secs(10));
        let before = Instant::now();
        let deadline = limit.deadline().unwrap();
        assert!(deadline >= before + Duration::from_secs(10));
        assert_eq!(limit.deadline(), Some(deadline));
        assert!(limit.left().is_some_and(|left| left <= Duration::from_secs(10)));
        assert!(!limit.is_over());
    }

    #[test]
    fn a_deadline_that_the_clock_cannot_express_never_comes() {
        for limit in [Deadline::never(), Deadline::after(Duration::MAX)] {
            assert_eq!(limit.deadline(), None);
            assert_eq!(limit.left(), None);
            assert_eq!(limit.check(), Ok(()));
            assert!(limit.instant() > Instant::now());
        }
    }

    #[test]
    fn now_is_over() {
        let past: Deadline = Instant::now().into();
        for limit in [Deadline::now(), past] {
            assert_eq!(limit.check(), Err(Elapsed));
            assert_eq!(limit.left(), Some(Duration::ZERO));
        }
    }
}
