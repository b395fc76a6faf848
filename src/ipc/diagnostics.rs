//! The log records of this crate.
//!
//! A logger is code of the program: it may panic, block, or call back into this crate. But records
//! are made where something goes wrong: under locks, and on service threads that other processes
//! wait for. So no such place calls the logger. It adds its record to a list, and one thread passes
//! the list on. If the logger is slow, that delays later records and nothing else.
//!
//! A record that means a loss for the program is never silent: [`loss`] writes it to standard error
//! if the program has no logger.
//!
//! If that thread cannot be started, the records stay in the list, and the next record tries again.
//! A fork of this process has no such thread, and makes no records.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::{Condvar, Mutex, Once};
use std::time::{Duration, Instant};

use log::Level;

use crate::ipc::catch::catch_panic;
use crate::sys::{self, Service, lock};

/// How often [`DropReports`] reports at most.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Records beyond this number are dropped and counted.
const PENDING_MAX: usize = 1024;
/// How long the exit of the program waits for the logger.
const PATIENCE: Duration = Duration::from_secs(1);

struct Record {
    level: Level,
    target: &'static str,
    text: String,
}

struct Pending {
    records: VecDeque<Record>,
    dropped: u64,
    /// True while the logger handles a record that was taken out of the list.
    is_logging: bool,
}

static PENDING: Mutex<Pending> =
    Mutex::new(Pending { records: VecDeque::new(), dropped: 0, is_logging: false });
/// Notified when a record is added, and when the logger has handled one.
static CHANGED: Condvar = Condvar::new();
static THREAD: Service<()> = Service::new("offspring-diagnostics");

thread_local! {
    /// True on the thread that calls the logger.
    static IS_LOGGER: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn error(target: &'static str, text: fmt::Arguments<'_>) {
    report(Level::Error, target, text);
}

pub(crate) fn warn(target: &'static str, text: fmt::Arguments<'_>) {
    report(Level::Warn, target, text);
}

/// Warns of what was dropped in a flood. A warning for each loss would take time from what is left,
/// so one warning counts many.
#[derive(Debug, Default)]
pub(crate) struct DropReports(Mutex<LastDropReport>);

#[derive(Debug, Default)]
struct LastDropReport {
    dropped: u64,
    at: Option<Instant>,
}

impl DropReports {
    /// Reports the losses since the last report, unless that was less than `pause` ago. `dropped` is
    /// the number of all losses, and `what` is the text after the number: what was lost, and why.
    pub(crate) fn report(&self, target: &'static str, what: &str, dropped: u64, pause: Duration) {
        let mut last = lock(&self.0);
        let is_due = last.at.is_none_or(|at| at.elapsed() >= pause);
        let count = dropped.saturating_sub(last.dropped);
        if count > 0 && is_due {
            *last = LastDropReport { dropped, at: Some(Instant::now()) };
            drop(last);
            warn(target, format_args!("{count} {what}"));
        }
    }
}

pub(crate) fn debug(target: &'static str, text: fmt::Arguments<'_>) {
    report(Level::Debug, target, text);
}

/// Reports the `nth` loss of something of the program in one place. Standard error gets ever fewer
/// of the reports of one place: the first, the second, the fourth, the eighth.
pub(crate) fn loss(target: &'static str, nth: u64, text: fmt::Arguments<'_>) {
    if has_logger() || nth.is_power_of_two() {
        add(Level::Error, target, text);
    }
}

/// `false` if the program has set no logger, or one that wants no records.
fn has_logger() -> bool {
    log::max_level() != log::LevelFilter::Off
}

/// May be called under any lock of this crate.
fn report(level: Level, target: &'static str, text: fmt::Arguments<'_>) {
    if level <= log::max_level() {
        add(level, target, text);
    }
}

fn add(level: Level, target: &'static str, text: fmt::Arguments<'_>) {
    // The logger itself may use this crate. A record about that would cause another record, and so
    // on without end.
    if IS_LOGGER.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    let record = Record { level, target, text: text.to_string() };
    {
        let mut pending = lock(&PENDING);
        if pending.records.len() == PENDING_MAX {
            pending.dropped += 1;
        } else {
            pending.records.push_back(record);
        }
    }
    if THREAD.start(|| Ok(((), |(): &()| run()))).is_ok() {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| sys::at_exit(at_exit));
        CHANGED.notify_all();
    }
}

fn run() {
    IS_LOGGER.set(true);
    let mut pending = lock(&PENDING);
    loop {
        pending.is_logging = false;
        CHANGED.notify_all();
        let record = match pending.records.pop_front() {
            Some(record) => record,
            None if pending.dropped > 0 => dropped(std::mem::take(&mut pending.dropped)),
            None => {
                pending = sys::wait(&CHANGED, pending, None);
                continue;
            }
        };
        pending.is_logging = true;
        drop(pending);
        let _ = catch_panic("logger", || {
            if has_logger() {
                log::log!(target: record.target, record.level, "{}", record.text);
            } else {
                // If standard error is closed, nothing can be done.
                let _ = writeln!(std::io::stderr(), "offspring: {}", record.text);
            }
        });
        pending = lock(&PENDING);
    }
}

fn dropped(count: u64) -> Record {
    let text = format!("{count} records were dropped, because the logger does not keep up");
    Record { level: Level::Warn, target: "offspring::diagnostics", text }
}

/// Waits until the logger has handled all records, or has made no progress for a while. Uses only
/// the lock and the condition variable, so that a thread that has lost its thread-locals can call
/// it.
pub(crate) fn flush() {
    if THREAD.get().is_none() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut pending = lock(&PENDING);
    while (pending.is_logging || !pending.records.is_empty()) && Instant::now() < deadline {
        pending = sys::wait(&CHANGED, pending, Some(deadline));
    }
}

extern "C" fn at_exit() {
    flush();
}
