//! Polling for a moment before going to sleep.
//!
//! A thread that sleeps on an idle core takes about 50 us to wake up, but data that a busy peer
//! writes arrives within 1 us. So a wait polls first, as long as that has paid off lately.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Yields the processor to the peer, which may be waiting for it.
///
/// On a machine that is busy with other things, each yield may go to one of those and take a whole
/// time slice. So after a long yield, this function does nothing for a while.
pub(crate) fn snooze() {
    /// No thread of this crate runs for longer than this without going to sleep.
    const LONG: Duration = Duration::from_millis(1);
    /// The pause, in multiples of the yield that was too long.
    const PAUSE: u32 = 20;
    static START: OnceLock<Instant> = OnceLock::new();
    static CROWDED_UNTIL: AtomicU64 = AtomicU64::new(0);

    let start = *START.get_or_init(Instant::now);
    let before = start.elapsed();
    if (before.as_nanos() as u64) < CROWDED_UNTIL.load(Ordering::Relaxed) {
        return;
    }
    std::thread::yield_now();
    let after = start.elapsed();
    let took = after - before;
    if took >= LONG {
        CROWDED_UNTIL.store((after + took * PAUSE).as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Decides whether a wait polls before it sleeps, and polls.
#[derive(Debug)]
pub(crate) struct Spin {
    /// If it is above 0, recent waits ended while they polled. If it is below 0, that many of the
    /// next waits sleep at once.
    luck: AtomicI32,
    /// How many polls there are between two readings of the clock.
    polls: u32,
}

/// Returns whether there is one processor. Asked once, because std reads files for the answer, which
/// a sandboxed worker cannot do later.
pub(crate) fn is_alone() -> bool {
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from) == 1)
}

impl Spin {
    /// How long a wait polls. Two wake-ups fit in, so a peer that has to be woken first still
    /// answers in time. With a shorter limit, three processes that pass something around in a
    /// circle would all go to sleep, each waiting for the wake-up of another, and would never leave
    /// that state.
    const LIMIT: Duration = Duration::from_micros(100);
    /// A peer that is running answers within this time, so until then yielding to it gains nothing.
    const BEFORE_YIELDS: Duration = Duration::from_micros(2);
    /// After polling in vain, this many waits sleep at once.
    const PAUSE: i32 = 16;
    const BEST_LUCK: i32 = 4;

    pub(crate) fn new() -> Spin {
        Spin::with_polls(32)
    }

    /// Returns a `Spin` for a poll that takes longer than reading the clock.
    pub(crate) fn of_long_polls() -> Spin {
        Spin::with_polls(1)
    }

    fn with_polls(polls: u32) -> Spin {
        // With one processor, the peer cannot run while this thread polls.
        Spin { luck: AtomicI32::new(if is_alone() { i32::MIN } else { 0 }), polls }
    }

    /// Polls `ready` for up to 100 us, or until `deadline`. Returns `None` at once if polling has
    /// not paid off lately.
    pub(crate) fn run<R>(
        &self,
        deadline: Option<Instant>,
        ready: &mut impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let luck = self.luck.load(Ordering::Relaxed);
        if luck < 0 {
            if luck > i32::MIN {
                self.luck.store(luck + 1, Ordering::Relaxed);
            }
            return None;
        }
        let start = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= start) {
            return None;
        }
        loop {
            for _ in 0..self.polls {
                if let Some(result) = ready() {
                    self.luck.store((luck + 1).min(Spin::BEST_LUCK), Ordering::Relaxed);
                    return Some(result);
                }
                std::hint::spin_loop();
            }
            let elapsed = start.elapsed();
            if elapsed >= Spin::LIMIT {
                break;
            }
            if elapsed >= Spin::BEFORE_YIELDS {
                snooze();
            }
        }
        // A miss among many hits costs one spin. Misses in a row cost one spin in every `PAUSE`
        // waits.
        let worse = if luck > 0 { 0 } else { -Spin::PAUSE };
        self.luck.store(worse, Ordering::Relaxed);
        None
    }
}
