//! Which signals a child gets, and when, if it does not stop when asked.

use std::time::{Duration, Instant};

/// The state of a request to stop: first the child is asked, SIGTERM follows after the grace, and
/// SIGKILL after a second one.
#[derive(Debug)]
pub(in crate::process) struct Escalation {
    grace: Duration,
    next: Option<StopSignal>,
    /// When `next` is due; `None` for never.
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum StopSignal {
    Terminate,
    Kill,
}

impl Escalation {
    pub(in crate::process) fn new(grace: Duration, now: Instant) -> Escalation {
        Escalation { grace, next: Some(StopSignal::Terminate), due: now.checked_add(grace) }
    }

    /// When to call [`advance`](Escalation::advance) next; `None` for never.
    pub(in crate::process) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The child was asked once more: the earlier deadline counts. Returns that deadline if it is
    /// the new one.
    pub(in crate::process) fn hasten(&mut self, grace: Duration, now: Instant) -> Option<Instant> {
        let due = now.checked_add(grace)?;
        if self.next.is_none() || self.due.is_some_and(|before| before <= due) {
            return None;
        }
        (self.grace, self.due) = (grace, Some(due));
        self.due
    }

    /// Returns the signal that is due, once.
    pub(in crate::process) fn advance(&mut self, now: Instant) -> Option<StopSignal> {
        self.due.filter(|due| *due <= now)?;
        let signal = self.next;
        (self.next, self.due) = match signal {
            Some(StopSignal::Terminate) => (Some(StopSignal::Kill), now.checked_add(self.grace)),
            Some(StopSignal::Kill) | None => (None, None),
        };
        signal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn each_signal_comes_once_and_a_grace_after_the_one_before() {
        let start = Instant::now();
        let mut stop = Escalation::new(GRACE, start);
        assert_eq!(stop.advance(start + GRACE / 2), None);
        assert_eq!(stop.advance(start + GRACE), Some(StopSignal::Terminate));
        assert_eq!(stop.advance(start + GRACE), None);
        assert_eq!(stop.due(), Some(start + 2 * GRACE));
        assert_eq!(stop.advance(start + 3 * GRACE), Some(StopSignal::Kill));
        assert_eq!((stop.due(), stop.advance(start + 9 * GRACE)), (None, None));
        // There is no signal left to hasten.
        assert_eq!(stop.hasten(Duration::ZERO, start + 9 * GRACE), None);
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let start = Instant::now();
        let mut stop = Escalation::new(Duration::MAX, start);
        assert_eq!(stop.due(), None);
        assert_eq!(stop.hasten(GRACE, start), Some(start + GRACE));
        assert_eq!(stop.hasten(2 * GRACE, start), None);
        assert_eq!(stop.hasten(Duration::MAX, start), None);
        assert_eq!(stop.hasten(GRACE / 2, start), Some(start + GRACE / 2));
        assert_eq!(stop.advance(start + GRACE / 2), Some(StopSignal::Terminate));
    }
}
