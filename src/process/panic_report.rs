//! Panics as text, cut to lengths that fit a message.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use crate::error::PanicReport;
use crate::ipc::wire;

pub(super) const MESSAGE_MAX: usize = 8 << 10;
const THREAD_MAX: usize = 1 << 10;
const BACKTRACE_MAX: usize = 16 << 10;

/// Makes the report of a panic, in the panic hook.
pub(super) fn in_hook(info: &PanicHookInfo<'_>) -> PanicReport {
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured)
        .then(|| cut(backtrace.to_string(), BACKTRACE_MAX));
    PanicReport::new(
        cut_message(wire::panic_text(info.payload())),
        info.location().map(ToString::to_string),
        thread_name(),
        backtrace,
    )
}

/// Reads what a backtrace needs, and which std keeps: files that cannot be opened later.
#[cfg(feature = "sandbox")]
pub(super) fn warm_up() {
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        drop(backtrace.to_string());
    }
}

/// Makes the report of a panic that no hook saw: it has no location and no backtrace.
pub(super) fn of_message(message: String) -> PanicReport {
    PanicReport::new(cut_message(message), None, thread_name(), None)
}

/// Cuts a message as reports do, so that it can be compared with theirs.
pub(super) fn cut_message(message: String) -> String {
    cut(message, MESSAGE_MAX)
}

fn thread_name() -> Option<String> {
    std::thread::current().name().map(|name| cut(name.to_owned(), THREAD_MAX))
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" [cut]");
    }
    text
}
