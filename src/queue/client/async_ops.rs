//! Awaiting in another process than the owner's: the same words and entries as for threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ipc::reactor;
use crate::queue::async_ops::unwatched;
use crate::queue::client::attachment::{Attached, RemoteEnd, Taken, Waiting};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::handle::Remote;
use crate::queue::layout::{Flag, Tag, Word};

impl Remote {
    pub(crate) async fn attached_async(&self) -> Result<&Arc<Attached>, RemoteEnd> {
        if self.peek().is_none() {
            let opened = self.open()?;
            opened.until(|| opened.status()).await?;
        }
        // The owner has answered.
        self.attached(None)
    }
}

impl Attached {
    /// Awaits what `ready` gives; it is called when this process was rung.
    async fn until<R>(&self, mut ready: impl FnMut() -> Option<R>) -> Result<R, RemoteEnd> {
        let session = self.session();
        let sit = || session.register();
        let look = |seat: reactor::Interest<'_>| {
            let outcome = session.poll(seat, &mut ready);
            if outcome.is_pending() && seat.is_some() {
                // The owner may not know that this waits, or that all it sent was taken.
                session.ring();
            }
            outcome
        };
        let outcome = reactor::until(sit, look).await.map_err(unwatched)?;
        Ok(outcome?)
    }

    fn is_over(&self) -> bool {
        Flag::Over.is_in(self.flags()) && !self.awaits_parcel()
    }

    pub(crate) async fn take_async(&self) -> Result<Taken, RemoteEnd> {
        if let Some(outcome) = self.take() {
            return outcome;
        }
        let _waiting = Waiting::new(self.word(Word::Getters));
        loop {
            let ready = || {
                self.take()
                    .map(Some)
                    .or_else(|| self.is_over().then_some(None))
            };
            if let Some(outcome) = self.until(ready).await? {
                return outcome;
            }
            // The flag may be older than an item that was put meanwhile: ask.
            self.ask_async().await?;
            if let Some(outcome) = self.take() {
                return outcome;
            }
            if self.is_over() {
                return Err(RemoteEnd::Over(self.over()));
            }
        }
    }

    pub(crate) async fn put_async(&self, mut outgoing: Outgoing<'_>) -> Result<(), RemoteEnd> {
        if self.is_suspicious() && self.session().check() {
            return Err(RemoteEnd::Gone);
        }
        if let Some(outcome) = self.attempt(&mut outgoing) {
            return outcome;
        }
        let _waiting = Waiting::new(self.word(Word::Putters));
        self.until(|| self.attempt(&mut outgoing)).await?
    }

    pub(crate) async fn join_async(&self) -> Result<(), RemoteEnd> {
        let join = self.next_join();
        self.entry_async(Tag::Join, join).await?;
        // The owner has read the question, so the flag is no older than it.
        self.ask_async().await?;
        self.until(|| self.joined(join)).await?
    }

    async fn ask_async(&self) -> Result<(), RemoteEnd> {
        let question = self.next_question();
        self.entry_async(Tag::Ask, question).await?;
        self.until(|| (self.word(Word::Answered).load(Ordering::SeqCst) >= question).then_some(()))
            .await
    }

    /// Writes an entry that is no item; awaits room in the ring.
    async fn entry_async(&self, tag: Tag, number: u64) -> Result<(), RemoteEnd> {
        let bytes = number.to_le_bytes();
        let mut outgoing = Outgoing::entry(tag, &bytes);
        if let Some(outcome) = self.attempt_entry(&mut outgoing) {
            return outcome;
        }
        let _waiting = Waiting::new(self.word(Word::Putters));
        self.until(|| self.attempt_entry(&mut outgoing)).await?
    }
}
