//! The state word of a read-write lock after each step.

use crate::sync::state::State;
use crate::sync::word::{self, KEPT};

/// Set if records hold read locks, besides the inline record.
pub(super) const RECORDS: u32 = 1 << 31;

/// How a thread wants to use the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Returns the thread that writes, or 0, or [`KEPT`].
#[inline]
pub(super) fn writer(seen: State) -> u32 {
    seen.number() & !RECORDS
}

/// Returns the state after a session has taken a read lock by the inline record; `None` if it
/// cannot.
#[inline]
pub(super) fn read(seen: State, session: u32) -> Option<State> {
    let is_free = writer(seen) == 0 && !seen.waits() && !seen.is_gone();
    if is_free { seen.joined(session, 1) } else { None }
}

/// Returns the state after a session has returned a read lock of the inline record; `None` if it
/// has none there, or if a thread may have to be woken.
#[inline]
pub(super) fn read_ended(seen: State, session: u32) -> Option<State> {
    if seen.waits() { None } else { seen.left(session, 1) }
}

/// Returns the state after a thread has taken the write lock; `None` if the lock is not free.
#[inline]
pub(super) fn written(seen: State, me: u32) -> Option<State> {
    (seen == State::default()).then(|| seen.with_number(me))
}

/// Returns the state after the thread that writes has unlocked. With `keep`, the lock is kept for a
/// thread that sleeps, if one may.
#[inline]
pub(super) fn write_ended(seen: State, keep: bool) -> State {
    seen.with_number(if keep && seen.waits() { KEPT } else { 0 })
}

/// Returns the state after the lock was kept while no thread slept; `None` if it is not kept any
/// more.
pub(super) fn kept_no_longer(seen: State) -> Option<State> {
    (writer(seen) == KEPT).then(|| seen.with_number(0))
}

/// Under the latch: returns the state after a thread has taken the lock, and whether the record of
/// its process counts that; `None` if the lock is not free for this access, or is kept and the
/// thread has not `slept`.
pub(super) fn claimed(
    seen: State,
    me: u32,
    access: Access,
    slept: bool,
    writers_wait: bool,
    sleepers: bool,
) -> Option<(State, bool)> {
    let is_busy = match access {
        _ if writer(seen) == KEPT => !slept,
        Access::Read => writer(seen) != 0 || writers_wait,
        Access::Write => seen.number() != 0 || seen.count() > 0,
    };
    let seen = kept_no_longer(seen).unwrap_or(seen);
    let new = seen.with_waits(seen.waits() && sleepers);
    match access {
        _ if is_busy => None,
        Access::Read => match new.joined(word::session(me), 1) {
            Some(joined) => Some((joined, false)),
            None => Some((new.with_number(RECORDS), true)),
        },
        Access::Write => Some((new.with_number(me), false)),
    }
}

/// Under the latch: returns the state after a death. `records` is true if records hold read locks.
pub(super) fn repaired(seen: State, dead: u32, records: bool) -> State {
    // A kept lock may have been kept for a thread that is dead now.
    let ends = word::session(writer(seen)) == dead || writer(seen) == KEPT;
    let writer = if ends { 0 } else { writer(seen) };
    seen.without(dead).with_number(writer | if records { RECORDS } else { 0 })
}
