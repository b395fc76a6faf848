//! The results of consecutive tasks, on their way from a worker's monitor to a sink.

use serde::de::DeserializeOwned;

use crate::error::TaskError;
use crate::ipc::wire::{self, Envelope};

/// Results in the order of their tasks, with one allocation for all outputs that a monitor drained
/// at once. Outputs stay encoded until [`next`](Results::next), which runs in the caller's thread.
#[derive(Debug)]
pub(super) struct Results {
    /// The sink's number for the first task.
    pub(super) first: u64,
    bytes: Vec<u8>,
    items: Vec<TaskResult>,
    /// How many items `next` has returned, and the bytes of their outputs.
    taken: usize,
    offset: usize,
}

/// All results but plain outputs are rare, and boxed to keep this type small.
#[derive(Debug)]
enum TaskResult {
    /// The length of an output in `bytes`.
    Output(u32),
    Parcel(Box<Envelope>),
    Failed(Box<TaskError>),
}

impl Results {
    pub(super) fn new(first: u64, count: u64) -> Results {
        Results {
            first,
            bytes: Vec::new(),
            items: Vec::with_capacity(count as usize),
            taken: 0,
            offset: 0,
        }
    }

    pub(super) fn failed(first: u64, error: TaskError) -> Results {
        let mut results = Results::new(first, 1);
        results.push_error(error);
        results
    }

    pub(super) fn push_output(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.items.push(TaskResult::Output(bytes.len() as u32));
    }

    pub(super) fn push_parcel(&mut self, envelope: Envelope) {
        self.items.push(TaskResult::Parcel(Box::new(envelope)));
    }

    pub(super) fn push_error(&mut self, error: TaskError) {
        self.items.push(TaskResult::Failed(Box::new(error)));
    }

    /// Returns how many results [`next`](Results::next) has not returned yet.
    pub(super) fn len(&self) -> usize {
        self.items.len() - self.taken
    }

    /// Returns the error of the first task, if it failed.
    pub(super) fn first_error(&self) -> Option<&TaskError> {
        match self.items.first()? {
            TaskResult::Failed(error) => Some(error),
            TaskResult::Output(_) | TaskResult::Parcel(_) => None,
        }
    }

    /// Decodes the next result. This runs user code, so the caller must hold no lock.
    pub(super) fn next<T: DeserializeOwned>(
        &mut self,
        task: &'static str,
    ) -> Option<Result<T, TaskError>> {
        let item = self.items.get_mut(self.taken)?;
        let item = std::mem::replace(item, TaskResult::Output(0));
        self.taken += 1;
        let decoded = match item {
            TaskResult::Output(length) => {
                let start = self.offset;
                self.offset += length as usize;
                wire::decode(&self.bytes[start..self.offset], Vec::new())
            }
            TaskResult::Parcel(envelope) => envelope.decode(),
            TaskResult::Failed(error) => return Some(Err(*error)),
        };
        Some(decoded.map_err(|cause| TaskError::Decode { task, cause }))
    }
}
