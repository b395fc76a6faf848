//! A queue as the event source of a selector in another process than its owner's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ipc::reactor::{EventSource, Held, Interest, WakerSlot};
use crate::ipc::region::Region;
use crate::queue::client::attachment::AttachedQueue;
use crate::queue::layout::{self, Word};

/// While it lives, a selector of this client wants an item.
#[derive(Debug)]
struct Wanting(Arc<Region>);

impl Wanting {
    fn new(region: Arc<Region>) -> Wanting {
        layout::word(&region, Word::Tasks).fetch_add(1, Ordering::SeqCst);
        Wanting(region)
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        layout::word(&self.0, Word::Tasks).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Held for Wanting {}

impl EventSource for AttachedQueue {
    fn register(&self) -> io::Result<WakerSlot> {
        let slot = self.session().register()?;
        Ok(slot.with(Wanting::new(self.region().clone())))
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        let ready = || self.has_next().then_some(());
        let ready = self.session().poll(interest, ready).is_ready();
        if !ready && interest.is_some() {
            // The owner may not know that this selector waits, or that all it sent was taken.
            self.session().ring();
        }
        ready
    }
}
