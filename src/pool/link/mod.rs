//! The way of tasks to one process and of their outcomes back: a ring down, a ring up.
//!
//! ```text
//!   front (gives)                                back (performs, one after the other)
//!     push ------ ring down: one entry a task ----> next
//!     drain <---- ring up: one entry an outcome --- answer
//!     ring ------ doorbells, parcels -------------> ipc-channel
//!     wait <----- doorbells, parcels -------------- ipc-channel
//! ```
//!
//! An entry that is taken is a task that was begun, and outcomes come in the order of the tasks: so when the
//! back's process dies, the front knows exactly which task it was in, and what was not begun can be recalled.
//!
//! A front that naps looks again by itself soon: it is not rung for each outcome of tasks that take a microsecond,
//! but when the back has nothing left to do, or has answered much.

mod parent;
mod worker;

pub(crate) use parent::{Drained, Front, Outcome};
pub(crate) use worker::Back;

use std::io;

use ipc_channel::ipc::{self, IpcSharedMemory};
use serde::{Deserialize, Serialize};

use crate::ipc::ring::RING_BYTES;
use crate::ipc::wire::Envelope;

/// To the back.
#[derive(Debug, Serialize, Deserialize)]
enum Down {
    /// A value too large for the ring, or with handles: the next entry that says so means it.
    Parcel(Envelope),
    Bell,
}

/// To the front.
#[derive(Debug, Serialize, Deserialize)]
enum Up {
    Parcel(Envelope),
    Bell,
    /// From the front's own process.
    Poke,
}

const LINE: usize = 128;
const UP_RING: usize = RING_BYTES;
const BACK_SLEEPS: usize = 2 * RING_BYTES;
/// 0: awake, 1: asleep, 2: napping.
const FRONT_SLEEPS: usize = 2 * RING_BYTES + LINE;
/// So many parcels were taken by the front.
const PARCELS_TAKEN: usize = 2 * RING_BYTES + 2 * LINE;
const REGION_BYTES: usize = 2 * RING_BYTES + 3 * LINE;

const ASLEEP: u64 = 1;
const NAPPING: u64 = 2;

/// Outcomes that came as parcels, and that the front has not taken.
const PARCELS_MAX: u64 = 8;
/// Longer bodies of parcels travel as shared memory, so that many parcels fit the socket's buffer.
const PARCEL_INLINE: usize = 1 << 10;

/// Down, in a tag: the value comes as a parcel.
const PARCEL_BIT: u32 = 1 << 15;
/// Down: nothing follows, end.
const QUIT: u32 = PARCEL_BIT - 1;

/// Up: what an entry holds.
mod tag {
    pub(crate) const OUTPUT: u32 = 0;
    pub(crate) const PARCEL: u32 = 1;
    pub(crate) const MISHAP: u32 = 2;
    /// A task whose value came as a parcel was begun.
    pub(crate) const BEGUN: u32 = 3;
}

/// A new lane.
pub(crate) fn lane() -> io::Result<(Front, Back)> {
    let (to_back, back_line) = ipc::channel()?;
    let (to_front, front_line) = ipc::channel()?;
    let front = Front::new(to_back, front_line, to_front.clone())?;
    let memory: IpcSharedMemory = front.share()?;
    Ok((front, Back::new(memory, back_line, to_front)))
}
