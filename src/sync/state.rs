//! The state word of a read-write lock or semaphore: in one number, what is free, and what one
//! process holds. While no thread waits, and one process at a time uses the object, each change of it
//! is one compare-and-swap, without the latch.
//!
//! ```text
//!  63      62     61 .. 50   49 .. 32                   31 .. 0
//!  waits   gone   session    how much it holds          the object's own number
//! ```
//!
//! Session and count are the *inline record*. It belongs to the process that takes something while
//! the record is free, until that process has given back as much as the record counts. Whatever
//! else processes hold is counted in their records under the [`latch`](crate::sync::latch). A
//! process may hold something in both; only the sum counts.
//!
//! # Why nothing is lost
//!
//! - *Changes in both ways at once.* Even under the latch, the word changes only by
//!   compare-and-swap, so no change overwrites one that was made without the latch.
//! - *A death.* Taking and giving back by the inline record are one step each, and the word names
//!   the session. The repair, which has the latch, empties the inline record of the dead session,
//!   and recomputes the object's number from all records.
//! - *Falling asleep.* A thread that must wait sets `waits`, under the latch, in the same step in
//!   which it sees that it must. A thread that returns something later takes the latch, and finds
//!   the first thread counted among the sleepers. A thread that finds no sleeper counted clears the
//!   bit, under the latch. If the bit stays set after the last sleeper's end, the next call takes
//!   the latch for nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ipc::hub::SESSIONS_MAX;

const WAITS: u64 = 1 << 63;
const GONE: u64 = 1 << 62;
const SESSION_SHIFT: u32 = 50;
const COUNT_SHIFT: u32 = 32;
const COUNT_MAX: u32 = (1 << (SESSION_SHIFT - COUNT_SHIFT)) - 1;
const RECORD: u64 = (GONE - 1) & !(u32::MAX as u64);

const _: () = assert!(SESSIONS_MAX as u64 <= GONE >> SESSION_SHIFT);

/// A value of the word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State(u64);

impl State {
    /// Returns the object's own number.
    #[inline]
    pub(super) fn number(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(super) fn with_number(self, number: u32) -> State {
        State(self.0 & !u64::from(u32::MAX) | u64::from(number))
    }

    /// Returns whether a thread may sleep until something is given back.
    #[inline]
    pub(super) fn waits(self) -> bool {
        self.0 & WAITS != 0
    }

    #[inline]
    pub(super) fn with_waits(self, waits: bool) -> State {
        State(if waits { self.0 | WAITS } else { self.0 & !WAITS })
    }

    /// Returns whether the owner is known to have ended.
    #[inline]
    pub(super) fn is_gone(self) -> bool {
        self.0 & GONE != 0
    }

    /// Returns how much the inline record counts.
    #[inline]
    pub(super) fn count(self) -> u32 {
        (self.0 >> COUNT_SHIFT) as u32 & COUNT_MAX
    }

    /// Returns how much this session holds by the inline record.
    #[inline]
    pub(super) fn held_by(self, session: u32) -> u32 {
        if (self.0 & RECORD) >> SESSION_SHIFT == u64::from(session) { self.count() } else { 0 }
    }

    /// Returns the state with this much more in the inline record; `None` if the record is another
    /// session's, or full.
    #[inline]
    pub(super) fn joined(self, session: u32, count: u32) -> Option<State> {
        let held = self.held_by(session);
        let is_ours = self.count() == held;
        (is_ours && count <= COUNT_MAX - held).then(|| self.with_record(session, held + count))
    }

    /// Returns the state with this much less in the inline record; `None` if the session holds less
    /// by it.
    #[inline]
    pub(super) fn left(self, session: u32, count: u32) -> Option<State> {
        let rest = self.held_by(session).checked_sub(count)?;
        // Nothing may be subtracted from another session's record.
        Some(if count == 0 { self } else { self.with_record(session, rest) })
    }

    /// Returns the state without what the session holds by the inline record.
    pub(super) fn without(self, session: u32) -> State {
        if self.held_by(session) > 0 { self.with_record(session, 0) } else { self }
    }

    #[inline]
    fn with_record(self, session: u32, count: u32) -> State {
        let record = u64::from(session) << SESSION_SHIFT | u64::from(count) << COUNT_SHIFT;
        State(self.0 & !RECORD | if count == 0 { 0 } else { record })
    }
}

/// Reads the word.
#[inline]
pub(super) fn load(word: &AtomicU64) -> State {
    State(word.load(Ordering::Acquire))
}

/// Changes the word to what `next` returns. If another thread was faster, `next` is called again.
/// Returns what the word was; that is an error if `next` returned `None`.
#[inline]
pub(super) fn update(
    word: &AtomicU64,
    mut next: impl FnMut(State) -> Option<State>,
) -> Result<State, State> {
    let changed = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
        next(State(state)).map(|State(new)| new)
    });
    changed.map(State).map_err(State)
}

/// Like [`update`], but begins with a guess of what the word is. If the guess is right, the word is
/// not read before it is changed, which takes half of the time.
#[inline]
pub(super) fn update_from(
    guess: State,
    word: &AtomicU64,
    mut next: impl FnMut(State) -> Option<State>,
) -> Result<State, State> {
    let mut seen = guess;
    while let Some(State(new)) = next(seen) {
        match word.compare_exchange(seen.0, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(seen),
            Err(now) => seen = State(now),
        }
    }
    Err(seen)
}

/// Marks the object as gone with its owner.
pub(super) fn abandon(word: &AtomicU64) {
    word.fetch_or(GONE, Ordering::AcqRel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inline_record_belongs_to_one_session_until_it_is_empty() {
        let free = State::default().with_number(5).with_waits(true);
        let one = free.joined(7, 2).unwrap();
        assert_eq!((one.held_by(7), one.held_by(8), one.count(), one.number()), (2, 0, 2, 5));
        assert!(one.waits() && !one.is_gone());
        assert_eq!(one.joined(8, 1), None);
        let more = one.joined(7, COUNT_MAX - 2).unwrap();
        assert_eq!((more.count(), more.joined(7, 1)), (COUNT_MAX, None));
        assert_eq!((one.left(8, 1), one.left(7, 3)), (None, None));
        assert_eq!((one.left(8, 0), one.left(7, 0)), (Some(one), Some(one)));
        assert_eq!(one.left(7, 1).unwrap().left(7, 1), Some(free));
        assert_eq!((one.without(8), one.without(7)), (one, free));
        // The highest session shares no bit with the marks.
        let last = free.joined(SESSIONS_MAX as u32 - 1, COUNT_MAX).unwrap();
        assert_eq!((last.number(), last.is_gone()), (5, false));
        assert_eq!(last.without(SESSIONS_MAX as u32 - 1), free);
    }
}
