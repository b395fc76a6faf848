//! Putting into a queue of another process.

use std::sync::atomic::Ordering;

use super::AttachedQueue;
use crate::failpoints;
use crate::ipc::block::block;
use crate::ipc::deadline::{Deadline, Elapsed, TimeLimit, WaitEnd, Waited};
use crate::ipc::ring::Corrupt;
use crate::queue::client::driver::{Blocking, Driver};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::item::NewItem;
use crate::queue::layout::{Flag, Tag, Word};
use crate::queue::outcome::{ANSWER_WITHIN, QueueFailure, or_unresponsive};
use crate::sys::lock;

impl AttachedQueue {
    /// Takes up to `max` units of credit. Returns how many it took.
    #[inline]
    fn take_credit(&self, max: usize) -> usize {
        let take = |credit: u64| credit.min(max as u64);
        let credit = self.word(Word::Credit);
        let before = credit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |credit| {
            Some(credit - take(credit)).filter(|&left| left != credit)
        });
        before.map_or(0, |before| take(before) as usize)
    }

    /// Returns why every put fails, if every put does.
    #[inline]
    fn refuses_puts(&self) -> Option<QueueFailure> {
        let flags = self.word(Word::Flags).load(Ordering::SeqCst);
        if Flag::Closed.is_in(flags) {
            return Some(QueueFailure::Closed);
        }
        Flag::Severed.is_in(flags).then_some(QueueFailure::Abandoned(0))
    }

    fn return_credit(&self, count: usize) {
        self.word(Word::Credit).fetch_add(count as u64, Ordering::SeqCst);
    }

    /// Puts an item if there is room in the queue and in the ring now.
    #[inline]
    fn attempt_put(&self, item: &mut Outgoing<'_>) -> Option<Result<(), QueueFailure>> {
        if self.session.is_gone() {
            return Some(Err(QueueFailure::Gone));
        }
        if let Some(refused) = self.refuses_puts() {
            return Some(Err(refused));
        }
        let bounded = self.is_bounded();
        if bounded && self.take_credit(1) == 0 {
            let abandoned = self.has_flag(Flag::Abandoned);
            return abandoned.then_some(Err(QueueFailure::Abandoned(0)));
        }
        // The unit of credit now belongs to this thread. If the process dies here, the owner ends
        // the session, and with it everything that was granted to it.
        failpoints::point("put.credit");
        let outcome = self.write(item);
        if bounded && !matches!(outcome, Some(Ok(()))) {
            self.return_credit(1);
        }
        outcome
    }

    /// Writes an entry if there is room in the ring now.
    #[inline]
    pub(super) fn write(&self, entry: &mut Outgoing<'_>) -> Option<Result<(), QueueFailure>> {
        let mut outbox = lock(&self.outbox);
        let room = entry.room();
        let pushed = match outbox.entries.room_for(room) {
            Ok(free) if free < room => Ok(false),
            Ok(_) if entry.parcel.is_none() => outbox.entries.push(entry.tag as u32, entry.bytes),
            // The parcel before its entry, and both under one lock, because the owner pairs the
            // next entry that has a parcel with the oldest parcel.
            Ok(_) => match self.session.send_parcel(self.number, &mut entry.parcel) {
                Ok(true) => outbox.entries.push(entry.tag as u32, entry.bytes),
                Ok(false) => Ok(false),
                Err(failure) => return Some(Err(failure.into())),
            },
            Err(Corrupt) => Err(Corrupt),
        };
        drop(outbox);
        failpoints::point("put.entry");
        match pushed {
            Ok(true) => {
                self.ring();
                failpoints::point("put.rung");
                Some(Ok(()))
            }
            Ok(false) => None,
            // Only the owner writes what was read. The owner must not be trusted any more.
            Err(Corrupt) => Some(Err(QueueFailure::Gone)),
        }
    }

    /// Returns whether the owner has left entries unread for a while: it may be slow, or dead.
    #[inline]
    fn is_suspicious(&self) -> bool {
        // Two threads may count as one put. The count need not be exact.
        let puts = self.puts.load(Ordering::Relaxed).wrapping_add(1);
        self.puts.store(puts, Ordering::Relaxed);
        // Not at each put, because reading the owner's side of the ring costs more than a put.
        if puts % 64 != 0 {
            return false;
        }
        let mut outbox = lock(&self.outbox);
        outbox.entries.is_backed_up().unwrap_or(true) && outbox.pulse.is_due()
    }

    /// Puts an item if that is possible without waiting.
    #[inline]
    fn put_now(&self, item: &mut Outgoing<'_>) -> Option<Result<(), QueueFailure>> {
        if self.is_suspicious() && self.session.check() {
            return Some(Err(QueueFailure::Gone));
        }
        self.attempt_put(item)
    }

    async fn wait_for_room<D: Driver>(
        &self,
        item: &mut Outgoing<'_>,
        driver: &D,
    ) -> Result<(), WaitEnd<D::Elapsed, QueueFailure>> {
        let _announced = self.announce_putter();
        failpoints::point("put.waits");
        self.ring();
        let put = driver.until(self, || self.attempt_put(item));
        put.await?.map_err(WaitEnd::Failed)
    }

    #[inline]
    pub(in crate::queue) fn put<L: TimeLimit>(
        &self,
        item: NewItem<'_>,
        limit: &L,
    ) -> Waited<(), QueueFailure, L> {
        let mut item = item.into();
        match self.put_now(&mut item) {
            Some(outcome) => outcome.map_err(WaitEnd::Failed),
            None => self.put_after_wait(&mut item, limit),
        }
    }

    /// Separate from [`put`](Self::put), whose frame would otherwise hold the state of the wait.
    #[cold]
    #[inline(never)]
    fn put_after_wait<L: TimeLimit>(
        &self,
        item: &mut Outgoing<'_>,
        limit: &L,
    ) -> Waited<(), QueueFailure, L> {
        block(self.wait_for_room(item, &Blocking(limit)))
    }

    #[cfg(feature = "async")]
    pub(in crate::queue) async fn put_async(&self, item: NewItem<'_>) -> Result<(), QueueFailure> {
        let mut item = item.into();
        match self.put_now(&mut item) {
            Some(outcome) => outcome,
            None => {
                let put = self.wait_for_room(&mut item, &crate::queue::client::driver::Polled);
                put.await.map_err(WaitEnd::into_failed)
            }
        }
    }

    /// Puts an item if the queue has room. Waits only for the answer of the owner, which is process
    /// `pid`.
    pub(in crate::queue) fn try_put(
        &self,
        item: NewItem<'_>,
        pid: u32,
    ) -> Waited<(), QueueFailure, Deadline> {
        let mut item = item.into();
        if let Some(outcome) = self.attempt_put(&mut item) {
            return outcome.map_err(WaitEnd::Failed);
        }
        let answer = Deadline::after(ANSWER_WITHIN);
        if !self.is_bounded() {
            // The queue has room; only the ring is full.
            let put = block(self.wait_for_room(&mut item, &Blocking(&answer)));
            return Ok(put.map_err(|end| or_unresponsive(end, pid))?);
        }
        let _announced = self.announce_putter();
        let asked = block(self.ask(&Blocking(&answer)));
        asked.map_err(|end| or_unresponsive(end, pid))?;
        match self.attempt_put(&mut item) {
            Some(outcome) => outcome.map_err(WaitEnd::Failed),
            None => Err(WaitEnd::Timeout(Elapsed)),
        }
    }

    /// Puts as many items as there is room for, without waiting. Returns how many it put.
    pub(in crate::queue) fn put_more<'a>(
        &self,
        items: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<usize, QueueFailure> {
        if self.refuses_puts().is_some() {
            return Ok(0);
        }
        let bounded = self.is_bounded();
        let credit = if bounded { self.take_credit(items.len()) } else { items.len() };
        let mut outbox = lock(&self.outbox);
        let mut done = 0;
        let mut pushed = Ok(true);
        for item in items.take(credit) {
            let room = Outgoing::entry(Tag::Put, item).room();
            pushed = match outbox.entries.room_for(room) {
                Ok(free) if free < room => Ok(false),
                Ok(_) => outbox.entries.push(Tag::Put as u32, item),
                Err(Corrupt) => Err(Corrupt),
            };
            if pushed != Ok(true) {
                break;
            }
            done += 1;
        }
        drop(outbox);
        if bounded {
            self.return_credit(credit - done);
        }
        self.ring();
        pushed.map(|_| done).map_err(|Corrupt| QueueFailure::Gone)
    }

    /// Writes an entry that is not an item; waits for room in the ring.
    pub(in crate::queue::client) async fn write_entry<D: Driver>(
        &self,
        mut entry: Outgoing<'_>,
        driver: &D,
    ) -> Result<(), WaitEnd<D::Elapsed, QueueFailure>> {
        let mut attempt = || match self.session.is_gone() {
            true => Some(Err(QueueFailure::Gone)),
            false => self.write(&mut entry),
        };
        if let Some(outcome) = attempt() {
            return outcome.map_err(WaitEnd::Failed);
        }
        let _announced = self.announce_putter();
        self.ring();
        let written = driver.until(self, attempt).await?;
        written.map_err(WaitEnd::Failed)
    }
}
