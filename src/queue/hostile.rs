//! A client that opens a session by hand, and writes anything into its regions and over its
//! channels.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Queue;
use super::handle::Handle;
use super::layout::{self, Tag, Word};
use crate::ipc::deadline::Deadline;
use crate::ipc::doorbell;
use crate::ipc::fuzz::Random;
use crate::ipc::hostile::odd_descriptor;
use crate::ipc::hub::{
    ObjectId, ObjectKey, REGION_BYTES, RemoteObject, SessionPage, ToClient, ToHub, UP_RING,
};
use crate::ipc::region::Region;
use crate::ipc::ring::{self, CAPACITY, RING_BYTES};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, EncodedValue, Envelope, WireHandle};
use crate::sys::Pidfd;

/// Opens one more session with the hub of this queue's owner, and attacks it.
pub(crate) fn attack<T>(queue: &Queue<T>, random: &mut Random) {
    let Handle::Remote(remote) = &queue.handle else {
        panic!("it is this process's own");
    };
    let within = Deadline::after(std::time::Duration::from_millis(100));
    let Ok(attached) = remote.attached(&within) else {
        return;
    };
    let Ok(ticket) = attached.in_flight() else {
        return;
    };
    let mut hostile = Hostile::open(ticket, remote.id(), remote.fingerprint(), random);
    // What the first kinds do mostly has no consequence. With the last kinds, a session ends at
    // once.
    let kinds = 1 + random.below(7);
    for _ in 0..random.below(40) {
        hostile.act(random, kinds);
    }
}

/// Makes the owner of this queue hold more descriptors, for as long as this process lives.
pub(crate) fn hoard<T>(queue: &Queue<T>, random: &mut Random) {
    let Handle::Remote(remote) = &queue.handle else {
        panic!("it is this process's own");
    };
    let attached = remote.attached(&Deadline::after(std::time::Duration::from_millis(100)));
    let Some(ticket) = attached.ok().and_then(|attached| attached.in_flight().ok()) else {
        return;
    };
    let mut hostile = Hostile::open(ticket, remote.id(), remote.fingerprint(), random);
    let mut attachments = 1..;
    for _ in 0..50 {
        match random.below(4) {
            // In the order of their numbers: otherwise the session would end.
            0 => {
                let region = Arc::new(Region::new(REGION_BYTES).unwrap());
                hostile.attach(attachments.next().unwrap(), region);
            }
            1 => {
                let (kept, receiver) = wire::channel().unwrap();
                let _ = wire::send(&hostile.up, &ToHub::InFlight { number: 0, receiver });
                std::mem::forget(kept);
            }
            kind => {
                let file = || WireHandle::File(Pidfd::of_self().unwrap().into());
                let handles = (0..random.below(33)).map(|_| file()).collect();
                let value = EncodedValue { bytes: vec![0], handles };
                let envelope = Envelope::new(value).unwrap();
                let parcel = ToHub::Parcel { number: 0, envelope };
                // Most have their entry, so that the session continues.
                if wire::send(&hostile.up, &parcel).is_ok() && (kind == 2 || !random.one_in(9)) {
                    let _ = hostile.outbox.push(Tag::Parcel as u32, &[]);
                }
            }
        }
    }
    std::mem::forget(hostile);
}

/// Breaks the protocol, so that this process loses its session with the owner of this queue.
pub(crate) fn lose_session<T>(queue: &Queue<T>) {
    let Handle::Remote(remote) = &queue.handle else {
        panic!("it is this process's own");
    };
    let attached = remote.attached(&Deadline::never()).unwrap();
    let region = attached.region();
    for position in [UP_RING, UP_RING + 128] {
        region.atomic(position).store(3, Ordering::SeqCst);
    }
    attached.session().ring(attached.number(), layout::word(region, Word::OwnerSleeps));
    while !attached.session().is_over() {
        std::thread::yield_now();
    }
}

/// The ends that a hostile client holds.
struct Hostile {
    _page: SessionPage,
    up: CheckedSender<ToHub>,
    region: Arc<Region>,
    outbox: ring::RingProducer,
    ticket: CheckedSender<ToHub>,
    object: ObjectKey,
    fingerprint: u64,
    _down: CheckedReceiver<ToClient>,
}

fn any_region(random: &mut Random) -> Region {
    Region::new(1 + random.below(2 * REGION_BYTES as u64) as usize).unwrap()
}

impl Hostile {
    fn open(
        ticket: CheckedSender<ToHub>,
        id: ObjectId,
        fingerprint: u64,
        random: &mut Random,
    ) -> Hostile {
        let page = SessionPage::new().unwrap();
        let (up, up_in_hub) = wire::channel().unwrap();
        let (down_in_hub, down) = wire::channel().unwrap();
        let region = Arc::new(Region::new(REGION_BYTES).unwrap());
        let memory = if random.one_in(10) { any_region(random).memory() } else { page.memory() };
        let process = match random.below(10) {
            0 => odd_descriptor(random),
            _ => Pidfd::of_self().unwrap().into(),
        };
        let open = ToHub::Open { page: memory, up: up_in_hub, down: down_in_hub, process };
        let _ = wire::send(&ticket, &open);
        let fingerprint = if random.one_in(10) { 0 } else { fingerprint };
        let hostile = Hostile {
            _page: page,
            up,
            outbox: layout::outbox_writer(&region),
            region,
            ticket,
            object: id.key,
            fingerprint,
            _down: down,
        };
        hostile.attach(0, hostile.region.clone());
        hostile
    }

    fn attach(&self, number: u32, region: Arc<Region>) {
        let region = Some(region.memory());
        let (object, fingerprint) = (self.object, self.fingerprint);
        let _ = wire::send(&self.up, &ToHub::Attach { number, object, fingerprint, region });
    }

    fn act(&mut self, random: &mut Random, kinds: u64) {
        let number = |random: &mut Random| random.number(CAPACITY as u64);
        match random.below(kinds) {
            // Entries of every kind, including unknown ones, with payloads that do not belong to
            // them.
            0 => {
                let payload = match random.below(2) {
                    0 => random.number(10).to_le_bytes().to_vec(),
                    _ => random.bytes(40),
                };
                drop(self.outbox.push(random.below(11) as u32, &payload));
                if doorbell::claim(layout::word(&self.region, Word::OwnerSleeps)) {
                    let _ = wire::send(&self.up, &ToHub::Bell { number: 0 });
                }
            }
            // The words, except those of the rings.
            1 => {
                let words = REGION_BYTES as u64 - 2 * RING_BYTES as u64;
                let at = 2 * RING_BYTES as u64 + random.below(words / 8) * 8;
                self.region.atomic(at as usize).store(number(random), Ordering::SeqCst);
            }
            2 => {
                let place = random.below(2 * RING_BYTES as u64 - 200) as usize;
                self.region.write(place, &random.bytes(200));
            }
            3 => {
                let at = RING_BYTES as u64 * random.below(2) + 128 * random.below(2);
                self.region.atomic(at as usize).store(number(random), Ordering::SeqCst);
            }
            4 => self.send(random),
            5 => {
                let kind = random.below(wire::hostile::KINDS);
                let to = [&self.up, &self.ticket][random.below(2) as usize];
                drop(wire::hostile::send(to, kind));
            }
            // A message that does not belong in a session, or one that opens another session.
            _ => {
                let to = self.ticket.clone();
                *self = Hostile::open(to, self.id(), 0, random);
            }
        }
    }

    fn id(&self) -> ObjectId {
        ObjectId { hub: [0; 16], key: self.object }
    }

    /// Sends a valid message where it has no place.
    fn send(&self, random: &mut Random) {
        let number = random.below(3) as u32;
        let bytes = random.bytes(60);
        let envelope = Envelope::new(EncodedValue { bytes, handles: Vec::new() });
        let message = match random.below(6) {
            0 => ToHub::Parcel { number, envelope: envelope.unwrap() },
            1 => ToHub::InFlight { number, receiver: wire::channel().unwrap().1 },
            2 => ToHub::Detach { number },
            3 => return self.attach(number, Arc::new(any_region(random))),
            4 => ToHub::Watch,
            _ => ToHub::Bell { number },
        };
        // The hub may have ended the session by now.
        let _ = wire::send(&self.up, &message);
    }
}
