//! The logger of a child.

use std::cell::Cell;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::LogSink;
use super::record::{self, LogMessage, LogRecord};
use crate::channel::Sender;
use crate::error::TrySendError;
use crate::process::current;

/// How often a child asks for an update of the wanted level.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long a record that must not be dropped waits for room.
const PATIENCE: Duration = Duration::from_secs(1);

struct ChildLogger {
    sink: LogSink,
    name: String,
    pid: u32,
    asked: Mutex<Instant>,
    /// Set when a record has waited in vain, because the parent's logger is stuck. Cleared when
    /// there was room for a record again.
    is_stuck: AtomicBool,
}

thread_local! {
    /// Set while this thread sends a record, because sending may log as well.
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// Installs the logger of this process, unless it has one already.
pub(super) fn install(sink: LogSink) {
    let current = current();
    let logger = ChildLogger {
        sink,
        name: current.name().to_owned(),
        pid: current.pid(),
        asked: Mutex::new(Instant::now()),
        is_stuck: AtomicBool::new(false),
    };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        // The wanted level may change later, so the shared word decides instead.
        log::set_max_level(log::LevelFilter::Trace);
    }
}

impl ChildLogger {
    fn wants(&self, level: log::Level) -> bool {
        let wanted = match &self.sink {
            LogSink::Parent { level, .. } => level.load(Ordering::Relaxed),
            LogSink::Stderr { level } => *level,
        };
        level <= record::level_of(wanted)
    }

    /// Asks the parent to update the wanted level, if the last request was some time ago.
    fn ask(&self) {
        let LogSink::Parent { records, .. } = &self.sink else {
            return;
        };
        // If another thread holds the lock, that thread asks.
        let Ok(mut asked) = self.asked.try_lock() else {
            return;
        };
        if asked.elapsed() >= ASK_EVERY {
            *asked = Instant::now();
            let _ = records.try_send(LogMessage::UpdateLevel);
        }
    }

    fn send(&self, record: &log::Record<'_>) {
        let LogSink::Parent { records, sent, dropped, waits, .. } = &self.sink else {
            return self.print(record);
        };
        let message = LogMessage::Record(LogRecord::new(record, &self.name, self.pid));
        let waits = record.level() <= record::level_of(*waits);
        let is_sent = match records.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(message)) => waits && self.wait_for_room(records, message),
            Err(_) => return self.print(record),
        };
        if is_sent {
            self.is_stuck.store(false, Ordering::Relaxed);
        }
        // Counted after it is sent, so that a parent never waits for a record that was counted but
        // lost.
        let count = if is_sent { sent } else { dropped };
        count.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns whether the record was sent.
    fn wait_for_room(&self, records: &Sender<LogMessage>, message: LogMessage) -> bool {
        if self.is_stuck.load(Ordering::Relaxed) {
            return false;
        }
        let is_sent = records.send_timeout(message, PATIENCE).is_ok();
        if !is_sent {
            self.is_stuck.store(true, Ordering::Relaxed);
        }
        is_sent
    }

    fn print(&self, record: &log::Record<'_>) {
        let line = format!(
            "[{} {} {}:{}] {}\n",
            record.level(),
            record.target(),
            self.name,
            self.pid,
            record.args()
        );
        // One write, so that lines do not mix. Unlike `eprintln`, it does not panic if stderr is
        // closed.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

impl log::Log for ChildLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.wants(metadata.level())
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.wants(record.level()) {
            return self.ask_unless_sending();
        }
        if SENDING.try_with(|sending| sending.replace(true)).unwrap_or(true) {
            return self.print(record);
        }
        self.send(record);
        let _ = SENDING.try_with(|sending| sending.set(false));
    }

    /// Does nothing: when `log` returns, the record is in memory that the parent maps.
    fn flush(&self) {}
}

impl ChildLogger {
    fn ask_unless_sending(&self) {
        let outer = SENDING.try_with(|sending| sending.replace(true));
        if outer == Ok(false) {
            self.ask();
            let _ = SENDING.try_with(|sending| sending.set(false));
        }
    }
}
