//! Taking from a queue of another process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{AttachedQueue, InboxReader};
use crate::error::DecodeError;
use crate::failpoints;
use crate::ipc::block::block;
use crate::ipc::deadline::{Deadline, Elapsed, Forever, TimeLimit, WaitEnd, Waited};
use crate::ipc::hub;
use crate::ipc::ring::{self, Corrupt};
use crate::ipc::wire::{EncodedValue, Envelope};
use crate::queue::client::driver::{Blocking, Driver};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::item::{Item, Payload, Taken};
use crate::queue::layout::{self, Flag, Tag, Word};
use crate::queue::outcome::{ANSWER_WITHIN, QueueFailure, or_unresponsive};
use crate::sys::lock;

/// The longest text of a decoding error that is sent to the owner.
const TEXT_MAX: usize = 1 << 10;

impl AttachedQueue {
    /// Takes the next item if it has arrived.
    #[inline]
    pub(in crate::queue) fn take(&self) -> Option<Result<Taken, QueueFailure>> {
        let taken = match lock(&self.inbox).pop() {
            Ok(taken) => taken?,
            Err(failure) => return Some(Err(failure)),
        };
        failpoints::point("get.taken");
        self.notify_room(&taken);
        if matches!(taken.item.payload, Payload::Parcel(_)) {
            // The owner holds the item's handles as well, until it sees that the item was taken.
            self.ring();
        }
        Some(Ok(taken))
    }

    /// Rings an owner that does not poll this region, if the owner wants to know that there is room
    /// again.
    #[inline]
    fn notify_room(&self, taken: &Taken) {
        // The entry was taken sequentially consistent. So either this sees the sleep flag, or the
        // owner, which reads this region once more after it has set the flag, sees that the entry
        // was taken.
        if self.word(Word::OwnerSleeps).load(Ordering::SeqCst) == 1 && self.is_bounded() {
            let at = self.word(Word::NotifyAt).load(Ordering::SeqCst);
            if ring::is_at_or_behind(taken.lease, at) {
                self.ring();
            }
        }
    }

    /// Returns whether the next entry has arrived while its parcel has not.
    fn awaits_parcel(&self) -> bool {
        !lock(&self.inbox).entries.is_empty()
    }

    /// Returns whether a `get` would return at once: an item has arrived, the queue has ended, or
    /// the owner has refused the attachment.
    pub(in crate::queue::client) fn has_next(&self) -> bool {
        match self.session.answer(self.number) {
            None => false,
            Some(Ok(())) => self.has_flag(Flag::Ended) || self.awaits_parcel(),
            Some(Err(_)) => true,
        }
    }

    /// Reads the flag first. An item that the owner pushed before it set the flag is then in the
    /// inbox.
    fn has_ended(&self) -> bool {
        self.has_flag(Flag::Ended) && !self.awaits_parcel()
    }

    /// Returns why the flag `Ended` is set.
    fn end(&self) -> QueueFailure {
        if self.has_flag(Flag::Closed) { QueueFailure::Closed } else { QueueFailure::Abandoned(0) }
    }

    /// Reports to the owner how long this process has been busy since its last wait. Returns the
    /// number of items that it has taken.
    fn note_wait(&self) -> u64 {
        let mut inbox = lock(&self.inbox);
        if let Some(woken) = inbox.woken.take() {
            let busy = woken.elapsed().as_nanos() as u64;
            self.word(Word::Busy).fetch_add(busy.max(1), Ordering::SeqCst);
        }
        inbox.taken
    }

    async fn wait_for_item<D: Driver>(
        &self,
        max: usize,
        driver: &D,
    ) -> Result<Taken, WaitEnd<D::Elapsed, QueueFailure>> {
        let mut taken_before = self.note_wait();
        let _announced = self.announce_getter(max);
        failpoints::point("get.waits");
        self.ring();
        loop {
            let taken = driver.until(self, || {
                let taken = self.take().map(Some);
                if taken.is_none() {
                    // Another thread may have taken what the owner pushed for this one.
                    let taken = lock(&self.inbox).taken;
                    if std::mem::replace(&mut taken_before, taken) != taken {
                        self.ring();
                    }
                }
                taken.or_else(|| self.has_ended().then_some(None))
            });
            if let Some(outcome) = taken.await? {
                lock(&self.inbox).woken = Some(Instant::now());
                return outcome.map_err(WaitEnd::Failed);
            }
            // The flag may be older than an item that was put in the meantime. The owner's answer
            // is not.
            self.ask(driver).await?;
            if let Some(outcome) = self.take() {
                return outcome.map_err(WaitEnd::Failed);
            }
            if self.has_ended() {
                return Err(self.end().into());
            }
        }
    }

    /// Takes an item; `max` is the number of items that the caller can use at once.
    #[inline]
    pub(in crate::queue) fn get<L: TimeLimit>(
        &self,
        max: usize,
        limit: &L,
    ) -> Waited<Taken, QueueFailure, L> {
        match self.take() {
            Some(outcome) => outcome.map_err(WaitEnd::Failed),
            None => self.get_after_wait(max, limit),
        }
    }

    /// Separate from [`get`](Self::get), whose frame would otherwise hold the state of the wait.
    #[cold]
    #[inline(never)]
    fn get_after_wait<L: TimeLimit>(
        &self,
        max: usize,
        limit: &L,
    ) -> Waited<Taken, QueueFailure, L> {
        block(self.wait_for_item(max, &Blocking(limit)))
    }

    #[cfg(feature = "async")]
    pub(in crate::queue) async fn get_async(&self) -> Result<Taken, QueueFailure> {
        match self.take() {
            Some(outcome) => outcome,
            None => {
                let got = self.wait_for_item(1, &crate::queue::client::driver::Polled);
                got.await.map_err(WaitEnd::into_failed)
            }
        }
    }

    /// Takes an item if the queue has one. Waits only for the answer of the owner, which is process
    /// `pid`.
    pub(in crate::queue) fn try_get(
        &self,
        max: usize,
        pid: u32,
    ) -> Waited<Taken, QueueFailure, Deadline> {
        if let Some(outcome) = self.take() {
            return outcome.map_err(WaitEnd::Failed);
        }
        let answer = Deadline::after(ANSWER_WITHIN);
        let driver = Blocking(&answer);
        let _announced = self.announce_getter(max);
        let asked = block(self.ask(&driver));
        asked.map_err(|end| or_unresponsive(end, pid))?;
        // Until the parcel of the next item has arrived, or another thread has taken that item.
        let taken = block(driver.until(self, || match self.take() {
            None if self.awaits_parcel() => None,
            taken => Some(taken),
        }));
        match taken.map_err(|end| or_unresponsive(end, pid))? {
            Some(outcome) => outcome.map_err(WaitEnd::Failed),
            None if self.has_flag(Flag::Ended) => Err(self.end().into()),
            None => Err(WaitEnd::Timeout(Elapsed)),
        }
    }

    /// Takes up to `max` more of the items that have arrived.
    pub(in crate::queue) fn take_more(&self, max: usize, taken: &mut Vec<Taken>) {
        let mut inbox = lock(&self.inbox);
        // The next call reports a corrupt inbox. What was taken before is whole.
        taken.extend(std::iter::from_fn(|| inbox.pop().ok().flatten()).take(max));
        drop(inbox);
        if let Some(last) = taken.last() {
            self.notify_room(last);
        }
    }

    /// Marks a leased item as finished.
    ///
    /// Waits without a deadline while the outbox is full, because without this entry the item would
    /// be delivered again when this process ends. Items leave room for a thousand such entries.
    pub(in crate::queue) fn finish(&self, lease: u64) -> Result<(), QueueFailure> {
        self.tell_owner(Outgoing::entry(Tag::Done, &lease.to_le_bytes()))
    }

    /// Returns a leased item, which goes to the next consumer.
    ///
    /// Never waits, because a drop calls it: if the outbox is full, the hub's thread of this process
    /// writes the entry later. If this process ends before that, the item goes back all the same.
    pub(in crate::queue) fn give_back(self: &Arc<Self>, lease: u64) {
        let attached = self.clone();
        let attempt = move || {
            let lease = lease.to_le_bytes();
            let mut entry = Outgoing::entry(Tag::Back, &lease);
            attached.session().is_gone()
                || attached.write(&mut entry).is_some()
                || attached.session().check()
        };
        if !attempt() {
            hub::try_again(Box::new(attempt));
        }
    }

    fn tell_owner(&self, entry: Outgoing<'_>) -> Result<(), QueueFailure> {
        block(self.write_entry(entry, &Blocking(&Forever))).map_err(WaitEnd::into_failed)
    }

    /// From now on, `task_done` of the queue may end this lease.
    pub(in crate::queue) fn detach_lease(&self, lease: u64) {
        lock(&self.detached).push_back(lease);
    }

    /// Returns the oldest detached lease.
    pub(in crate::queue) fn next_detached(&self) -> Option<u64> {
        lock(&self.detached).pop_front()
    }

    /// Returns an item that does not decode to the owner, which keeps it as a dead letter. In a
    /// joinable queue, the owner still has the item, under its lease. In a plain queue, this is the
    /// only copy.
    pub(in crate::queue) fn return_undecodable(
        &self,
        taken: Taken,
        joinable: bool,
        error: &DecodeError,
    ) -> Result<(), QueueFailure> {
        let text = error.message().as_bytes();
        let text = &text[..text.len().min(TEXT_MAX)];
        if joinable {
            let bytes = [&taken.lease.to_le_bytes(), text].concat();
            return self.tell_owner(Outgoing::entry(Tag::BadLease, &bytes));
        }
        let Item { payload, attempts } = taken.item;
        let envelope = match payload {
            Payload::Parcel(envelope) => *envelope,
            Payload::Bytes(bytes) => Envelope::new(EncodedValue {
                bytes: bytes.as_slice().to_vec(),
                handles: Vec::new(),
            })?,
        };
        let bytes = [&attempts.to_le_bytes(), text].concat();
        self.tell_owner(Outgoing::parcel(Tag::Bad, &bytes, envelope))
    }
}

impl InboxReader {
    #[inline]
    fn pop(&mut self) -> Result<Option<Taken>, QueueFailure> {
        // Only the owner writes there. After this, it must not be trusted any more.
        let corrupt = |Corrupt| QueueFailure::Gone;
        let InboxReader { entries, taken, parcels, .. } = self;
        while let Some(front) = entries.front().map_err(corrupt)? {
            let bytes = entries.read(&front);
            let parcel = match Tag::from(front.tag) {
                // The bytes of an entry that is being recalled may be torn. They count only once
                // the entry was taken.
                Some(Tag::Parcel) => Some(layout::number(bytes.as_slice()).unwrap_or(u64::MAX)),
                _ => None,
            };
            if let Some(id) = parcel.filter(|&id| id != u64::MAX) {
                // Take only what can be handed over at once. The entry stays the owner's while its
                // parcel is on its way, or while this process has too few addresses to map it.
                let Some(parcel) = parcels.get_mut(&id) else { return Ok(None) };
                parcel.map().map_err(|error| QueueFailure::io("map the item", error))?;
            }
            if !entries.take(&front) {
                continue;
            }
            let payload = match (Tag::from(front.tag), parcel) {
                (Some(Tag::Put), _) => Payload::Bytes(bytes),
                (Some(Tag::Parcel), Some(id)) => {
                    // Older parcels belong to entries that were recalled.
                    *parcels = parcels.split_off(&id);
                    Payload::parcel(parcels.remove(&id).ok_or(QueueFailure::Gone)?)
                }
                _ => return Err(QueueFailure::Gone),
            };
            *taken += 1;
            let attempts = Tag::attempts(front.tag);
            return Ok(Some(Taken { item: Item { payload, attempts }, lease: front.position }));
        }
        Ok(None)
    }
}
