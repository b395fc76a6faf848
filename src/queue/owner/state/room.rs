//! Room in a bounded queue.
//!
//! A client puts without asking while it has *credit*: room that was granted to it, in a word that
//! both sides change. The owner counts granted room as used, so the bound holds over all buffers
//! together. Credit that a client does not use is revoked when others need room.

use std::time::{Duration, Instant};

use super::QueueState;
use crate::queue::owner::client::QueueClient;

/// The longest time that room is kept back while a fast consumer makes more: at one item a wake-up,
/// producers and consumer would do nothing but wake each other.
const ROOM_DELAY: Duration = Duration::from_millis(1);

impl QueueState {
    /// The number of items that can be put and that no client has credit for.
    pub(in crate::queue) fn free(&self) -> usize {
        let Some(capacity) = self.capacity else {
            return usize::MAX;
        };
        let granted: usize = self.clients.values().map(QueueClient::credits).sum();
        capacity.saturating_sub(self.len() + granted)
    }

    /// Revokes credit that is not used; returns whether there is room now.
    pub(super) fn revoke_room(&mut self) -> bool {
        for client in self.clients.values_mut() {
            client.revoke_unused();
        }
        self.free() > 0
    }

    pub(super) fn is_room_wanted(&self) -> bool {
        self.own.wants_room() || self.clients.values().any(QueueClient::wants_room)
    }

    /// Grants each waiting client its share of the free room. That is more than it waits for, so
    /// that it need not wait for each single item.
    pub(super) fn schedule_room(&mut self) {
        if self.capacity.is_none() {
            return;
        }
        let wanted = self.is_room_wanted();
        let mut free = self.free();
        if free == 0 && wanted && self.revoke_room() {
            free = self.free();
        }
        if wanted && self.delays_room(free) {
            return;
        }
        self.room_delayed = None;
        // Each client's word is read once. It changes concurrently, and the shares have to add up.
        let mut waiting: Vec<&mut QueueClient> =
            self.clients.values_mut().filter(|client| client.wants_room()).collect();
        let parties = waiting.len() + usize::from(self.own.wants_room());
        for client in &mut waiting {
            let share = free.div_ceil(parties).min(free);
            client.grant(share);
            free -= share;
        }
    }

    /// Returns whether waiting producers should get more room a moment later instead.
    fn delays_room(&mut self, free: usize) -> bool {
        let half = self.capacity.unwrap_or(usize::MAX) / 2;
        if free >= half || !self.clients.values().any(QueueClient::is_fast) {
            return false;
        }
        let since = self.room_delayed.get_or_insert_with(Instant::now);
        since.elapsed() < ROOM_DELAY
    }

    /// Until when room is kept back.
    pub(super) fn room_delayed_until(&self) -> Option<Instant> {
        self.room_delayed.map(|since| since + ROOM_DELAY)
    }

    /// Returns whether room is kept back.
    pub(super) fn is_room_delayed(&self) -> bool {
        self.room_delayed.is_some()
    }
}
