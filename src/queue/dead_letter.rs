//! Dead letters: items that nobody gets any more, kept in the owner's process.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;

use crate::error::{DeadLetterError, DecodeError};
use crate::queue::owner::state::{Core, Item, Payload, State};
use crate::sys;

/// Why an item became a dead letter.
///
/// ```
/// use offspring::JoinableQueue;
/// use offspring::queue::DeadCause;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::builder().max_deliveries(1).build()?;
/// jobs.put(1u32)?;
/// drop(jobs.get()?);
/// let cause = jobs.dead_letters()?[0].cause().clone();
/// assert!(matches!(cause, DeadCause::Deliveries));
/// assert_eq!(cause.to_string(), "it was delivered as often as it may be, and never done");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DeadCause {
    /// It was delivered as often as it may be, and never done.
    Deliveries,
    /// It was delivered and not done, and held the end of a channel or pipe, which went with whoever had it.
    MovedOut,
    /// It is no value of the queue's item type: the error of the `get` that met it.
    Decode(DecodeError),
}

impl fmt::Display for DeadCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeadCause::Deliveries => {
                f.write_str("it was delivered as often as it may be, and never done")
            }
            DeadCause::MovedOut => {
                f.write_str("it was delivered, and what it held exists only once")
            }
            DeadCause::Decode(error) => error.fmt(f),
        }
    }
}

#[derive(Debug)]
struct Letter {
    /// Locked only to make it `Sync`: a parcel may hold what exists once.
    payload: Mutex<Payload>,
    attempts: u32,
    cause: DeadCause,
}

/// The dead letters of one queue, oldest first.
#[derive(Debug)]
pub(super) struct DeadLetters {
    letters: VecDeque<(u64, Arc<Letter>)>,
    next: u64,
    most: usize,
}

impl DeadLetters {
    pub(super) fn new(most: usize) -> DeadLetters {
        DeadLetters {
            letters: VecDeque::new(),
            next: 0,
            most,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }

    pub(super) fn push(&mut self, item: Item, cause: DeadCause) {
        let Item { payload, attempts } = item;
        self.letters.push_back((
            self.next,
            Arc::new(Letter {
                payload: Mutex::new(payload),
                attempts,
                cause,
            }),
        ));
        self.next += 1;
        if self.letters.len() > self.most {
            self.letters.pop_front();
        }
    }

    fn take(&mut self, number: u64) -> Option<Arc<Letter>> {
        let index = self
            .letters
            .iter()
            .position(|(other, _)| *other == number)?;
        self.letters.remove(index).map(|(_, letter)| letter)
    }
}

impl State {
    /// Makes an item that was delivered and not done a dead letter.
    pub(super) fn bury(&mut self, mut item: Item, cause: DeadCause) {
        item.attempts += 1;
        self.dead.push(item, cause);
    }

    fn revive(&mut self, number: u64, joinable: bool) -> Result<(), DeadLetterError> {
        if self.closed {
            return Err(DeadLetterError::Closed);
        }
        let letter = self.dead.take(number).ok_or(DeadLetterError::Gone)?;
        if sys::lock(&letter.payload).is_moved_out() {
            self.dead.letters.push_front((number, letter));
            return Err(DeadLetterError::MovedOut);
        }
        let payload = match Arc::try_unwrap(letter) {
            Ok(letter) => letter
                .payload
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
            // Somebody else has it in his hands.
            Err(letter) => {
                let copy = sys::lock(&letter.payload).try_clone();
                let Some(payload) = copy else {
                    self.dead.letters.push_front((number, letter));
                    return Err(DeadLetterError::NoMemory);
                };
                payload
            }
        };
        self.unfinished += usize::from(joinable);
        self.store.push_back(Item {
            payload,
            attempts: 0,
        });
        Ok(())
    }
}

impl Core {
    /// An item that the owner's own thread could not decode.
    pub(super) fn undecodable(
        &self,
        payload: Payload,
        attempts: u32,
        lease: u64,
        error: DecodeError,
    ) {
        let mut state = self.lock();
        let item = if self.joinable {
            state.local.leases.remove(&lease)
        } else {
            Some(Item { payload, attempts })
        };
        if let Some(item) = item {
            state.unfinished -= usize::from(self.joinable);
            state.bury(item, DeadCause::Decode(error));
        }
        self.settle(&mut state);
    }

    pub(super) fn dead_letters<T>(self: &Arc<Core>) -> Vec<DeadLetter<T>> {
        let mut state = self.lock();
        self.drain_all(&mut state);
        let letters = state
            .dead
            .letters
            .iter()
            .map(|(number, letter)| DeadLetter {
                core: self.clone(),
                number: *number,
                letter: letter.clone(),
                item: PhantomData,
            });
        letters.collect()
    }

    fn redeliver(&self, number: u64) -> Result<(), DeadLetterError> {
        let mut state = self.lock();
        state.revive(number, self.joinable)?;
        self.settle(&mut state);
        Ok(())
    }

    fn discard(&self, number: u64) -> Result<(), DeadLetterError> {
        self.lock()
            .dead
            .take(number)
            .map(drop)
            .ok_or(DeadLetterError::Gone)
    }
}

/// An item that nobody gets any more, as [`dead_letters`](crate::JoinableQueue::dead_letters) shows it.
///
/// This is a look at it: dropping it leaves the letter with the queue. [`redeliver`](DeadLetter::redeliver) and
/// [`discard`](DeadLetter::discard) take it away from there.
///
/// ```
/// use offspring::JoinableQueue;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = JoinableQueue::builder().max_deliveries(1).build()?;
/// jobs.put("cursed".to_owned())?;
/// drop(jobs.get()?); // given up, and nobody gets it again
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
    core: Arc<Core>,
    number: u64,
    letter: Arc<Letter>,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> DeadLetter<T> {
    /// The item. It is decoded here and now, so what made its consumers die may strike here as well.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are no `T`, or if handles in it are spent.
    pub fn decode(&self) -> Result<T, DecodeError> {
        let payload = sys::lock(&self.letter.payload);
        if payload.is_moved_out() {
            return Err(DecodeError::new::<T>(DeadLetterError::MovedOut.to_string()));
        }
        let copy = payload.try_clone();
        drop(payload);
        match copy {
            Some(mut payload) => payload.decode(),
            None => Err(DecodeError::new::<T>(
                "no memory or no descriptor is left for a copy",
            )),
        }
    }
}

impl<T> DeadLetter<T> {
    /// The item's bytes, as they were put.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match &*sys::lock(&self.letter.payload) {
            Payload::Bytes(bytes) => bytes.as_slice().to_vec(),
            Payload::Parcel(packet) => packet.bytes(),
        }
    }

    /// How often it was delivered.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.letter.attempts
    }

    /// Why it is a dead letter.
    #[must_use]
    pub fn cause(&self) -> &DeadCause {
        &self.letter.cause
    }

    /// Puts it at the end of its queue again, as if it had never been delivered; for this once the queue may hold
    /// one more than its capacity.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::Closed`], or [`DeadLetterError::Gone`] if it was redelivered or discarded before.
    pub fn redeliver(self) -> Result<(), DeadLetterError> {
        let DeadLetter {
            core,
            number,
            letter,
            ..
        } = self;
        drop(letter);
        core.redeliver(number)
    }

    /// Drops the item for good.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError::Gone`] if it was redelivered or discarded before.
    pub fn discard(self) -> Result<(), DeadLetterError> {
        self.core.discard(self.number)
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
