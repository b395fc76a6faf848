//! Hooks with which other modules take part in every start: the directory of actors, and the
//! channel of log records.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ipc::deadline::Forever;
use crate::ipc::hub;
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, EncodedValue, Envelope, Failure};

/// Where a child's log records go. Default: [`Parent`](LogTarget::Parent).
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
    /// The parent's logger, with the child's name and pid. If the parent has no logger, the child
    /// has none either.
    ///
    /// Records that arrive faster than the logger takes them are dropped, and their number is
    /// logged, at most once a second. Errors and warnings wait for room instead. If there is none
    /// for a second, the logger counts as stuck, and they are dropped, too.
    #[default]
    Parent,
    /// Like [`Parent`](LogTarget::Parent), but all records wait for room as errors do: nothing is
    /// lost in a burst, but a child can be no faster than the logger.
    ParentLossless,
    /// The child's own stderr, each record on one line.
    Stderr,
    /// Nowhere: the child has no logger, unless its worker installs one.
    Off,
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LogTarget::Parent => "parent",
            LogTarget::ParentLossless => "parent, lossless",
            LogTarget::Stderr => "stderr",
            LogTarget::Off => "off",
        })
    }
}

/// A child that is about to be started.
#[derive(Debug)]
pub(crate) struct NewChild<'a> {
    pub(crate) name: &'a str,
    pub(crate) logs: LogTarget,
}

/// A module's part in every start. It is registered with `inventory`, because this layer does not
/// know the modules above it.
pub(crate) struct SpawnHook {
    /// Identifies the hook in parent and child. Unique in the program.
    pub(crate) name: &'static str,
    /// In the parent: returns a payload for the child, if the module has one. It cannot make the
    /// start fail.
    pub(crate) prepare: fn(&NewChild<'_>) -> Option<EncodedValue>,
    /// In the child, before its worker runs.
    pub(crate) receive: fn(Envelope),
    /// In the parent, after the end of a child: waits until the deadline for what the child has
    /// sent. Also called at the end of the program, when thread-locals are gone.
    pub(crate) after_end: fn(Option<Instant>),
}

inventory::collect!(SpawnHook);

/// The payloads for one child, with the names of their hooks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HookPayloads(Vec<(String, Envelope)>);

/// The longest wait for what children have sent, at the end of the program.
const PATIENCE: Duration = Duration::from_secs(1);

fn hooks() -> impl Iterator<Item = &'static SpawnHook> {
    inventory::iter::<SpawnHook>()
}

/// In the parent: returns the payloads for a new child, if there are any.
pub(super) fn prepare(child: &NewChild<'_>) -> Option<HookPayloads> {
    let payloads = hooks().filter_map(|hook| {
        let encoded = (hook.prepare)(child)?;
        Some((hook.name.to_owned(), Envelope::new(encoded).ok()?))
    });
    let payloads: Vec<_> = payloads.collect();
    (!payloads.is_empty()).then_some(HookPayloads(payloads))
}

impl HookPayloads {
    /// Sends them through the channel that belongs to the child.
    pub(super) fn send(self, channel: CheckedSender<HookPayloads>) -> io::Result<()> {
        let sent = wire::send(&channel, &self);
        // The handles in them are now in flight, and the hub has to count them.
        hub::announce();
        sent.map_err(Failure::into_io)
    }
}

/// In the child: receives the payloads from the channel, in which the worker comes next.
pub(super) fn receive<M>(channel: CheckedReceiver<M>) -> io::Result<CheckedReceiver<M>> {
    let channel: CheckedReceiver<HookPayloads> = channel.to();
    let payloads = channel.recv(&Forever).map_err(|end| end.into_failed().into_io())?;
    for (name, envelope) in payloads.0 {
        if let Some(hook) = hooks().find(|hook| hook.name == name) {
            (hook.receive)(envelope);
        }
    }
    Ok(channel.to())
}

/// Runs all hooks after the end of a child.
pub(super) fn after_end(deadline: Option<Instant>) {
    hooks().for_each(|hook| (hook.after_end)(deadline));
}

/// Runs all hooks at the end of the program.
pub(super) fn at_exit() {
    after_end(Some(Instant::now() + PATIENCE));
}
