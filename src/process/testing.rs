//! Helpers for tests of programs that use this crate.

use std::thread;
use std::time::{Duration, Instant};

use crate::process::parent::reaper;

/// How long a child that is ending may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks that no process that the calling thread started is still running. Call it at the end of a
/// test.
///
/// Other threads may be running other tests, so their processes do not count. A process that is
/// about to end has two seconds to do so.
///
/// ```
/// #[offspring::worker]
/// fn double(n: u64) -> u64 {
///     n * 2
/// }
///
/// #[offspring::main]
/// fn main() {
///     assert_eq!(double::spawn(4).unwrap().join().unwrap(), 8);
///     offspring::testing::assert_no_children();
/// }
/// ```
///
/// # Panics
///
/// Panics if a process still runs, with its name and pid.
#[track_caller]
pub fn assert_no_children() {
    let (own, deadline) = (thread::current().id(), Instant::now() + PATIENCE);
    let left: Vec<String> = reaper::running()
        .into_iter()
        .filter(|child| {
            child.started_by == own && !child.is_detached() && !child.wait(Some(deadline))
        })
        .map(|child| format!("`{}` (pid {})", child.name, child.pid))
        .collect();
    assert!(left.is_empty(), "this test leaves processes behind: {}", left.join(", "));
}
