//! The dead letters of a queue, as its owner keeps them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::diagnostics;
use crate::error::{DeadLetterError, DecodeError};
use crate::queue::item::{Item, Payload};
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
/// assert_eq!(cause.to_string(), "delivered the maximum number of times and never finished");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DeadCause {
    /// The item was delivered the maximum number of times and never finished.
    Deliveries,
    /// The item was delivered and not finished. It held the receiving end of a channel or pipe,
    /// which exists only once and went with the consumer.
    MovedOut,
    /// The item is not a valid value of the queue's item type. This is the error of the `get` that
    /// took it.
    Decode(DecodeError),
}

impl fmt::Display for DeadCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeadCause::Deliveries => {
                f.write_str("delivered the maximum number of times and never finished")
            }
            DeadCause::MovedOut => f.write_str(
                "delivered and not finished, with a receiving end that exists only once",
            ),
            DeadCause::Decode(error) => error.fmt(f),
        }
    }
}

#[derive(Debug)]
pub(in crate::queue) struct Letter {
    /// In a mutex only to make it `Sync`: a parcel may hold things that exist only once.
    pub(in crate::queue) payload: Mutex<Payload>,
    pub(in crate::queue) attempts: u32,
    pub(in crate::queue) cause: DeadCause,
}

impl Letter {
    fn descriptors(&self) -> usize {
        sys::lock(&self.payload).descriptors()
    }
}

/// The dead letters of one queue.
#[derive(Debug)]
pub(in crate::queue) struct DeadLetters {
    /// Oldest first, so the numbers ascend.
    letters: VecDeque<(u64, Arc<Letter>)>,
    next: u64,
    max: usize,
    /// How many descriptors the letters keep open.
    descriptors: usize,
    /// How many letters there were that were neither redelivered nor discarded, including those
    /// that were dropped to make room.
    count: usize,
    /// The queue, for reports.
    queue: String,
}

/// The most descriptors that the dead letters of a queue keep open. Without a limit, a few bad jobs
/// would leave none for the rest of the program.
const DESCRIPTORS_MAX: usize = 64;

impl DeadLetters {
    pub(in crate::queue) fn new(
        max: usize,
        item: &'static str,
        name: Option<Arc<str>>,
    ) -> DeadLetters {
        let queue = match name {
            Some(name) => format!("queue `{name}` (of `{item}`)"),
            None => format!("a queue of `{item}`"),
        };
        DeadLetters { letters: VecDeque::new(), next: 0, max, descriptors: 0, count: 0, queue }
    }

    pub(in crate::queue) fn count(&self) -> usize {
        self.count
    }

    pub(in crate::queue) fn iter(&self) -> impl Iterator<Item = &(u64, Arc<Letter>)> {
        self.letters.iter()
    }

    /// Adds a letter. Drops the oldest ones if there are too many now, or if they keep too many
    /// descriptors open.
    pub(in crate::queue) fn push(&mut self, item: Item, cause: DeadCause) {
        let Item { payload, attempts } = item;
        diagnostics::loss(
            "offspring::queue",
            self.next + 1,
            format_args!(
                "{} has a dead letter (number {}): {cause}; `dead_letters()` in the process that made the queue returns it",
                self.queue,
                self.next + 1
            ),
        );
        self.count += 1;
        self.descriptors += payload.descriptors();
        let letter = Letter { payload: Mutex::new(payload), attempts, cause };
        self.letters.push_back((self.next, Arc::new(letter)));
        self.next += 1;
        if self.letters.len() > self.max {
            self.take(0);
        }
        while self.descriptors > DESCRIPTORS_MAX {
            let holds_some = |(_, letter): &(u64, Arc<Letter>)| letter.descriptors() > 0;
            let oldest = self.letters.iter().position(holds_some);
            self.take(oldest.expect("they are counted"));
        }
    }

    fn take(&mut self, index: usize) -> Option<Arc<Letter>> {
        let (_, letter) = self.letters.remove(index)?;
        self.descriptors -= letter.descriptors();
        Some(letter)
    }

    /// Takes a letter out for good.
    pub(in crate::queue) fn remove(&mut self, number: u64) -> Result<Arc<Letter>, DeadLetterError> {
        let index = self.index(number)?;
        let letter = self.take(index).ok_or(DeadLetterError::Gone)?;
        self.count -= 1;
        Ok(letter)
    }

    /// Takes a letter's payload out for another delivery. If that is not possible, the letter stays
    /// in its place.
    pub(in crate::queue) fn revive(&mut self, number: u64) -> Result<Payload, DeadLetterError> {
        let index = self.index(number)?;
        let letter = &self.letters[index].1;
        if sys::lock(&letter.payload).is_moved_out() {
            return Err(DeadLetterError::MovedOut);
        }
        if Arc::strong_count(letter) > 1 {
            // A `DeadLetter` that the program holds shows this payload as well.
            let copy = sys::lock(&letter.payload).try_clone();
            let copy = copy.ok_or(DeadLetterError::NoMemory)?;
            self.remove(number)?;
            return Ok(copy);
        }
        let letter = Arc::into_inner(self.remove(number)?).ok_or(DeadLetterError::Gone)?;
        let payload = letter.payload.into_inner();
        Ok(payload.unwrap_or_else(PoisonError::into_inner))
    }

    fn index(&self, number: u64) -> Result<usize, DeadLetterError> {
        let index = self.letters.binary_search_by_key(&number, |(other, _)| *other);
        index.map_err(|_| DeadLetterError::Gone)
    }
}
