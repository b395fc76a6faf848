//! What layers above do for each child: names of actors and records of logs take their way from here.

use std::io;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcSender, OpaqueIpcReceiver};
use serde::{Deserialize, Serialize};

use crate::ipc::deadline::Forever;
use crate::ipc::hub;
use crate::ipc::wire::{self, CheckedReceiver, EncodedValue, Envelope, Failure};

/// Where the records go that a child logs with the `log` crate.
///
/// ```
/// use offspring::ProcessBuilder;
/// use offspring::process::LogTarget;
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
///     let quiet = ProcessBuilder::new().logs(LogTarget::Off).spawn(logs::new())?;
///     assert!(!quiet.join()?);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogTarget {
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
    pub(crate) logs: LogTarget,
}

/// Found by being registered, so that this layer need not know who it is.
pub(crate) struct Companion {
    /// Under which parent and child agree; no two have one.
    pub(crate) name: &'static str,
    /// In the parent: a value for the child. Without it the child starts all the same.
    pub(crate) prepare: fn(&Heir<'_>) -> Option<EncodedValue>,
    /// In the child, before its worker runs.
    pub(crate) receive: fn(Envelope),
    /// In the parent, after the end of a child: waits, until the deadline, for what it left behind. Also at the end of the
    /// program, when thread-locals are gone.
    pub(crate) settle: fn(Option<Instant>),
}

inventory::collect!(Companion);

/// What a child gets besides its worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Belongings(Vec<(String, Envelope)>);

/// How long the end of the program waits.
const PATIENCE: Duration = Duration::from_secs(1);

fn companions() -> impl Iterator<Item = &'static Companion> {
    inventory::iter::<Companion>()
}

/// What a new child gets, if anything.
pub(super) fn belongings(heir: &Heir<'_>) -> Option<Belongings> {
    let belongings = companions().filter_map(|companion| {
        let encoded = (companion.prepare)(heir)?;
        Some((companion.name.to_owned(), Envelope::new(encoded).ok()?))
    });
    let belongings: Vec<_> = belongings.collect();
    (!belongings.is_empty()).then_some(Belongings(belongings))
}

impl Belongings {
    /// Puts it into the channel of the child.
    pub(super) fn send<T: Serialize>(self, channel: &IpcSender<T>) -> io::Result<()> {
        let sent = wire::send(&channel.clone().to_opaque().to(), self);
        // The child is one of those that the handles in it are under way to.
        hub::announce();
        sent.map_err(Failure::into_io)
    }
}

/// In the child; gives the channel back.
pub(super) fn receive(channel: OpaqueIpcReceiver) -> io::Result<OpaqueIpcReceiver> {
    let channel: CheckedReceiver<Belongings> = CheckedReceiver::new(channel.to());
    let belongings = channel
        .recv(&Forever)
        .map_err(|end| end.into_failed().into_io())?;
    for (name, packet) in belongings.0 {
        if let Some(companion) = companions().find(|companion| companion.name == name) {
            (companion.receive)(packet);
        }
    }
    Ok(channel.into_inner().to_opaque())
}

pub(super) fn settle(deadline: Option<Instant>) {
    companions().for_each(|companion| (companion.settle)(deadline));
}

pub(super) fn finish() {
    settle(Some(Instant::now() + PATIENCE));
}
