//! Condition variables: waiting until the value in a mutex changes.
//!
//! Each waiting thread has a slot, with a word of its own to sleep on. A notification is one store
//! into the oldest waiting slot. So it reaches exactly one thread, which was waiting when it was
//! sent. Slots are taken and notified under the [`latch`], and freed without it, so that a thread
//! whose time is over waits for no other process. Because of that, a notification is a
//! compare-and-swap, which fails if the slot was just freed.
//!
//! # The reason for each order
//!
//! - *Take a slot, then unlock the mutex.* A thread that changes the value must lock the mutex
//!   first, so it finds the slot and notifies it. In the other order, the notification could come
//!   between the two and find no slot.
//! - *Lock the mutex, then free the slot.* A thread that was notified, and dies while it waits for
//!   the mutex, has not acted on the notification. Its slot is still `NOTIFIED` and names its
//!   session, so the repair passes the notification on to the next slot. If the slot were freed
//!   first, the notification would be lost.
//! - *When a slot is taken, set its state last.* So a slot that is not free has a session and a
//!   number, whenever its process dies.
//! - *Store, release the latch, wake.* A notifier that dies between the store and the wake-up
//!   leaves a notified thread asleep. The repair wakes every notified slot again.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{CreateError, HandleError, LockError, SyncError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::region::Region;
use crate::sync::latch::{self, Latch};
use crate::sync::mutex::MutexGuard;
use crate::sync::object::{ObjectHandle, Primitive};
use crate::sync::value::Storage;
use crate::sync::word;
use crate::sys::{futex_wait, futex_wake_all};

/// The number of slots that are not free, or a higher number: if a process dies after it has
/// counted a slot and before it has taken it, the count stays too high. That costs notifications
/// that find no slot. A count that is too low would lose notifications.
const ACTIVE: usize = 8;
/// The number that the next waiting thread gets.
const NEXT: usize = 16;
const SLOTS: usize = 128;
/// The most threads that can wait at a time.
const SLOTS_MAX: usize = 1024;
const SLOT_BYTES: usize = 16;

const FREE: u32 = 0;
const WAITING: u32 = 1;
const NOTIFIED: u32 = 2;
/// Added to any state when the owner has ended.
const GONE: u32 = 4;

/// A waiting thread.
struct WaitSlot<'a> {
    state: &'a AtomicU32,
    session: &'a AtomicU32,
    number: &'a AtomicU64,
}

fn slot(region: &Region, index: usize) -> WaitSlot<'_> {
    let at = SLOTS + index * SLOT_BYTES;
    WaitSlot {
        state: region.number(at),
        session: region.number(at + 4),
        number: region.number(at + 8),
    }
}

fn active(region: &Region) -> &AtomicU32 {
    region.number(ACTIVE)
}

fn slots(region: &Region) -> impl Iterator<Item = WaitSlot<'_>> {
    (0..SLOTS_MAX).map(|index| slot(region, index))
}

/// Under the latch: notifies up to `count` slots, the oldest first. Returns their words. The caller
/// wakes them after it has released the latch.
fn notify(region: &Region, count: usize) -> Vec<&AtomicU32> {
    let mut waiting: Vec<_> =
        slots(region).filter(|slot| slot.state.load(Ordering::Relaxed) == WAITING).collect();
    waiting.sort_by_key(|slot| slot.number.load(Ordering::Relaxed));
    // Fails if a thread whose time is over has freed its slot, which it does without the latch.
    let mark = |state: &&AtomicU32| {
        state.compare_exchange(WAITING, NOTIFIED, Ordering::Release, Ordering::Relaxed).is_ok()
    };
    waiting.into_iter().map(|slot| slot.state).filter(mark).take(count).collect()
}

fn is_used(slot: &WaitSlot<'_>) -> bool {
    slot.state.load(Ordering::Relaxed) & !GONE != FREE
}

#[derive(Debug)]
enum CondvarWords {}

impl Primitive for CondvarWords {
    const WORDS_LEN: usize = SLOTS + SLOTS_MAX * SLOT_BYTES;

    fn repair(region: &Region, dead: u32) -> bool {
        let Some(latch) = Latch::inherit(region, dead) else {
            return false;
        };
        let mut lost = 0;
        for slot in slots(region).filter(|slot| slot.session.load(Ordering::Relaxed) == dead) {
            let state = slot.state.swap(FREE, Ordering::Relaxed);
            lost += usize::from(state == NOTIFIED);
            if state & !GONE != FREE {
                active(region).fetch_sub(1, Ordering::Relaxed);
            }
        }
        notify(region, lost);
        latch.wake_all();
        for slot in slots(region).filter(|slot| slot.state.load(Ordering::Relaxed) == NOTIFIED) {
            futex_wake_all(slot.state);
        }
        true
    }

    fn abandon(region: &Region) {
        latch::abandon(region);
        for slot in slots(region) {
            slot.state.fetch_or(GONE, Ordering::AcqRel);
            futex_wake_all(slot.state);
        }
    }

    fn holds(region: &Region, session: u32) -> bool {
        slots(region).any(|slot| is_used(&slot) && slot.session.load(Ordering::Relaxed) == session)
    }
}

/// Lets threads of all processes wait until the value in a [`Mutex`](crate::sync::Mutex) changes.
/// Dropping a handle does not affect the others.
///
/// Like [`std::sync::Condvar`], with more promises: a wait ends only by a notification or a
/// timeout, never spuriously, and notifications go to the threads that have waited longest. If a
/// thread dies after it was notified and before it has locked the mutex, the notification goes to
/// the next thread. At most 1,024 threads can wait at a time; for a further one, waiting is an
/// error. When the process that made it ends, waiting returns [`LockError::Disconnected`].
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
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use]
pub struct Condvar {
    object: ObjectHandle<CondvarWords>,
}

/// Whether a wait timed out.
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
    /// Returns whether the wait ended by its timeout, without a notification.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// The result of a wait: the guard of the mutex, locked again.
type Relocked<G> = Result<G, LockError<G>>;

impl Condvar {
    /// Creates a condition variable.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory, or a descriptor for it.
    pub fn new() -> Result<Condvar, CreateError> {
        ObjectHandle::new(0, |_| ()).map(|object| Condvar { object })
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again.
    ///
    /// # Errors
    ///
    /// The errors of [`Mutex::lock`](crate::sync::Mutex::lock), and [`LockError::Handle`] if 1,024
    /// threads are waiting already. After an error the mutex is unlocked, unless the error is
    /// [`LockError::Poisoned`], which holds the guard.
    pub fn wait<'a, T: ?Sized, S: Storage<T>>(
        &self,
        guard: MutexGuard<'a, T, S>,
    ) -> Relocked<MutexGuard<'a, T, S>> {
        self.wait_until(guard, &Forever)
            .map(|(guard, _)| guard)
            .map_err(|error| error.map(|(guard, _)| guard))
    }

    /// Like [`wait`](Condvar::wait), but waits for at most `timeout`. The timeout does not limit
    /// the time that locking the mutex again takes.
    ///
    /// # Errors
    ///
    /// The errors of [`wait`](Condvar::wait).
    pub fn wait_timeout<'a, T: ?Sized, S: Storage<T>>(
        &self,
        guard: MutexGuard<'a, T, S>,
        timeout: Duration,
    ) -> Relocked<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        self.wait_until(guard, &Deadline::after(timeout))
    }

    /// Like [`wait`](Condvar::wait), but waits until `condition` returns false for the value.
    ///
    /// # Errors
    ///
    /// The errors of [`wait`](Condvar::wait).
    pub fn wait_while<'a, T: ?Sized, S: Storage<T>>(
        &self,
        mut guard: MutexGuard<'a, T, S>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Relocked<MutexGuard<'a, T, S>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Like [`wait_while`](Condvar::wait_while), but waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The errors of [`wait`](Condvar::wait).
    pub fn wait_timeout_while<'a, T: ?Sized, S: Storage<T>>(
        &self,
        mut guard: MutexGuard<'a, T, S>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Relocked<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        let limit = Deadline::after(timeout);
        let mut result = WaitTimeoutResult(false);
        while condition(&mut guard) {
            if result.timed_out() {
                return Ok((guard, result));
            }
            (guard, result) = self.wait_until(guard, &limit)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Wakes the thread that has waited longest. Returns the number of threads that it woke: 1, or
    /// 0 if none waits.
    pub fn notify_one(&self) -> usize {
        self.notify_n(1)
    }

    /// Wakes up to `count` threads, those that have waited longest. Returns the number of threads
    /// that it woke.
    #[doc(alias = "notify")]
    pub fn notify_n(&self, count: usize) -> usize {
        let region = &self.object.region;
        if active(region).load(Ordering::Acquire) == 0 {
            return 0;
        }
        // Fails only if the owner is gone. Then every waiting thread wakes with an error.
        let Ok(latch) = Latch::of(&self.object, &Forever) else {
            return 0;
        };
        let notified = notify(region, count);
        drop(latch);
        for state in &notified {
            futex_wake_all(state);
        }
        notified.len()
    }

    /// Wakes all threads that are waiting now. Returns the number of threads that it woke.
    pub fn notify_all(&self) -> usize {
        self.notify_n(usize::MAX)
    }

    fn wait_until<'a, T: ?Sized, S: Storage<T>, L: TimeLimit>(
        &self,
        guard: MutexGuard<'a, T, S>,
        limit: &L,
    ) -> Relocked<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        let mutex = guard.mutex();
        let slot = match self.take_slot(limit) {
            Ok(slot) => slot,
            Err(WaitEnd::Timeout(_)) => return Ok((guard, WaitTimeoutResult(true))),
            Err(WaitEnd::Failed(error)) => return Err(error.into()),
        };
        drop(guard);
        self.sleep(&slot, limit);
        let locked = mutex.lock();
        let notified = self.free_slot(&slot)?;
        let result = WaitTimeoutResult(!notified);
        match locked {
            Ok(guard) => Ok((guard, result)),
            Err(error) => Err(error.map(|guard| (guard, result))),
        }
    }

    fn take_slot<L: TimeLimit>(&self, limit: &L) -> Waited<WaitSlot<'_>, SyncError, L> {
        let region = &self.object.region;
        let latch = Latch::of(&self.object, limit)?;
        let slot = slots(region).find(|slot| slot.state.load(Ordering::Relaxed) == FREE);
        let slot = slot.ok_or_else(|| {
            SyncError::Handle(HandleError::Io {
                act: "wait on a condition variable",
                message: format!("{SLOTS_MAX} threads wait on it already"),
            })
        })?;
        let next: &AtomicU64 = region.number(NEXT);
        let number = next.fetch_add(1, Ordering::Relaxed);
        slot.number.store(number, Ordering::Relaxed);
        slot.session.store(word::session(latch.me()), Ordering::Relaxed);
        // Counted from before it is taken until it is free.
        active(region).fetch_add(1, Ordering::Release);
        slot.state.store(WAITING, Ordering::Release);
        drop(latch);
        Ok(slot)
    }

    fn sleep<L: TimeLimit>(&self, slot: &WaitSlot<'_>, limit: &L) {
        // The owner's end may have been marked in this slot before the slot was taken, so the slot
        // alone does not show it.
        while slot.state.load(Ordering::Acquire) == WAITING && !latch::is_gone(&self.object.region)
        {
            if !futex_wait(slot.state, WAITING, limit.deadline()) {
                break;
            }
        }
    }

    /// Frees the slot, without the latch, so that a call whose time is over waits for no other
    /// process. Returns whether the slot was notified, even if the notification came after the
    /// timeout.
    fn free_slot(&self, slot: &WaitSlot<'_>) -> Result<bool, SyncError> {
        let region = &self.object.region;
        let notified = slot.state.swap(FREE, Ordering::AcqRel) == NOTIFIED;
        active(region).fetch_sub(1, Ordering::Release);
        if latch::is_gone(region) { Err(SyncError::Disconnected) } else { Ok(notified) }
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar")
            .field("waiting", &slots(&self.object.region).filter(is_used).count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    #[test]
    fn a_wait_ends_in_time_while_a_stopped_process_holds_the_latch() {
        let (mutex, condvar) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
        let region = &condvar.object.region;
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let guard = mutex.lock().unwrap();
                condvar.wait_timeout(guard, Duration::from_millis(400)).unwrap().1
            });
            while !slots(region).any(|slot| slot.state.load(Ordering::Relaxed) == WAITING) {
                std::thread::yield_now();
            }
            let stopped = Latch::take(region, word::holder(9, 1), &Forever).unwrap();
            assert!(waits.join().unwrap().timed_out());
            drop(stopped);
        });
        assert_eq!(condvar.notify_one(), 0);
    }
}
