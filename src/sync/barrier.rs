//! Barriers: a fixed number of threads wait for each other.
//!
//! The state is two numbers: a word with the generation and whether the barrier is broken, and the
//! count of threads that have arrived in the generation. The last thread to arrive ends the
//! generation by one compare-and-swap of the word, so a death leaves the generation either ended or
//! not. Threads arrive and end generations under the [`latch`]; breaking the barrier is one atomic
//! step and needs no latch. So a thread whose time is over either breaks the generation or finds
//! that it has ended, without waiting for any other thread.
//!
//!
//! - *A party dies while it waits, or before it arrives, or in the middle of arriving.* The repair
//!   breaks the barrier: the count may include the dead, so no generation can be trusted to be
//!   complete.
//! - *The leader dies after the swap and before it wakes the others.* The generation has ended, and
//!   the repair wakes every sleeper. Each sees the new generation and passes, even though the
//!   barrier is broken by then.
//!
//! A thread that wakes compares generations before it checks whether the barrier is broken. It may
//! wake so late that further generations have ended. So whether a generation ended by a reset is
//! kept for the last 64 of them.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{BarrierError, BarrierTimeoutError, CreateError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::latch::{self, LATCH_BYTES, Latch};
use crate::sync::object::{ObjectHandle, Primitive};

/// The generation, which grows when all parties have arrived, and at a reset. Also holds
/// [`BROKEN`].
const STATE: usize = 8;
const BROKEN: u64 = 1 << 32;
const PARTIES: usize = 16;
/// The number of threads that have arrived in this generation.
const ARRIVED: usize = 20;
/// One bit for each of the last 64 generations: whether it ended by a reset.
const RESETS: usize = 24;

#[derive(Debug)]
enum BarrierWords {}

impl Primitive for BarrierWords {
    const WORDS_LEN: usize = LATCH_BYTES;

    fn session_ended(region: &Region) {
        break_any(region);
    }

    fn repair(region: &Region, dead: u32) -> bool {
        Latch::inherit(region, dead).is_some_and(|latch| {
            latch.clear_and_wake(dead);
            true
        })
    }

    fn abandon(region: &Region) {
        latch::abandon(region);
    }

    fn holds(_: &Region, _: u32) -> bool {
        // A thread that waits has a handle, so its process is still attached.
        false
    }
}

fn state(region: &Region) -> &AtomicU64 {
    region.number(STATE)
}

/// Breaks the barrier, whatever its generation is.
fn break_any(region: &Region) {
    state(region).fetch_or(BROKEN, Ordering::AcqRel);
    latch::notify_all(region);
}

/// Lets a fixed number of threads, in any processes, wait for each other, again and again. Dropping
/// a handle does not affect the others.
///
/// Like [`std::sync::Barrier`], but it may break: when a process that has a handle dies or panics,
/// when a [`wait_timeout`](Barrier::wait_timeout) times out, or by [`abort`](Barrier::abort). Then
/// every thread that waits, and every thread that arrives later, gets [`BarrierError::Broken`],
/// until a [`reset`](Barrier::reset). If a process drops all its handles before it ends, its end
/// does not break the barrier.
///
/// ```
/// use offspring::sync::Barrier;
///
/// #[offspring::worker]
/// fn step(barrier: Barrier) -> usize {
///     let mut led = 0;
///     for _ in 0..10 {
///         // a round of work
///         led += usize::from(barrier.wait().unwrap().is_leader());
///     }
///     led
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let barrier = Barrier::new(3)?;
///     let children = [step::spawn(barrier.clone())?, step::spawn(barrier.clone())?];
///     let mut led = step(barrier.clone());
///     for child in children {
///         led += child.join()?;
///     }
///     assert_eq!(led, 10); // one leader a round
///     Ok(())
/// }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use]
pub struct Barrier {
    object: ObjectHandle<BarrierWords>,
}

/// Returned to each thread that passes a [`Barrier`].
///
/// ```
/// use offspring::sync::Barrier;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let barrier = Barrier::new(1)?;
/// let result = barrier.wait()?;
/// assert!(result.is_leader());
/// assert_eq!(result.index(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Returns whether this thread arrived last. Exactly one of the threads that pass together did.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// Returns the position of this thread in the order of arrival, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index as usize
    }
}

/// Breaks the barrier when it is dropped, which happens only if the leader's action panics.
struct BreakOnPanic<'a>(&'a Barrier);

impl Drop for BreakOnPanic<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Barrier {
    /// Creates a barrier for `parties` threads.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroParties`] for 0. Otherwise if the system refuses the memory, or a
    /// descriptor for it.
    ///
    /// # Panics
    ///
    /// If `parties` exceeds `u32::MAX`.
    #[track_caller]
    pub fn new(parties: usize) -> Result<Barrier, CreateError> {
        if parties == 0 {
            return Err(CreateError::ZeroParties);
        }
        let parties = u32::try_from(parties).expect("a barrier has at most `u32::MAX` parties");
        let object = ObjectHandle::new(0, |region| {
            let number: &AtomicU32 = region.number(PARTIES);
            number.store(parties, Ordering::Relaxed);
        })?;
        Ok(Barrier { object })
    }

    /// Blocks until all parties have arrived.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`] if the barrier is broken or breaks, [`BarrierError::Disconnected`]
    /// if the process that made it has ended.
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_then(|| ())
    }

    /// Like [`wait`](Barrier::wait), but the thread that arrives last calls `action` before any
    /// thread passes. If `action` panics, the barrier breaks.
    ///
    /// ```
    /// let barrier = offspring::sync::Barrier::new(1)?;
    /// let mut rounds = 0;
    /// barrier.wait_then(|| rounds += 1)?;
    /// assert_eq!(rounds, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`wait`](Barrier::wait).
    pub fn wait_then(&self, action: impl FnOnce()) -> Result<BarrierWaitResult, BarrierError> {
        let passed = self.pass(&Forever, action);
        passed.map_err(WaitEnd::into_failed)
    }

    /// Like [`wait`](Barrier::wait), but blocks for at most `timeout`. If it times out, the barrier
    /// breaks for all parties.
    ///
    /// # Errors
    ///
    /// [`BarrierTimeoutError::Timeout`] if the time is over, and the errors of
    /// [`wait`](Barrier::wait).
    pub fn wait_timeout(
        &self,
        timeout: Duration,
    ) -> Result<BarrierWaitResult, BarrierTimeoutError> {
        Ok(self.pass(&Deadline::after(timeout), || ())?)
    }

    /// Breaks the barrier: no thread passes until a [`reset`](Barrier::reset).
    pub fn abort(&self) {
        break_any(&self.object.region);
    }

    /// Returns the barrier to its initial state, even if it is broken. Threads that wait now get
    /// [`BarrierError::Broken`]; threads that arrive later wait for all parties.
    pub fn reset(&self) {
        if let Ok(latch) = Latch::of(&self.object, &Forever) {
            let ends = self.prepare_end(true);
            state(&self.object.region).store(ends, Ordering::Release);
            latch.release(true);
        }
    }

    /// Returns the number of threads that the barrier was created for.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.object.number(PARTIES) as usize
    }

    /// Returns the number of threads that have arrived and wait for the others.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.object.number(ARRIVED) as usize
    }

    /// Returns whether the barrier is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        state(&self.object.region).load(Ordering::Acquire) & BROKEN != 0
    }

    fn generation(&self) -> u32 {
        state(&self.object.region).load(Ordering::Acquire) as u32
    }

    /// Under the latch: prepares the end of the generation, and returns the state that ends it. The
    /// caller sets that state last, so a process that dies before that has changed nothing that a
    /// waiting thread reads.
    fn prepare_end(&self, reset: bool) -> u64 {
        let generation = self.generation();
        let resets: &AtomicU64 = self.object.region.number(RESETS);
        let bit = 1u64 << (generation % 64);
        let others = resets.load(Ordering::Relaxed) & !bit;
        resets.store(if reset { others | bit } else { others }, Ordering::Relaxed);
        self.object.word(ARRIVED).store(0, Ordering::Relaxed);
        generation.wrapping_add(1).into()
    }

    fn pass<L: TimeLimit>(
        &self,
        limit: &L,
        action: impl FnOnce(),
    ) -> Waited<BarrierWaitResult, BarrierError, L> {
        let mut latch = Latch::of(&self.object, limit).map_err(WaitEnd::convert)?;
        // All parties have arrived, and the leader is still running its action, so this thread
        // belongs to the next generation.
        while self.object.number(ARRIVED) >= self.object.number(PARTIES) && !self.is_broken() {
            latch = latch.sleep(limit).map_err(WaitEnd::convert)?;
        }
        if self.is_broken() {
            return Err(BarrierError::Broken.into());
        }
        let generation = self.generation();
        let index = self.object.number(ARRIVED);
        let arrived = self.object.word(ARRIVED);
        arrived.store(index + 1, Ordering::Relaxed);
        let is_leader = index + 1 == self.object.number(PARTIES);
        if is_leader {
            drop(latch);
            self.lead(generation, action)?;
        } else {
            self.follow(latch, generation, limit)?;
        }
        Ok(BarrierWaitResult { index, is_leader })
    }

    /// Runs the leader's action without the latch, then lets the generation pass.
    fn lead(&self, generation: u32, action: impl FnOnce()) -> Result<(), BarrierError> {
        let break_on_panic = BreakOnPanic(self);
        action();
        std::mem::forget(break_on_panic);
        let latch = Latch::of(&self.object, &Forever).map_err(WaitEnd::into_failed)?;
        // During the action, a party may have died, or a thread may have reset the barrier.
        if self.is_broken() || self.generation() != generation {
            return Err(BarrierError::Broken);
        }
        let (state, ends) = (state(&self.object.region), self.prepare_end(false));
        // It may also break at any time, because that needs no latch.
        state
            .compare_exchange(generation.into(), ends, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| BarrierError::Broken)?;
        latch.release(true);
        Ok(())
    }

    /// Sleeps until the generation ends.
    fn follow<'a, L: TimeLimit>(
        &'a self,
        mut latch: Latch<'a>,
        generation: u32,
        limit: &L,
    ) -> Waited<(), BarrierError, L> {
        loop {
            match latch.sleep(limit) {
                Ok(held) => latch = held,
                // This breaks the barrier, unless the generation has just ended.
                Err(WaitEnd::Timeout(elapsed)) => {
                    let (whole, broken) = (generation.into(), u64::from(generation) | BROKEN);
                    let state = state(&self.object.region);
                    let breaks =
                        state.compare_exchange(whole, broken, Ordering::AcqRel, Ordering::Acquire);
                    if breaks.is_ok() {
                        latch::notify_all(&self.object.region);
                        return Err(WaitEnd::Timeout(elapsed));
                    }
                    return self.outcome(generation).unwrap_or(Ok(())).map_err(WaitEnd::Failed);
                }
                Err(WaitEnd::Failed(error)) => return Err(BarrierError::from(error).into()),
            }
            if let Some(outcome) = self.outcome(generation) {
                return outcome.map_err(WaitEnd::Failed);
            }
        }
    }

    /// Returns how the generation has ended, or that the barrier is broken.
    fn outcome(&self, generation: u32) -> Option<Result<(), BarrierError>> {
        let state = state(&self.object.region).load(Ordering::Acquire);
        if state as u32 != generation {
            let resets: &AtomicU64 = self.object.region.number(RESETS);
            let was_reset = resets.load(Ordering::Relaxed) & (1 << (generation % 64)) != 0;
            return Some(if was_reset { Err(BarrierError::Broken) } else { Ok(()) });
        }
        (state & BROKEN != 0).then_some(Err(BarrierError::Broken))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::word;

    #[test]
    fn a_wait_ends_in_time_and_breaks_the_barrier_while_a_stopped_process_holds_the_latch() {
        let barrier = Barrier::new(3).unwrap();
        let region = &barrier.object.region;
        std::thread::scope(|scope| {
            let timed = scope.spawn(|| barrier.wait_timeout(Duration::from_millis(400)));
            let other = scope.spawn(|| barrier.wait());
            while latch::sleepers(region) < 2 {
                std::thread::yield_now();
            }
            let stopped = Latch::take(region, word::holder(9, 1), &Forever).unwrap();
            assert!(matches!(timed.join().unwrap(), Err(BarrierTimeoutError::Timeout)));
            assert!(barrier.is_broken());
            drop(stopped);
            assert!(matches!(other.join().unwrap(), Err(BarrierError::Broken)));
        });
    }
}
