//! Tasks on their way to a worker.
//!
//! Tasks of one worker type that were made together are one [`TaskBatch`]: one allocation, and one
//! entry in the pool's queue. The schedule cuts it into [`TaskRange`]s.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::TaskError;
use crate::ipc::ring;
use crate::ipc::wire::{EncodedValue, Envelope};
use crate::pool::link::TRACED_BIT;
use crate::pool::results::Results;
use crate::sys::lock;
use crate::trace::{Captured, ORIGIN_BYTES};

/// The name and the options that the tasks of a batch share.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskSpec {
    /// The number of the worker type in the registry.
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
}

/// The destination of results. The pool calls it under no lock.
pub(super) trait Sink: Send + Sync {
    fn deliver(&self, results: Results);

    /// Returns whether tasks that have not begun should be dropped.
    fn is_cancelled(&self) -> bool;
}

/// Tasks that were made together.
pub(super) struct TaskBatch {
    pub(super) spec: TaskSpec,
    pub(super) sink: Arc<dyn Sink>,
    /// The sink's number for the first task.
    first: u64,
    values: TaskValues,
    /// The span that the tasks were submitted in, which follows each inline value.
    context: Option<Arc<Captured>>,
}

enum TaskValues {
    /// One task, which needs no list.
    Single(Vec<u8>),
    Inline {
        bytes: Vec<u8>,
        /// Where the value of each task ends in `bytes`.
        ends: Vec<u32>,
    },
    /// One task, too large for a ring or with handles in its value.
    Parcel(Mutex<Option<Envelope>>),
}

impl TaskBatch {
    pub(super) fn inline(
        spec: TaskSpec,
        sink: Arc<dyn Sink>,
        first: u64,
        bytes: Vec<u8>,
        ends: Vec<u32>,
    ) -> TaskBatch {
        TaskBatch { spec, sink, first, values: TaskValues::Inline { bytes, ends }, context: None }
    }

    pub(super) fn single(
        spec: TaskSpec,
        sink: Arc<dyn Sink>,
        first: u64,
        bytes: Vec<u8>,
    ) -> TaskBatch {
        TaskBatch { spec, sink, first, values: TaskValues::Single(bytes), context: None }
    }

    pub(super) fn parcel(
        spec: TaskSpec,
        sink: Arc<dyn Sink>,
        first: u64,
        envelope: Envelope,
    ) -> TaskBatch {
        let values = TaskValues::Parcel(Mutex::new(Some(envelope)));
        TaskBatch { spec, sink, first, values, context: None }
    }

    /// The same batch, submitted in this span.
    pub(super) fn within(self, context: Option<Arc<Captured>>) -> TaskBatch {
        TaskBatch { context, ..self }
    }

    /// The number of the worker type, and whether an origin follows the value.
    pub(super) fn tag(&self) -> u32 {
        let traced = if self.context.is_some() { TRACED_BIT } else { 0 };
        self.spec.number | traced
    }

    pub(super) fn origin(&self) -> Option<[u8; ORIGIN_BYTES]> {
        self.context.as_ref().map(|context| context.origin())
    }

    pub(super) fn len(&self) -> u32 {
        match &self.values {
            TaskValues::Inline { ends, .. } => ends.len() as u32,
            TaskValues::Single(_) | TaskValues::Parcel(_) => 1,
        }
    }

    pub(super) fn is_parcel(&self) -> bool {
        matches!(self.values, TaskValues::Parcel(_))
    }

    /// Returns whether its results go to `sink`.
    pub(super) fn is_for(&self, sink: &Arc<dyn Sink>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.sink), Arc::as_ptr(sink))
    }

    /// Returns the encoded value of one task; empty for a parcel.
    pub(super) fn value(&self, index: u32) -> &[u8] {
        match &self.values {
            TaskValues::Single(bytes) => bytes,
            TaskValues::Inline { bytes, ends } => {
                let start = index.checked_sub(1).map_or(0, |before| ends[before as usize]);
                &bytes[start as usize..ends[index as usize] as usize]
            }
            TaskValues::Parcel(_) => &[],
        }
    }

    /// Takes the parcel for a worker. A copy stays for a retry, if its value can be copied.
    pub(super) fn take_parcel(&self) -> Option<Envelope> {
        let TaskValues::Parcel(slot) = &self.values else {
            return None;
        };
        let mut slot = lock(slot);
        let envelope = slot.take()?;
        *slot = envelope.try_clone();
        Some(envelope)
    }

    /// Returns whether the values are here. The value of a parcel that was taken and cannot be
    /// copied is not.
    pub(super) fn is_complete(&self) -> bool {
        match &self.values {
            TaskValues::Single(_) | TaskValues::Inline { .. } => true,
            TaskValues::Parcel(slot) => lock(slot).is_some(),
        }
    }

    /// Drops the copy of a parcel, because handles in it would keep channels open although the task
    /// has its own by now.
    pub(super) fn drop_parcel(&self) {
        if let TaskValues::Parcel(slot) = &self.values {
            let envelope = lock(slot).take();
            drop(envelope);
        }
    }
}

impl fmt::Debug for TaskBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskBatch")
            .field("task", &self.spec.name)
            .field("tasks", &self.len())
            .finish_non_exhaustive()
    }
}

/// Consecutive tasks of a batch.
#[derive(Clone, Debug)]
pub(super) struct TaskRange {
    pub(super) batch: Arc<TaskBatch>,
    pub(super) from: u32,
    pub(super) to: u32,
    /// How many processes have ended while they ran its first task.
    pub(super) crashes: u32,
}

impl TaskRange {
    pub(super) fn whole(batch: Arc<TaskBatch>) -> TaskRange {
        let to = batch.len();
        TaskRange { batch, from: 0, to, crashes: 0 }
    }

    pub(super) fn len(&self) -> u64 {
        u64::from(self.to - self.from)
    }

    pub(super) fn name(&self) -> &'static str {
        self.batch.spec.name
    }

    /// Splits off the first `count` tasks.
    pub(super) fn split(&mut self, count: u64) -> TaskRange {
        let middle = self.from + count.min(self.len()) as u32;
        let front = TaskRange {
            batch: self.batch.clone(),
            from: self.from,
            to: middle,
            crashes: self.crashes,
        };
        self.from = middle;
        self.crashes = 0;
        front
    }

    /// Returns empty results, to fill in for its tasks.
    pub(super) fn empty_results(&self) -> Results {
        Results::new(self.batch.first + u64::from(self.from), self.len())
    }

    /// Delivers `error` as the result of all its tasks.
    pub(super) fn fail(&self, error: &TaskError) {
        let mut results = self.empty_results();
        for _ in 0..self.len() {
            results.push_error(error.clone());
        }
        self.batch.sink.deliver(results);
    }
}

/// Returns whether a value travels as a parcel.
pub(super) fn needs_parcel(encoded: &EncodedValue) -> bool {
    !encoded.handles.is_empty() || encoded.bytes.len() > INLINE_MAX
}

/// The longest value that travels in a ring's entry, with an origin after it.
pub(super) const INLINE_MAX: usize = ring::ENTRY_MAX - ORIGIN_BYTES;
