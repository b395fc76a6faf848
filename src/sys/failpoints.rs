//! Fail points: steps at which a test can end this process, and known bugs that a test can bring
//! back. Without the feature `failpoints`, which is only for this crate's own tests, both are
//! compiled away.
//!
//! `OFFSPRING_FAILPOINT=name:n` ends the process, like `kill -9`, when it reaches that point for
//! the nth time. `name:n:stop` suspends it there until it receives SIGCONT.
//! `OFFSPRING_MUTATION=name` brings back a bug that was fixed or avoided; a good test suite then
//! fails.

/// The points at which a process can be ended: first those in a client of a queue, in the order of
/// a producer and then of a consumer, then those in an owner.
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
    "ring.recalled",
];

/// Bugs that can be brought back.
#[cfg(feature = "failpoints")]
pub const MUTATIONS: &[&str] = &[
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
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        name: String,
        left: AtomicI64,
        signal: Signal,
    }

    static POINT: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let value = std::env::var("OFFSPRING_FAILPOINT").ok()?;
        let (name, rest) = value.split_once(':')?;
        let (count, signal) = match rest.strip_suffix(":stop") {
            Some(count) => (count, Signal::STOP),
            None => (rest, Signal::KILL),
        };
        let left = AtomicI64::new(count.parse().ok()?);
        Some(Armed { name: name.to_owned(), left, signal })
    });

    static MUTATION: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("OFFSPRING_MUTATION").ok());

    pub(crate) fn point(name: &str) {
        if let Some(armed) = &*POINT {
            if armed.name == name && armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                let _ = kill_process(getpid(), armed.signal);
                // Another thread may receive the signal. This thread must not continue in the
                // meantime.
                std::thread::sleep(Duration::from_millis(300));
            }
        }
    }

    pub(crate) fn is_mutated(name: &str) -> bool {
        MUTATION.as_deref() == Some(name)
    }
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::{is_mutated, point};

/// Ends the process if a test asked for that.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn point(_: &str) {}

/// Returns whether a test asked for this bug.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn is_mutated(_: &str) -> bool {
    false
}
