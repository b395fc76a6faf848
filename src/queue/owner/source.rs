//! A queue as the event source of a selector in its owner's process.

use std::io;

use crate::ipc::reactor::{EventSource, Interest, WakerSlot};
use crate::queue::owner::lock::QueueOwner;

impl EventSource for QueueOwner {
    fn register(&self) -> io::Result<WakerSlot> {
        self.lock().register_for_item()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        let mut state = self.lock();
        let ready = state.is_ready_for_task();
        if let (false, Some((slot, waker))) = (ready, interest) {
            slot.set(waker);
        }
        state.arm_timer();
        ready
    }
}
