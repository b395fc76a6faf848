//! The logger of a child.

use std::cell::Cell;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Outlet;
use super::record::{self, Message, Record};
use crate::error::SendTimeoutError;
use crate::process::current;

/// How often a child asks whether more is wanted.
const ASK_EVERY: Duration = Duration::from_secs(1);

struct Logger {
    outlet: Outlet,
    name: String,
    pid: u32,
    asked: Mutex<Instant>,
}

thread_local! {
    /// What sends a record may log itself.
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// Makes it the logger of this process, if there is none.
pub(super) fn install(outlet: Outlet) {
    let current = current();
    let logger = Logger {
        outlet,
        name: current.name().to_owned(),
        pid: current.pid(),
        asked: Mutex::new(Instant::now()),
    };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        // What is wanted may change, so the word decides and not this.
        log::set_max_level(log::LevelFilter::Trace);
    }
}

impl Logger {
    fn wants(&self, level: log::Level) -> bool {
        let wanted = match &self.outlet {
            Outlet::Parent { level, .. } => level.load(Ordering::Relaxed),
            Outlet::Stderr { level } => *level,
        };
        level <= record::level_of(wanted)
    }

    /// Asks the parent to look at its level, now and then.
    fn ask(&self) {
        let Outlet::Parent { records, .. } = &self.outlet else {
            return;
        };
        // Another thread asks in this moment.
        let Ok(mut asked) = self.asked.try_lock() else {
            return;
        };
        if asked.elapsed() >= ASK_EVERY {
            *asked = Instant::now();
            let _ = records.send_timeout(Message::Ask, Duration::ZERO);
        }
    }

    fn send(&self, record: &log::Record<'_>) {
        let Outlet::Parent {
            records,
            sent,
            dropped,
            ..
        } = &self.outlet
        else {
            return self.print(record);
        };
        let message = Message::Record(Record::new(record, &self.name, self.pid));
        let count = match records.send_timeout(message, Duration::ZERO) {
            // Counted once it is there: one who waits for all that was counted waits for nothing that is lost.
            Ok(()) => sent,
            Err(SendTimeoutError::Timeout(_)) => dropped,
            Err(_) => return self.print(record),
        };
        count.fetch_add(1, Ordering::SeqCst);
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
        // In one piece, and without a panic where stderr is closed.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.wants(metadata.level())
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.wants(record.level()) {
            return self.ask_unless_sending();
        }
        if SENDING
            .try_with(|sending| sending.replace(true))
            .unwrap_or(true)
        {
            return self.print(record);
        }
        self.send(record);
        let _ = SENDING.try_with(|sending| sending.set(false));
    }

    /// What `log` returned from is out of this process already.
    fn flush(&self) {}
}

impl Logger {
    fn ask_unless_sending(&self) {
        let outer = SENDING.try_with(|sending| sending.replace(true));
        if outer == Ok(false) {
            self.ask();
            let _ = SENDING.try_with(|sending| sending.set(false));
        }
    }
}
