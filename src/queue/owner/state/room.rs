//! Room in a bounded queue.
//!
//! A client puts without asking while it has *credit*: room that was granted to it, in a word that
//! both sides change. The owner counts granted room as used, so the bound holds over all buffers
//! together. Credit that a client does not use is revoked when others need room.

use std::time::{Duration, Instant};

use super::QueueState;
use crate::queue::owner::client::STALLED;

/// The longest time that room is kept back while a fast consumer makes more: at one item a wake-up,
/// producers and consumer would do nothing but wake each other.
const ROOM_DELAY: Duration = Duration::from_millis(1);

/// How many clients are asked at once for room that they do not use.
const REVOKE_FROM: usize = 4;

impl QueueState {
    /// The number of items that can be put and that no client has credit for.
    pub(in crate::queue) fn free(&self) -> usize {
        let Some(capacity) = self.capacity else {
            return usize::MAX;
        };
        capacity.saturating_sub(self.len() + self.clients.sums.credits)
    }

    /// Returns whether there is room, or some that can be revoked.
    pub(super) fn has_room(&mut self) -> bool {
        self.free() > 0 || self.revoke_room()
    }

    /// Revokes credit that is not used, until there is room; returns whether there is.
    ///
    /// Asks a few clients, in turn. Those who have had room for longest are asked first. If none of
    /// these can spare any, all are asked a moment later.
    fn revoke_room(&mut self) -> bool {
        let all = self.revoked.is_some_and(|revoked| revoked.elapsed() >= STALLED);
        let most = if all { usize::MAX } else { REVOKE_FROM };
        for _ in 0..self.clients.creditors.len().min(most) {
            let Some(key) = self.clients.creditors.pop_front() else {
                break;
            };
            self.clients.change(key, |client| {
                client.place.creditor = false;
                client.revoke_unused();
            });
            if self.free() > 0 {
                self.revoked = None;
                return true;
            }
        }
        if all || self.revoked.is_none() {
            self.revoked = Some(Instant::now());
        }
        false
    }

    pub(super) fn is_room_wanted(&mut self) -> bool {
        self.own.wants_room() || self.clients.first_putter().is_some()
    }

    /// Grants each waiting client its share of the free room, in the order in which they began to
    /// wait. That is more than it waits for, so that it need not wait for each single item.
    pub(super) fn schedule_room(&mut self) {
        if self.capacity.is_none() {
            return;
        }
        if !self.is_room_wanted() {
            self.room_delayed = None;
            return;
        }
        if self.free() == 0 {
            self.revoke_room();
        }
        let mut free = self.free();
        if self.delays_room(free) {
            return;
        }
        self.room_delayed = None;
        let own = usize::from(self.own.wants_room());
        for left in (1..=self.clients.putters.len()).rev() {
            if free == 0 {
                break;
            }
            let Some(key) = self.clients.putters.pop_front() else {
                break;
            };
            let share = free.div_ceil(left + own).min(free);
            let granted = self.clients.change(key, |client| {
                client.place.putter = false;
                // It may have given up, or have got room that it did not see yet.
                let lacks = client.lacks_room();
                if lacks {
                    client.grant(share);
                }
                if lacks { share } else { 0 }
            });
            free -= granted.unwrap_or(0);
        }
    }

    /// Returns whether waiting producers should get more room a moment later instead.
    fn delays_room(&mut self, free: usize) -> bool {
        let half = self.capacity.unwrap_or(usize::MAX) / 2;
        if free >= half || self.clients.sums.fast == 0 {
            return false;
        }
        let since = self.room_delayed.get_or_insert_with(Instant::now);
        since.elapsed() < ROOM_DELAY
    }

    /// Until when room is kept back.
    pub(super) fn room_delayed_until(&self) -> Option<Instant> {
        self.room_delayed.map(|since| since + ROOM_DELAY)
    }

    /// When all clients may be asked for room that they do not use.
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
