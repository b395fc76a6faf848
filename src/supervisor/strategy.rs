//! What a supervisor does about an end: pure decisions, without processes.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::DownReason;
use crate::sys;

/// Which children are started again when one of them ends.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Strategy, Supervisor};
///
/// # struct Counter(u64);
/// # #[offspring::actor]
/// # impl Counter {
/// #     fn start(value: u64) -> Self {
/// #         Counter(value)
/// #     }
/// #     pub fn add(&mut self, n: u64) -> u64 {
/// #         self.0 = self.0.checked_add(n).expect("there is room");
/// #         self.0
/// #     }
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder()
///         .strategy(Strategy::OneForAll)
///         .child(ChildSpec::actor::<Counter>("a", (u64::MAX,)))
///         .child(ChildSpec::actor::<Counter>("b", (1,)))
///         .start()?;
///     let [a, b] = ["a", "b"].map(|id| CounterHandle::from(supervisor.actor(id).expect("it is there")));
///     let end = b.monitor()?;
///     assert!(a.add(1).is_err()); // it panics
///     assert!(end.wait().restarts); // and the other one goes with it
///     assert_eq!(b.add(1)?, 2);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// That one: for children that do not know each other. The default.
    #[default]
    OneForOne,
    /// All of them: for children that cannot do without each other.
    OneForAll,
    /// That one, and all that were started after it: for children that each need those before.
    RestForOne,
}

impl fmt::Display for Strategy {
    /// OTP's name: `one_for_one`, `one_for_all` or `rest_for_one`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Strategy::OneForOne => "one_for_one",
            Strategy::OneForAll => "one_for_all",
            Strategy::RestForOne => "rest_for_one",
        })
    }
}

impl Strategy {
    /// The places of the children to stop and start again, of `count` in the order of their start.
    pub(super) fn group(self, failed: usize, count: usize) -> std::ops::Range<usize> {
        match self {
            Strategy::OneForOne => failed..failed + 1,
            Strategy::OneForAll => 0..count,
            Strategy::RestForOne => failed..count,
        }
    }
}

/// When a child is started again.
///
/// ```
/// use offspring::supervisor::{ChildSpec, ChildState, Restart, Supervisor};
///
/// #[offspring::worker]
/// fn job() {}
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let once = |restart| ChildSpec::worker_with("once", |_| job::new()).restart(restart);
///     let supervisor = Supervisor::builder().child(once(Restart::Transient)).start()?;
///     while supervisor.children()[0].state != ChildState::Stopped {} // it has returned, and is kept
///     supervisor.delete_child("once")?;
///     supervisor.start_child(once(Restart::Temporary))?;
///     while !supervisor.children().is_empty() {} // it has returned, and is forgotten
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always, however it ended. The default.
    #[default]
    Permanent,
    /// If it ended otherwise than it was meant to: see [`DownReason::is_normal`].
    Transient,
    /// Never: it is forgotten when it ends.
    Temporary,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Restart::Permanent => "permanent",
            Restart::Transient => "transient",
            Restart::Temporary => "temporary",
        })
    }
}

impl Restart {
    pub(super) fn applies(self, reason: &DownReason) -> bool {
        match self {
            Restart::Permanent => true,
            Restart::Transient => !reason.is_normal(),
            Restart::Temporary => false,
        }
    }
}

/// How a child is stopped.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{ChildSpec, Shutdown, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder()
///         .child(ChildSpec::worker_with("polite", |_| serve::new()).shutdown(Shutdown::Timeout(Duration::from_secs(1))))
///         .child(ChildSpec::worker_with("stateless", |_| serve::new()).shutdown(Shutdown::Kill))
///         .start()?;
///     supervisor.stop(); // one is killed, the other asked
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It is killed at once: OTP's `brutal_kill`.
    Kill,
    /// It is asked to stop, and killed if it has not by then.
    Timeout(Duration),
    /// It is asked to stop, and waited for as long as it takes.
    Infinity,
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shutdown::Kill => f.pad("kill"),
            Shutdown::Timeout(grace) => write!(f, "timeout of {grace:?}"),
            Shutdown::Infinity => f.pad("infinity"),
        }
    }
}

/// How many restarts were there lately: more than `intensity` within `period` are too many.
#[derive(Debug)]
pub(super) struct Intensity {
    limit: usize,
    period: Duration,
    restarts: VecDeque<Instant>,
}

impl Intensity {
    pub(super) fn new(limit: usize, period: Duration) -> Intensity {
        Intensity {
            limit,
            period,
            restarts: VecDeque::new(),
        }
    }

    /// Notes one more; whether it is allowed.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let period = self.period;
        self.restarts.push_back(now);
        self.restarts
            .retain(|&restart| now.saturating_duration_since(restart) <= period);
        self.restarts.len() <= self.limit
    }

    pub(super) fn limit(&self) -> (usize, Duration) {
        (self.limit, self.period)
    }
}

/// How long a supervisor waits before it starts a child again: longer with each restart in a row.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{Backoff, ChildSpec, Event, Supervisor};
///
/// #[offspring::worker]
/// fn fail() {
///     std::thread::sleep(Duration::from_millis(50));
///     std::process::exit(1);
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pauses = Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1));
///     let supervisor = Supervisor::builder().intensity(1).backoff(pauses).child(ChildSpec::worker_with("broken", |_| fail::new())).start()?;
///     let mut events = supervisor.events();
///     assert!(events.any(|event| matches!(event, Event::Restarting { after, .. } if !after.is_zero())));
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// No pause: OTP's way, and the default.
    pub const NONE: Backoff = Backoff {
        first: Duration::ZERO,
        most: Duration::ZERO,
    };

    /// `first`, then twice as long each time, at most `most`; of each pause a random part, from the half to the
    /// whole, so that many that failed together do not come back together. One that has run for longer than the longest
    /// pause and the period of the supervisor begins anew.
    #[must_use]
    pub const fn exponential(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most }
    }

    /// The pause before the restart after so many others.
    pub(super) fn pause(self, others: u32) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let whole = self
            .first
            .saturating_mul(1u32.checked_shl(others).unwrap_or(u32::MAX))
            .min(self.most);
        let random = sys::random().map_or(0, u16::from_le_bytes);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u16::MAX))
    }

    pub(super) fn most(self) -> Duration {
        self.most
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first.is_zero() {
            return f.pad("none");
        }
        write!(f, "{:?} up to {:?}", self.first, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_the_strategy() {
        assert_eq!(Strategy::OneForOne.group(1, 4), 1..2);
        assert_eq!(Strategy::OneForAll.group(1, 4), 0..4);
        assert_eq!(Strategy::RestForOne.group(1, 4), 1..4);
    }

    #[test]
    fn more_than_the_intensity_within_the_period_is_too_much() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut intensity = Intensity::new(1, Duration::from_secs(5));
        assert!(intensity.allows(at(0)));
        assert!(intensity.allows(at(6)));
        assert!(!intensity.allows(at(7)));
        let mut none = Intensity::new(0, Duration::from_secs(5));
        assert!(!none.allows(at(0)));
    }

    #[test]
    fn pauses_grow_up_to_the_most_and_vary() {
        let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2));
        for others in 0..40 {
            let whole = Duration::from_millis(100)
                .saturating_mul(1 << others.min(20))
                .min(Duration::from_secs(2));
            let pause = backoff.pause(others);
            assert!(
                pause >= whole / 2 && pause <= whole,
                "{pause:?} of {whole:?}"
            );
        }
        assert_eq!(Backoff::NONE.pause(5), Duration::ZERO);
    }

    #[test]
    fn each_option_is_displayed_by_its_name() {
        let grace = Duration::from_secs(5);
        let exponential = Backoff::exponential(Duration::from_millis(10), grace);
        assert_eq!(format!("{:>14}", Strategy::RestForOne), "  rest_for_one");
        assert_eq!(Restart::Transient.to_string(), "transient");
        assert_eq!(Shutdown::Timeout(grace).to_string(), "timeout of 5s");
        assert_eq!(Shutdown::Kill.to_string(), "kill");
        assert_eq!(exponential.to_string(), "10ms up to 5s");
        assert_eq!(Backoff::NONE.to_string(), "none");
    }
}
