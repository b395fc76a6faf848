//! Room in a bounded queue.
//!
//! A client puts without asking while it has *credit*: room that was granted to it, in a word that
//! both sides change. The owner counts granted room as used, so the bound holds over all buffers
//! together. Credit that a client does not use is revoked when others need room.
//!
//! Clients that wait for room are served in turn. A turn is a *batch*, because waking a client for
//! one item costs the client and the owner a hundred times what the item costs. The batch grows as
//! long as the client uses it up, and shrinks when it does not.

use std::time::{Duration, Instant};

use super::QueueState;
use crate::queue::owner::client::STALLED;

/// The longest time for which room is kept back while a fast consumer makes more. At one item per
/// wake-up, producers and consumer would do nothing but wake each other.
const ROOM_DELAY: Duration = Duration::from_millis(1);

/// How many clients are asked at once for room that they do not use.
const REVOKE_FROM: usize = 4;

/// The longest batch.
const BATCH_MAX: usize = 256;

impl QueueState {
    /// Returns the number of items that can be put and that no client has credit for.
    pub(in crate::queue) fn free(&self) -> usize {
        let Some(capacity) = self.capacity else {
            return usize::MAX;
        };
        capacity.saturating_sub(self.len() + self.clients.sums.credits)
    }

    /// Returns whether there is room, or some can be revoked.
    ///
    /// An `urgent` caller does not wait, so no client is given time to use its room.
    pub(super) fn has_room(&mut self, urgent: bool) -> bool {
        self.free() > 0 || self.revoke_room(urgent)
    }

    /// Revokes unused credit until there is room. Returns whether there is.
    ///
    /// Asks a few clients, in turn, beginning with those that have had room for longest. If none of
    /// these can spare any, all clients are asked a moment later.
    fn revoke_room(&mut self, urgent: bool) -> bool {
        let all = urgent || self.revoked.is_some_and(|revoked| revoked.elapsed() >= STALLED);
        let most = if all { usize::MAX } else { REVOKE_FROM };
        let now = Instant::now();
        for _ in 0..self.clients.creditors.len().min(most) {
            let Some(key) = self.clients.creditors.pop_front() else {
                break;
            };
            if !urgent && self.clients.get(key).is_some_and(|client| client.is_using_room(now)) {
                self.clients.creditors.push_back(key);
                continue;
            }
            self.clients.change(key, |client| {
                client.place.creditor = false;
                client.revoke_unused(now);
            });
            if self.free() > 0 {
                self.revoked = None;
                return true;
            }
        }
        if !urgent && (all || self.revoked.is_none()) {
            self.revoked = Some(Instant::now());
        }
        false
    }

    pub(super) fn is_room_wanted(&mut self) -> bool {
        self.own.wants_room() || self.clients.first_putter().is_some()
    }

    /// Grants the free room to the waiting clients, in the order in which they began to wait. Each
    /// gets a batch, or its share if that is more.
    pub(super) fn schedule_room(&mut self) {
        let Some(capacity) = self.capacity else {
            return;
        };
        if !self.is_room_wanted() {
            self.room_delayed = None;
            return;
        }
        // A client that does not wait gets what is free, and at once.
        let urgent = self.clients.sums.trying > 0;
        if self.free() == 0 {
            self.revoke_room(urgent);
        }
        let mut free = self.free();
        if !urgent && self.delays_room(free) {
            return;
        }
        self.room_delayed = None;
        let waiting = self.clients.putters.len();
        // Threads and tasks of this process take their share themselves. When it is the turn of the
        // threads, the last place is theirs.
        if self.own.putters > 0 && self.own.has_turn {
            free -= free.div_ceil(waiting + 1);
        } else if self.own.wants_room() {
            free -= free / (waiting + 1);
        }
        // At most half of the room, so that another client can be woken while this one puts.
        let most = capacity.div_ceil(2).min(BATCH_MAX);
        for left in (1..=waiting).rev() {
            if free == 0 {
                break;
            }
            let Some(key) = self.clients.putters.pop_front() else {
                break;
            };
            let granted = self.clients.change(key, |client| {
                client.place.putter = false;
                // The client may have given up, or may not have seen the room that it got.
                if !client.lacks_room() {
                    return 0;
                }
                let batch = client.room_batch(most);
                let least = if urgent { 0 } else { batch };
                let share = free.div_ceil(left).max(least).min(free);
                client.grant(share, batch);
                share
            });
            let granted = granted.unwrap_or(0);
            self.own.has_turn |= granted > 0;
            free -= granted;
        }
    }

    /// Returns whether waiting producers should get more room a moment later instead of some now.
    fn delays_room(&mut self, free: usize) -> bool {
        let half = self.capacity.unwrap_or(usize::MAX) / 2;
        if free >= half || self.clients.sums.fast == 0 {
            return false;
        }
        let since = self.room_delayed.get_or_insert_with(Instant::now);
        since.elapsed() < ROOM_DELAY
    }

    /// Returns until when room is kept back.
    pub(super) fn room_delayed_until(&self) -> Option<Instant> {
        self.room_delayed.map(|since| since + ROOM_DELAY)
    }

    /// Returns when all clients may be asked for room that they do not use.
    pub(super) fn revocable_at(&mut self) -> Option<Instant> {
        let full =
            self.capacity.is_some() && !self.clients.creditors.is_empty() && self.free() == 0;
        let wanted = full && self.is_room_wanted();
        self.revoked.filter(|_| wanted).map(|revoked| revoked + STALLED)
    }

    /// Returns whether room is kept back.
    pub(super) fn is_room_delayed(&self) -> bool {
        self.room_delayed.is_some()
    }
}
