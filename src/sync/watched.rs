//! For tests: whether a thread of this process sleeps.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A thread that a test watches.
#[derive(Default)]
pub(super) struct WatchedThread(OnceLock<PathBuf>);

impl WatchedThread {
    /// Called once, by the thread.
    pub(super) fn begin(&self) {
        let link = std::fs::read_link("/proc/thread-self").expect("/proc is there");
        self.0.set(Path::new("/proc").join(link).join("stat")).expect("one thread begins");
    }

    /// Waits until the thread sleeps in a system call.
    pub(super) fn wait_until_it_sleeps(&self) {
        // The state follows the name, which is in parentheses.
        let state = |stat: &str| stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        let stat = || std::fs::read_to_string(self.0.get()?).ok();
        while stat().as_deref().and_then(state) != Some('S') {
            std::thread::yield_now();
        }
    }
}
