//! What an end leads to.

use std::time::Instant;

use crate::error::{DownReason, chain_text};
use crate::supervisor::engine::Engine;
use crate::supervisor::events::{ChildState, Event, SupervisorEnd};
use crate::supervisor::strategy::{Restart, Strategy};

/// Children that are to be started again, in this order.
pub(super) struct Pending {
    pub(super) keys: Vec<u64>,
    pub(super) due: Instant,
}

impl Engine {
    /// A child has ended by itself.
    pub(super) fn ended(&mut self, key: u64, launch: u64, reason: DownReason) {
        let Some(place) = self.place(key) else { return };
        let slot = &mut self.slots[place];
        if slot.launch != launch || slot.state != ChildState::Up {
            return;
        }
        slot.state = ChildState::Stopped;
        slot.last = Some(reason.clone());
        let (id, ended) = (slot.id.clone(), reason.clone());
        self.view.tell(&Event::Ended { id, reason: ended });
        if !slot.restart.applies(&reason) {
            slot.child.is_down(&reason);
            if slot.restart == Restart::Temporary {
                self.discard(place);
            }
            return;
        }
        if slot.up_since.elapsed() > self.plan.period.max(self.plan.backoff.most()) {
            slot.row = 0;
        }
        if self.may_restart(place, &reason) {
            self.slots[place].child.will_restart(&reason);
            self.restart_group(place);
        } else {
            self.last_word(place, &reason);
        }
    }

    /// Counts one more restart; with too many the supervisor ends.
    fn may_restart(&mut self, place: usize, reason: &DownReason) -> bool {
        let allowed = self.intensity.allows(Instant::now());
        if !allowed {
            let id = &self.slots[place].id;
            self.view.tell(&Event::GaveUp {
                id: id.clone(),
                reason: reason.clone(),
            });
            let (intensity, period) = self.intensity.limit();
            self.end = Some(SupervisorEnd::GaveUp {
                id: id.clone(),
                reason: reason.clone(),
                intensity,
                period,
            });
        }
        allowed
    }

    /// Stops those that go with the failed one, last first, and notes when to start all of them.
    fn restart_group(&mut self, failed: usize) {
        let group = self.plan.strategy.group(failed, self.slots.len());
        let failed = self.slots[failed].key;
        let mut keys = Vec::new();
        for place in group.rev() {
            if self.slots[place].key != failed {
                self.stop(place);
            }
            if self.slots[place].restart == Restart::Temporary {
                self.slots[place].child.is_down(&DownReason::Shutdown);
                self.discard(place);
                continue;
            }
            let slot = &mut self.slots[place];
            if slot.key != failed {
                slot.child.will_restart(&DownReason::Shutdown);
            }
            slot.state = ChildState::Restarting;
            slot.restarts += 1;
            keys.push(slot.key);
        }
        keys.reverse();
        self.postpone(keys, failed);
    }

    fn postpone(&mut self, keys: Vec<u64>, failed: u64) {
        let Some(place) = self.place(failed) else {
            return;
        };
        let slot = &mut self.slots[place];
        let pause = self.plan.backoff.pause(slot.row);
        slot.row = slot.row.saturating_add(1);
        if !pause.is_zero() {
            let id = slot.id.clone();
            self.view.tell(&Event::Restarting { id, after: pause });
        }
        // A group that was still to be started is part of this one.
        self.pending
            .retain(|pending| !pending.keys.iter().any(|key| keys.contains(key)));
        let due = Instant::now() + pause;
        self.pending.push(Pending { keys, due });
    }

    pub(super) fn start_due(&mut self) {
        while self.end.is_none() {
            let now = Instant::now();
            let Some(next) = self.pending.iter().position(|pending| pending.due <= now) else {
                return;
            };
            let keys = self.pending.remove(next).keys;
            self.start_group(keys);
            self.publish();
        }
    }

    /// Starts them in order. If one does not start, that is an end like others: it and those behind it are tried again, and under
    /// [`Strategy::OneForAll`] those before it go down with it.
    fn start_group(&mut self, mut keys: Vec<u64>) {
        for count in 0..keys.len() {
            let Some(place) = self.place(keys[count]) else {
                continue;
            };
            let Err(error) = self.start(place) else {
                continue;
            };
            let reason = DownReason::Failed(chain_text(&error));
            self.slots[place].last = Some(reason.clone());
            if self.plan.strategy == Strategy::OneForAll {
                keys[..count]
                    .iter()
                    .rev()
                    .for_each(|&before| self.take_down(before));
            } else {
                keys.drain(..count);
            }
            if self.may_restart(place, &reason) {
                let failed = self.slots[place].key;
                self.postpone(keys, failed);
            }
            return;
        }
    }

    fn take_down(&mut self, key: u64) {
        let Some(place) = self.place(key) else { return };
        self.stop(place);
        let slot = &mut self.slots[place];
        slot.child.will_restart(&DownReason::Shutdown);
        slot.state = ChildState::Restarting;
    }
}
