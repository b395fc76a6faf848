//! Pools, over the checklist of crashes, limits and ends.

mod basics;
mod configured;
mod crashes;
mod ends;
mod limits;
mod program;
mod select;
mod stop;

/// The id of the calling thread, for [`eventually_sleeps`].
fn thread_id() -> String {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Waits until a thread of this process is blocked: in the call that it made after it sent its id.
fn eventually_sleeps(thread: String) {
    let is_asleep = || {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('S')
    };
    // Twice: a thread also sleeps for a moment if it meets a lock.
    for _ in 0..2 {
        crate::support::eventually("the thread is blocked", is_asleep);
        std::thread::yield_now();
    }
}
