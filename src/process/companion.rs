//! What layers above do for each child: names of actors and records of logs take their way from here.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::hub;
use crate::wire::{self, Encoded, Packet};

/// Where the records go that a child logs with the `log` crate.
///
/// ```
/// use offspring::{Builder, Forwarding};
///
/// #[offspring::worker]
/// fn logs() -> bool {
///     log::log_enabled!(log::Level::Warn)
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     log::set_max_level(log::LevelFilter::Info); // as a logger of this program does
///     assert!(logs::spawn()?.join()?);
///     let quiet = Builder::new().logs(Forwarding::Off).spawn(logs::new())?;
///     assert!(!quiet.join()?);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarding {
    /// To the logger of the parent, with the child's name and pid. The default. A parent without a logger gets none, and
    /// then the child has none either.
    #[default]
    Parent,
    /// To the child's own stderr, a line each.
    Stderr,
    /// Nowhere: the child has no logger, unless its worker sets one.
    Off,
}

/// The child that is about to be started.
#[derive(Debug)]
pub(crate) struct Heir<'a> {
    pub(crate) name: &'a str,
    pub(crate) logs: Forwarding,
}

/// Found by being registered, so that this layer need not know who it is.
pub(crate) struct Companion {
    /// Under which parent and child agree; no two have one.
    pub(crate) name: &'static str,
    /// In the parent: a value for the child. Without it the child starts all the same.
    pub(crate) prepare: fn(&Heir<'_>) -> Option<Encoded>,
    /// In the child, before its worker runs.
    pub(crate) receive: fn(Packet),
    /// In the parent, after the end of a child: waits, until the deadline, for what it left behind. Also at the end of the
    /// program, when thread-locals are gone.
    pub(crate) settle: fn(Option<Instant>),
}

inventory::collect!(Companion);

/// What a child gets besides its worker.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Belongings(Vec<(String, Packet)>);

/// How long the end of the program waits.
const PATIENCE: Duration = Duration::from_secs(1);

fn companions() -> impl Iterator<Item = &'static Companion> {
    inventory::iter::<Companion>()
}

pub(super) fn prepare(heir: &Heir<'_>) -> Belongings {
    let belongings = companions().filter_map(|companion| {
        let encoded = (companion.prepare)(heir)?;
        // The child is one of those that the value's handles are under way to.
        hub::announce();
        wire::drop_strays();
        Some((companion.name.to_owned(), Packet::new(encoded).ok()?))
    });
    Belongings(belongings.collect())
}

pub(super) fn receive(belongings: Belongings) {
    for (name, packet) in belongings.0 {
        if let Some(companion) = companions().find(|companion| companion.name == name) {
            (companion.receive)(packet);
        }
    }
}

pub(super) fn settle(deadline: Option<Instant>) {
    companions().for_each(|companion| (companion.settle)(deadline));
}

pub(super) fn finish() {
    settle(Some(Instant::now() + PATIENCE));
}
