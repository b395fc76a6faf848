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
            // Nearly all entries are items, and adjacent to each other.
            let outbox = &mut self.outbox;
            let put = match self.role.puts() {
                true => {
                    ledger.store.push_run(|bytes| outbox.take_run(Tag::Put as u32, left, bytes))?
                }
                false => 0,
            };
            if put > 0 {
                ledger.note_put(put);
                self.note_put(put);
                busy = true;
                left -= put;
                continue;
            }
            let Some(front) = self.outbox.front()? else {
                break;
            };
            let tag = Tag::from(front.tag).filter(|&tag| self.role.may_write(tag));
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

    /// Records that `count` of the client's items are in the store now.
    fn note_put(&mut self, count: usize) {
        self.has_put = true;
        self.credits = self.credits.saturating_sub(count);
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
                self.note_put(1);
                ledger.put(Payload::Bytes(payload));
            }
            Tag::Parcel => {
                self.note_put(1);
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
            Tag::Bad if self.joinable => return Err(Corrupt),
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
