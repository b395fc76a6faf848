//! The channel from all children to one thread of their parent, which owns the mirror.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::context::Released;
use super::mirror::Mirror;
use super::record::{self, Origin, Record, TraceSink, What};
use super::{context, source};
use crate::channel::{Backlog, Receiver, channel};
use crate::diagnostics::{self, DropReports, REPORT_EVERY};
use crate::error::{CreateError, RecvError};
use crate::ipc::catch::catch_panic;
use crate::ipc::wire::{self, EncodedValue, Envelope, Retry, Shape};
use crate::process::{self, LogTarget, NewChild, SpawnHook};
use crate::shared::AtomicU64;
use crate::sys::{self, Service, lock};

struct Relay {
    sink: TraceSink,
    reported: DropReports,
    progress: Mutex<Progress>,
    progressed: Condvar,
    /// Set while a [`What::Wake`] is on its way.
    is_woken: AtomicBool,
    /// Set when a child has ended.
    has_ended: AtomicBool,
}

#[derive(Default)]
struct Progress {
    /// How many records were handled, of those that children have sent.
    handled: u64,
    /// How many threads have asked to learn when all is handled that was sent by then, and how many
    /// of them know.
    asked: u64,
    answered: u64,
}

/// Work that is due once everything that was sent before it is handled.
struct Due {
    backlog: Backlog,
    released: Released,
    closed: Vec<Origin>,
    /// If a child has ended: those that ran then.
    running: Option<Vec<u32>>,
    asked: u64,
}

static RELAY: Service<Relay> = Service::new("offspring-tracing");

/// In a flood of records, the thread checks for due work once after this many.
const LOOK_EVERY: u32 = 64;

/// How long `join` waits for a subscriber that makes no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits for one that makes progress, but is slow.
const LONGEST: Duration = Duration::from_secs(10);

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
                reported: DropReports::default(),
                progress: Mutex::default(),
                progressed: Condvar::new(),
                is_woken: AtomicBool::new(false),
                has_ended: AtomicBool::new(false),
            };
            Ok((relay, move |relay: &Relay| relay.run(&received)))
        })
        .map_err(CreateError::io("start the thread for spans of children"))
}

/// Makes the thread check for due work.
pub(super) fn wake() {
    if let Some(relay) = RELAY.get() {
        relay.wake();
    }
}

/// Closes the spans without a holder: at once, unless something that children have sent is
/// unhandled. The caller holds no lock.
#[inline]
pub(crate) fn release_due() {
    if context::has_released() {
        release_or_wake();
    }
}

fn release_or_wake() {
    // Before the check: what is released later may have sent something that was not counted.
    let released = context::released();
    match RELAY.get() {
        Some(relay) if !relay.is_caught_up() => relay.wake(),
        _ => context::release(&released),
    }
}

/// Waits until the subscriber has everything that children have sent by now. Gives up on one that
/// makes no progress, and on one that is not done within [`LONGEST`].
fn after_end(deadline: Option<Instant>) {
    let Some(relay) = RELAY.get() else { return };
    relay.has_ended.store(true, Ordering::SeqCst);
    let mut progress = lock(&relay.progress);
    progress.asked += 1;
    let (asked, mut last) = (progress.asked, progress.handled);
    drop(progress);
    relay.wake();
    let mut patience = Instant::now() + PATIENCE;
    let longest = Instant::now() + LONGEST;
    let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
    let mut progress = lock(&relay.progress);
    while progress.answered < asked {
        let until = patience.min(deadline);
        if until <= Instant::now() {
            break;
        }
        progress = sys::wait(&relay.progressed, progress, Some(until));
        if progress.handled != last {
            last = progress.handled;
            patience = Instant::now() + PATIENCE;
        }
    }
    drop(progress);
    relay.report_dropped(Duration::ZERO);
}

fn running_pids() -> impl Iterator<Item = u32> {
    process::running().into_iter().map(|child| child.pid)
}

impl Relay {
    fn update_level(&self) {
        self.sink.level.store(record::wanted(), Ordering::Relaxed);
    }

    fn report_dropped(&self, pause: Duration) {
        let what =
            "spans and events of children were dropped, because the subscriber does not keep up";
        let dropped = self.sink.dropped.load(Ordering::SeqCst);
        self.reported.report("offspring::trace", what, dropped, pause);
    }

    /// Returns whether everything that children have sent is handled. May return `false` for ever
    /// after a child has died while it sent.
    fn is_caught_up(&self) -> bool {
        // The number of sent ones first: those that are handled afterwards were counted in it, or
        // were sent after this call.
        let sent = self.sink.sent.load(Ordering::SeqCst);
        lock(&self.progress).handled >= sent
    }

    /// Makes the thread check for due work.
    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            let wake = Record { process: String::new(), pid: std::process::id(), what: What::Wake };
            if self.sink.records.try_send(wake).is_err() {
                // No room: the thread has much to do, and looks meanwhile.
                self.is_woken.store(false, Ordering::SeqCst);
            }
        }
    }

    fn run(&self, received: &Receiver<Record>) {
        let mut mirror = Mirror::default();
        let mut retry = Retry::default();
        let mut due = None;
        // How many records were handled since the last check for due work.
        let mut unlooked = 0;
        loop {
            let record =
                received.recv_or_wait(|| while self.settle(&mut due, &mut mirror, received) {});
            match record {
                Ok(Record { what: What::Wake, .. }) => self.is_woken.store(false, Ordering::SeqCst),
                Ok(record) => {
                    // The user's subscriber may panic, and this thread must survive.
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
                    self.handled();
                }
            }
            self.update_level();
            unlooked += 1;
            if unlooked == LOOK_EVERY {
                unlooked = 0;
                self.settle(&mut due, &mut mirror, received);
            }
        }
    }

    /// Does what is due, if everything that was sent before it is handled. Returns whether it did.
    fn settle(
        &self,
        due: &mut Option<Due>,
        mirror: &mut Mirror,
        received: &Receiver<Record>,
    ) -> bool {
        let next = due.take().or_else(|| self.find_due(mirror, received));
        match next {
            None => false,
            Some(next) if !received.has_received(&next.backlog) => {
                *due = Some(next);
                false
            }
            Some(Due { released, closed, running, asked, .. }) => {
                let _ = catch_panic("subscriber", || {
                    mirror.close_all(closed);
                    if let Some(mut running) = running {
                        // Those that were started since have not ended either.
                        running.extend(running_pids());
                        mirror.close_all_but(&running);
                    }
                    context::release(&released);
                });
                lock(&self.progress).answered = asked;
                self.progressed.notify_all();
                true
            }
        }
    }

    fn find_due(&self, mirror: &mut Mirror, received: &Receiver<Record>) -> Option<Due> {
        let (asked, answered) = {
            let progress = lock(&self.progress);
            (progress.asked, progress.answered)
        };
        let (released, closed) = (context::released(), mirror.take_closed());
        let has_ended = self.has_ended.swap(false, Ordering::SeqCst);
        if asked == answered && released.is_empty() && closed.is_empty() && !has_ended {
            return None;
        }
        let running = has_ended.then(|| running_pids().collect());
        // Last: it must have what was sent before any of the above.
        let backlog = received.backlog();
        Some(Due { backlog, released, closed, running, asked })
    }

    fn handled(&self) {
        self.report_dropped(REPORT_EVERY);
        lock(&self.progress).handled += 1;
        self.progressed.notify_all();
    }
}
