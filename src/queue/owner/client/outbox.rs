//! A client's outbox, as the owner reads it.

use super::QueueClient;
use crate::error::DecodeError;
use crate::ipc::ring::Corrupt;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::Envelope;
use crate::queue::item::{Item, Payload};
use crate::queue::layout::{self, Tag, Word};
use crate::queue::owner::ledger::Ledger;

/// The most entries that are drained from one outbox before other clients have a turn.
pub(in crate::queue::owner) const DRAIN_MAX: usize = 1024;

impl QueueClient {
    /// Adds a parcel that has arrived. Its ring entry follows.
    pub(in crate::queue) fn add_parcel(&mut self, parcel: Envelope) {
        self.parcels.push_back(parcel);
    }

    /// The number of parcels without a ring entry so far.
    pub(in crate::queue) fn unmatched(&self) -> usize {
        self.parcels.len()
    }

    /// Carries out the entries in the client's outbox. Returns whether there were any. `item` is
    /// the name of the item type.
    pub(super) fn drain(
        &mut self,
        ledger: &mut Ledger,
        item: &'static str,
    ) -> Result<bool, Corrupt> {
        let mut busy = self.refresh()?;
        let mut left = DRAIN_MAX;
        while left > 0 {
            // Nearly all entries are items, and adjacent to each other. One for which there is no room
            // is found below.
            let most = if self.rules.bounded { left.min(self.credits) } else { left };
            let outbox = &mut self.outbox;
            let put = match self.rules.role.puts() {
                true => {
                    ledger.store.push_run(|bytes| outbox.take_run(Tag::Put as u32, most, bytes))?
                }
                false => 0,
            };
            if put > 0 {
                self.note_put(put)?;
                ledger.note_put(put);
                busy = true;
                left -= put;
                continue;
            }
            let Some(front) = self.outbox.front()? else {
                break;
            };
            let tag = Tag::from(front.tag).filter(|&tag| self.rules.allow(tag));
            let tag = tag.ok_or(Corrupt)?;
            if tag.has_parcel() && self.parcels.is_empty() {
                // The parcel was sent before its entry was written, so the hub is about to read it.
                break;
            }
            let payload = self.outbox.read(&front);
            self.outbox.take_sole(&front);
            busy = true;
            left -= 1;
            self.carry_out(tag, payload, ledger, item)?;
        }
        // The client may wait for room in the ring itself.
        self.changed |= busy && self.word(Word::Putters) > 0;
        Ok(busy)
    }

    /// Records that the client puts `count` items. Returns an error if that is more than it has
    /// room for.
    ///
    /// An honest client never does. Each unit of room is in one place: in the word `Credit`, with a
    /// thread of the client that took it out of there and is about to put, or in an entry of the
    /// outbox. `credits` counts all three, because it grows with what is added to the word, under
    /// the lock of this state, and falls with what is taken out of the word again
    /// ([`revoke_unused`](Self::revoke_unused)) or drained here. Client and owner take out of the
    /// word by compare-and-swap, so no unit is both put and revoked; and what a thread puts back
    /// into the word, it had taken out.
    fn note_put(&mut self, count: usize) -> Result<(), Corrupt> {
        self.has_put = true;
        match self.credits.checked_sub(count) {
            Some(left) => self.credits = left,
            None if self.rules.bounded => return Err(Corrupt),
            None => {}
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        tag: Tag,
        payload: SmallBytes,
        ledger: &mut Ledger,
        item: &'static str,
    ) -> Result<(), Corrupt> {
        let bytes = payload.as_slice();
        match tag {
            Tag::Put => {
                self.note_put(1)?;
                ledger.put(Payload::Bytes(payload));
            }
            Tag::Parcel => {
                self.note_put(1)?;
                ledger.put(self.next_parcel()?);
            }
            Tag::Done => {
                self.take_lease(bytes)?;
                ledger.note_finished(1);
            }
            Tag::Back => ledger.give_back(self.take_lease(bytes)?),
            Tag::Close => ledger.closed = true,
            Tag::Discard => {
                ledger.closed = true;
                ledger.discards = true;
                self.discards = true;
            }
            Tag::BadLease => {
                let (lease, text) = bytes.split_at_checked(8).ok_or(Corrupt)?;
                let bad = self.take_lease(lease)?;
                ledger.bury_undecodable(bad, undecodable(item, text));
            }
            // In a joinable queue, the owner has the item itself.
            Tag::Bad if self.rules.joinable => return Err(Corrupt),
            Tag::Bad => {
                let (attempts, text) = bytes.split_first_chunk().ok_or(Corrupt)?;
                let payload = self.next_parcel()?;
                let attempts = u32::from_le_bytes(*attempts);
                ledger.bury_undecodable(Item { payload, attempts }, undecodable(item, text));
            }
            Tag::Ask => self.ask = self.ask.max(layout::number(bytes)?),
            Tag::Join => self.join = self.join.max(layout::number(bytes)?),
        }
        Ok(())
    }

    fn next_parcel(&mut self) -> Result<Payload, Corrupt> {
        let parcel = self.parcels.pop_front().ok_or(Corrupt)?;
        Ok(Payload::parcel(parcel))
    }

    fn take_lease(&mut self, number: &[u8]) -> Result<Item, Corrupt> {
        // The client wrote this after it had taken the item, but the last `refresh` may be older
        // than that.
        self.refresh()?;
        self.leases.remove(&layout::number(number)?).ok_or(Corrupt)
    }
}

fn undecodable(item: &'static str, text: &[u8]) -> DecodeError {
    DecodeError::elsewhere(item, String::from_utf8_lossy(text))
}
