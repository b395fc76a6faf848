//! A lock inside of an object, for a few instructions, and what every process wrote into the object of its own.
//!
//! Each process's share of an object's state (permits, read locks) stands in a record of its own, which only it changes
//! while it holds the latch. Sums over all records are kept beside them. A process that dies in the middle of a change
//! leaves the latch in its name: the hub then inherits it, clears the dead one's record, and adds up anew. So a record
//! is true to the last, whichever instruction was the last.
//!
//! Who has to wait sleeps on the turn, a number that grows whenever something is released.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::SyncError;
use crate::ipc::hub::SESSIONS_MAX;
use crate::ipc::region::Region;
use crate::sync::object::NoSession;
use crate::sync::word::{self, HUB, Miss};
use crate::sys::{futex_wait, futex_wake_all, futex_wake_one};

const LATCH: usize = 0;
const TURN: usize = 64;
/// Threads that sleep until the next turn.
const SLEEPERS: usize = 72;
/// Where the records begin; an object's own words stand before.
const RECORDS: usize = 128;
/// Numbers in a record.
const FIELDS: usize = 4;
/// Which one counts the process's threads that sleep.
const ASLEEP: usize = 3;
/// Where an object's own things begin behind the records.
pub(super) const BEHIND: usize = (RECORDS + SESSIONS_MAX * FIELDS * 4).next_multiple_of(64);

/// How long the hub tries for a latch. Longer than others hold it, if they run at all.
const PATIENCE: Duration = Duration::from_micros(500);

/// How much longer than a wait may last that takes the latch at its end.
const GRACE: Duration = Duration::from_millis(20);

/// A held latch.
pub(super) struct Latch<'a> {
    region: &'a Region,
    me: u32,
}

impl<'a> Latch<'a> {
    pub(super) fn take(
        region: &'a Region,
        me: u32,
        deadline: Option<Instant>,
    ) -> Result<Latch<'a>, Miss> {
        word::lock(region.number(LATCH), me, deadline)?;
        Ok(Latch { region, me })
    }

    /// For a hub, after a death: inherits the latch if the dead one had it. `None` if somebody has it who does not let go.
    pub(super) fn inherit(region: &'a Region, dead: u32, patient: bool) -> Option<Latch<'a>> {
        let deadline = (!patient).then(|| Instant::now() + PATIENCE);
        if !word::repair(region.number(LATCH), dead, HUB, || ()) {
            match word::lock(region.number(LATCH), HUB, deadline) {
                // A repair on another thread has it under the same name; so have the gone nobody to repair for.
                Err(Miss::Timeout | Miss::Deadlock) => return None,
                Err(Miss::Gone) | Ok(()) => {}
            }
        }
        Some(Latch { region, me: HUB })
    }

    /// A number of a session's record.
    pub(super) fn record(&self, session: u32, field: usize) -> &'a AtomicU32 {
        record(self.region, session, field)
    }

    /// Adds to a number of a record, and to the sum over all of them.
    pub(super) fn add(&self, session: u32, field: usize, sum: usize, change: i32) {
        // The record first: the sum is made anew if this is the last that the process does.
        for number in [self.record(session, field), self.region.number(sum)] {
            let value: u32 = number.load(Ordering::Relaxed);
            number.store(value.wrapping_add_signed(change), Ordering::Relaxed);
        }
    }

    /// Clears a number of a dead session's record, and adds up the others.
    pub(super) fn clear(&self, dead: u32, field: usize, sum: usize) {
        self.record(dead, field).store(0, Ordering::Relaxed);
        let all = (1..SESSIONS_MAX as u32).fold(0u32, |all, session| {
            all.wrapping_add(self.record(session, field).load(Ordering::Relaxed))
        });
        self.region
            .number::<AtomicU32>(sum)
            .store(all, Ordering::Relaxed);
    }

    /// Clears what all objects have in a record, and wakes everybody, when a session has died.
    pub(super) fn clear_and_wake(self, dead: u32) {
        self.clear(dead, ASLEEP, SLEEPERS);
        self.wake();
    }

    /// Wakes everybody.
    pub(super) fn wake(self) {
        let region = self.region;
        next_turn(region);
        drop(self);
        wake_everybody(region);
    }

    /// Lets go, sleeps until the next turn, and takes the latch again. With the time over, the latch is tried for once more.
    pub(super) fn sleep(self, deadline: Option<Instant>) -> Result<Latch<'a>, Miss> {
        let Latch { region, me } = self;
        let turn = region.number::<AtomicU32>(TURN).load(Ordering::Relaxed);
        self.add(word::session(me), ASLEEP, SLEEPERS, 1);
        drop(self);
        // The owner's end may have come before the turn was read, and then nothing would wake this thread.
        let in_time = is_gone(region) || futex_wait(region.number(TURN), turn, deadline);
        // Who has slept must say that it does not any more, also when its time is over. The latch is held for moments;
        // if its holder is stopped just then, the count stays too high, which costs others a call, but no wake-up.
        let deadline = deadline.map(|deadline| deadline.max(Instant::now()) + GRACE);
        let latch = Latch::take(region, me, deadline)
            .inspect_err(|_| futex_wake_one(region.number(TURN)))?;
        latch.add(word::session(me), ASLEEP, SLEEPERS, -1);
        if in_time || region.number::<AtomicU32>(TURN).load(Ordering::Relaxed) != turn {
            return Ok(latch);
        }
        Err(Miss::Timeout)
    }

    /// Something was released: lets go, and wakes one of those who sleep, or all.
    pub(super) fn release(self, all: bool) {
        let region = self.region;
        let sleepers = region.number::<AtomicU32>(SLEEPERS).load(Ordering::Relaxed) > 0;
        if sleepers {
            next_turn(region);
        }
        drop(self);
        if sleepers && all {
            futex_wake_all(region.number(TURN));
        } else if sleepers {
            futex_wake_one(region.number(TURN));
        }
    }
}

impl Drop for Latch<'_> {
    fn drop(&mut self) {
        word::unlock(self.region.number(LATCH), self.me);
    }
}

pub(super) fn record(region: &Region, session: u32, field: usize) -> &AtomicU32 {
    region.number(RECORDS + (session as usize * FIELDS + field) * 4)
}

fn next_turn(region: &Region) {
    region
        .number::<AtomicU32>(TURN)
        .fetch_add(1, Ordering::Relaxed);
}

fn wake_everybody(region: &Region) {
    futex_wake_all(region.number(LATCH));
    futex_wake_all(region.number(TURN));
}

/// The owner has ended: nobody gets the latch any more.
pub(super) fn abandon(region: &Region) {
    word::abandon(region.number(LATCH));
    next_turn(region);
    wake_everybody(region);
}

/// Whether the owner is known to have ended.
pub(super) fn is_gone(region: &Region) -> bool {
    word::is_gone(region.number(LATCH))
}

impl From<Miss> for NoSession {
    fn from(miss: Miss) -> NoSession {
        match miss {
            Miss::Timeout => NoSession::Timeout,
            Miss::Gone => NoSession::Failed(SyncError::Disconnected),
            Miss::Deadlock => NoSession::Failed(SyncError::Deadlock),
        }
    }
}
