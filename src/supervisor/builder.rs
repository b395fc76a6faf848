//! The options of a supervisor.

use std::time::Duration;

use crate::error::SupervisorError;
use crate::supervisor::spec::ChildSpec;
use crate::supervisor::strategy::{Backoff, Strategy};

/// Elixir's defaults. OTP's one restart counts on a supervisor above to try again; most programs
/// have one level only, and giving up there ends their service. Three are still used up within
/// milliseconds by a child that fails at once, so a crash loop ends with an error, not with a hot
/// processor.
const INTENSITY: usize = 3;
const PERIOD: Duration = Duration::from_secs(5);

/// The reaction of a supervisor to the end of a child.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestartPolicy {
    pub(super) strategy: Strategy,
    pub(super) intensity: usize,
    pub(super) period: Duration,
    pub(super) backoff: Backoff,
}

impl RestartPolicy {
    pub(super) fn check(&self) -> Result<(), SupervisorError> {
        if self.period.is_zero() {
            return Err(SupervisorError::ZeroPeriod);
        }
        Ok(())
    }
}

/// Configures a [`Supervisor`](crate::Supervisor): its strategy, its limits, and its children in
/// the order of their start.
///
/// Dropping it starts nothing.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{ChildSpec, Strategy, SupervisorBuilder};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = SupervisorBuilder::new()
///         .strategy(Strategy::RestForOne)
///         .intensity(3)
///         .period(Duration::from_secs(10))
///         .child(ChildSpec::worker_with("first", |_| serve::new()))
///         .child(ChildSpec::worker_with("second", |_| serve::new()))
///         .start()?; // returns once both are up
///     supervisor.stop(); // stops `second`, then `first`
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "does nothing until it is started, or becomes the child of a supervisor"]
pub struct SupervisorBuilder {
    policy: RestartPolicy,
    specs: Vec<ChildSpec>,
}

impl Default for SupervisorBuilder {
    fn default() -> SupervisorBuilder {
        SupervisorBuilder::new()
    }
}

impl SupervisorBuilder {
    /// Creates a builder with default options and no children.
    pub fn new() -> SupervisorBuilder {
        SupervisorBuilder {
            policy: RestartPolicy {
                strategy: Strategy::default(),
                intensity: INTENSITY,
                period: PERIOD,
                backoff: Backoff::NONE,
            },
            specs: Vec::new(),
        }
    }

    /// Sets which children are restarted when one ends. Default: [`Strategy::OneForOne`].
    pub fn strategy(mut self, strategy: Strategy) -> SupervisorBuilder {
        self.policy.strategy = strategy;
        self
    }

    /// Sets how many restarts are allowed within one [`period`](SupervisorBuilder::period). At the
    /// next one, the supervisor gives up: it stops all its children and ends. Default: 3, as in
    /// Elixir (OTP's default is 1).
    ///
    /// The limit ends crash loops. A [`backoff`](SupervisorBuilder::backoff) spreads restarts over
    /// time, and `usize::MAX` allows any number of them.
    pub fn intensity(mut self, restarts: usize) -> SupervisorBuilder {
        self.policy.intensity = restarts;
        self
    }

    /// Sets the period of the [`intensity`](SupervisorBuilder::intensity); must not be zero.
    /// Default: 5 s.
    pub fn period(mut self, period: Duration) -> SupervisorBuilder {
        self.policy.period = period;
        self
    }

    /// Sets the pauses before restarts. Default: [`Backoff::NONE`].
    pub fn backoff(mut self, backoff: Backoff) -> SupervisorBuilder {
        self.policy.backoff = backoff;
        self
    }

    /// Adds a child, to be started after those added before.
    pub fn child(mut self, spec: ChildSpec) -> SupervisorBuilder {
        self.specs.push(spec);
        self
    }

    /// Adds several children, in this order.
    pub fn children(mut self, specs: impl IntoIterator<Item = ChildSpec>) -> SupervisorBuilder {
        self.specs.extend(specs);
        self
    }

    pub(super) fn into_parts(self) -> (RestartPolicy, Vec<ChildSpec>) {
        (self.policy, self.specs)
    }
}
