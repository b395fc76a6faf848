//! Tasks on their way in, and their outcomes on the way out.
//!
//! Tasks of one kind that were made together are one batch: one allocation, one entry in the pool's queue. It is cut
//! into pieces as workers take of it. Outcomes travel back in chunks, as many as a worker had done when it was
//! looked at.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::TaskError;
use crate::ipc::wire::{EncodedValue, Envelope};
use crate::sys::lock;

/// What tasks are called, and how they are run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The worker's number in the registry.
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
}

/// Where outcomes go. Called without any lock of the pool.
pub(super) trait Sink: Send + Sync {
    fn deliver(&self, chunk: Chunk);

    /// Whether nobody wants outcomes any more; then tasks that were not begun are not.
    fn is_cancelled(&self) -> bool;
}

/// Tasks that were made together.
pub(super) struct Batch {
    pub(super) kind: Kind,
    pub(super) sink: Arc<dyn Sink>,
    /// The sink's number of the first task.
    first: u64,
    values: Values,
}

enum Values {
    Bytes {
        bytes: Vec<u8>,
        ends: Vec<u32>,
    },
    /// One task, too large for a ring or with handles in it.
    Parcel(Mutex<Option<Envelope>>),
}

impl Batch {
    pub(super) fn of_bytes(
        kind: Kind,
        sink: Arc<dyn Sink>,
        first: u64,
        bytes: Vec<u8>,
        ends: Vec<u32>,
    ) -> Batch {
        Batch {
            kind,
            sink,
            first,
            values: Values::Bytes { bytes, ends },
        }
    }

    pub(super) fn of_parcel(
        kind: Kind,
        sink: Arc<dyn Sink>,
        first: u64,
        packet: Envelope,
    ) -> Batch {
        Batch {
            kind,
            sink,
            first,
            values: Values::Parcel(Mutex::new(Some(packet))),
        }
    }

    pub(super) fn len(&self) -> u32 {
        match &self.values {
            Values::Bytes { ends, .. } => ends.len() as u32,
            Values::Parcel(_) => 1,
        }
    }

    pub(super) fn is_parcel(&self) -> bool {
        matches!(self.values, Values::Parcel(_))
    }

    /// The bytes of one task; empty for a parcel.
    pub(super) fn value(&self, index: u32) -> &[u8] {
        match &self.values {
            Values::Bytes { bytes, ends } => {
                let start = index
                    .checked_sub(1)
                    .map_or(0, |before| ends[before as usize]);
                &bytes[start as usize..ends[index as usize] as usize]
            }
            Values::Parcel(_) => &[],
        }
    }

    /// The parcel, to be sent; a second one stays here if there can be one.
    pub(super) fn take_parcel(&self) -> Option<Envelope> {
        let Values::Parcel(slot) = &self.values else {
            return None;
        };
        let mut slot = lock(slot);
        let packet = slot.take()?;
        *slot = packet.try_clone();
        Some(packet)
    }

    /// Whether the parcel is still, or again, here.
    pub(super) fn has_parcel(&self) -> bool {
        match &self.values {
            Values::Bytes { .. } => true,
            Values::Parcel(slot) => lock(slot).is_some(),
        }
    }

    /// The task was begun: handles in the copy that is left must not count as being under way any longer.
    pub(super) fn forget_parcel(&self) {
        if let Values::Parcel(slot) = &self.values {
            let packet = lock(slot).take();
            drop(packet);
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("task", &self.kind.name)
            .field("tasks", &self.len())
            .finish_non_exhaustive()
    }
}

/// Some tasks of a batch that go together.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) batch: Arc<Batch>,
    pub(super) from: u32,
    pub(super) to: u32,
    /// So many processes ended in its first task.
    pub(super) crashes: u32,
}

impl Piece {
    pub(super) fn whole(batch: Arc<Batch>) -> Piece {
        let to = batch.len();
        Piece {
            batch,
            from: 0,
            to,
            crashes: 0,
        }
    }

    pub(super) fn len(&self) -> u64 {
        u64::from(self.to - self.from)
    }

    /// Takes the first `count` off.
    pub(super) fn split(&mut self, count: u64) -> Piece {
        let middle = self.from + count.min(self.len()) as u32;
        let front = Piece {
            batch: self.batch.clone(),
            from: self.from,
            to: middle,
            crashes: self.crashes,
        };
        self.from = middle;
        self.crashes = 0;
        front
    }

    /// An empty chunk for the outcomes from its first task on.
    fn chunk(&self) -> Chunk {
        Chunk {
            first: self.batch.first + u64::from(self.from),
            bytes: Vec::new(),
            items: Vec::new(),
        }
    }

    /// With an empty chunk for its outcomes.
    pub(super) fn into_chunk(self) -> (Piece, Chunk) {
        let mut chunk = self.chunk();
        chunk.items.reserve_exact(self.len() as usize);
        (self, chunk)
    }

    /// All its tasks failed for this reason.
    pub(super) fn fail(&self, error: &TaskError) {
        let mut chunk = self.chunk();
        for _ in 0..self.len() {
            chunk
                .items
                .push(Item::Other(Box::new(Other::Failed(error.clone()))));
        }
        self.batch.sink.deliver(chunk);
    }
}

/// Outcomes of consecutive tasks.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The sink's number of the first.
    pub(super) first: u64,
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    /// An output of so many bytes.
    Output(u32),
    Other(Box<Other>),
}

#[derive(Debug)]
pub(super) enum Other {
    Parcel(Envelope),
    Failed(TaskError),
}

impl Chunk {
    pub(super) fn failed(first: u64, error: TaskError) -> Chunk {
        let items = vec![Item::Other(Box::new(Other::Failed(error)))];
        Chunk {
            first,
            bytes: Vec::new(),
            items,
        }
    }

    pub(super) fn push_output(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.items.push(Item::Output(bytes.len() as u32));
    }

    pub(super) fn push_other(&mut self, other: Other) {
        self.items.push(Item::Other(Box::new(other)));
    }

    pub(super) fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// What the first task failed with.
    pub(super) fn error(&self) -> Option<&TaskError> {
        match self.items.first() {
            Some(Item::Other(other)) => match &**other {
                Other::Failed(error) => Some(error),
                Other::Parcel(_) => None,
            },
            _ => None,
        }
    }

    pub(super) fn into_outcomes(self) -> Outcomes {
        Outcomes {
            bytes: self.bytes,
            items: self.items.into_iter(),
            at: 0,
        }
    }
}

/// A chunk that is read.
#[derive(Debug)]
pub(super) struct Outcomes {
    bytes: Vec<u8>,
    items: std::vec::IntoIter<Item>,
    at: usize,
}

/// What one task left.
#[derive(Debug)]
pub(super) enum Left {
    /// Where in [`Outcomes::bytes`].
    Output(Range<usize>),
    /// In a box, since it is large and rare.
    Other(Box<Other>),
}

impl Outcomes {
    pub(super) fn next(&mut self) -> Option<Left> {
        Some(match self.items.next()? {
            Item::Output(length) => {
                let start = self.at;
                self.at += length as usize;
                Left::Output(start..self.at)
            }
            Item::Other(other) => Left::Other(other),
        })
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

/// A flag that a sink has.
#[derive(Debug, Default)]
pub(super) struct Cancelled(AtomicBool);

impl Cancelled {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The value of a task as it will travel.
pub(super) fn needs_parcel(encoded: &EncodedValue) -> bool {
    !encoded.handles.is_empty() || encoded.bytes.len() > crate::ipc::ring::ENTRY_MAX
}
