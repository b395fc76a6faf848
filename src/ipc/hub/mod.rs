//! The hub: how an object of one process is used from others.
//!
//! ```text
//!   owner process                              another process
//!   object (queue, lock, ..)                   handle
//!     ^ its own threads, directly                |
//!     |                                          v
//!   hub thread      <== up: ipc-channel ====== session        one for each process and hub
//!     attachment    === down: ipc-channel ==>    attachment   one for each object
//!          \______ region: rings and words ________/          the data, crash-safe
//! ```
//!
//! A shared object lives in the process that created it. A handle travels as an *in-flight
//! reference*: the sending end of a channel whose receiving end the owner's hub holds. So the hub
//! counts the handles on their way, including those that are lost, because their channel closes.
//! The process that receives a handle opens one *session* with the hub, and *attaches* each object
//! that it uses: a region of shared memory with two rings and a few words. Everything that a
//! session holds is a *lease*. When its process dies, its channel closes, the hub drops the
//! attachments, and the leases end. There is no other recovery.
//!
//! Data and state are in the regions. Messages are doorbells, sent only to a side that has set its
//! sleep flag; parcels, which are counted; and the few messages of attaching. Sending never blocks:
//! a doorbell that finds no room is not needed, and the others are sent later. The README of `ipc`
//! describes the whole protocol.

mod handle;
mod object;
mod page;
mod refusal;
mod region;
mod retry;
mod service;
mod session;
mod sessions;
#[cfg(test)]
mod tests;
mod thread;
mod up_channel;

pub(crate) use handle::{Arrived, HandleToken, ObjectId, RemoteHandle, RemoteObject};
pub(crate) use object::{
    Attachment, ObjectKey, OwnerEnds, Served, SharedObject, Tick, objects, owner_exits, publish,
};
#[cfg(test)]
pub(crate) use page::SessionPage;
pub(crate) use page::{ClientLink, OWNER, SESSIONS_MAX};
pub(crate) use refusal::Refusal;
pub(crate) use region::{DOWN_RING, REGION_BYTES, UP_RING, line};
#[cfg(test)]
pub(crate) use service::in_flight;
pub(crate) use service::{announce, attend, ring, try_again};
pub(crate) use session::{ParcelSink, Session};

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::ipc::region::Memory;
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, Envelope};

/// Identifies a hub among those of all processes, past and future.
pub(crate) type HubId = [u8; 16];

/// From a client to a hub. All but `Open` travel over the session's own channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHub {
    /// Opens a session. The only message that an in-flight reference carries.
    Open {
        page: Memory,
        up: CheckedReceiver<ToHub>,
        down: CheckedSender<ToClient>,
        /// The client's pidfd.
        #[serde(with = "wire::file")]
        process: OwnedFd,
    },
    /// Attaches an object that the client believes to be of this type. They communicate through
    /// this region, unless the object has memory of its own. The hub answers in the page.
    Attach { number: u32, object: ObjectKey, fingerprint: u64, region: Option<Memory> },
    /// Asks for [`ToClient::Owner`].
    Watch,
    /// A value that does not fit a ring entry, or that holds handles. The next ring entry with a
    /// parcel's tag marks its place.
    Parcel { number: u32, envelope: Envelope },
    /// The receiving end of an in-flight reference, for a handle that this client sends on.
    InFlight { number: u32, receiver: CheckedReceiver<ToHub> },
    /// The client has dropped its last handle of this object.
    Detach { number: u32 },
    /// A doorbell: there is something new in this attachment's region.
    Bell { number: u32 },
}

/// From a hub to a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToClient {
    /// Like [`ToHub::Parcel`], but the ring entry names the parcel by its id, because an entry may
    /// be recalled.
    Parcel { number: u32, id: u64, envelope: Envelope },
    /// The pidfd of the hub's process.
    Owner {
        #[serde(with = "wire::file")]
        process: OwnedFd,
    },
    /// The hub refused an attachment. The page counts these.
    Refused { number: u32, refusal: Refusal },
    /// The hub has opened no session. This is the only message on the channel then.
    NoSession(Refusal),
    /// A doorbell: there is something new in the regions.
    Bell,
}
