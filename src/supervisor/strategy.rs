//! The options of supervision and the decisions they lead to. Pure: nothing here knows processes.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::DownReason;
use crate::sys;

/// Selects the children that a supervisor restarts when one of them ends.
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
/// #         self.0 = self.0.checked_add(n).expect("the sum fits");
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
///     let [a, b] = ["a", "b"].map(|id| supervisor.handle::<CounterHandle>(id).expect("it is up"));
///     let end = b.monitor()?;
///     assert!(a.add(1).is_err()); // it panics
///     assert!(end.wait().restarts); // so `b` is restarted with it
///     assert_eq!(b.add(1)?, 2);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only that one: for children that are independent. The default.
    #[default]
    OneForOne,
    /// All of them: for children that depend on each other.
    OneForAll,
    /// That one and those started after it: for children that depend on those before them.
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
    /// Returns the indices of the children to restart, of `count` children in the order of their
    /// start.
    pub(super) fn group(self, failed: usize, count: usize) -> std::ops::Range<usize> {
        match self {
            Strategy::OneForOne => failed..failed + 1,
            Strategy::OneForAll => 0..count,
            Strategy::RestForOne => failed..count,
        }
    }
}

/// Decides when a supervisor restarts a child.
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
///     while supervisor.children()[0].state != ChildState::Stopped {} // returned, and still known
///     supervisor.delete_child("once")?;
///     supervisor.start_child(once(Restart::Temporary))?;
///     while !supervisor.children().is_empty() {} // returned, and forgotten
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ends. The default.
    #[default]
    Permanent,
    /// Only if it failed: if its end is not [normal](DownReason::is_normal).
    Transient,
    /// Never. The supervisor forgets it when it ends.
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

/// How a supervisor stops a child.
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
///     let spec = |id| ChildSpec::worker_with(id, |_| serve::new());
///     let supervisor = Supervisor::builder()
///         .child(spec("polite").shutdown(Shutdown::Timeout(Duration::from_secs(1))))
///         .child(spec("stateless").shutdown(Shutdown::Kill))
///         .start()?;
///     supervisor.stop(); // kills `stateless`, then asks `polite` to stop
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Kills it at once: OTP's `brutal_kill`.
    Kill,
    /// Asks it to stop, and kills it if it still runs after this time. A worker gets SIGTERM
    /// halfway.
    Timeout(Duration),
    /// Asks it to stop, and waits as long as it takes.
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

/// Counts restarts: more than `limit` within `period` are too many.
#[derive(Debug)]
pub(super) struct Intensity {
    limit: usize,
    period: Duration,
    restarts: VecDeque<Instant>,
}

impl Intensity {
    pub(super) fn new(limit: usize, period: Duration) -> Intensity {
        Intensity { limit, period, restarts: VecDeque::new() }
    }

    /// Counts one more restart. Returns whether it is allowed.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let period = self.period;
        self.restarts.push_back(now);
        self.restarts.retain(|&restart| now.saturating_duration_since(restart) <= period);
        self.restarts.len() <= self.limit
    }

    pub(super) fn limit(&self) -> (usize, Duration) {
        (self.limit, self.period)
    }
}

/// How long a supervisor pauses before a restart: longer with each restart in a row.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{Backoff, ChildSpec, Supervisor, SupervisorEvent};
///
/// #[offspring::worker]
/// fn fail() {
///     std::thread::sleep(Duration::from_millis(50));
///     std::process::exit(1);
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pauses = Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1));
///     let broken = ChildSpec::worker_with("broken", |_| fail::new());
///     let supervisor = Supervisor::builder().backoff(pauses).child(broken).start()?;
///     let mut pauses = supervisor.events().filter_map(|event| match event {
///         SupervisorEvent::Restarting { after, .. } => Some(after),
///         _ => None,
///     });
///     assert!(pauses.next() > Some(Duration::ZERO));
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// No pause, like OTP. The default.
    pub const NONE: Backoff = Backoff { first: Duration::ZERO, longest: Duration::ZERO };

    /// A pause of `first`, then twice as long for each further restart in a row, up to `longest`.
    ///
    /// Each pause is shortened by a random part of up to one half, so that children that failed
    /// together do not restart together. The pauses begin again with `first` after a child was up
    /// for longer than both `longest` and the supervisor's
    /// [period](crate::supervisor::SupervisorBuilder::period).
    #[must_use]
    pub const fn exponential(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest }
    }

    /// Returns the pause before a restart that follows `others` in a row.
    pub(super) fn pause(self, others: u32) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let whole = self
            .first
            .saturating_mul(1u32.checked_shl(others).unwrap_or(u32::MAX))
            .min(self.longest);
        let random = sys::random().map_or(0, u16::from_le_bytes);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u16::MAX))
    }

    pub(super) fn longest(self) -> Duration {
        self.longest
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first.is_zero() {
            return f.pad("none");
        }
        write!(f, "{:?} up to {:?}", self.first, self.longest)
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
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
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
