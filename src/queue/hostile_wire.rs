//! A client that breaks rules which no message shows: its sockets are full, or its memory can be
//! cut, or is a file of another kind. The hub refuses what it has to refuse, and serves the other
//! clients.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::handle::Handle;
use super::options::QueueOptions;
use super::owner::facet::Facet;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::hub::{self, REGION_BYTES, SessionPage, ToClient, ToHub};
use crate::ipc::region::{Memory, Region};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, EncodedValue, Envelope, Failure};
use crate::sys::Pidfd;

const PATIENCE: Duration = Duration::from_secs(20);

fn facet_of(handle: &Handle) -> &Arc<Facet> {
    match handle {
        Handle::Own(own) => own.facet(),
        Handle::Remote(_) => panic!("the queue belongs to another process"),
    }
}

/// The hub answers a client that obeys the rules.
fn the_hub_serves() {
    let handle = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
    let page = SessionPage::new().unwrap();
    let (up, _down) = open(&handle, page.memory(), |_| {});
    let region = Arc::new(Region::new(REGION_BYTES).unwrap());
    wire::send(&up, &attach(&handle, region.memory())).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while page.answered() == 0 {
        assert!(std::time::Instant::now() < deadline, "the hub serves nobody");
        std::thread::yield_now();
    }
}

/// Opens a session with this page, over a channel to the client that `fill` may fill first.
fn open(
    handle: &Handle,
    page: Memory,
    fill: impl FnOnce(&CheckedSender<ToClient>),
) -> (CheckedSender<ToHub>, CheckedReceiver<ToClient>) {
    let reference = hub::in_flight(facet_of(handle).clone()).unwrap();
    let (up, up_in_hub) = wire::channel().unwrap();
    let (down_in_hub, down) = wire::channel().unwrap();
    fill(&down_in_hub);
    let process = Pidfd::of_self().unwrap().into();
    let open = ToHub::Open { page, up: up_in_hub, down: down_in_hub, process };
    wire::send(&reference, &open).unwrap();
    hub::announce();
    (up, down)
}

fn attach(handle: &Handle, region: Memory) -> ToHub {
    let facet = facet_of(handle);
    let (object, fingerprint) = (facet.key, facet.fingerprint());
    ToHub::Attach { number: 0, object, fingerprint, region: Some(region) }
}

/// Returns files that are not memory of this crate, each with something to do to it after it was
/// sent.
fn forged() -> Vec<(Memory, Box<dyn Fn()>)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let unsealed = |length: u64| {
        let file = File::from(memfd_create("forged", flags).unwrap());
        file.set_len(length).unwrap();
        file
    };
    let cut = |length| {
        let file = unsealed(length);
        let kept = file.try_clone().unwrap();
        let cut = move || ftruncate(&kept, 0).unwrap();
        (Memory::unchecked(file), Box::new(cut) as Box<dyn Fn()>)
    };
    let stays = |memory| (memory, Box::new(|| {}) as Box<dyn Fn()>);
    vec![
        cut(1 << 20),
        cut(REGION_BYTES as u64),
        cut(768),
        stays(Memory::unchecked(unsealed(1 << 46))),
        stays(Memory::unchecked(unsealed(0))),
        stays(Memory::unchecked(File::open("/dev/zero").unwrap())),
        stays(Memory::unchecked(crate::sys::packet_pair().unwrap().0)),
        stays(Region::new(100).unwrap().memory()),
        stays(Memory::sparse(1 << 46, 0).unwrap()),
        stays(Region::constant(REGION_BYTES, 0, |_| {}).unwrap().memory()),
    ]
}

#[test]
fn a_page_that_can_be_cut_or_is_none_costs_its_client_the_session() {
    for (page, then) in forged() {
        let handle = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
        let (up, down) = open(&handle, page, |_| {});
        let region = Region::new(REGION_BYTES).unwrap();
        let _ = wire::send(&up, &attach(&handle, region.memory()));
        then();
        let answer = down.recv(&Deadline::after(PATIENCE));
        let is_refused =
            matches!(answer, Err(WaitEnd::Failed(Failure::Gone)) | Ok(ToClient::NoSession(_)));
        assert!(is_refused, "{answer:?}");
        the_hub_serves();
    }
}

#[test]
fn a_region_that_can_be_cut_or_is_none_costs_its_client_the_attachment() {
    for (region, then) in forged() {
        let handle = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
        let page = SessionPage::new().unwrap();
        let (up, _down) = open(&handle, page.memory(), |_| {});
        wire::send(&up, &attach(&handle, region)).unwrap();
        then();
        the_hub_serves();
    }
}

#[test]
fn a_client_whose_channel_is_full_from_the_start_keeps_nobody_waiting() {
    let handle = Handle::new::<u64>(QueueOptions::default(), false).unwrap();
    let page = SessionPage::new().unwrap();
    let fill = |down: &CheckedSender<ToClient>| while wire::send(down, &ToClient::Bell).is_ok() {};
    let (up, _down) = open(&handle, page.memory(), fill);
    let region = Arc::new(Region::new(REGION_BYTES).unwrap());
    // The hub rings the client after each of these.
    page.arm_client();
    wire::send(&up, &attach(&handle, region.memory())).unwrap();
    for _ in 0..10 {
        page.arm_client();
        let encoded = EncodedValue { bytes: vec![1], handles: Vec::new() };
        let envelope = Envelope::new(encoded).unwrap();
        let _ = wire::send(&up, &ToHub::Parcel { number: 0, envelope });
    }
    the_hub_serves();
    // The owner's own threads put items that the client could get.
    for n in 0..100u64 {
        page.arm_client();
        handle.put(&n, &Deadline::after(PATIENCE)).unwrap();
    }
    the_hub_serves();
}
