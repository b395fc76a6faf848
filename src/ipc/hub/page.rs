//! The page of a session, which both sides map, and the hub's way to the client.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use crate::failpoints;
use crate::ipc::doorbell;
use crate::ipc::hub::{ToClient, retry};
use crate::ipc::link::PARCEL_INLINE;
use crate::ipc::region::{Memory, Region};
use crate::ipc::wire::{self, CheckedSender, Envelope, Failure};
use crate::sys;

const CLIENT_SLEEPS: usize = 0;
const PARCELS_READ: usize = 128;
const HUB_PARCELS_READ: usize = 256;
const NUMBER: usize = 384;
const PID: usize = 392;
const ANSWERED: usize = 512;
const REFUSED: usize = 520;
const PAGE_BYTES: usize = 640;

/// Shared memory of a session: the client's sleep flag, and counts of what each side has read. The
/// hub's flags are in the attachments' regions.
#[derive(Debug)]
pub(crate) struct SessionPage(Region);

impl SessionPage {
    pub(crate) fn new() -> io::Result<SessionPage> {
        let page = Region::new(PAGE_BYTES).map(SessionPage)?;
        page.0.atomic(PID).store(std::process::id().into(), Ordering::SeqCst);
        Ok(page)
    }

    /// Returns the client's pid, as the client claims it. Use it for display only.
    pub(crate) fn pid(&self) -> u32 {
        self.0.atomic(PID).load(Ordering::SeqCst) as u32
    }

    pub(crate) fn adopt(memory: Memory) -> Option<SessionPage> {
        memory.map_and_close(PAGE_BYTES..=PAGE_BYTES).ok().map(SessionPage)
    }

    pub(crate) fn memory(&self) -> Memory {
        self.0.memory()
    }

    pub(crate) fn arm_client(&self) {
        doorbell::arm(self.0.atomic(CLIENT_SLEEPS));
    }

    /// Clears the client's flag. Returns whether the hub has rung, or is about to.
    pub(crate) fn disarm_client(&self) -> bool {
        doorbell::disarm(self.0.atomic(CLIENT_SLEEPS))
    }

    pub(crate) fn parcel_read(&self) {
        self.0.atomic(PARCELS_READ).fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the number of this session, unique among the hub's live sessions; 0 if the hub has
    /// no number left.
    pub(crate) fn number(&self) -> u32 {
        self.0.atomic(NUMBER).load(Ordering::SeqCst) as u32
    }

    /// Returns how many attachments the hub has answered. It answers them in the order of their
    /// numbers.
    pub(crate) fn answered(&self) -> u64 {
        self.0.atomic(ANSWERED).load(Ordering::SeqCst)
    }

    /// Returns how many of them it has refused. If this is read after [`answered`](Self::answered),
    /// it counts all refusals among the answers read there.
    pub(crate) fn refused(&self) -> u64 {
        self.0.atomic(REFUSED).load(Ordering::SeqCst)
    }

    /// Counts an answer. This comes last, because the client relies on the attachment once it sees
    /// the answer.
    pub(in crate::ipc::hub) fn answered_one_more(&self, refused: bool) {
        self.0.atomic(REFUSED).fetch_add(refused.into(), Ordering::SeqCst);
        self.0.atomic(ANSWERED).fetch_add(1, Ordering::SeqCst);
    }

    fn parcels_read(&self) -> u64 {
        self.0.atomic(PARCELS_READ).load(Ordering::SeqCst)
    }

    /// Counts a parcel that the hub has read.
    pub(in crate::ipc::hub) fn hub_parcel_read(&self) {
        self.0.atomic(HUB_PARCELS_READ).fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn hub_parcels_read(&self) -> u64 {
        self.0.atomic(HUB_PARCELS_READ).load(Ordering::SeqCst)
    }

    fn claim_client(&self) -> bool {
        doorbell::claim(self.0.atomic(CLIENT_SLEEPS))
    }
}

/// The most unread parcels to one client. With bodies of at most [`PARCEL_INLINE`], they fit its
/// socket's buffer.
const PARCELS_MAX: u64 = 32;

/// The session number of the hub's own process.
pub(crate) const OWNER: u32 = 1;
/// All session numbers are below this.
pub(crate) const SESSIONS_MAX: usize = 4096;

/// The numbers that are taken.
static NUMBERS: Mutex<[bool; SESSIONS_MAX]> = Mutex::new([false; SESSIONS_MAX]);

fn take_number() -> u32 {
    let mut numbers = sys::lock(&NUMBERS);
    let free = (OWNER as usize + 1..SESSIONS_MAX).find(|&number| !numbers[number]);
    free.map_or(0, |number| {
        numbers[number] = true;
        number as u32
    })
}

/// A client, as its hub sees it. Used by the hub's thread and by the owner's own threads.
#[derive(Debug)]
pub(crate) struct ClientLink {
    pub(crate) page: SessionPage,
    /// The number of its session; 0 if the hub had no number left. Attachments hold the link until
    /// they are detached or the client's process has ended. So no other process gets the number as
    /// long as a word of shared memory may contain it.
    pub(crate) number: u32,
    /// The hub's id of the session's channel.
    pub(in crate::ipc::hub) channel: u64,
    down: CheckedSender<ToClient>,
    parcels: AtomicU64,
}

impl Drop for ClientLink {
    fn drop(&mut self) {
        sys::lock(&NUMBERS)[self.number as usize] = false;
    }
}

impl ClientLink {
    pub(crate) fn new(
        page: SessionPage,
        channel: u64,
        down: CheckedSender<ToClient>,
    ) -> ClientLink {
        let number = take_number();
        page.0.atomic(NUMBER).store(number.into(), Ordering::SeqCst);
        ClientLink { page, number, channel, down, parcels: AtomicU64::new(0) }
    }

    pub(in crate::ipc::hub) fn send(&self, message: &ToClient) -> Result<(), Failure> {
        wire::send(&self.down, message)
    }

    /// Ends the session for the client: after it has read what was sent, it finds the end.
    pub(in crate::ipc::hub) fn close(&self) {
        sys::shut_down(self.down.as_fd());
    }

    /// Wakes the client if it sleeps. If the client is gone, that is not an error: the hub's thread
    /// notices its end by itself.
    pub(crate) fn ring(self: &Arc<Self>) {
        // Needed for the words that were not written sequentially consistent.
        fence(Ordering::SeqCst);
        if self.page.claim_client() {
            failpoints::point("hub.rings");
            if failpoints::is_mutated("hub.no-bell") {
                return;
            }
            if !self.send_bell() {
                let client = self.clone();
                retry::add(Box::new(move || client.send_bell()));
            }
        }
    }

    /// Returns whether the doorbell was sent. The system may refuse it for lack of memory.
    fn send_bell(&self) -> bool {
        !matches!(wire::ring(&self.down, &ToClient::Bell), Err(Failure::Io(_)))
    }

    /// Sends a parcel, before the ring entry that refers to it, and returns its id. Returns `None`
    /// if too many are unread.
    pub(crate) fn send_parcel(&self, number: u32, envelope: &Envelope) -> Option<u64> {
        let sent = self.parcels.load(Ordering::SeqCst);
        // A client that claims to have read more than was sent gets nothing more.
        if sent.checked_sub(self.page.parcels_read()).is_none_or(|unread| unread >= PARCELS_MAX) {
            return None;
        }
        let envelope = envelope.duplicate()?.with_inline_limit(PARCEL_INLINE).ok()?;
        // Calls for one object are serialized by its lock, and ids only have to grow.
        let id = self.parcels.fetch_add(1, Ordering::SeqCst);
        match wire::send(&self.down, &ToClient::Parcel { number, id, envelope }) {
            // If the client is gone, its leases end, and the value is delivered to another.
            Ok(()) | Err(Failure::Gone) => Some(id),
            Err(_) => {
                self.parcels.fetch_sub(1, Ordering::SeqCst);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_says_it_sleeps_and_reads_nothing_is_not_waited_for() {
        let (down, unread) = wire::channel().unwrap();
        let peer = Arc::new(ClientLink::new(SessionPage::new().unwrap(), 0, down));
        for _ in 0..10_000 {
            peer.page.arm_client();
            peer.ring();
        }
        // It has room for another doorbell, but not for a parcel.
        let parcel = || Envelope::new(wire::encode(&7u8, wire::Shape::Own).unwrap()).unwrap();
        assert_eq!(peer.send_parcel(0, &parcel()), None);
        assert_eq!(peer.parcels.load(Ordering::SeqCst), 0);
        // Reading those that were sent makes room for more.
        while let Ok(message) = unread.recv(&crate::ipc::deadline::Deadline::now()) {
            assert!(matches!(message, ToClient::Bell));
        }
        assert_eq!(peer.send_parcel(0, &parcel()), Some(0));
    }
}
