//! Sessions and leases: how a shared object of one process is used from others.
//!
//! ```text
//!   owner process                              another process
//!   object (queue, ...)                      handle
//!     ^ local threads, directly                  |
//!     |                                          v
//!   service thread  <== up: ipc-channel ====== session        one a process and hub
//!     attachment    === down: ipc-channel ==>    attachment   one an object
//!          \______ region: rings and words ________/          data, crash-safe
//! ```
//!
//! A shared object lives in the process that made it. A handle travels as an *in-flight reference*: the sending end
//! of a channel whose receiving end the hub holds. So the hub knows of every handle under way, and of
//! one that was lost as well: its channel closes. The process that gets the handle opens one *session*
//! with the hub, and *attaches* each object that it uses: a region of shared memory with two rings and
//! a few words. What a session holds is a lease; when its process dies, its channel closes, and
//! dropping the attachments ends the leases. There is no other recovery.
//!
//! Data and state are in the regions. Messages are doorbells: one is sent only to a side that said, in
//! the session's page, that it sleeps, so at most one is under way in each direction and sending never
//! blocks. The order is the same on both sides: *write, fence, look whether the other sleeps* against
//! *say that one sleeps, fence, look again*.

mod handle;
mod page;
mod service;
mod session;

pub(crate) use handle::{Arrived, HandleToken, ObjectId, RemoteHandle, RemoteObject};
#[cfg(test)]
pub(crate) use page::SessionPage;
pub(crate) use page::{ClientLink, OWNER, SESSIONS_MAX};
pub(crate) use service::{
    Attachment, Serviced, SharedObject, announce, hub_id, in_flight, is_local, objects,
    owner_exits, publish, reschedule, resolve,
};
pub(crate) use session::{DOWN_RING, OwnerGone, ParcelSink, REGION_BYTES, Session, UP_RING, word};

use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use serde::{Deserialize, Serialize};

use crate::ipc::wire::Envelope;

/// Names a hub among all processes, for all time.
pub(crate) type HubId = [u8; 16];

/// From a client to a hub; all but `Open` over the session's own channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHub {
    /// The only message on a in_flight: a process without a session opens one.
    Open {
        page: IpcSharedMemory,
        up: IpcReceiver<ToHub>,
        down: IpcSender<ToClient>,
    },
    /// Uses this object from now on; through this region, unless it brings its own.
    Attach {
        number: u32,
        object: u64,
        region: Option<IpcSharedMemory>,
    },
    /// To be held as long as the session: its other end tells the client of the end of the hub's process.
    Liveness { sender: IpcSender<ToHub> },
    /// A value too large for the ring, or one with handles: the next ring entry that says so means it.
    Parcel { number: u32, envelope: Envelope },
    /// The receiving end of a in_flight for a handle that this client sends on.
    InFlight {
        number: u32,
        receiver: IpcReceiver<ToHub>,
    },
    /// The client's last handle of it is gone.
    Detach { number: u32 },
    /// Look at the regions.
    Bell,
}

/// From a hub to a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToClient {
    /// As [`ToHub::Parcel`]; the ring entry names it by its id, since an entry may be recalled.
    Parcel {
        number: u32,
        id: u64,
        envelope: Envelope,
    },
    /// Look at the regions.
    Bell,
}
