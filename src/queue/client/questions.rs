//! Questions from a client to the owner of a queue.
//!
//! A question is an entry in the outbox with a number. The owner answers by writing that number
//! into a word of the region. It does so once it has carried out all entries before the question,
//! and everything that other processes had put by then.

use std::sync::atomic::Ordering;

use crate::ipc::block::block;
use crate::ipc::deadline::{Deadline, WaitEnd, Waited};
use crate::queue::client::attachment::AttachedQueue;
use crate::queue::client::driver::{Blocking, Driver};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::layout::{Flag, Tag, Word};
use crate::queue::outcome::{QueueFailure, QueueJoined};

impl AttachedQueue {
    async fn request<D: Driver>(
        &self,
        tag: Tag,
        number: u64,
        driver: &D,
    ) -> Result<(), WaitEnd<D::Elapsed, QueueFailure>> {
        let bytes = number.to_le_bytes();
        self.write_entry(Outgoing::entry(tag, &bytes), driver).await
    }

    /// Waits until the owner has carried out all that this process wrote before.
    pub(super) async fn ask<D: Driver>(
        &self,
        driver: &D,
    ) -> Result<(), WaitEnd<D::Elapsed, QueueFailure>> {
        // Two threads may write their questions in the opposite order. The answer to the later
        // number covers both, because whatever each of them wrote before comes before both entries.
        let question = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.request(Tag::Ask, question, driver).await?;
        let answered = self.word(Word::Answered);
        driver.until(self, || (answered.load(Ordering::SeqCst) >= question).then_some(())).await
    }

    /// Makes a request, and waits until the owner has carried it out.
    fn request_and_ask(&self, tag: Tag, answer: &Deadline) -> Waited<(), QueueFailure, Deadline> {
        let driver = Blocking(answer);
        block(self.request(tag, 0, &driver))?;
        block(self.ask(&driver))
    }

    /// Closes the queue. Waits for the owner, so that it refuses every put after this call.
    pub(in crate::queue) fn close(&self, answer: &Deadline) -> Waited<(), QueueFailure, Deadline> {
        self.request_and_ask(Tag::Close, answer)
    }

    /// Closes the queue and drops the items in it. Returns how many it dropped.
    pub(in crate::queue) fn close_and_discard(
        &self,
        answer: &Deadline,
    ) -> Waited<usize, QueueFailure, Deadline> {
        self.request_and_ask(Tag::Discard, answer)?;
        let dropped = self.word(Word::Dropped).swap(0, Ordering::SeqCst);
        Ok(usize::try_from(dropped).unwrap_or(usize::MAX))
    }

    pub(in crate::queue) fn is_closed(
        &self,
        answer: &Deadline,
    ) -> Waited<bool, QueueFailure, Deadline> {
        block(self.ask(&Blocking(answer)))?;
        Ok(self.has_flag(Flag::Closed))
    }

    pub(in crate::queue) fn len(&self, answer: &Deadline) -> Waited<usize, QueueFailure, Deadline> {
        block(self.ask(&Blocking(answer)))?;
        let length = self.word(Word::Length).load(Ordering::SeqCst);
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Waits until all items that were put are finished.
    pub(in crate::queue) async fn join<D: Driver>(
        &self,
        driver: &D,
    ) -> Result<QueueJoined, WaitEnd<D::Elapsed, QueueFailure>> {
        let join = self.joins.fetch_add(1, Ordering::SeqCst) + 1;
        self.request(Tag::Join, join, driver).await?;
        // After this answer, the flag is not older than the request.
        self.ask(driver).await?;
        let joined = driver.until(self, || self.joined(join)).await?;
        joined.map_err(WaitEnd::Failed)
    }

    /// Returns how a join that the owner has read ended.
    fn joined(&self, join: u64) -> Option<Result<QueueJoined, QueueFailure>> {
        if self.word(Word::Joined).load(Ordering::SeqCst) >= join {
            let dead = self.word(Word::DeadLetters).load(Ordering::SeqCst);
            let dead_letters = usize::try_from(dead).unwrap_or(usize::MAX);
            return Some(Ok(QueueJoined { dead_letters }));
        }
        self.has_flag(Flag::Abandoned).then(|| {
            let unfinished = self.word(Word::Unfinished).load(Ordering::SeqCst);
            Err(QueueFailure::Abandoned(unfinished as usize))
        })
    }
}
