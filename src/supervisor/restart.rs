//! Restarting children.

use std::time::Instant;

use crate::diagnostics;
use crate::error::DownReason;
use crate::supervisor::child_info::ChildState;
use crate::supervisor::engine::{Engine, PendingRestart};
use crate::supervisor::events::{SupervisorEnd, SupervisorEvent};
use crate::supervisor::strategy::{Restart, Strategy};
use crate::tally::Tally;

impl Engine {
    /// A child ended on its own.
    pub(super) fn handle_end(&mut self, key: u64, launch: u64, reason: DownReason) {
        let Some(index) = self.index_of(key) else {
            return;
        };
        let slot = &mut self.slots[index];
        if slot.launch != launch || slot.state != ChildState::Up {
            // The engine stopped this start itself, after the child had reported its end.
            return;
        }
        slot.state = ChildState::Stopped;
        slot.last_end = Some(reason.clone());
        let (id, end) = (slot.id.clone(), reason.clone());
        self.view.emit(&SupervisorEvent::Ended { id, reason: end });
        if !slot.restart.applies(&reason) {
            slot.child.announce_down(&reason);
            if slot.restart == Restart::Temporary {
                self.remove(index);
            }
            return;
        }
        if slot.up_since.elapsed() > self.policy.period.max(self.policy.backoff.longest()) {
            slot.row = 0;
        }
        if self.count_restart(index, &reason) {
            self.slots[index].child.announce_restart(&reason);
            self.restart_group(index);
        } else {
            self.announce_end(index, &self.end_of_children());
        }
    }

    /// Counts one more restart. If that is one too many, returns `false` and makes the supervisor
    /// end.
    fn count_restart(&mut self, index: usize, reason: &DownReason) -> bool {
        let allowed = self.intensity.allows(Instant::now());
        if !allowed {
            let id = &self.slots[index].id;
            self.view.emit(&SupervisorEvent::GaveUp { id: id.clone(), reason: reason.clone() });
            let (intensity, period) = self.intensity.limit();
            let (id, reason) = (id.clone(), reason.clone());
            let end = SupervisorEnd::GaveUp { id, reason, intensity, period };
            // Children that did not fail will be stopped as well. That must not be silent.
            diagnostics::loss(
                "offspring::supervisor",
                1,
                format_args!("a supervisor gave up, and ends all its children: {end}"),
            );
            self.end = Some(end);
        }
        allowed
    }

    /// Stops the children that are restarted with the failed one, last first, and schedules the
    /// restart of all of them.
    fn restart_group(&mut self, failed: usize) {
        let group = self.policy.strategy.group(failed, self.slots.len());
        let failed = self.slots[failed].key;
        let mut keys = Vec::new();
        // Backwards, so that removing a temporary child does not shift the indices that are still
        // to come.
        for index in group.rev() {
            if self.slots[index].key != failed {
                self.stop(index);
            }
            if self.slots[index].restart == Restart::Temporary {
                self.slots[index].child.announce_down(&DownReason::Shutdown);
                self.remove(index);
                continue;
            }
            let slot = &mut self.slots[index];
            if slot.key != failed {
                slot.child.announce_restart(&DownReason::Shutdown);
            }
            slot.state = ChildState::Restarting;
            slot.restarts += 1;
            Tally::of("offspring_supervisor_restarts_total", &slot.id, None).add(1);
            keys.push(slot.key);
        }
        keys.reverse();
        self.schedule(keys, failed);
    }

    fn schedule(&mut self, keys: Vec<u64>, failed: u64) {
        let Some(index) = self.index_of(failed) else {
            return;
        };
        let slot = &mut self.slots[index];
        let pause = self.policy.backoff.pause(slot.row);
        slot.row = slot.row.saturating_add(1);
        if !pause.is_zero() {
            let id = slot.id.clone();
            self.view.emit(&SupervisorEvent::Restarting { id, after: pause });
        }
        // A child in the new group starts with that group only. An older pending group keeps its
        // other children. Two groups can share a child if it was restarted on request while it was
        // pending.
        for pending in &mut self.pending {
            pending.keys.retain(|key| !keys.contains(key));
        }
        self.pending.retain(|pending| !pending.keys.is_empty());
        let due = Instant::now() + pause;
        self.pending.push(PendingRestart { keys, due });
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

    /// Starts children in order.
    ///
    /// A failed start counts like the end of that child: the supervisor tries that child and those
    /// after it again. Under [`Strategy::OneForAll`], it stops those before it and starts them
    /// again too.
    fn start_group(&mut self, mut keys: Vec<u64>) {
        for count in 0..keys.len() {
            let Some(index) = self.index_of(keys[count]) else {
                continue;
            };
            let Err(error) = self.start(index) else {
                continue;
            };
            let reason = DownReason::Failed(error.to_string());
            self.slots[index].last_end = Some(reason.clone());
            if self.policy.strategy == Strategy::OneForAll {
                let before = keys[..count].iter().rev();
                before.for_each(|&key| self.stop_for_restart(key));
            } else {
                keys.drain(..count);
            }
            if self.count_restart(index, &reason) {
                let failed = self.slots[index].key;
                self.schedule(keys, failed);
            }
            return;
        }
    }

    fn stop_for_restart(&mut self, key: u64) {
        let Some(index) = self.index_of(key) else {
            return;
        };
        self.stop(index);
        let slot = &mut self.slots[index];
        slot.child.announce_restart(&DownReason::Shutdown);
        slot.state = ChildState::Restarting;
    }
}
