//! The parent's side: one thread that passes records to the logger.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::LogSink;
use super::record::{LogMessage, LogRecord};
use crate::channel::{Receiver, Sender, channel};
use crate::diagnostics::{self, DropReports, REPORT_EVERY};
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
    reported: DropReports,
    /// How often a thread has asked whether all records have been passed to the logger.
    asked: std::sync::atomic::AtomicU64,
    progress: Mutex<Progress>,
    progressed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// How many of the sent records have been passed to the logger.
    handled: u64,
    /// How many of the threads that asked did so before the channel was empty.
    answered: u64,
}

static FORWARDER: Service<Forwarder> = Service::new("offspring-logs");

/// How long `join` waits while the logger makes no progress, for example because it is blocked.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long `join` waits for a logger that makes progress. What comes faster than it can be handled,
/// from other children, does not hold up a thread for ever.
const LONGEST: Duration = Duration::from_secs(10);

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
            let (forwarder, received) = Forwarder::new()?;
            Ok((forwarder, move |forwarder: &Forwarder| forwarder.run(&received)))
        })
        .map_err(CreateError::io("start the thread for log records"))
}

/// Waits until the logger has handled every record that children have sent by now. Gives up on a
/// logger that makes no progress, and on one that is not done within [`LONGEST`].
pub(super) fn drain(deadline: Option<Instant>) {
    let Some(forwarder) = FORWARDER.get() else {
        return;
    };
    let sent = forwarder.sent.load(Ordering::SeqCst);
    if lock(&forwarder.progress).handled < sent {
        forwarder.wait_until_handled(sent, deadline);
    }
    forwarder.report_dropped(Duration::ZERO);
}

impl Forwarder {
    fn new() -> io::Result<(Forwarder, Receiver<LogMessage>)> {
        let (records, received) = channel().map_err(io::Error::other)?;
        let number = || AtomicU64::new(0).map_err(io::Error::other);
        let forwarder = Forwarder {
            records,
            level: number()?,
            sent: number()?,
            dropped: number()?,
            reported: DropReports::default(),
            asked: Default::default(),
            progress: Mutex::default(),
            progressed: Condvar::new(),
        };
        Ok((forwarder, received))
    }

    fn update_level(&self) {
        self.level.store(log::max_level() as u64, Ordering::Relaxed);
    }

    /// Reports what was dropped since the last report, unless that was less than `pause` ago.
    fn report_dropped(&self, pause: Duration) {
        let what = "log records of children were dropped, because the logger does not keep up";
        let dropped = self.dropped.load(Ordering::SeqCst);
        self.reported.report("offspring::logs", what, dropped, pause);
    }

    fn handled(&self) {
        self.report_dropped(REPORT_EVERY);
        lock(&self.progress).handled += 1;
        self.progressed.notify_all();
    }

    /// Waits until this many records are handled, or the channel was empty once. Every child can
    /// write the number of sent records, so one that lies must not make others wait for records
    /// that do not exist.
    fn wait_until_handled(&self, sent: u64, deadline: Option<Instant>) {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // Wakes the thread if it sleeps, which means that the channel was empty before.
        let _ = self.records.try_send(LogMessage::UpdateLevel);
        let begun = Instant::now();
        let mut progress = lock(&self.progress);
        let (mut last, mut until) = (progress.handled, begun + PATIENCE);
        while progress.handled < sent && progress.answered < asked {
            let end = until.min(begun + LONGEST);
            let end = deadline.map_or(end, |deadline| deadline.min(end));
            if end <= Instant::now() {
                break;
            }
            progress = sys::wait(&self.progressed, progress, Some(end));
            if progress.handled != last {
                last = progress.handled;
                until = Instant::now() + PATIENCE;
            }
        }
    }

    /// Receives the next message. If the channel is empty, answers the threads that have asked, and
    /// waits.
    fn next(&self, received: &Receiver<LogMessage>) -> Result<LogMessage, RecvError> {
        let asked = self.asked.load(Ordering::SeqCst);
        received.recv_or_wait(|| {
            lock(&self.progress).answered = asked;
            self.progressed.notify_all();
        })
    }

    fn run(&self, received: &Receiver<LogMessage>) {
        let mut retry = Retry::default();
        loop {
            match self.next(received) {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_child_that_lies_about_its_records_keeps_no_thread_waiting() {
        let (forwarder, received) = Forwarder::new().unwrap();
        let forwarder: &Forwarder = Box::leak(Box::new(forwarder));
        thread::spawn(move || forwarder.run(&received));
        // Another child, which never stops logging.
        thread::spawn(move || {
            loop {
                let record = LogRecord::new(&log::Record::builder().build(), "sibling", 1);
                let _ = forwarder.records.send(LogMessage::Record(record));
                // Less than the patience for a logger that makes no progress.
                thread::sleep(Duration::from_millis(50));
            }
        });
        let (done, waited) = mpsc::channel();
        thread::spawn(move || {
            forwarder.wait_until_handled(u64::MAX / 2, None);
            done.send(lock(&forwarder.progress).answered).unwrap();
        });
        let answered = waited.recv_timeout(Duration::from_secs(60)).expect("it waits no longer");
        assert!(answered > 0, "it was told that the channel is empty");
    }
}
