//! The parent's side: one thread that hands records to the logger.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Outlet;
use super::record::{Message, Record};
use crate::channel::{Receiver, Sender, channel};
use crate::error::{CreateError, RecvError};
use crate::shared::AtomicU64;
use crate::sys::{self, Service, lock};

struct Forwarder {
    records: Sender<Message>,
    level: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    /// How many of those were told of.
    told: Mutex<u64>,
    handled: Mutex<u64>,
    progress: Condvar,
}

static FORWARDER: Service<Forwarder> = Service::new("offspring-logs");

/// The longest that `join` waits for a logger that makes no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// For one more child.
pub(super) fn outlet() -> Result<Outlet, CreateError> {
    let forwarder = forwarder()?;
    forwarder.look_at_level();
    Ok(Outlet::Parent {
        records: forwarder.records.clone(),
        level: forwarder.level.clone(),
        sent: forwarder.sent.clone(),
        dropped: forwarder.dropped.clone(),
    })
}

fn forwarder() -> Result<&'static Forwarder, CreateError> {
    FORWARDER
        .start(|| {
            let (records, received) = channel().map_err(io::Error::other)?;
            let number = || AtomicU64::new(0).map_err(io::Error::other);
            let forwarder = Forwarder {
                records,
                level: number()?,
                sent: number()?,
                dropped: number()?,
                told: Mutex::new(0),
                handled: Mutex::new(0),
                progress: Condvar::new(),
            };
            Ok((forwarder, move |forwarder: &Forwarder| {
                forwarder.run(&received)
            }))
        })
        .map_err(CreateError::io("start the thread for log records"))
}

/// Waits until all records are handled that children had sent by now; not for a logger that makes no progress.
pub(super) fn settle(deadline: Option<Instant>) {
    let Some(forwarder) = FORWARDER.get() else {
        return;
    };
    let sent = forwarder.sent.load(Ordering::SeqCst);
    let mut handled = lock(&forwarder.handled);
    let mut last = *handled;
    let mut patience = Instant::now() + PATIENCE;
    while *handled < sent {
        let until = deadline.map_or(patience, |deadline| deadline.min(patience));
        if until <= Instant::now() {
            break;
        }
        handled = sys::wait(&forwarder.progress, handled, Some(until));
        if *handled != last {
            last = *handled;
            patience = Instant::now() + PATIENCE;
        }
    }
    drop(handled);
    forwarder.tell_dropped();
}

impl Forwarder {
    fn look_at_level(&self) {
        self.level.store(log::max_level() as u64, Ordering::Relaxed);
    }

    fn tell_dropped(&self) {
        let dropped = self.dropped.load(Ordering::SeqCst);
        let before = std::mem::replace(&mut *lock(&self.told), dropped);
        if dropped > before {
            let count = dropped - before;
            log::warn!(target: "offspring::logs", "{count} records of children were dropped: they came faster than they were taken");
        }
    }

    fn handled(&self) {
        self.tell_dropped();
        *lock(&self.handled) += 1;
        self.progress.notify_all();
    }

    fn run(&self, received: &Receiver<Message>) {
        loop {
            match received.recv() {
                Ok(Message::Ask) => {}
                Ok(Message::Record(record)) => {
                    forward(&record);
                    self.handled();
                }
                // This process holds a sender itself.
                Err(RecvError::Disconnected | RecvError::Moved) => return,
                // It comes when there are descriptors for it.
                Err(error) if error.is_starved() => {}
                Err(error) => {
                    log::error!(target: "offspring::logs", "a record did not arrive: {error}");
                    // It was counted as sent.
                    self.handled();
                }
            }
            self.look_at_level();
        }
    }
}

fn forward(record: &Record) {
    // The user's logger: its panic must not silence all children.
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(
        || record.log(),
    )));
}
