//! Making a supervisor.

use std::sync::Arc;
use std::time::Duration;

use crate::error::SupervisorError;
use crate::supervisor::engine::{Engine, Fate};
use crate::supervisor::handle::Supervisor;
use crate::supervisor::slot::Slot;
use crate::supervisor::spec::ChildSpec;
use crate::supervisor::strategy::{Backoff, Strategy};
use crate::supervisor::view::View;

/// OTP's defaults.
const INTENSITY: usize = 1;
const PERIOD: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) strategy: Strategy,
    pub(super) intensity: usize,
    pub(super) period: Duration,
    pub(super) backoff: Backoff,
}

impl Plan {
    pub(super) fn check(&self) -> Result<(), SupervisorError> {
        if self.period.is_zero() {
            return Err(SupervisorError::ZeroPeriod);
        }
        Ok(())
    }
}

/// A supervisor to be: its strategy, its limits, and its children in the order of their start.
///
/// Dropping it starts nothing.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::supervisor::{ChildSpec, Strategy, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder()
///         .strategy(Strategy::RestForOne)
///         .intensity(3)
///         .period(Duration::from_secs(10))
///         .child(ChildSpec::worker_with("first", |_| serve::new()))
///         .child(ChildSpec::worker_with("second", |_| serve::new()))
///         .start()?; // both are up
///     supervisor.stop(); // the second one first
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "must be started, or be the child of a supervisor that is"]
pub struct SupervisorBuilder {
    plan: Plan,
    specs: Vec<ChildSpec>,
}

impl Default for SupervisorBuilder {
    fn default() -> SupervisorBuilder {
        SupervisorBuilder::new()
    }
}

impl SupervisorBuilder {
    /// Creates a builder without children, with the defaults that its methods name.
    pub fn new() -> SupervisorBuilder {
        SupervisorBuilder {
            plan: Plan {
                strategy: Strategy::default(),
                intensity: INTENSITY,
                period: PERIOD,
                backoff: Backoff::NONE,
            },
            specs: Vec::new(),
        }
    }

    /// Which children are started again when one ends. Default: [`Strategy::OneForOne`].
    pub fn strategy(mut self, strategy: Strategy) -> SupervisorBuilder {
        self.plan.strategy = strategy;
        self
    }

    /// How many restarts there may be within the [`period`](SupervisorBuilder::period); with one more the supervisor gives up: it stops all
    /// children, and ends. Default: 1.
    pub fn intensity(mut self, restarts: usize) -> SupervisorBuilder {
        self.plan.intensity = restarts;
        self
    }

    /// The time for the [`intensity`](SupervisorBuilder::intensity), more than 0. Default: 5 s.
    pub fn period(mut self, period: Duration) -> SupervisorBuilder {
        self.plan.period = period;
        self
    }

    /// The pauses before restarts. Default: [`Backoff::NONE`].
    pub fn backoff(mut self, backoff: Backoff) -> SupervisorBuilder {
        self.plan.backoff = backoff;
        self
    }

    /// Adds a child behind those that it has.
    pub fn child(mut self, spec: ChildSpec) -> SupervisorBuilder {
        self.specs.push(spec);
        self
    }

    /// Adds several.
    pub fn children(mut self, specs: impl IntoIterator<Item = ChildSpec>) -> SupervisorBuilder {
        self.specs.extend(specs);
        self
    }

    pub(super) fn into_parts(self) -> (Plan, Vec<ChildSpec>) {
        (self.plan, self.specs)
    }

    /// Starts the children in order, each when the one before it is up, and then supervises them on a thread of this
    /// process.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Start`] if one does not start: those before it are stopped again, last first.
    /// [`SupervisorError::DuplicateId`], [`SupervisorError::InvalidId`] or [`SupervisorError::ZeroPeriod`] before any is started.
    pub fn start(self) -> Result<Supervisor, SupervisorError> {
        let (plan, specs) = self.into_parts();
        plan.check()?;
        let view = Arc::<View>::default();
        let mut engine = Engine::new(plan, Fate::Down, Vec::new(), view.clone());
        specs.into_iter().try_for_each(|spec| engine.add(spec))?;
        let outbox = engine.launch(|slots| slots.into_iter().for_each(Slot::forget), drop)?;
        Ok(Supervisor::new(outbox, view))
    }
}
