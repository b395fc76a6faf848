//! A queue as the event source of a selector in another process than its owner's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ipc::hub::Session;
use crate::ipc::reactor::{EventSource, Held, Interest, WakerSlot};
use crate::ipc::region::Region;
use crate::queue::client::attachment::AttachedQueue;
use crate::queue::layout::{self, Word};

/// Announces that a selector of this client wants an item, until it is dropped.
#[derive(Debug)]
struct Wanting {
    session: Arc<Session>,
    number: u32,
    region: Arc<Region>,
}

impl Drop for Wanting {
    fn drop(&mut self) {
        layout::word(&self.region, Word::Tasks).fetch_sub(1, Ordering::SeqCst);
        self.session.ring(self.number, layout::word(&self.region, Word::OwnerSleeps));
    }
}

impl Held for Wanting {}

impl AttachedQueue {
    fn want(&self) -> Wanting {
        self.word(Word::Tasks).fetch_add(1, Ordering::SeqCst);
        let (session, region) = (self.session().clone(), self.region().clone());
        Wanting { session, number: self.number(), region }
    }
}

impl EventSource for AttachedQueue {
    fn register(&self) -> io::Result<WakerSlot> {
        let slot = self.session().register()?;
        Ok(slot.with(self.want()))
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        let ready = || self.has_next().then_some(());
        let ready = self.session().poll(interest, ready).is_ready();
        if !ready && interest.is_some() {
            // The owner may not know that this selector waits, or that everything it sent was
            // taken.
            self.ring();
        }
        ready
    }
}
