//! Barriers: a fixed number of threads wait for each other.
//!
//! The state is a generation and the number of threads that have arrived in it, changed only under
//! the [`latch`]. The last thread to arrive ends the generation by a single store, so a death
//! leaves it either ended or not:
//!
//! - *A party dies while it waits, or before it arrives, or in the middle of arriving.* The repair
//!   breaks the barrier: the count may include the dead, so no generation can be trusted to be
//!   complete.
//! - *The leader dies after the store and before it wakes the others.* The generation has ended,
//!   and the repair wakes every sleeper. Each sees the new generation and passes, even though the
//!   barrier is broken by then.
//!
//! A thread that wakes compares generations before it checks whether the barrier is broken. A
//! thread of an earlier generation may wake so late that further ones have ended, so whether its
//! own ended by a reset is kept for the last 64 generations.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{BarrierError, BarrierTimeoutError, CreateError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::latch::{self, LATCH_BYTES, Latch};
use crate::sync::object::{ObjectHandle, Primitive};

const PARTIES: usize = 8;
/// Grows when all parties have arrived, and at a reset.
const GENERATION: usize = 12;
/// The number of threads that have arrived in this generation.
const ARRIVED: usize = 16;
const BROKEN: usize = 20;
/// One bit for each of the last 64 generations: whether it ended by a reset.
const RESETS: usize = 24;

#[derive(Debug)]
enum BarrierWords {}

impl Primitive for BarrierWords {
    const NAME: &'static str = "barrier";
    const WORDS_LEN: usize = LATCH_BYTES;

    fn repair(region: &Region, dead: u32, patient: bool) -> bool {
        Latch::inherit(region, dead, patient).is_some_and(|latch| {
            let broken: &AtomicU32 = region.number(BROKEN);
            broken.store(1, Ordering::Relaxed);
            latch.clear_and_wake(dead);
            true
        })
    }

    fn abandon(region: &Region) {
        latch::abandon(region);
    }

    fn holds(_: &Region, _: u32) -> bool {
        // A thread that waits has a handle, so its process is attached.
        false
    }
}

/// Lets a fixed number of threads, in any processes, wait for each other, again and again. Dropping
/// a handle does not affect the others.
///
/// Like [`std::sync::Barrier`], but it may break: when a process that has a handle dies or panics,
/// when a [`wait_timeout`](Barrier::wait_timeout) times out, or by [`abort`](Barrier::abort). Then
/// every thread that waits, and every thread that arrives later, gets [`BarrierError::Broken`],
/// until a [`reset`](Barrier::reset). A process that has dropped all its handles does not break the
/// barrier by its end.
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
    /// Whether this thread arrived last. Exactly one of the threads that pass together did.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// The position of this thread in the order of arrival, from 0.
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
    pub fn new(parties: usize) -> Result<Barrier, CreateError> {
        if parties == 0 {
            return Err(CreateError::ZeroParties);
        }
        let parties =
            u32::try_from(parties).expect("creating a barrier for more than `u32::MAX` threads");
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

    /// Like [`wait`](Barrier::wait), but blocks for up to `timeout`. If it times out, the barrier
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
        // Fails only if the owner is gone. Then every wait returns `Disconnected`.
        if let Ok(latch) = Latch::of(&self.object, &Forever) {
            self.object.word(BROKEN).store(1, Ordering::Relaxed);
            latch.release(true);
        }
    }

    /// Returns the barrier to its initial state, even if it is broken. Threads that wait now get
    /// [`BarrierError::Broken`]; threads that arrive later wait for all parties.
    pub fn reset(&self) {
        if let Ok(latch) = Latch::of(&self.object, &Forever) {
            self.end_generation(true);
            self.object.word(BROKEN).store(0, Ordering::Relaxed);
            latch.release(true);
        }
    }

    /// The number of threads that the barrier was created for.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.object.number(PARTIES) as usize
    }

    /// The number of threads that have arrived and wait for the others.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.object.number(ARRIVED) as usize
    }

    /// Whether the barrier is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.object.number(BROKEN) != 0
    }

    /// Under the latch: ends the generation, for the threads that have arrived in it.
    fn end_generation(&self, reset: bool) {
        let generation = self.object.number(GENERATION);
        let resets: &AtomicU64 = self.object.region.number(RESETS);
        let bit = 1u64 << (generation % 64);
        let others = resets.load(Ordering::Relaxed) & !bit;
        resets.store(if reset { others | bit } else { others }, Ordering::Relaxed);
        self.object.word(ARRIVED).store(0, Ordering::Relaxed);
        // Last, because this store is what ends it: a process that dies before it has changed
        // nothing that a waiting thread reads.
        let generations = self.object.word(GENERATION);
        generations.store(generation.wrapping_add(1), Ordering::Relaxed);
    }

    fn pass<L: TimeLimit>(
        &self,
        limit: &L,
        action: impl FnOnce(),
    ) -> Waited<BarrierWaitResult, BarrierError, L> {
        let mut latch = Latch::of(&self.object, limit).map_err(WaitEnd::convert)?;
        // All parties have arrived, and the leader still runs its action: this thread belongs to
        // the next generation.
        while self.object.number(ARRIVED) >= self.object.number(PARTIES) && !self.is_broken() {
            latch = latch.sleep(limit).map_err(WaitEnd::convert)?;
        }
        if self.is_broken() {
            return Err(BarrierError::Broken.into());
        }
        let generation = self.object.number(GENERATION);
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
        // During the action a party may have died, or a thread reset the barrier.
        if self.is_broken() || self.object.number(GENERATION) != generation {
            return Err(BarrierError::Broken);
        }
        self.end_generation(false);
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
            let (held, elapsed) = match latch.sleep(limit) {
                Ok(held) => (held, None),
                Err(WaitEnd::Timeout(elapsed)) => {
                    // Whether this timeout breaks the barrier can only be decided under the
                    // latch: the last thread may just have arrived.
                    let held = Latch::of(&self.object, &Forever).map_err(WaitEnd::into_failed);
                    (held.map_err(BarrierError::from)?, Some(elapsed))
                }
                Err(WaitEnd::Failed(error)) => return Err(BarrierError::from(error).into()),
            };
            latch = held;
            if self.object.number(GENERATION) != generation {
                let resets: &AtomicU64 = self.object.region.number(RESETS);
                let was_reset = resets.load(Ordering::Relaxed) & (1 << (generation % 64)) != 0;
                return if was_reset { Err(BarrierError::Broken.into()) } else { Ok(()) };
            }
            if self.is_broken() {
                return Err(BarrierError::Broken.into());
            }
            if let Some(elapsed) = elapsed {
                self.object.word(BROKEN).store(1, Ordering::Relaxed);
                latch.release(true);
                return Err(WaitEnd::Timeout(elapsed));
            }
        }
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
