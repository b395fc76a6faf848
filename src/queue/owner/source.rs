//! A queue as the event source of a selector in its owner's process.

use std::io;

use crate::ipc::reactor::{self, EventSource, Interest, WakerSlot};
use crate::queue::owner::lock::QueueOwner;

impl EventSource for QueueOwner {
    fn register(&self) -> io::Result<WakerSlot> {
        self.lock().register_for_item()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        reactor::check_and_set(interest, || self.lock().is_ready_for_task(interest.is_some()))
    }
}
