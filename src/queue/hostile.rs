//! A client that writes anything at all into its region and over its channels: the hub ends its
//! session in the worst case, and always serves the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::handle::Handle;
use super::layout;
use super::options::QueueOptions;
use super::owner::lock::QueueOwner;
use crate::ipc::deadline::Deadline;
use crate::ipc::fuzz::Random;
use crate::ipc::hub::{self, REGION_BYTES, SessionPage, ToClient, ToHub};
use crate::ipc::region::Region;
use crate::ipc::ring::{self, CAPACITY, RING_BYTES};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, EncodedValue, Envelope};
use crate::sys::Pidfd;

fn owner_of(handle: &Handle) -> &Arc<QueueOwner> {
    match handle {
        Handle::Own(own) => own.owner(),
        Handle::Remote(_) => panic!("the queue belongs to another process"),
    }
}

/// The ends that a hostile client holds.
struct Hostile {
    page: SessionPage,
    up: CheckedSender<ToHub>,
    region: Arc<Region>,
    outbox: ring::Producer,
    ticket: CheckedSender<ToHub>,
    _down: CheckedReceiver<ToClient>,
}

impl Hostile {
    /// A session as any client opens it, and an attachment to this queue.
    fn open(handle: &Handle) -> Hostile {
        let owner = owner_of(handle);
        let ticket = hub::in_flight(owner.clone()).unwrap();
        let page = SessionPage::new().unwrap();
        let (up, up_in_hub) = wire::channel().unwrap();
        let (down_in_hub, down) = wire::channel().unwrap();
        let region = Arc::new(Region::new(REGION_BYTES).unwrap());
        let process = Pidfd::of_self().unwrap().into();
        let open = ToHub::Open { page: page.memory(), up: up_in_hub, down: down_in_hub, process };
        wire::send(&ticket, &open).unwrap();
        let attach = ToHub::Attach {
            number: 0,
            object: owner.number.load(Ordering::SeqCst),
            fingerprint: owner.fingerprint,
            region: Some(region.memory()),
        };
        wire::send(&up, &attach).unwrap();
        hub::announce();
        Hostile { page, up, outbox: layout::outbox_writer(&region), region, ticket, _down: down }
    }

    /// Of kinds 0 to 6: the first mostly have no consequence, with the last a session ends at once.
    fn act(&mut self, random: &mut Random, kinds: u64) {
        match random.below(kinds) {
            // Entries of every kind, including unknown ones, with payloads that do not belong to
            // them.
            0 => {
                let payload = match random.below(2) {
                    0 => random.number(10).to_le_bytes().to_vec(),
                    _ => random.bytes(40),
                };
                drop(self.outbox.push(random.below(11) as u32, &payload));
                drop(self.page.claim_hub().then(|| wire::send(&self.up, &ToHub::Bell)));
            }
            // Words, those of the rings not yet.
            1 => {
                let words = REGION_BYTES as u64 - 2 * RING_BYTES as u64;
                let at = 2 * RING_BYTES as u64 + random.below(words / 8) * 8;
                self.region
                    .atomic(at as usize)
                    .store(random.number(CAPACITY as u64), Ordering::SeqCst);
            }
            2 => {
                let place = random.below(2 * RING_BYTES as u64 - 200) as usize;
                self.region.write(place, &random.bytes(200));
            }
            3 => {
                let at = RING_BYTES as u64 * random.below(2) + 128 * random.below(2);
                self.region
                    .atomic(at as usize)
                    .store(random.number(CAPACITY as u64), Ordering::SeqCst);
            }
            4 => self.send(random),
            5 => {
                let kind = random.below(wire::hostile::KINDS);
                let to = [&self.up, &self.ticket][random.below(2) as usize];
                drop(wire::hostile::send(to, kind));
            }
            // No message of a session at all.
            _ => {
                let garbage = self.up.clone().to::<Vec<u8>>();
                drop(wire::send(&garbage, &random.bytes(60)));
            }
        }
    }

    /// A message that a session knows, where it has no place.
    fn send(&self, random: &mut Random) {
        let number = random.below(3) as u32;
        let bytes = random.bytes(60);
        let packet = Envelope::new(EncodedValue { bytes, handles: Vec::new() });
        let message = match random.below(6) {
            0 => ToHub::Parcel { number, envelope: packet.unwrap() },
            1 => ToHub::InFlight { number, receiver: wire::channel().unwrap().1 },
            2 => ToHub::Detach { number },
            3 => ToHub::Attach {
                number,
                object: random.below(4),
                fingerprint: random.number(4),
                region: Some(
                    Region::new(1 + random.below(2 * REGION_BYTES as u64) as usize)
                        .unwrap()
                        .memory(),
                ),
            },
            4 => ToHub::Watch,
            _ => ToHub::Bell,
        };
        // It may have been thrown out by now.
        drop(wire::send(&self.up, &message));
    }
}

/// The owner puts until it gets what it put, or finds the queue closed. Some of it, and other
/// things, may have gone to the hostile one or come from it.
fn serve(handle: &Handle, round: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !handle.is_closed().unwrap() {
        assert!(Instant::now() < deadline, "round {round}: the owner is not served");
        // It may be full of what the hostile one put.
        let _ = handle.put(&round, &Deadline::after(Duration::from_millis(100)));
        // An item from the hostile client may be no number.
        if let Ok(got) = handle.get::<u64, _>(&Deadline::after(Duration::from_millis(100))) {
            handle.end_lease(got.lease, true);
            if got.value == round {
                return;
            }
        }
    }
}

#[test]
fn whatever_a_client_writes_the_others_are_served() {
    let mut random = Random::new();
    for round in 0..600 {
        let options = QueueOptions {
            capacity: [None, Some(1), Some(8)][random.below(3) as usize],
            ..QueueOptions::default()
        };
        let handle = Handle::new::<u64>(options, random.below(2) == 0).unwrap();
        let mut hostile = Hostile::open(&handle);
        let kinds = 1 + random.below(7);
        for _ in 0..random.below(30) {
            hostile.act(&mut random, kinds);
            // The owner uses its queue meanwhile.
            if random.below(4) == 0 {
                let _ = handle.try_put(&round);
                let _ = handle.get::<u64, _>(&Deadline::after(Duration::from_micros(100)));
            }
        }
        drop(hostile);
        // It may have closed the queue, as every handle may.
        serve(&handle, round);
        // The hub itself is well: a queue that the hostile one knew nothing of.
        let other = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
        let ticket = hub::in_flight(owner_of(&other).clone()).unwrap();
        drop(ticket);
        hub::announce();
        serve(&other, round);
        assert!(!other.is_closed().unwrap());
    }
}
