//! What no client of this crate does: it costs the client its session, and the queue nothing.

use std::sync::atomic::Ordering;

use super::crowd::{CrowdClient, eventually, owner_of, ring};
use super::handle::Handle;
use super::layout::{self, Flag, Tag, Word};
use super::options::QueueOptions;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::hub::ToHub;
use crate::ipc::wire::{self, EncodedValue, Envelope, Failure};

fn new(options: QueueOptions) -> Handle {
    Handle::new::<u64>(options, true).unwrap()
}

/// A client that the hub has accepted, and whose in-flight reference is counted no more.
fn attach(handle: &Handle) -> CrowdClient {
    let client = CrowdClient::open(handle);
    eventually("it is attached", || client.page.answered() == 1);
    eventually("its reference has arrived", || owner_of(handle).lock().in_flight() == 0);
    client
}

impl CrowdClient {
    fn word(&self, word: Word) -> u64 {
        layout::word(&self.region, word).load(Ordering::SeqCst)
    }

    fn set(&self, word: Word, value: u64) {
        layout::word(&self.region, word).store(value, Ordering::SeqCst);
    }

    fn write(&mut self, tag: Tag, bytes: &[u8]) {
        assert!(self.outbox.push(tag as u32, bytes).unwrap());
    }

    fn send_parcel(&self) -> Result<(), Failure> {
        let envelope = Envelope::new(EncodedValue { bytes: vec![7], handles: Vec::new() });
        wire::send(&self.up, &ToHub::Parcel { number: 0, envelope: envelope.unwrap() })
    }

    fn has_lost_its_session(&self) -> bool {
        loop {
            match self.down.recv(&Deadline::now()) {
                Ok(_) => {}
                Err(end) => return matches!(end, WaitEnd::Failed(Failure::Gone)),
            }
        }
    }
}

#[test]
fn a_client_that_puts_more_than_it_has_room_for_loses_its_session() {
    let handle = new(QueueOptions { capacity: Some(3), ..QueueOptions::default() });
    let owner = owner_of(&handle);
    let mut client = attach(&handle);
    client.set(Word::Putters, 1);
    ring(&client);
    eventually("it is granted room", || client.word(Word::Credit) > 0);
    let room = client.word(Word::Credit);
    client.set(Word::Putters, 0);
    // As much as that is right, whatever the word says.
    client.set(Word::Credit, 0);
    for _ in 0..room {
        client.write(Tag::Put, &[0, 1]);
    }
    ring(&client);
    eventually("all are put", || handle.len().unwrap() == room as usize);
    assert!(!client.has_lost_its_session());
    client.set(Word::Credit, 1000);
    for _ in 0..10 {
        client.write(Tag::Put, &[0, 1]);
    }
    ring(&client);
    eventually("it has lost its session", || client.has_lost_its_session());
    assert_eq!(handle.len().unwrap(), room as usize);
    assert_eq!(owner.lock().unfinished(), room as usize);
}

#[test]
fn a_client_whose_last_words_are_invalid_leaves_nothing() {
    let handle = new(QueueOptions { capacity: Some(3), ..QueueOptions::default() });
    let owner = owner_of(&handle);
    let mut client = attach(&handle);
    eventually("it rests", || owner.lock().polled() == 0);
    let clients = || owner.lock().holders().len() - 1;
    assert_eq!(clients(), 1);
    // It was granted no room. It does not ring, so the hub reads this when the session is over.
    client.write(Tag::Put, &[0, 1]);
    drop(client);
    eventually("its session is over", || clients() == 0);
    // Nothing has the hub serve the queue again.
    assert_eq!(owner.lock().corrupt(), 0, "its link, and with that its socket, is kept");
}

#[test]
fn a_client_that_sends_parcels_and_no_items_loses_its_session() {
    let handle = new(QueueOptions::default());
    let mut client = attach(&handle);
    // Each with its entry.
    for count in 1..200 {
        eventually("there is room", || client.send_parcel().is_ok());
        client.write(Tag::Parcel, &[]);
        ring(&client);
        eventually("it is put", || handle.len().unwrap() == count);
    }
    assert!(!client.has_lost_its_session());
    for _ in 0..100 {
        let _ = client.send_parcel();
    }
    eventually("it has lost its session", || client.has_lost_its_session());
    assert_eq!(handle.len().unwrap(), 199);
}

#[test]
fn a_client_that_sends_a_handle_on_and_waits_does_not_wait_in_vain() {
    let handle = new(QueueOptions::default());
    let owner = owner_of(&handle).clone();
    let client = attach(&handle);
    drop(handle);
    let is_ended = || Flag::Ended.is_in(client.word(Word::Flags));
    let (sender, receiver) = wire::channel().unwrap();
    {
        // The owner reads the region, and not yet the message.
        let mut state = owner.lock();
        client.set(Word::HandedOn, 1);
        wire::send(&client.up, &ToHub::InFlight { number: 0, receiver }).unwrap();
        client.set(Word::Getters, 1);
        ring(&client);
        state.drain_all();
        state.schedule();
        assert!(!is_ended(), "the handle is on its way to another process, which may put");
    }
    eventually("the handle is counted", || owner.lock().in_flight() == 1);
    assert!(!is_ended());
    // The handle is lost: nobody else may put.
    drop(sender);
    eventually("the wait ends", is_ended);
}
