//! Peers of a channel that break rules which no message shows: they read no doorbells, and they
//! send memory that can be truncated, or a descriptor that is not memory at all. No thread waits
//! for them, and messages of the other peers still arrive.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::layout::{self, READER_SLEEPS, WRITER_SLEEPS};
use super::{NewSender, Receiver, ToReceiver, channel};
use crate::ipc::region::{Memory, Region};
use crate::ipc::wire;
use crate::sys::lock;

/// The region of the first sender.
fn region_of_first<T>(receiver: &Receiver<T>) -> Arc<Region> {
    let inbox = receiver.inbox().unwrap();
    let rings = lock(&inbox.rings);
    rings.all().next().unwrap().sender.region.clone()
}

#[test]
fn a_receiver_that_reads_no_doorbells_keeps_no_sender_waiting() {
    let (sender, receiver) = channel::<u32>().unwrap();
    sender.send(0).unwrap();
    receiver.recv().unwrap();
    let region = region_of_first(&receiver);
    for n in 0..2000 {
        region.atomic(READER_SLEEPS).store(1, Ordering::SeqCst);
        sender.send_timeout(n, Duration::from_secs(20)).unwrap();
    }
    assert!(receiver.iter().take(2000).eq(0..2000));
}

#[test]
fn a_sender_that_reads_no_doorbells_keeps_no_receiver_waiting() {
    let (sender, receiver) = channel::<u32>().unwrap();
    sender.send(0).unwrap();
    receiver.recv().unwrap();
    let region = region_of_first(&receiver);
    for n in 0..2000 {
        sender.send(n).unwrap();
        region.atomic(WRITER_SLEEPS).store(1, Ordering::SeqCst);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)).unwrap(), n);
    }
}

#[test]
fn memory_that_can_be_cut_or_is_none_costs_its_sender_the_channel() {
    let (honest, receiver) = channel::<u32>().unwrap();
    let heap_end = layout::SenderMemory::new().unwrap().end() as u64;
    // The label is the one that it must have.
    let unsealed = |length: u64| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = std::fs::File::from(memfd_create("forged", flags).unwrap());
        file.set_len(length).unwrap();
        let labelled = layout::SenderMemory::new().unwrap().memory();
        let labelled = std::fs::File::from(labelled.as_fd().try_clone_to_owned().unwrap());
        let mut label = [0; 16];
        labelled.read_exact_at(&mut label, labelled.metadata().unwrap().len() - 16).unwrap();
        if let Some(end) = length.checked_sub(16) {
            file.write_all_at(&label, end).unwrap();
        }
        file
    };
    let forged = [
        Memory::unchecked(unsealed(heap_end + 16)),
        Memory::unchecked(unsealed(1 << 46)),
        Memory::unchecked(unsealed(0)),
        Memory::unchecked(std::fs::File::open("/dev/zero").unwrap()),
        Memory::sparse(1 << 46, 0).unwrap(),
        Memory::sparse(heap_end as usize, 0).unwrap(),
        Memory::sparse(100, layout::label()).unwrap(),
        Memory::sparse(1 << 46, layout::label()).unwrap(),
        Region::constant(heap_end as usize, layout::label(), |_| {}).unwrap().memory(),
    ];
    for (n, region) in (0..).zip(forged) {
        let cut = region.as_fd().try_clone_to_owned().unwrap();
        let (room_bell, _) = wire::channel().unwrap();
        let (_parcels, there) = wire::channel().unwrap();
        let join = ToReceiver::Join(NewSender { region, room_bell, parcels: there });
        wire::send(&honest.shared.to_receiver(), &join).unwrap();
        for _ in 0..2 {
            honest.send(n).unwrap();
            assert_eq!(receiver.recv_timeout(Duration::from_secs(20)).unwrap(), n);
            // The receiver has read what the forger sent.
            let _ = ftruncate(&cut, 0);
        }
    }
}
