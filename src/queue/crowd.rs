//! Many clients that do nothing: nothing may be done for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::handle::Handle;
use super::item::NewItem;
use super::layout::{self, Tag, Word};
use super::options::QueueOptions;
use super::owner::facet::Facet;
use super::owner::lock::QueueOwner;
use crate::ipc::deadline::Deadline;
use crate::ipc::doorbell;
use crate::ipc::hub::{self, REGION_BYTES, SessionPage, ToClient, ToHub};
use crate::ipc::region::Region;
use crate::ipc::ring;
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender};
use crate::sys::Pidfd;

pub(super) fn facet_of(handle: &Handle) -> &Arc<Facet> {
    match handle {
        Handle::Own(own) => own.facet(),
        Handle::Remote(_) => panic!("the queue belongs to another process"),
    }
}

pub(super) fn owner_of(handle: &Handle) -> &Arc<QueueOwner> {
    &facet_of(handle).owner
}

/// The ends that a client holds, without the code of this crate between it and the hub.
pub(super) struct CrowdClient {
    pub(super) page: SessionPage,
    pub(super) up: CheckedSender<ToHub>,
    pub(super) region: Arc<Region>,
    pub(super) outbox: ring::RingProducer,
    pub(super) down: CheckedReceiver<ToClient>,
}

impl CrowdClient {
    /// Opens a session as any client does, and attaches this queue.
    pub(super) fn open(handle: &Handle) -> CrowdClient {
        let facet = facet_of(handle);
        let in_flight = hub::in_flight(facet.clone()).unwrap();
        let page = SessionPage::new().unwrap();
        let (up, up_in_hub) = wire::channel().unwrap();
        let (down_in_hub, down) = wire::channel().unwrap();
        let region = Arc::new(Region::new(REGION_BYTES).unwrap());
        let process = Pidfd::of_self().unwrap().into();
        let open = ToHub::Open { page: page.memory(), up: up_in_hub, down: down_in_hub, process };
        wire::send(&in_flight, &open).unwrap();
        let attach = ToHub::Attach {
            number: 0,
            object: facet.key,
            fingerprint: facet.fingerprint(),
            region: Some(region.memory()),
        };
        wire::send(&up, &attach).unwrap();
        hub::announce();
        let outbox = layout::outbox_writer(&region);
        let client = CrowdClient { page, up, region, outbox, down };
        // Until it was accepted, nothing shows the owner that there is a client.
        eventually("it was accepted, and rests", || {
            layout::word(&client.region, Word::OwnerSleeps).load(Ordering::SeqCst) == 1
        });
        client
    }
}

pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes an item, whose encoding is one byte, and does not ring.
fn write(client: &mut CrowdClient, number: u8) {
    assert!(client.outbox.push(Tag::Put as u32, &[0, number]).unwrap());
}

/// Rings, unless the hub polls.
pub(super) fn ring(client: &CrowdClient) {
    if doorbell::claim(layout::word(&client.region, Word::OwnerSleeps)) {
        wire::send(&client.up, &ToHub::Bell { number: 0 }).unwrap();
    }
}

fn get(handle: &Handle) -> u64 {
    let got = handle.get::<u64, _>(&Deadline::after(Duration::from_secs(20)));
    got.expect("it was put").value
}

#[test]
fn a_client_that_does_not_ring_costs_nothing() {
    let handle = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
    let mut clients: Vec<CrowdClient> = (0..20).map(|_| CrowdClient::open(&handle)).collect();
    let (busy, idle) = clients.split_first_mut().unwrap();
    // Each was accepted, and is at rest.
    eventually("all clients rest", || {
        let rests = |client: &CrowdClient| {
            layout::word(&client.region, Word::OwnerSleeps).load(Ordering::SeqCst) == 1
        };
        idle.iter().all(rests) && owner_of(&handle).lock().polled() == 0
    });
    // Entries that the hub would find if it looked.
    idle.iter_mut().for_each(|client| write(client, 100));
    for round in 0..2000 {
        write(busy, (round % 100) as u8);
        ring(busy);
        assert_eq!(get(&handle), round % 100, "the hub has looked at a client that did not ring");
        assert!(owner_of(&handle).lock().polled() <= 1);
    }
    // Answering a question, such as the length, reads the regions of those that have claimed their
    // flag.
    assert_eq!(handle.len().unwrap(), 0);
    idle.iter().for_each(ring);
    (0..idle.len()).for_each(|_| assert_eq!(get(&handle), 100));
}

#[test]
fn a_doorbell_for_what_is_not_attached_does_no_harm() {
    let handle = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
    let mut client = CrowdClient::open(&handle);
    for number in 1..100 {
        wire::send(&client.up, &ToHub::Bell { number }).unwrap();
    }
    write(&mut client, 7);
    ring(&client);
    assert_eq!(get(&handle), 7);
    // Doorbells that come although nothing was written, or come twice.
    for _ in 0..100 {
        wire::send(&client.up, &ToHub::Bell { number: 0 }).unwrap();
    }
    write(&mut client, 8);
    ring(&client);
    assert_eq!(get(&handle), 8);
}

#[test]
fn a_length_sees_what_was_put_before_the_doorbell_came() {
    let handle = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
    let mut client = CrowdClient::open(&handle);
    let flag = |client: &CrowdClient| {
        layout::word(&client.region, Word::OwnerSleeps).load(Ordering::SeqCst)
    };
    eventually("it rests", || flag(&client) == 1);
    // One thread has claimed the flag and has not rung yet, and another thread has put an item.
    assert!(doorbell::claim(layout::word(&client.region, Word::OwnerSleeps)));
    write(&mut client, 9);
    assert_eq!(handle.len().unwrap(), 1);
    wire::send(&client.up, &ToHub::Bell { number: 0 }).unwrap();
    assert_eq!(get(&handle), 9);
    eventually("it rests again", || flag(&client) == 1);
}

fn number(client: &CrowdClient, word: Word) -> &std::sync::atomic::AtomicU64 {
    layout::word(&client.region, word)
}

/// Does what a thread that waits for room does: uses everything that it has got, and waits again.
/// Returns how much that was.
fn use_room(client: &mut CrowdClient) -> u64 {
    let room = number(client, Word::Credit).swap(0, Ordering::SeqCst);
    if room > 0 {
        number(client, Word::Putters).store(0, Ordering::SeqCst);
        (0..room).for_each(|_| write(client, 1));
    }
    number(client, Word::Putters).store(1, Ordering::SeqCst);
    ring(client);
    room
}

#[test]
fn room_goes_to_one_producer_after_the_other_in_batches() {
    const BOUND: u64 = 64;
    const CLIENTS: usize = 32;
    const ROUNDS: u64 = 300;
    let options = QueueOptions { capacity: Some(BOUND as usize), ..QueueOptions::default() };
    let handle = Handle::new::<u64>(options, false).unwrap();
    let mut clients: Vec<CrowdClient> = (0..CLIENTS).map(|_| CrowdClient::open(&handle)).collect();
    let (mut batches, mut put) = (0, vec![0; CLIENTS]);
    for round in 1..=ROUNDS {
        eventually("the queue is full", || {
            for (client, put) in clients.iter_mut().zip(&mut put) {
                let room = use_room(client);
                batches += u64::from(room > 0);
                *put += room;
            }
            let total: u64 = put.iter().sum();
            assert!(total <= round * BOUND, "{total} items in round {round}");
            total == round * BOUND
        });
        // All at once, as a fast consumer would.
        let mut taken = Vec::new();
        eventually("all are taken", || {
            owner_of(&handle).take_more(BOUND as usize - taken.len(), &mut taken);
            taken.len() == BOUND as usize
        });
    }
    // Some batches are wasted: on a busy machine this thread seems to be suspended now and then.
    assert!(batches * 6 < ROUNDS * BOUND, "{batches} batches of {} items", ROUNDS * BOUND);
    let share = ROUNDS * BOUND / CLIENTS as u64;
    assert!(put.iter().all(|&put| put >= share / 3), "{put:?} of {share} each");
}

#[test]
fn a_thread_of_the_owner_has_its_turn_among_clients_that_wait() {
    let options = QueueOptions { capacity: Some(1), ..QueueOptions::default() };
    let handle = Handle::new::<u64>(options, false).unwrap();
    let mut clients: Vec<CrowdClient> = (0..4).map(|_| CrowdClient::open(&handle)).collect();
    let owner = owner_of(&handle);
    std::thread::scope(|scope| {
        let putter = scope.spawn(|| {
            for _ in 0..100 {
                let limit = Deadline::after(Duration::from_secs(20));
                assert!(owner.put(NewItem::Bytes(&[0, 2]), &limit).is_ok(), "it had no turn");
            }
        });
        while !putter.is_finished() {
            for client in &mut clients {
                use_room(client);
            }
            // This process has to take some items itself, or the queue counts as abandoned.
            let _ = owner.get(&Deadline::now());
            std::thread::yield_now();
        }
    });
}
