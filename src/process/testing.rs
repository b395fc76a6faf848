//! What tests of users ask.

use std::thread;
use std::time::{Duration, Instant};

use crate::process::parent::reaper;

/// How long those may take that are ending.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a test fail that leaves a process behind: call it at its end.
///
/// Looks at the processes that this thread started, since other tests run on other threads; one that is just ending gets
/// two seconds.
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
/// If one still runs; the message has its name and pid.
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
    assert!(
        left.is_empty(),
        "this test leaves processes behind: {}",
        left.join(", ")
    );
}
