//! What a layer above does for each child: the records of its logs take their way from here.

use std::time::{Duration, Instant};

use crate::hub;
use crate::wire::{self, Encoded, Packet};

/// Where the records go that a child logs with the `log` crate.
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
    /// In the parent: a value for the child. Without it the child starts all the same.
    pub(crate) prepare: fn(&Heir<'_>) -> Option<Encoded>,
    /// In the child, before its worker runs.
    pub(crate) receive: fn(Packet),
    /// In the parent, after the end of a child: waits, until the deadline, for what it left behind. Also at the end of the
    /// program, when thread-locals are gone.
    pub(crate) settle: fn(Option<Instant>),
}

inventory::collect!(Companion);

/// How long the end of the program waits.
const PATIENCE: Duration = Duration::from_secs(1);

fn companion() -> Option<&'static Companion> {
    inventory::iter::<Companion>().next()
}

pub(super) fn prepare(heir: &Heir<'_>) -> Option<Packet> {
    let encoded = (companion()?.prepare)(heir)?;
    hub::announce();
    wire::drop_strays();
    Packet::new(encoded).ok()
}

pub(super) fn receive(packet: Option<Packet>) {
    if let (Some(companion), Some(packet)) = (companion(), packet) {
        (companion.receive)(packet);
    }
}

pub(super) fn settle(deadline: Option<Instant>) {
    if let Some(companion) = companion() {
        (companion.settle)(deadline);
    }
}

pub(super) fn finish() {
    settle(Some(Instant::now() + PATIENCE));
}
