//! An item that a client could not decode, on its way back to the owner, who keeps it as a dead letter.

use crate::error::DecodeError;
use crate::ipc::ring::Corrupt;
use crate::ipc::wire::{EncodedValue, Envelope, Failure};
use crate::queue::client::attachment::{Attached, RemoteEnd, Taken};
use crate::queue::client::outgoing::Outgoing;
use crate::queue::dead_letter::DeadCause;
use crate::queue::layout::{self, Tag};
use crate::queue::owner::client::Remote;
use crate::queue::owner::state::{Item, Payload, State};

/// More of an error's text nobody needs.
const TEXT_MAX: usize = 1 << 10;

fn text_of(error: &DecodeError) -> &[u8] {
    let text = error.message().as_bytes();
    &text[..text.len().min(TEXT_MAX)]
}

impl Attached {
    /// Gives an item back that does not decode. Of a joinable queue the owner has it still, under its lease; of a
    /// plain one this is the only copy.
    pub(crate) fn undecodable(
        &self,
        taken: Taken,
        joinable: bool,
        error: &DecodeError,
    ) -> Result<(), RemoteEnd> {
        let text = text_of(error);
        if joinable {
            return self.write_or_wait(
                Outgoing::entry(Tag::BadLease, &[&taken.lease.to_le_bytes(), text].concat()),
                None,
            );
        }
        let packet = match taken.payload {
            Payload::Parcel(packet) => *packet,
            Payload::Bytes(bytes) => {
                let (bytes, handles) = (bytes.as_slice().to_vec(), Vec::new());
                Envelope::new(EncodedValue { bytes, handles }).map_err(Failure::Io)?
            }
        };
        let attempts = taken.attempts.to_le_bytes();
        self.write_or_wait(
            Outgoing::parcel(Tag::Bad, &[&attempts, text].concat(), packet),
            None,
        )
    }
}

/// What a client says of an item that it could not decode.
pub(super) fn bury(
    state: &mut State,
    remote: &mut Remote,
    tag: Tag,
    payload: &[u8],
    type_name: &'static str,
) -> Result<(), Corrupt> {
    let front = if tag == Tag::BadLease { 8 } else { 4 };
    let (front, text) = payload.split_at_checked(front).ok_or(Corrupt)?;
    let item = if tag == Tag::BadLease {
        let item = remote
            .leases
            .remove(&layout::number(front)?)
            .ok_or(Corrupt)?;
        state.unfinished -= 1;
        item
    } else {
        let payload = Payload::Parcel(Box::new(remote.parcels.pop_front().ok_or(Corrupt)?));
        let attempts = front
            .try_into()
            .map(u32::from_le_bytes)
            .map_err(|_| Corrupt)?;
        Item { payload, attempts }
    };
    let error = DecodeError::elsewhere(type_name, String::from_utf8_lossy(text));
    state.bury(item, DeadCause::Decode(error));
    Ok(())
}
