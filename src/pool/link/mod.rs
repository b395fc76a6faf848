//! The link to one worker process: tasks go down one ring, replies come up another.
//!
//! ```text
//!   ParentEnd (the pool)                       Executor (the worker process)
//!     push ------ ring down: one entry a task -----> next
//!     drain <---- ring up: one entry a reply ------- reply
//!     ring ------ doorbells and parcels -----------> ipc-channel
//!     wait <----- doorbells and parcels ------------ ipc-channel
//! ```
//!
//! The worker takes an entry when it begins the task, and replies in the order of the tasks. So
//! when its process dies, the parent knows which task it was running, and can recall all tasks that
//! it had not begun.
//!
//! A parent in poll mode wakes up by itself after a moment. So the worker does not ring for every
//! reply, which would cost more than a task of a microsecond. It rings only when it has run out of
//! tasks, or has written many replies.

mod parent;
mod worker;

pub(crate) use parent::{ParentEnd, Replies, Reply};
pub(crate) use worker::WorkerEnd;

use std::io;

use serde::{Deserialize, Serialize};

use crate::ipc::link::{PARCEL_INLINE, PARCELS_MAX};
use crate::ipc::ring::RING_BYTES;
use crate::ipc::wire::{self, Envelope};

#[derive(Debug, Serialize, Deserialize)]
enum ToWorker {
    /// The value of the next entry with a [`PARCEL_BIT`].
    Parcel(Envelope),
    Bell,
}

#[derive(Debug, Serialize, Deserialize)]
enum ToParent {
    Parcel(Envelope),
    Bell,
    /// Sent by the parent's own process.
    Interrupt,
}

/// Two cache lines, since processors fetch them in pairs.
const LINE: usize = 128;
const REPLIES_RING: usize = RING_BYTES;
const WORKER_SLEEPS: usize = 2 * RING_BYTES;
/// 0 while the parent is awake; otherwise [`ASLEEP`] or [`POLLING`].
const PARENT_SLEEPS: usize = 2 * RING_BYTES + LINE;
/// How many parcels the parent has taken.
const PARCELS_TAKEN: usize = 2 * RING_BYTES + 2 * LINE;
const REGION_BYTES: usize = 2 * RING_BYTES + 3 * LINE;

const ASLEEP: u64 = 1;
const POLLING: u64 = 2;

/// In the tag of a task: its value comes as a parcel.
const PARCEL_BIT: u32 = 1 << 15;
/// In the tag of a task: what follows its value is the span that it was submitted in.
pub(crate) const TRACED_BIT: u32 = 1 << 14;
/// In place of a task: the worker process must end here.
const QUIT: u32 = TRACED_BIT - 1;

/// The kinds of replies.
mod tag {
    pub(crate) const OUTPUT: u32 = 0;
    pub(crate) const PARCEL: u32 = 1;
    pub(crate) const FAILED: u32 = 2;
    /// The worker has begun a task whose value came as a parcel.
    pub(crate) const BEGUN: u32 = 3;
}

/// Makes a link. The worker's end must be sent to its process.
pub(crate) fn task_link() -> io::Result<(ParentEnd, WorkerEnd)> {
    let (to_worker, worker_receiver) = wire::channel()?;
    let (to_parent, parent_receiver) = wire::channel()?;
    let parent = ParentEnd::new(to_worker, parent_receiver, to_parent.clone())?;
    let memory = parent.memory();
    Ok((parent, WorkerEnd::new(memory, worker_receiver, to_parent)))
}
