//! Waiting for a change of what a mutex guards.
//!
//! Each thread that waits has a slot, a word of its own to sleep on. A notification goes to the oldest slot that waits,
//! by one store; so it reaches one thread, and one that waited when it was sent. A slot says whose it is: those of a
//! process that dies are freed, and a notification that one of them had got goes on to the next.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, HandleError, LockError, SyncError};
use crate::ipc::region::Region;
use crate::ipc::wire;
use crate::sync::MutexGuard;
use crate::sync::latch::{self, Latch};
use crate::sync::object::{Kind, NoSession, Object};
use crate::sync::value::Storage;
use crate::sync::word;
use crate::sys::{futex_wait, futex_wake_all};

/// How many slots are not free.
const ACTIVE: usize = 8;
/// The number of the next one who waits.
const NEXT: usize = 16;
const SLOTS: usize = 128;
/// Threads that can wait at a time.
const SLOTS_MAX: usize = 1024;
const SLOT: usize = 16;
const LENGTH: usize = SLOTS + SLOTS_MAX * SLOT;

const FREE: u32 = 0;
const WAITING: u32 = 1;
const NOTIFIED: u32 = 2;
/// Set in any state when the owner of the condvar has ended.
const GONE: u32 = 4;

/// A thread that waits.
struct Slot<'a> {
    state: &'a AtomicU32,
    session: &'a AtomicU32,
    number: &'a AtomicU64,
}

fn slot(region: &Region, index: usize) -> Slot<'_> {
    let at = SLOTS + index * SLOT;
    Slot {
        state: region.number(at),
        session: region.number(at + 4),
        number: region.number(at + 8),
    }
}

fn active(region: &Region) -> &AtomicU32 {
    region.number(ACTIVE)
}

fn slots(region: &Region) -> impl Iterator<Item = Slot<'_>> {
    (0..SLOTS_MAX).map(|index| slot(region, index))
}

/// Under the latch: notifies the oldest who wait; gives their words, which are to be woken afterwards.
fn notify(region: &Region, count: usize) -> Vec<&AtomicU32> {
    let mut waiting: Vec<_> = slots(region)
        .filter(|slot| slot.state.load(Ordering::Relaxed) == WAITING)
        .collect();
    waiting.sort_by_key(|slot| slot.number.load(Ordering::Relaxed));
    waiting.truncate(count);
    for slot in &waiting {
        slot.state.store(NOTIFIED, Ordering::Release);
    }
    waiting.into_iter().map(|slot| slot.state).collect()
}

#[derive(Debug)]
enum Slots {}

impl Kind for Slots {
    const NAME: &'static str = "condition variable";

    fn ended(region: &Region, dead: u32, patient: bool) -> bool {
        let Some(latch) = Latch::inherit(region, dead, patient) else {
            return false;
        };
        let mut lost = 0;
        for slot in slots(region).filter(|slot| slot.session.load(Ordering::Relaxed) == dead) {
            lost += usize::from(slot.state.load(Ordering::Relaxed) == NOTIFIED);
            slot.state.store(FREE, Ordering::Relaxed);
        }
        notify(region, lost);
        let used = slots(region)
            .filter(|slot| slot.state.load(Ordering::Relaxed) != FREE)
            .count();
        active(region).store(used as u32, Ordering::Relaxed);
        latch.wake();
        // The dead one may have notified others, and not have woken them.
        for slot in slots(region).filter(|slot| slot.state.load(Ordering::Relaxed) == NOTIFIED) {
            futex_wake_all(slot.state);
        }
        true
    }

    fn gone(region: &Region) {
        latch::abandon(region);
        for slot in slots(region) {
            slot.state.fetch_or(GONE, Ordering::AcqRel);
            futex_wake_all(slot.state);
        }
    }

    fn holds(region: &Region, session: u32) -> bool {
        slots(region).any(|slot| {
            slot.state.load(Ordering::Relaxed) != FREE
                && slot.session.load(Ordering::Relaxed) == session
        })
    }
}

/// Lets threads of all processes wait for a change of what a [`Mutex`](crate::sync::Mutex) guards. Dropping a handle does
/// nothing to the others.
///
/// As [`std::sync::Condvar`], with two promises more: a wait ends only by a notification or its time, never by itself,
/// and notifications go to those who have waited longest. A notification whose receiver dies before it acts on it goes
/// to the next. At most 1,024 threads wait at a time. When the process that made it ends, waiting gives
/// [`SyncError::Disconnected`].
///
/// ```
/// use offspring::sync::{Condvar, Mutex};
///
/// #[offspring::worker]
/// fn make(stock: Mutex<u32>, changed: Condvar) {
///     for _ in 0..3 {
///         *stock.lock().unwrap() += 1;
///         changed.notify_one();
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (stock, changed) = (Mutex::new(0)?, Condvar::new()?);
///     let maker = make::spawn(stock.clone(), changed.clone())?;
///     for _ in 0..3 {
///         let mut stock = changed.wait_while(stock.lock().unwrap(), |stock| *stock == 0).unwrap();
///         *stock -= 1;
///     }
///     maker.join()?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Condvar {
    object: Arc<Object<Slots>>,
}

/// Whether a wait ended because its time was over.
///
/// ```
/// use std::time::Duration;
/// use offspring::sync::{Condvar, Mutex};
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ready, changed) = (Mutex::new(0u32)?, Condvar::new()?);
/// let guard = ready.lock().unwrap();
/// let (_guard, result) = changed.wait_timeout_while(guard, Duration::from_millis(1), |ready| *ready == 0).unwrap();
/// assert!(result.timed_out());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over, and no notification came.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// The guard after a wait.
type Waited<G> = Result<G, LockError<G>>;

impl Condvar {
    /// A new condition variable.
    ///
    /// # Errors
    ///
    /// If the memory, or a descriptor for it, cannot be had.
    pub fn new() -> Result<Condvar, CreateError> {
        let object = Object::new(LENGTH, fingerprint(), |_| ())?;
        Ok(Condvar { object })
    }

    /// Unlocks the mutex, waits for a notification, and locks it again.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](crate::sync::Mutex::lock). If it cannot wait, the mutex stays unlocked.
    pub fn wait<'a, T: ?Sized, S: Storage<T>>(
        &self,
        guard: MutexGuard<'a, T, S>,
    ) -> Waited<MutexGuard<'a, T, S>> {
        self.wait_until(guard, None)
            .map(|(guard, _)| guard)
            .map_err(|error| error.map(|(guard, _)| guard))
    }

    /// As [`wait`](Condvar::wait), at most so long.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_timeout<'a, T: ?Sized, S: Storage<T>>(
        &self,
        guard: MutexGuard<'a, T, S>,
        timeout: Duration,
    ) -> Waited<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        // A deadline that the clock cannot express is none.
        self.wait_until(guard, Instant::now().checked_add(timeout))
    }

    /// Waits as long as `condition` holds for the value.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_while<'a, T: ?Sized, S: Storage<T>>(
        &self,
        mut guard: MutexGuard<'a, T, S>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Waited<MutexGuard<'a, T, S>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits as long as `condition` holds for the value, at most so long.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_timeout_while<'a, T: ?Sized, S: Storage<T>>(
        &self,
        mut guard: MutexGuard<'a, T, S>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Waited<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        let deadline = Instant::now().checked_add(timeout);
        let mut result = WaitTimeoutResult(false);
        while condition(&mut guard) {
            if result.timed_out() {
                return Ok((guard, result));
            }
            (guard, result) = self.wait_until(guard, deadline)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Ends the wait of the thread that has waited longest; how many that were: 1, or 0 if none waits.
    pub fn notify_one(&self) -> usize {
        self.notify(1)
    }

    /// Ends the wait of the threads that have waited longest, so many at most; how many that were.
    pub fn notify(&self, count: usize) -> usize {
        let region = &self.object.region;
        if active(region).load(Ordering::Acquire) == 0 {
            return 0;
        }
        // Fails only if nobody is there any more to be notified.
        let Ok(me) = self.object.me(None) else {
            return 0;
        };
        let Ok(latch) = Latch::take(region, me, None) else {
            return 0;
        };
        let notified = notify(region, count);
        drop(latch);
        for state in &notified {
            futex_wake_all(state);
        }
        notified.len()
    }

    /// Ends the wait of all threads that wait now; how many that were.
    pub fn notify_all(&self) -> usize {
        self.notify(usize::MAX)
    }

    fn wait_until<'a, T: ?Sized, S: Storage<T>>(
        &self,
        guard: MutexGuard<'a, T, S>,
        deadline: Option<Instant>,
    ) -> Waited<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        let mutex = guard.mutex();
        let me = self.object.me(None).map_err(NoSession::of_lock)?;
        // The slot before the mutex is unlocked: whoever changes the value from now on notifies it.
        let slot = self.enter(me).map_err(LockError::Failed)?;
        drop(guard);
        self.sleep(&slot, deadline);
        // First the mutex, then the slot: who dies while it waits for the mutex leaves its notification to another.
        let locked = mutex.lock();
        let notified = self.leave(me, &slot).map_err(LockError::Failed)?;
        let result = WaitTimeoutResult(!notified);
        match locked {
            Ok(guard) => Ok((guard, result)),
            Err(error) => Err(error.map(|guard| (guard, result))),
        }
    }

    fn enter(&self, me: u32) -> Result<Slot<'_>, SyncError> {
        let region = &self.object.region;
        let latch =
            Latch::take(region, me, None).map_err(|miss| NoSession::from(miss).of_forever())?;
        let slot = slots(region)
            .find(|slot| slot.state.load(Ordering::Relaxed) == FREE)
            .ok_or_else(|| {
                let refused = format!("{SLOTS_MAX} threads wait already");
                SyncError::Handle(HandleError::Refused(refused))
            })?;
        let next: &AtomicU64 = region.number(NEXT);
        slot.number
            .store(next.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        slot.session.store(word::session(me), Ordering::Relaxed);
        // Last: a slot that is not free has an owner, whoever dies.
        slot.state.store(WAITING, Ordering::Release);
        active(region).fetch_add(1, Ordering::Release);
        drop(latch);
        Ok(slot)
    }

    fn sleep(&self, slot: &Slot<'_>, deadline: Option<Instant>) {
        // The owner's end may have passed this slot by before it waited.
        while slot.state.load(Ordering::Acquire) == WAITING && !latch::is_gone(&self.object.region)
        {
            if !futex_wait(slot.state, WAITING, deadline) {
                break;
            }
        }
    }

    /// Frees the slot; whether it was notified, also if that was after the time was over.
    fn leave(&self, me: u32, slot: &Slot<'_>) -> Result<bool, SyncError> {
        let region = &self.object.region;
        let latch =
            Latch::take(region, me, None).map_err(|miss| NoSession::from(miss).of_forever())?;
        let notified = slot.state.swap(FREE, Ordering::Acquire) == NOTIFIED;
        active(region).fetch_sub(1, Ordering::Release);
        drop(latch);
        Ok(notified)
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar")
            .field(
                "waiting",
                &active(&self.object.region).load(Ordering::Relaxed),
            )
            .finish_non_exhaustive()
    }
}

fn fingerprint() -> u64 {
    wire::fingerprint(std::any::type_name::<Condvar>())
}

impl Serialize for Condvar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condvar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(fingerprint(), |length| length == LENGTH, deserializer)?;
        Ok(Condvar { object })
    }
}
