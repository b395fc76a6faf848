//! `DeadLetter`: an item that is not delivered any more, as the program sees it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{DeadLetterError, DecodeError};
use crate::queue::handle::Handle;
use crate::queue::owner::dead_letters::{DeadCause, Letter};
use crate::queue::owner::lock::QueueOwner;
use crate::sys;

/// An item that is not delivered any more, returned by
/// [`dead_letters`](crate::JoinableQueue::dead_letters).
///
/// Dropping it leaves the letter in the queue's list. [`redeliver`](DeadLetter::redeliver) and
/// [`discard`](DeadLetter::discard) remove it from there.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::builder().max_deliveries(1).build()?;
/// jobs.put("cursed".to_owned())?;
/// drop(jobs.get()?); // not finished, and not delivered again
/// for letter in jobs.dead_letters()? {
///     assert_eq!((letter.decode()?, letter.attempts()), ("cursed".to_owned(), 1));
///     letter.redeliver()?;
/// }
/// assert_eq!(jobs.get()?.into_inner(), "cursed");
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it leaves the letter with the queue: redeliver it, or discard it"]
pub struct DeadLetter<T> {
    owner: Arc<QueueOwner>,
    number: u64,
    letter: Arc<Letter>,
    item: PhantomData<fn() -> T>,
}

impl Handle {
    pub(in crate::queue) fn dead_letters<T>(&self) -> Result<Vec<DeadLetter<T>>, DeadLetterError> {
        let Handle::Own(own) = self else {
            return Err(DeadLetterError::NotOwner);
        };
        let letters = own.owner().dead_letters().into_iter();
        let letters = letters.map(|(number, letter)| DeadLetter {
            owner: own.owner().clone(),
            number,
            letter,
            item: PhantomData,
        });
        Ok(letters.collect())
    }
}

impl<T: DeserializeOwned> DeadLetter<T> {
    /// Decodes the item, in this process. If decoding it killed its consumers, it may kill this
    /// process as well.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are not a valid `T`, or if receiving ends in it went with an
    /// earlier consumer.
    pub fn decode(&self) -> Result<T, DecodeError> {
        let payload = sys::lock(&self.letter.payload);
        if payload.is_moved_out() {
            return Err(DecodeError::new::<T>(DeadLetterError::MovedOut.to_string()));
        }
        let copy = payload.try_clone();
        drop(payload);
        let no_copy = || DecodeError::new::<T>(DeadLetterError::NoMemory.to_string());
        copy.ok_or_else(no_copy)?.decode()
    }
}

impl<T> DeadLetter<T> {
    /// Returns the encoded item.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        sys::lock(&self.letter.payload).bytes()
    }

    /// Returns how often the item was delivered.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.letter.attempts
    }

    /// Returns why the item became a dead letter.
    #[must_use]
    pub fn cause(&self) -> &DeadCause {
        &self.letter.cause
    }

    /// Puts the item at the end of its queue again, as if it had never been delivered. The queue
    /// may then hold one item more than its capacity.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::Closed`]; [`DeadLetterError::Gone`] if it was redelivered or discarded
    /// before; [`DeadLetterError::MovedOut`] or [`DeadLetterError::NoMemory`], and then the letter
    /// keeps its place in the list.
    pub fn redeliver(self) -> Result<(), DeadLetterError> {
        let DeadLetter { owner, number, letter, .. } = self;
        // If nothing else holds the letter, the item need not be copied.
        drop(letter);
        owner.redeliver(number)
    }

    /// Drops the item for good.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::Gone`] if it was redelivered or discarded before.
    pub fn discard(self) -> Result<(), DeadLetterError> {
        self.owner.discard_letter(self.number)
    }
}

impl<T> fmt::Debug for DeadLetter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("item", &std::any::type_name::<T>())
            .field("attempts", &self.letter.attempts)
            .field("cause", &self.letter.cause)
            .finish_non_exhaustive()
    }
}
