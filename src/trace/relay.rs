//! The channel from all children to one thread of their parent, which owns the mirror.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::mirror::Mirror;
use super::record::{self, Record, TraceSink, What};
use super::{context, source};
use crate::channel::{Receiver, channel};
use crate::diagnostics;
use crate::error::{CreateError, RecvError, TryRecvError};
use crate::ipc::catch::catch_panic;
use crate::ipc::wire::{self, EncodedValue, Envelope, Retry, Shape};
use crate::process::{LogTarget, NewChild, SpawnHook};
use crate::shared::AtomicU64;
use crate::sys::{self, Service, lock};

struct Relay {
    sink: TraceSink,
    /// How many dropped records were reported.
    reported: Mutex<u64>,
    /// How many records were handled, of those that were sent.
    handled: Mutex<u64>,
    progress: Condvar,
}

static RELAY: Service<Relay> = Service::new("offspring-tracing");

/// How long `join` waits for a subscriber that makes no progress.
const PATIENCE: Duration = Duration::from_secs(1);

inventory::submit! {
    SpawnHook { name: "tracing", prepare, receive, after_end }
}

/// A child whose log records stay with it keeps its spans, too.
fn prepare(child: &NewChild<'_>) -> Option<EncodedValue> {
    if record::wanted() == 0 || child.logs != LogTarget::Parent {
        return None;
    }
    let failed = |error: &dyn std::error::Error| {
        let text = format_args!("could not forward the spans of `{}`: {error}", child.name);
        diagnostics::error("offspring::trace", text);
    };
    let relay = relay().inspect_err(|error| failed(error)).ok()?;
    relay.update_level();
    wire::encode(&relay.sink, Shape::Own).inspect_err(|error| failed(error)).ok()
}

fn receive(envelope: Envelope) {
    if let Ok(sink) = envelope.decode() {
        source::install(sink);
    }
}

fn relay() -> Result<&'static Relay, CreateError> {
    RELAY
        .start(|| {
            let (records, received) = channel().map_err(io::Error::other)?;
            let number = || AtomicU64::new(0).map_err(io::Error::other);
            let sink = TraceSink { records, level: number()?, sent: number()?, dropped: number()? };
            let relay = Relay {
                sink,
                reported: Mutex::new(0),
                handled: Mutex::new(0),
                progress: Condvar::new(),
            };
            Ok((relay, move |relay: &Relay| relay.run(&received)))
        })
        .map_err(CreateError::io("start the thread for spans of children"))
}

/// Returns whether everything that children have sent is handled.
pub(super) fn is_caught_up() -> bool {
    RELAY.get().is_none_or(|relay| {
        let sent = relay.sink.sent.load(Ordering::SeqCst);
        *lock(&relay.handled) >= sent
    })
}

/// Waits until the subscriber has everything that children have sent by now. Gives up on one that
/// makes no progress.
fn after_end(deadline: Option<Instant>) {
    let Some(relay) = RELAY.get() else { return };
    let sent = relay.sink.sent.load(Ordering::SeqCst);
    let mut handled = lock(&relay.handled);
    let mut last = *handled;
    let mut patience = Instant::now() + PATIENCE;
    while *handled < sent {
        let until = deadline.map_or(patience, |deadline| deadline.min(patience));
        if until <= Instant::now() {
            break;
        }
        handled = sys::wait(&relay.progress, handled, Some(until));
        if *handled != last {
            last = *handled;
            patience = Instant::now() + PATIENCE;
        }
    }
    drop(handled);
    // With a deadline, it may be the end of the program, when a thread has lost what it needs to
    // send.
    if deadline.is_none() {
        child_ended();
    }
}

/// Closes the spans that a child has left open.
pub(crate) fn child_ended() {
    if let Some(relay) = RELAY.get() {
        let ended = Record { process: String::new(), pid: std::process::id(), what: What::Ended };
        // If the channel is full, the next end of a child does it.
        let _ = relay.sink.records.try_send(ended);
    }
}

impl Relay {
    fn update_level(&self) {
        self.sink.level.store(record::wanted(), Ordering::Relaxed);
    }

    fn report_dropped(&self) {
        let dropped = self.sink.dropped.load(Ordering::SeqCst);
        let before = std::mem::replace(&mut *lock(&self.reported), dropped);
        if dropped > before {
            let count = dropped - before;
            let text = format_args!(
                "{count} spans and events of children were dropped, because the subscriber does not keep up"
            );
            diagnostics::warn("offspring::trace", text);
        }
    }

    fn run(&self, received: &Receiver<Record>) {
        let mut mirror = Mirror::default();
        let mut retry = Retry::default();
        loop {
            let released = context::released();
            let record = match received.try_recv() {
                Err(TryRecvError::Empty) => {
                    // Whatever was sent before is handled, so nothing follows that belongs to what
                    // has ended. The user's subscriber may panic, and this thread must survive.
                    let _ = catch_panic("subscriber", || {
                        mirror.settle();
                        context::release(&released);
                    });
                    received.recv()
                }
                Ok(record) => Ok(record),
                Err(_) => received.recv(),
            };
            match record {
                Ok(Record { what: What::UpdateLevel, .. }) => self.handled(),
                Ok(record @ Record { what: What::Ended, .. }) => {
                    let _ = catch_panic("subscriber", || mirror.handle(record));
                }
                Ok(record) => {
                    let _ = catch_panic("subscriber", || mirror.handle(record));
                    self.handled();
                }
                // Never reached: this process holds a sender itself.
                Err(RecvError::Disconnected | RecvError::Moved) => return,
                // The record stays in the channel until this process has room for it again.
                Err(error) if error.is_starved() => retry.pause(&error),
                Err(error) => {
                    let text = format_args!("a span or event was lost: {error}");
                    diagnostics::error("offspring::trace", text);
                    // It was counted as sent, and `after_end` must not wait for it.
                    self.handled();
                }
            }
            self.update_level();
        }
    }

    fn handled(&self) {
        self.report_dropped();
        *lock(&self.handled) += 1;
        self.progress.notify_all();
    }
}
