//! When a wait is over, for calls that mostly do not wait: the clock is asked only by one that has to.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

const YEAR: Duration = Duration::from_secs(86_400 * 365);

#[derive(Debug)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    /// Since the first question. `None` if the clock cannot express it: then it is never.
    deadline: OnceCell<Option<Instant>>,
}

impl Deadline {
    pub(crate) fn never() -> Deadline {
        Deadline::at(None)
    }

    pub(crate) fn at(deadline: Option<Instant>) -> Deadline {
        Deadline {
            timeout: None,
            deadline: OnceCell::from(deadline),
        }
    }

    pub(crate) fn after(timeout: Duration) -> Deadline {
        Deadline {
            timeout: Some(timeout),
            deadline: OnceCell::new(),
        }
    }

    /// Counted from the first time that this is asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let fresh = || {
            self.timeout
                .and_then(|timeout| Instant::now().checked_add(timeout))
        };
        *self.deadline.get_or_init(fresh)
    }

    /// The same, where there must be one: never is in a year.
    pub(crate) fn instant(&self) -> Instant {
        self.deadline().unwrap_or_else(|| Instant::now() + YEAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_first_question_and_stays() {
        let limit = Deadline::after(Duration::from_secs(10));
        let before = Instant::now();
        let deadline = limit.deadline().unwrap();
        assert!(deadline >= before + Duration::from_secs(10));
        assert_eq!(limit.deadline(), Some(deadline));
        assert_eq!(Deadline::never().deadline(), None);
        assert_eq!(Deadline::after(Duration::MAX).deadline(), None);
    }
}
