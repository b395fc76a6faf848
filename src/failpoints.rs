//! Fail points: places where a test may end this process, and mistakes that it may have made on purpose. Without the
//! feature `failpoints`, which is for this crate's own tests only, there is nothing here.
//!
//! `OFFSPRING_FAILPOINT=name:n` ends the process, as `kill -9` would, when it comes to that point for the nth time.
//! `OFFSPRING_MISTAKE=name` brings a mistake back that was mended or avoided: a test suite that is worth something
//! fails then.

/// Where a process may end. In a client of a queue, producers first; then in an owner.
#[cfg(feature = "failpoints")]
pub const POINTS: [&[&str]; 2] = [CLIENT_POINTS, OWNER_POINTS];

#[cfg(feature = "failpoints")]
const CLIENT_POINTS: &[&str] = &[
    "session.open",
    "session.attach",
    "put.credit",
    "put.parcel",
    "put.entry",
    "put.rung",
    "put.waits",
    "doorbell.claimed",
    "ring.written",
    "wait.armed",
    "wait.woken",
    "get.waits",
    "ring.copied",
    "get.taken",
    "parcel.read",
];

#[cfg(feature = "failpoints")]
const OWNER_POINTS: &[&str] = &[
    "hub.attach",
    "hub.drained",
    "hub.settled",
    "hub.pushed",
    "hub.rings",
    "hub.ends",
    "ring.shut",
];

/// Mistakes that can be made again.
#[cfg(feature = "failpoints")]
pub const MISTAKES: &[&str] = &[
    "ring.commit-first",
    "ring.recall-unseen",
    "client.no-bell",
    "hub.no-bell",
    "end.keep-leases",
    "end.keep-untaken",
    "end.no-drain",
    "settle.no-look",
    "settle.lost-room",
];

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static POINT: LazyLock<Option<(String, AtomicI64)>> = LazyLock::new(|| {
        let value = std::env::var("OFFSPRING_FAILPOINT").ok()?;
        let (name, count) = value.split_once(':')?;
        Some((name.to_owned(), AtomicI64::new(count.parse().ok()?)))
    });

    static MISTAKE: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("OFFSPRING_MISTAKE").ok());

    pub(crate) fn point(name: &str) {
        if let Some((armed, left)) = &*POINT {
            if armed == name && left.fetch_sub(1, Ordering::SeqCst) == 1 {
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
            }
        }
    }

    pub(crate) fn mistake(name: &str) -> bool {
        MISTAKE.as_deref() == Some(name)
    }
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::{mistake, point};

/// Ends the process if a test wants it to end here.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn point(_: &str) {}

/// Whether a test wants this mistake to be made.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn mistake(_: &str) -> bool {
    false
}
