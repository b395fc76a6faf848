//! A sender that writes garbage into its region, its ring and its channels: the receiver returns
//! values or errors, drops that sender at worst, and still hears the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::layout::{self, HEAP, HEAP_START, LINK, LONG, PARCEL, VALUE};
use super::{NewSender, ToReceiver, channel};
use crate::error::RecvTimeoutError;
use crate::ipc::fuzz::Random;
use crate::ipc::region::Region;
use crate::ipc::ring::{self, RING_BYTES};
use crate::ipc::wire::{self, CheckedSender, EncodedValue, Envelope, hostile};

/// A number near a limit, or any.
fn number(random: &mut Random) -> u64 {
    random.number(HEAP_START as u64)
}

/// The ends that a hostile sender has.
struct Hostile {
    region: Arc<Region>,
    entries: ring::Producer,
    parcels: CheckedSender<Envelope>,
    to_receiver: CheckedSender<ToReceiver>,
}

impl Hostile {
    fn join(to_receiver: &CheckedSender<ToReceiver>) -> Hostile {
        let memory = layout::SenderMemory::new().unwrap();
        let region = memory.up_to(memory.end()).unwrap();
        let (room_bell, _) = wire::channel().unwrap();
        let (parcels, there) = wire::channel().unwrap();
        let sender = NewSender { region: memory.memory(), room_bell, parcels: there };
        wire::send(to_receiver, &ToReceiver::Join(sender)).unwrap();
        Hostile {
            entries: ring::Producer::new(region.clone(), 0),
            region,
            parcels,
            to_receiver: to_receiver.clone(),
        }
    }

    fn act(&mut self, random: &mut Random) {
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
                wire::send(&self.parcels, &envelope.unwrap()).unwrap();
                if random.below(2) == 0 {
                    drop(self.entries.push(PARCEL, &[]));
                }
            }
            5 => drop(hostile::send(&self.parcels, random.below(hostile::KINDS))),
            // Where all senders ring. Only short messages: a full socket would block the honest
            // sender's doorbell.
            6 => drop(hostile::send(&self.to_receiver, random.below(hostile::LONG))),
            7 => {
                // A message of another kind.
                let garbage = self.parcels.clone().to::<Vec<u8>>();
                wire::send(&garbage, &random.bytes(40)).unwrap();
                drop(self.entries.push(PARCEL, &[]));
            }
            _ => {
                let word = [HEAP, LINK.parcels_taken, 0, 128, RING_BYTES + 2 * 128]
                    [random.below(5) as usize];
                self.region.atomic(word).store(number(random), Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn whatever_a_sender_writes_the_others_are_heard() {
    let mut random = Random::new();
    let (honest, receiver) = channel::<(u32, Vec<u8>)>().unwrap();
    let marked = |n: u32| (n, vec![0x5a; if n % 3 == 0 { 40_000 } else { 40 }]);
    for round in 0..150 {
        let mut hostile = Hostile::join(&honest.shared.to_receiver());
        // Few enough that its own channel does not fill up and block it.
        for _ in 0..random.below(8) {
            hostile.act(&mut random);
        }
        honest.send(marked(round)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "the honest sender is not heard");
            match receiver.recv_timeout(Duration::from_secs(20)) {
                Ok(message) if message == marked(round) => break,
                Err(RecvTimeoutError::Timeout) => panic!("round {round}: nothing arrived"),
                Ok(_) | Err(_) => {}
            }
        }
        // Read until the channel is empty: only then does the receiver read its doorbells.
        while !matches!(receiver.try_recv(), Err(error) if error.is_empty()) {}
    }
}
