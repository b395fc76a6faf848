//! Permits that processes share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, ReleaseError, SyncError, TimeoutError, TryError};
use crate::ipc::region::Region;
use crate::ipc::wire;
use crate::sync::latch::{self, BEHIND, Latch};
use crate::sync::object::{Kind, NoSession, Object};

/// All permits there are.
const PERMITS: usize = 8;
/// Permits that are held: the sum of the records.
const HELD: usize = 12;
/// Permits that were forgotten: nobody's.
const FORGOTTEN: usize = 16;
/// The record's number of permits that its process holds.
const MINE: usize = 0;

#[derive(Debug)]
enum Permits {}

impl Kind for Permits {
    const NAME: &'static str = "semaphore";

    fn ended(region: &Region, dead: u32, patient: bool) -> bool {
        Latch::inherit(region, dead, patient).is_some_and(|latch| {
            latch.clear(dead, MINE, HELD);
            latch.clear_and_wake(dead);
            true
        })
    }

    fn gone(region: &Region) {
        latch::abandon(region);
    }

    fn holds(region: &Region, session: u32) -> bool {
        latch::record(region, session, MINE).load(Ordering::Relaxed) > 0
    }
}

/// So many permits, which threads of all processes take and give back. Dropping a handle does nothing to the others;
/// dropping a [`Permit`] gives it back.
///
/// - It is bounded: there are never more permits than it was made with, and giving back what nobody has taken is an error.
/// - The permits of a process that dies are given back by its death, whatever it was doing.
/// - It is not fair: a thread that comes when there is a permit gets it, also before others that wake up for it.
/// - Without contention no call of the system is made.
/// - When the process that made the semaphore ends, all calls give [`SyncError::Disconnected`].
///
/// ```
/// use offspring::sync::Semaphore;
///
/// #[offspring::worker]
/// fn use_the_network(connections: Semaphore) {
///     let _permit = connections.acquire().unwrap();
///     // at most two processes are here
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let connections = Semaphore::new(2)?;
///     let workers: Vec<_> = (0..4).map(|_| use_the_network::spawn(connections.clone())).collect::<Result<_, _>>()?;
///     for worker in workers {
///         worker.join()?;
///     }
///     assert_eq!(connections.available(), 2);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Semaphore {
    object: Arc<Object<Permits>>,
}

/// One permit of a [`Semaphore`]. Dropping it gives it back.
///
/// ```
/// use offspring::sync::Semaphore;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let permits = Semaphore::new(2)?;
/// let permit = permits.acquire()?;
/// assert_eq!(permits.available(), 1);
/// drop(permit);
/// assert_eq!(permits.available(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "the permit is given back at once if it is not kept"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Semaphore {
    /// A new semaphore with so many permits.
    ///
    /// # Errors
    ///
    /// [`CreateError::ZeroCapacity`] for none, since nobody would ever get one; or if the memory, or a descriptor for
    /// it, cannot be had.
    pub fn new(permits: u32) -> Result<Semaphore, CreateError> {
        if permits == 0 {
            return Err(CreateError::ZeroCapacity);
        }
        let object = Object::new(BEHIND, fingerprint(), |region| {
            region
                .number::<AtomicU32>(PERMITS)
                .store(permits, Ordering::Relaxed);
        })?;
        Ok(Semaphore { object })
    }

    /// Takes a permit; waits as long as there is none.
    ///
    /// # Errors
    ///
    /// If the process that made the semaphore has ended, or the handle cannot be used here.
    pub fn acquire(&self) -> Result<Permit<'_>, SyncError> {
        match self.take(None) {
            Ok(()) => Ok(Permit { semaphore: self }),
            Err(end) => Err(end.of_forever()),
        }
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    ///
    /// [`TryError::WouldBlock`] if there is none; else as [`acquire`](Semaphore::acquire).
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryError> {
        match self.take_now() {
            Ok(true) => Ok(Permit { semaphore: self }),
            Ok(false) | Err(NoSession::Timeout) => Err(TryError::WouldBlock),
            Err(NoSession::Failed(error)) => Err(error.into()),
        }
    }

    /// Takes a permit; waits as long as there is none, and at most so long.
    ///
    /// # Errors
    ///
    /// [`TimeoutError::Timeout`] if the time is over; else as [`acquire`](Semaphore::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, TimeoutError> {
        // A deadline that the clock cannot express is none.
        match self.take(Instant::now().checked_add(timeout)) {
            Ok(()) => Ok(Permit { semaphore: self }),
            Err(NoSession::Failed(error)) => Err(error.into()),
            Err(NoSession::Timeout) => Err(TimeoutError::Timeout),
        }
    }

    /// Gives back a permit that was [forgotten](Permit::forget), by any thread of any process: for permits that one
    /// process takes and another gives back.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::TooMany`] if none is missing in this way.
    pub fn release(&self) -> Result<(), ReleaseError> {
        let latch = self.latch(None).map_err(NoSession::of_forever)?;
        let forgotten = self.object.word(FORGOTTEN);
        match forgotten.load(Ordering::Relaxed) {
            0 => Err(ReleaseError::TooMany),
            some => {
                forgotten.store(some - 1, Ordering::Relaxed);
                latch.release(false);
                Ok(())
            }
        }
    }

    /// How many permits there are to take now.
    #[must_use]
    pub fn available(&self) -> u32 {
        let taken = |word| self.object.word(word).load(Ordering::Relaxed);
        self.permits()
            .saturating_sub(taken(HELD))
            .saturating_sub(taken(FORGOTTEN))
    }

    /// How many permits it was made with.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.object.word(PERMITS).load(Ordering::Relaxed)
    }

    fn latch(&self, deadline: Option<Instant>) -> Result<Latch<'_>, NoSession> {
        let me = self.object.me(deadline)?;
        Ok(Latch::take(&self.object.region, me, deadline)?)
    }

    fn take(&self, deadline: Option<Instant>) -> Result<(), NoSession> {
        let session = self.object.session(deadline)?;
        let mut latch = self.latch(deadline)?;
        while self.available() == 0 {
            latch = latch.sleep(deadline)?;
        }
        latch.add(session, MINE, HELD, 1);
        Ok(())
    }

    fn take_now(&self) -> Result<bool, NoSession> {
        let session = self.object.session(None)?;
        if latch::is_gone(&self.object.region) {
            return Err(NoSession::Failed(SyncError::Disconnected));
        }
        if self.available() == 0 {
            return Ok(false);
        }
        let latch = self.latch(None)?;
        let free = self.available() > 0;
        if free {
            latch.add(session, MINE, HELD, 1);
        }
        Ok(free)
    }

    /// Takes this process's name from a permit that it holds: it is everybody's, or nobody's.
    fn give(&self, forget: bool) {
        // Fails only if there is no semaphore any more.
        let Ok(session) = self.object.session(None) else {
            return;
        };
        let Ok(latch) = self.latch(None) else { return };
        latch.add(session, MINE, HELD, -1);
        if forget {
            // Second: who dies between the two has given it back.
            self.object.word(FORGOTTEN).fetch_add(1, Ordering::Relaxed);
        } else {
            latch.release(false);
        }
    }
}

impl Permit<'_> {
    /// Does not give the permit back, neither now nor when this process dies: somebody is to call
    /// [`Semaphore::release`] for it.
    ///
    /// ```
    /// let semaphore = offspring::sync::Semaphore::new(1)?;
    /// semaphore.acquire()?.forget();
    /// assert_eq!(semaphore.available(), 0);
    /// semaphore.release()?;
    /// assert!(semaphore.release().is_err()); // one too many
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget(self) {
        self.semaphore.give(true);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.give(false);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("permits", &self.permits())
            .finish_non_exhaustive()
    }
}

fn fingerprint() -> u64 {
    wire::fingerprint(std::any::type_name::<Semaphore>())
}

impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(fingerprint(), |length| length == BEHIND, deserializer)?;
        Ok(Semaphore { object })
    }
}
