//! A sender that writes anything at all into its region, its ring and its channels: the receiver gives values or errors,
//! drops that sender in the worst case, and always hears the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcSender};

use super::layout::{self, HEAP, HEAP_START, LARGE, PARCEL, PARCELS_TAKEN, VALUE};
use super::{Inward, Joining, channel};
use crate::error::RecvTimeoutError;
use crate::ipc::fuzz::Random;
use crate::ipc::region::Region;
use crate::ipc::ring::{self, RING_BYTES};
use crate::ipc::wire::{EncodedValue, Envelope, hostile};
use crate::sys::lock;

/// Numbers that are near a limit, or any.
fn number(random: &mut Random) -> u64 {
    random.number(HEAP_START as u64)
}

/// The ends that a hostile sender holds.
struct Hostile {
    region: Arc<Region>,
    entries: ring::Producer,
    parcels: IpcSender<Envelope>,
    outward: IpcSender<Inward>,
}

impl Hostile {
    fn join(outward: &IpcSender<Inward>) -> Hostile {
        let region = layout::region().unwrap();
        let (back, _) = ipc::channel().unwrap();
        let (parcels, there) = ipc::channel().unwrap();
        let joining = Joining {
            region: region.share().unwrap(),
            back,
            parcels: there,
        };
        outward.send(Inward::Join(joining)).unwrap();
        Hostile {
            entries: ring::Producer::new(region.clone(), 0),
            region,
            parcels,
            outward: outward.clone(),
        }
    }

    fn act(&mut self, random: &mut Random) {
        match random.below(9) {
            0 => drop(self.entries.push(VALUE, &random.bytes(100))),
            1 => {
                let numbers: Vec<u8> = (0..3).flat_map(|_| number(random).to_le_bytes()).collect();
                drop(self.entries.push(LARGE, &numbers));
            }
            2 => {
                // A place that is there, with anything in it.
                let length = random.below(100_000) as usize;
                self.region.write(HEAP_START, &random.bytes(64));
                let entry = layout::large_entry(random.below(8) as usize, HEAP_START, length);
                drop(self.entries.push(LARGE, &entry));
            }
            3 => drop(
                self.entries
                    .push(random.below(300) as u32, &random.bytes(50)),
            ),
            4 => {
                let bytes = random.bytes(60);
                let packet = Envelope::new(EncodedValue {
                    bytes,
                    handles: Vec::new(),
                });
                self.parcels.send(packet.unwrap()).unwrap();
                if random.below(2) == 0 {
                    drop(self.entries.push(PARCEL, &[]));
                }
            }
            5 => drop(hostile::send(&self.parcels, random.below(hostile::KINDS))),
            // Where all senders ring; short ones, since a full socket would hold up the honest one's bell.
            6 => drop(hostile::send(&self.outward, random.below(hostile::LONG))),
            7 => {
                // A message of another kind.
                let garbage = self.parcels.clone().to_opaque().to::<Vec<u8>>();
                garbage.send(random.bytes(40)).unwrap();
                drop(self.entries.push(PARCEL, &[]));
            }
            _ => {
                let word =
                    [HEAP, PARCELS_TAKEN, 0, 128, RING_BYTES + 2 * 128][random.below(5) as usize];
                self.region
                    .atomic(word)
                    .store(number(random), Ordering::SeqCst);
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
        let mut hostile = Hostile::join(&lock(&honest.shared.outward));
        // At most 8 parcels: more would fill its own channel, and hold up itself.
        for _ in 0..random.below(8) {
            hostile.act(&mut random);
        }
        honest.send(marked(round)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "the honest sender is not heard");
            match receiver.recv_timeout(Duration::from_secs(20)) {
                Ok(message) if message == marked(round) => break,
                Ok(_) | Err(RecvTimeoutError::Failed(_)) => {}
                Err(RecvTimeoutError::Timeout) => panic!("round {round}: nothing came"),
            }
        }
        // A receiver that finds enough in its rings does not hear who rings; this one has found nothing.
        while !matches!(receiver.try_recv(), Err(error) if error.is_empty()) {}
    }
}
