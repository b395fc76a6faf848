//! A sender that writes garbage into its region, its ring and its channels.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::layout::{self, HEAP, HEAP_START, LINK, LONG, PARCEL, VALUE};
use super::{NewSender, RoomBell, Sender, ToReceiver};
use crate::ipc::fuzz::Random;
use crate::ipc::region::Region;
use crate::ipc::ring::{self, RING_BYTES};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, EncodedValue, Envelope, hostile};

/// Joins the channel of this sender once more, and attacks its receiver.
pub(crate) fn attack<T>(sender: &Sender<T>, random: &mut Random) {
    let mut hostile = HostileSender::join(sender.shared.to_receiver(), random);
    for _ in 0..random.below(12) {
        hostile.act(random);
    }
}

/// The ends that a hostile sender has.
struct HostileSender {
    region: Arc<Region>,
    entries: ring::RingProducer,
    parcels: CheckedSender<Envelope>,
    to_receiver: CheckedSender<ToReceiver>,
    _room: CheckedReceiver<RoomBell>,
}

impl HostileSender {
    fn join(to_receiver: CheckedSender<ToReceiver>, random: &mut Random) -> HostileSender {
        let memory = layout::SenderMemory::new().unwrap();
        let region = memory.up_to(memory.end()).unwrap();
        let (room_bell, room) = wire::channel().unwrap();
        let (parcels, there) = wire::channel().unwrap();
        let shared = match random.below(8) {
            0 => Region::new(1 + random.below(2 * RING_BYTES as u64) as usize).unwrap().memory(),
            _ => memory.memory(),
        };
        let sender = NewSender { region: shared, room_bell, parcels: there };
        let _ = wire::send(&to_receiver, &ToReceiver::Join(sender));
        let entries = ring::RingProducer::new(region.clone(), 0);
        HostileSender { entries, region, parcels, to_receiver, _room: room }
    }

    fn act(&mut self, random: &mut Random) {
        // A number near a limit, or an arbitrary one.
        let number = |random: &mut Random| random.number(HEAP_START as u64);
        match random.below(9) {
            0 => drop(self.entries.push(VALUE, &random.bytes(100))),
            1 => {
                let numbers: Vec<u8> = (0..3).flat_map(|_| number(random).to_le_bytes()).collect();
                drop(self.entries.push(LONG, &numbers));
            }
            2 => {
                // A valid place with arbitrary contents.
                let length = random.below(100_000) as usize;
                self.region.write(HEAP_START, &random.bytes(64));
                let entry = layout::long_entry(random.below(8) as usize, HEAP_START, length);
                drop(self.entries.push(LONG, &entry));
            }
            3 => drop(self.entries.push(random.below(300) as u32, &random.bytes(50))),
            4 => {
                let bytes = random.bytes(60);
                let envelope = Envelope::new(EncodedValue { bytes, handles: Vec::new() });
                let _ = wire::send(&self.parcels, &envelope.unwrap());
                if random.below(2) == 0 {
                    drop(self.entries.push(PARCEL, &[]));
                }
            }
            5 => drop(hostile::send(&self.parcels, random.below(hostile::KINDS))),
            // The channel where all senders ring.
            6 => drop(hostile::send(&self.to_receiver, random.below(hostile::KINDS))),
            7 => drop(self.entries.push(PARCEL, &[])),
            _ => {
                let words = [HEAP, LINK.parcels_taken, 0, 128, RING_BYTES + 2 * 128];
                self.region.atomic(*random.choose(&words)).store(number(random), Ordering::SeqCst);
            }
        }
        if random.one_in(4) {
            let ring = ToReceiver::Bell(random.number(8));
            let _ = wire::ring(&self.to_receiver, &ring);
        }
    }
}
