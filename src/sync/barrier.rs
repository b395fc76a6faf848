//! So many threads wait for each other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{BarrierError, BarrierTimeoutError, CreateError, SyncError};
use crate::ipc::region::Region;
use crate::ipc::wire;
use crate::sync::latch::{self, BEHIND, Latch};
use crate::sync::object::{Kind, NoSession, Object};
use crate::sync::word::Miss;

const PARTIES: usize = 8;
/// Grows when all have come, and at a reset; who came before is let through, or told.
const GENERATION: usize = 12;
/// How many have come in this generation.
const ARRIVED: usize = 16;
const BROKEN: usize = 20;
/// For each of the last 64 generations one bit: whether it ended by a reset.
const RESETS: usize = 24;

#[derive(Debug)]
enum Parties {}

impl Kind for Parties {
    const NAME: &'static str = "barrier";

    fn ended(region: &Region, dead: u32, patient: bool) -> bool {
        Latch::inherit(region, dead, patient).is_some_and(|latch| {
            region
                .number::<AtomicU32>(BROKEN)
                .store(1, Ordering::Relaxed);
            latch.clear_and_wake(dead);
            true
        })
    }

    fn gone(region: &Region) {
        latch::abandon(region);
    }

    fn holds(_: &Region, _: u32) -> bool {
        // Who waits has a handle.
        false
    }
}

/// So many threads of all processes wait for each other, again and again. Dropping a handle does nothing to the others.
///
/// As [`std::sync::Barrier`], but it may break: when a process dies (or panics) that has a handle, when the time of one
/// who waits is over, or by [`abort`](Barrier::abort). Then everybody who waits, and whoever comes later, gets
/// [`BarrierError::Broken`], until a [`reset`](Barrier::reset). A process that drops its handle first may end as it likes.
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
#[derive(Clone)]
#[must_use]
pub struct Barrier {
    object: Arc<Object<Parties>>,
}

/// That all have come.
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
    /// True for one of those who were let through together: the one that came last.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// Which one this thread was, from 0 on, in the order in which they came.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index as usize
    }
}

/// How a wait ended that did not let through.
enum End {
    Timeout,
    Broken,
    Failed(SyncError),
}

impl End {
    fn of_forever(self) -> BarrierError {
        match self {
            End::Broken => BarrierError::Broken,
            End::Failed(error) => BarrierError::Failed(error),
            // Without a deadline there is none to pass.
            End::Timeout => BarrierError::Failed(SyncError::Disconnected),
        }
    }
}

impl From<NoSession> for End {
    fn from(end: NoSession) -> End {
        match end {
            NoSession::Timeout => End::Timeout,
            NoSession::Failed(error) => End::Failed(error),
        }
    }
}

impl From<Miss> for End {
    fn from(miss: Miss) -> End {
        NoSession::from(miss).into()
    }
}

/// Breaks the barrier unless it is told that all went well: for the leader's own work, which may panic.
struct BreaksIt<'a>(&'a Barrier);

impl Drop for BreaksIt<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Barrier {
    /// A new barrier for so many threads.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`] for none; or if the memory, or a descriptor for it, cannot be had.
    pub fn new(parties: u32) -> Result<Barrier, CreateError> {
        if parties == 0 {
            return Err(CreateError::ZeroCapacity);
        }
        let object = Object::new(BEHIND, fingerprint(), |region| {
            region
                .number::<AtomicU32>(PARTIES)
                .store(parties, Ordering::Relaxed);
        })?;
        Ok(Barrier { object })
    }

    /// Waits until all have come.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`] if it is or gets broken; [`BarrierError::Failed`] if the process that made it has ended.
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(None, || ()).map_err(End::of_forever)
    }

    /// As [`wait`](Barrier::wait); the one that comes last does `action` before anybody is let through. If it panics,
    /// the barrier breaks.
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
    /// As [`wait`](Barrier::wait).
    pub fn wait_then(&self, action: impl FnOnce()) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(None, action).map_err(End::of_forever)
    }

    /// As [`wait`](Barrier::wait), at most so long. When the time is over, the barrier breaks for all.
    ///
    /// # Errors
    ///
    /// [`BarrierTimeoutError::Timeout`] if the time is over; else as [`wait`](Barrier::wait).
    pub fn wait_timeout(
        &self,
        timeout: Duration,
    ) -> Result<BarrierWaitResult, BarrierTimeoutError> {
        // A deadline that the clock cannot express is none.
        self.wait_until(Instant::now().checked_add(timeout), || ())
            .map_err(|end| match end {
                End::Timeout => BarrierTimeoutError::Timeout,
                end => BarrierTimeoutError::Failed(end.of_forever()),
            })
    }

    /// Breaks it: nobody is let through until a [`reset`](Barrier::reset).
    pub fn abort(&self) {
        // Fails only if it is at its end, which is worse than broken.
        if let Ok(latch) = self.latch(None) {
            self.object.word(BROKEN).store(1, Ordering::Relaxed);
            latch.release(true);
        }
    }

    /// Makes it new: whoever waits now gets [`BarrierError::Broken`], whoever comes later waits for all parties.
    pub fn reset(&self) {
        if let Ok(latch) = self.latch(None) {
            self.end_generation(true);
            self.object.word(BROKEN).store(0, Ordering::Relaxed);
            latch.release(true);
        }
    }

    /// How many threads wait for each other.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.number(PARTIES) as usize
    }

    /// How many have come and wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.number(ARRIVED) as usize
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.number(BROKEN) != 0
    }

    fn number(&self, offset: usize) -> u32 {
        self.object.word(offset).load(Ordering::Relaxed)
    }

    fn latch(&self, deadline: Option<Instant>) -> Result<Latch<'_>, NoSession> {
        let me = self.object.me(deadline)?;
        Ok(Latch::take(&self.object.region, me, deadline)?)
    }

    /// Under the latch: those who have come are let through, or told of a reset.
    fn end_generation(&self, reset: bool) {
        let generation = self.number(GENERATION);
        let resets: &AtomicU64 = self.object.region.number(RESETS);
        let bit = 1u64 << (generation % 64);
        let others = resets.load(Ordering::Relaxed) & !bit;
        resets.store(if reset { others | bit } else { others }, Ordering::Relaxed);
        self.object.word(ARRIVED).store(0, Ordering::Relaxed);
        // Last: with this store it has happened.
        self.object
            .word(GENERATION)
            .store(generation.wrapping_add(1), Ordering::Relaxed);
    }

    fn wait_until(
        &self,
        deadline: Option<Instant>,
        action: impl FnOnce(),
    ) -> Result<BarrierWaitResult, End> {
        let mut latch = self.latch(deadline)?;
        // All have come, and the leader does its work: this thread belongs to the next ones.
        while self.number(ARRIVED) >= self.number(PARTIES) && !self.is_broken() {
            latch = latch.sleep(deadline)?;
        }
        if self.is_broken() {
            return Err(End::Broken);
        }
        let (generation, index) = (self.number(GENERATION), self.number(ARRIVED));
        self.object
            .word(ARRIVED)
            .store(index + 1, Ordering::Relaxed);
        if index + 1 < self.number(PARTIES) {
            self.wait_for_others(latch, generation, deadline)?;
            return Ok(BarrierWaitResult {
                index,
                is_leader: false,
            });
        }
        drop(latch);
        let breaks_it = BreaksIt(self);
        action();
        std::mem::forget(breaks_it);
        let latch = self.latch(None)?;
        if self.is_broken() || self.number(GENERATION) != generation {
            return Err(End::Broken);
        }
        self.end_generation(false);
        latch.release(true);
        Ok(BarrierWaitResult {
            index,
            is_leader: true,
        })
    }

    fn wait_for_others<'a>(
        &'a self,
        mut latch: Latch<'a>,
        generation: u32,
        deadline: Option<Instant>,
    ) -> Result<(), End> {
        loop {
            let slept = latch.sleep(deadline);
            let time_is_over = matches!(slept, Err(Miss::Timeout));
            latch = if time_is_over {
                self.latch(None)?
            } else {
                slept?
            };
            if self.number(GENERATION) != generation {
                let resets = self
                    .object
                    .region
                    .number::<AtomicU64>(RESETS)
                    .load(Ordering::Relaxed);
                let was_reset = resets & (1 << (generation % 64)) != 0;
                return if was_reset { Err(End::Broken) } else { Ok(()) };
            }
            if self.is_broken() {
                return Err(End::Broken);
            }
            if time_is_over {
                self.object.word(BROKEN).store(1, Ordering::Relaxed);
                latch.release(true);
                return Err(End::Timeout);
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

fn fingerprint() -> u64 {
    wire::fingerprint(std::any::type_name::<Barrier>())
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(fingerprint(), |length| length == BEHIND, deserializer)?;
        Ok(Barrier { object })
    }
}
