//! The parent's side: one thread that passes records to the logger.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::LogSink;
use super::record::{LogMessage, LogRecord};
use crate::channel::{Receiver, Sender, channel};
use crate::diagnostics;
use crate::error::{CreateError, RecvError};
use crate::ipc::catch::catch_panic;
use crate::ipc::wire::Retry;
use crate::shared::AtomicU64;
use crate::sys::{self, Service, lock};

struct Forwarder {
    records: Sender<LogMessage>,
    level: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    reported: Mutex<Reported>,
    /// How many of the sent records have been passed to the logger.
    handled: Mutex<u64>,
    progress: Condvar,
}

/// The last report of dropped records.
#[derive(Default)]
struct Reported {
    dropped: u64,
    at: Option<Instant>,
}

static FORWARDER: Service<Forwarder> = Service::new("offspring-logs");

/// How long `join` waits while the logger makes no progress, for example because it is blocked.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often dropped records are reported at most: in a flood, a report of each loss would take the
/// logger's time from other records.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Returns the sink for one more child.
pub(super) fn sink(waits: log::LevelFilter) -> Result<LogSink, CreateError> {
    let forwarder = forwarder()?;
    forwarder.update_level();
    Ok(LogSink::Parent {
        records: forwarder.records.clone(),
        level: forwarder.level.clone(),
        waits: waits as u64,
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
                reported: Mutex::default(),
                handled: Mutex::new(0),
                progress: Condvar::new(),
            };
            Ok((forwarder, move |forwarder: &Forwarder| forwarder.run(&received)))
        })
        .map_err(CreateError::io("start the thread for log records"))
}

/// Waits until the logger has handled every record that children have sent by now. Gives up on a
/// logger that makes no progress.
pub(super) fn drain(deadline: Option<Instant>) {
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
    forwarder.report_dropped(Duration::ZERO);
}

impl Forwarder {
    fn update_level(&self) {
        self.level.store(log::max_level() as u64, Ordering::Relaxed);
    }

    /// Reports what was dropped since the last report, unless that was less than `pause` ago.
    fn report_dropped(&self, pause: Duration) {
        let dropped = self.dropped.load(Ordering::SeqCst);
        let mut reported = lock(&self.reported);
        let is_due = reported.at.is_none_or(|at| at.elapsed() >= pause);
        let count = dropped.saturating_sub(reported.dropped);
        if count > 0 && is_due {
            *reported = Reported { dropped, at: Some(Instant::now()) };
            // Unlocked before the logger is called, because that is user code.
            drop(reported);
            diagnostics::warn(
                "offspring::logs",
                format_args!(
                    "{count} log records of children were dropped, because the logger does not keep up"
                ),
            );
        }
    }

    fn handled(&self) {
        self.report_dropped(REPORT_EVERY);
        *lock(&self.handled) += 1;
        self.progress.notify_all();
    }

    fn run(&self, received: &Receiver<LogMessage>) {
        let mut retry = Retry::default();
        loop {
            match received.recv() {
                Ok(LogMessage::UpdateLevel) => {}
                Ok(LogMessage::Record(record)) => {
                    forward(&record);
                    self.handled();
                }
                // Never reached: this process holds a sender itself.
                Err(RecvError::Disconnected | RecvError::Moved) => return,
                // The record stays in the channel until this process has room for it again.
                Err(error) if error.is_starved() => retry.pause(&error),
                Err(error) => {
                    diagnostics::error(
                        "offspring::logs",
                        format_args!("a log record was lost: {error}"),
                    );
                    // The record was counted as sent, but `drain` must not wait for it.
                    self.handled();
                }
            }
            self.update_level();
        }
    }
}

fn forward(record: &LogRecord) {
    // If the user's logger panics, this thread must survive: it serves all children. The panic hook
    // has reported it.
    let _ = catch_panic("logger", || record.log());
}
