//! Who gets the items and the room, and who is told.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use crate::failpoints;
use crate::ipc::hub;
use crate::queue::layout::{self, Flag, Word};
use crate::queue::owner::client::Remote;
use crate::queue::owner::state::{Core, Over, State};

/// A client that has taken nothing for this long, with items ahead of it that it does not wait for, is
/// busy: others may have them. Shorter pauses do not count, since a later item that was handed to
/// another client in between would overtake them.
pub(in crate::queue) const STALLED: Duration = Duration::from_millis(2);
/// A client that waits, and leaves for this long what it waits for, is stopped: others may have it.
const STOPPED: Duration = Duration::from_millis(20);

/// Those who wait for room wait at most so much longer for more of it, while a fast consumer makes it: with one
/// item a wake-up, wake-ups would be all that happens.
const WITHHELD: Duration = Duration::from_millis(1);

impl Core {
    pub(in crate::queue) fn free(&self, state: &State) -> usize {
        let Some(capacity) = self.capacity else {
            return usize::MAX;
        };
        let granted: usize = state.remotes.values().map(|remote| remote.credits).sum();
        capacity.saturating_sub(state.len() + granted)
    }

    /// Takes back room that was granted and is not wanted; whether there is room now.
    pub(in crate::queue) fn reclaim(&self, state: &mut State) -> bool {
        for remote in state.remotes.values_mut() {
            if remote.credits > 0 {
                // What its threads wait for is left to it, unless it is stopped.
                let stopped = remote.granted.elapsed() >= STOPPED;
                let putters = if stopped {
                    0
                } else {
                    remote.word(Word::Putters)
                };
                let before = layout::word(&remote.region, Word::Credit)
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |credit| {
                        Some(credit.min(putters))
                    })
                    .unwrap_or_default();
                let back = usize::try_from(before.saturating_sub(putters)).unwrap_or(usize::MAX);
                remote.credits = remote.credits.saturating_sub(back);
            }
        }
        self.free(state) > 0
    }

    /// Why `asker` (`None` is the local side) gets no item any more, if it is so.
    pub(in crate::queue) fn over(&self, state: &State, asker: Option<u64>) -> Option<Over> {
        if !state.store.is_empty() || (asker.is_none() && !state.local.ready.is_empty()) {
            return None;
        }
        if state.discards {
            // What comes back is dropped.
            return Some(Over::Closed);
        }
        // Items that others have and that may come back. One that waits here for more does not count: it
        // would never give them back by itself, and two of those would wait for each other.
        let others_hold = state
            .remotes
            .iter()
            .any(|(&key, remote)| Some(key) != asker && remote.holds_back());
        let local_waits = state.local.getters > 0 || state.local.tasks.items.is_awaited();
        let local_holds = asker.is_some() && !state.local.leases.is_empty() && !local_waits;
        if others_hold || local_holds {
            return None;
        }
        if state.closed {
            return Some(Over::Closed);
        }
        // Nobody is left who could put: another process held a handle once, none is under way, and whoever
        // still holds one has never put, and waits for an item itself.
        let waits_here = state.local.getters + state.local.futures > 0;
        let local_idle =
            self.local_handles(state) == 0 || (waits_here && !state.local.has_put && !state.inline);
        let waits = |key: u64, remote: &Remote| {
            if asker == Some(key) {
                remote.waiting() > 0
            } else {
                remote.word(Word::Getters) > 0
            }
        };
        let all_idle = state
            .remotes
            .iter()
            .all(|(&key, remote)| waits(key, remote) && !remote.has_put);
        let abandoned = state.shared && state.tickets == 0 && local_idle && all_idle;
        abandoned.then_some(Over::Abandoned(0))
    }

    /// Gives items and room to those who wait, and tells everybody what changed for them.
    pub(in crate::queue) fn settle(&self, state: &mut State) {
        if state.discards {
            self.discard_all(state);
        }
        self.settle_items(state);
        self.settle_room(state);
        if state.local.getters > 0
            && (!state.local.ready.is_empty() || self.over(state, None).is_some())
        {
            self.items.notify_all();
        }
        if state.local.tasks.items.is_awaited()
            && (!state.store.is_empty() || self.over_for_tasks(state).is_some())
        {
            state.local.tasks.tell_item();
        }
        let taken_care_of = self.has_taker(state, None);
        if state.local.wants_room()
            && (state.closed
                || (self.free(state) > 0 && state.withheld.is_none())
                || !taken_care_of)
        {
            self.room.notify_all();
            state.local.tasks.room.ring();
        }
        let joined = state.local.joiners > 0 || state.local.tasks.done.is_awaited();
        if joined && (state.unfinished == 0 || !taken_care_of) {
            self.done.notify_all();
            state.local.tasks.done.ring();
        }
        let waiting_for_room = self.capacity.is_some() && self.is_room_wanted(state);
        // How many items must be taken until the room is worth a wake-up.
        let batch = self.capacity.map_or(1, |capacity| {
            (capacity / 2).saturating_sub(self.free(state))
        });
        let mut newly_told = false;
        let keys: Vec<u64> = state.remotes.keys().copied().collect();
        let (length, unfinished, closed) = (state.len(), state.unfinished, state.closed);
        for key in keys {
            let Some(remote) = state.remotes.get(&key) else {
                continue;
            };
            let over = remote.waiting() > 0 && self.over(state, Some(key)).is_some();
            let joins = remote.join > remote.word(Word::Joined);
            let abandoned =
                (joins || remote.word(Word::Putters) > 0) && !self.has_taker(state, Some(key));
            let Some(remote) = state.remotes.get_mut(&key) else {
                continue;
            };
            newly_told |= waiting_for_room && remote.tell_at(batch);
            let flags = Flag::Closed.bit(closed)
                | Flag::Over.bit(over)
                | Flag::TellRoom.bit(waiting_for_room)
                | Flag::Abandoned.bit(abandoned);
            layout::word(&remote.region, Word::Unfinished)
                .store(unfinished as u64, Ordering::SeqCst);
            remote.set(Word::Flags, flags);
            if remote.ask > remote.word(Word::Answered) {
                layout::word(&remote.region, Word::Length).store(length as u64, Ordering::SeqCst);
                let ask = remote.ask;
                remote.set(Word::Answered, ask);
            }
            if unfinished == 0 {
                let join = remote.join;
                remote.set(Word::Joined, join);
            }
            if std::mem::take(&mut remote.changed) {
                remote.peer.ring();
            }
        }
        if newly_told {
            // What a client took before it could know that somebody wants to hear of it: look once more.
            fence(Ordering::SeqCst);
            let looks: Vec<bool> = state
                .remotes
                .values_mut()
                .map(|remote| remote.look(self.joinable).unwrap_or(false))
                .collect();
            if looks.contains(&true) {
                self.settle(state);
            }
        }
    }

    pub(in crate::queue) fn settle_items(&self, state: &mut State) {
        // A getter that gave up leaves its item to the others.
        while state.local.ready.len() > state.local.getters {
            let Some(item) = state.local.ready.pop_back() else {
                break;
            };
            state.store.push_front(item);
        }
        loop {
            self.hand_out(state);
            if !state.store.is_empty() || !self.steal(state) {
                return;
            }
        }
    }

    /// Whether anybody waits for an item that is not on its way to him.
    pub(in crate::queue) fn is_wanted(state: &State) -> bool {
        state.local.wants_items()
            || state
                .remotes
                .values()
                .any(|remote| remote.wants_items() > 0)
    }

    /// When to look again for items and room that a client keeps without using them, if anybody wants them, and for room
    /// that is kept back.
    pub(in crate::queue) fn next_look(&self, state: &State) -> Option<Instant> {
        if failpoints::mistake("settle.no-look") {
            return None;
        }
        let wanted = state.store.is_empty() && Core::is_wanted(state);
        let items = state
            .remotes
            .values()
            .filter(|remote| wanted && !remote.sent.is_empty());
        let items = items.map(|remote| {
            remote.moved
                + if remote.surplus() > 0 {
                    STALLED
                } else {
                    STOPPED
                }
        });
        let wanted = self.capacity.is_some() && self.is_room_wanted(state) && self.free(state) == 0;
        let room = state
            .remotes
            .values()
            .filter(|remote| wanted && remote.credits > 0);
        let withheld = state.withheld.map(|since| since + WITHHELD);
        let wanted = !state.store.is_empty() && Core::is_wanted(state);
        let kept = state
            .local
            .tasks
            .kept_until()
            .filter(|&until| wanted && until > Instant::now());
        let room = room.map(|remote| remote.granted + STOPPED);
        items.chain(kept).chain(room).chain(withheld).min()
    }

    /// Sees to it that the service thread looks again when it is time; for the owner's own threads.
    pub(in crate::queue) fn watch(&self, state: &mut State) {
        if let Some(at) = self.next_look(state) {
            if state.look.is_none_or(|look| at < look) {
                state.look = Some(at);
                hub::reschedule();
            }
        }
    }

    fn is_room_wanted(&self, state: &State) -> bool {
        state.local.wants_room() || state.remotes.values().any(Remote::wants_room)
    }

    /// Drops all that nobody has got; how many items that were.
    pub(in crate::queue) fn discard_all(&self, state: &mut State) -> usize {
        let mut dropped = state.store.len() + state.local.ready.len();
        state.store.clear();
        state.local.ready.clear();
        for remote in state
            .remotes
            .values_mut()
            .filter(|remote| !remote.sent.is_empty())
        {
            // A corrupt client is ended by the service thread, which finds the same.
            dropped += remote
                .recall(0, self.joinable)
                .map_or(0, |items| items.len());
        }
        if self.joinable {
            state.unfinished -= dropped;
        }
        if let Some(asker) = state.remotes.values_mut().find(|remote| remote.discards) {
            asker.discards = false;
            layout::word(&asker.region, Word::Dropped).fetch_add(dropped as u64, Ordering::SeqCst);
        }
        dropped
    }

    /// Hands the stored items out, one after the other in turn.
    pub(in crate::queue) fn hand_out(&self, state: &mut State) {
        let mut misses = 0;
        let kept = usize::from(state.local.tasks.keep_one());
        // Everybody had a turn, and one whose turn it was may have gone.
        while !state.store.is_empty() && misses < state.remotes.len() + 2 {
            let turn = state.turn;
            if turn == 0 {
                if state.local.getters > state.local.ready.len() {
                    let item = state.store.pop_front().expect("looked at above");
                    state.local.ready.push_back(item);
                    misses = 0;
                } else {
                    misses += 1;
                }
                state.turn = state.remotes.keys().next().copied().unwrap_or(0);
                continue;
            }
            let next = state
                .remotes
                .range(turn + 1..)
                .next()
                .map_or(0, |(&key, _)| key);
            state.turn = next;
            let local_waits = usize::from(state.local.wants_items());
            let others = state
                .remotes
                .iter()
                .filter(|&(&key, remote)| key != turn && remote.wants_items() > 0)
                .count();
            // No more than a fair share while others wait for the same items.
            let free = state.store.len().saturating_sub(kept);
            let share = free.div_ceil(1 + local_waits + others).min(free);
            let Some(remote) = state.remotes.get_mut(&turn) else {
                misses += 1;
                continue;
            };
            // Ahead of a client that does not wait only while nobody waits.
            let idle = remote.wants_items() == 0 && local_waits + others > 0;
            let count = if idle {
                0
            } else {
                remote.appetite().min(share)
            };
            if count == 0 {
                misses += 1;
                continue;
            }
            let pushed = remote.push_from(&mut state.store, count);
            misses = if pushed > 0 { 0 } else { misses + 1 };
        }
    }

    /// Takes items that lie in the inbox of a busy client, for one that waits; whether it found any.
    pub(in crate::queue) fn steal(&self, state: &mut State) -> bool {
        if !Core::is_wanted(state) {
            return false;
        }
        // Somebody who does not want to wait gets what there is.
        let hurry = state.local.hurry
            || state
                .remotes
                .values()
                .any(|remote| remote.ask > remote.word(Word::Answered));
        let now = Instant::now();
        let to_spare = |remote: &Remote| {
            let still = now.saturating_duration_since(remote.moved);
            if still >= STOPPED {
                remote.sent.len()
            } else if hurry || still >= STALLED {
                remote.surplus().div_ceil(2)
            } else {
                0
            }
        };
        let Some(victim) = state
            .remotes
            .values_mut()
            .max_by_key(|remote| to_spare(remote))
        else {
            return false;
        };
        // Fresh, not as it was at the last look: it may have taken them by now.
        if to_spare(victim) == 0 || victim.look(self.joinable).is_err() {
            return false;
        }
        let spare = to_spare(victim);
        if spare == 0 {
            return false;
        }
        let keep = victim.sent.len() - spare;
        let Ok(items) = victim.recall(keep, self.joinable) else {
            return false;
        };
        let found = !items.is_empty();
        for item in items.into_iter().rev() {
            state.store.push_front(item);
        }
        found
    }

    /// Whether those who wait for room should get more of it at once, a moment later.
    fn withholds(&self, state: &mut State, free: usize) -> bool {
        let half = self.capacity.unwrap_or(usize::MAX) / 2;
        if free >= half || !state.remotes.values().any(Remote::is_fast) {
            return false;
        }
        state.withheld.get_or_insert_with(Instant::now).elapsed() < WITHHELD
    }

    pub(in crate::queue) fn settle_room(&self, state: &mut State) {
        if self.capacity.is_none() {
            return;
        }
        let mut free = self.free(state);
        let wanted = self.is_room_wanted(state);
        if free == 0 && wanted && self.reclaim(state) {
            free = self.free(state);
        }
        if wanted && self.withholds(state, free) {
            return;
        }
        state.withheld = None;
        // To each that waits its share of what is free: more than it waits for, so that it need not wait for
        // each item. What it leaves unused is taken back when another waits (`reclaim`).
        // Each client's word is read once: it changes while this looks.
        let waiting: Vec<u64> = state
            .remotes
            .iter()
            .filter(|(_, remote)| remote.wants_room())
            .map(|(&key, _)| key)
            .collect();
        let parties = waiting.len() + usize::from(state.local.wants_room());
        for key in waiting {
            let share = free.div_ceil(parties).min(free);
            let Some(remote) = state.remotes.get_mut(&key) else {
                continue;
            };
            layout::word(&remote.region, Word::Credit).fetch_add(share as u64, Ordering::SeqCst);
            if !failpoints::mistake("settle.lost-room") {
                remote.credits += share;
            }
            remote.changed |= share > 0;
            remote.granted = Instant::now();
            free -= share;
        }
    }
}
