//! A session's way to its hub: messages arrive in order, and sending them never waits.
//!
//! The hub's process may be stopped, and then the socket's buffer fills up. What finds no room is
//! kept here, in order, and sent before anything that comes later. While something is kept, a
//! thread waits for room and sends it. So the hub learns that a handle was dropped even if this
//! process never calls again.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::ipc::hub::ToHub;
use crate::ipc::wire::{self, CheckedSender, Failure, Retry};
use crate::sys::{self, lock};

#[derive(Debug)]
pub(in crate::ipc::hub) struct UpChannel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    channel: CheckedSender<ToHub>,
    queue: Mutex<UpQueue>,
}

#[derive(Debug)]
pub(in crate::ipc::hub) struct UpQueue {
    /// The number of parcels sent so far.
    pub(in crate::ipc::hub) parcels: u64,
    /// The messages that the socket had no room for.
    unsent: VecDeque<ToHub>,
    /// If true, a thread waits for room.
    has_thread: bool,
}

/// The channel, while this thread alone may send.
pub(in crate::ipc::hub) struct LockedUpChannel<'a> {
    shared: &'a Arc<Shared>,
    pub(in crate::ipc::hub) queue: MutexGuard<'a, UpQueue>,
}

impl UpChannel {
    pub(in crate::ipc::hub) fn new(channel: CheckedSender<ToHub>) -> UpChannel {
        let queue = UpQueue { parcels: 0, unsent: VecDeque::new(), has_thread: false };
        UpChannel(Arc::new(Shared { channel, queue: Mutex::new(queue) }))
    }

    pub(in crate::ipc::hub) fn lock(&self) -> LockedUpChannel<'_> {
        LockedUpChannel { shared: &self.0, queue: lock(&self.0.queue) }
    }

    /// Sends a doorbell, ahead of the messages that are kept: it announces a change in memory, not
    /// a message.
    pub(in crate::ipc::hub) fn ring(&self, number: u32) -> Result<(), Failure> {
        match wire::send(&self.0.channel, &ToHub::Bell { number }) {
            Err(Failure::Gone) => Err(Failure::Gone),
            // The hub has unread doorbells, but those are about other attachments, and this process
            // may be about to wait for an answer.
            Err(_) => self.lock().post(ToHub::Bell { number }),
            Ok(()) => Ok(()),
        }
    }
}

impl LockedUpChannel<'_> {
    /// Sends a message now, or as soon as there is room.
    pub(in crate::ipc::hub) fn post(&mut self, message: ToHub) -> Result<(), Failure> {
        let flushed = self.queue.flush(&self.shared.channel);
        match flushed.and_then(|()| wire::send(&self.shared.channel, &message)) {
            Ok(()) => return Ok(()),
            Err(Failure::Gone) => return Err(Failure::Gone),
            // The message waits for its turn. Even if the system refused it for lack of memory, or
            // because too many descriptors are in flight, it may succeed later.
            Err(_) => {}
        }
        self.queue.unsent.push_back(message);
        if !self.queue.has_thread {
            let shared = self.shared.clone();
            let started = sys::service_thread("offspring-unsent", move || shared.send_unsent());
            // Without a thread, the next message will send it.
            self.queue.has_thread = started.is_ok();
        }
        Ok(())
    }

    /// Sends a message if there is room for it and for everything that was posted before.
    pub(in crate::ipc::hub) fn send(&mut self, message: &ToHub) -> Result<(), Failure> {
        self.queue.flush(&self.shared.channel)?;
        wire::send(&self.shared.channel, message)
    }
}

impl UpQueue {
    fn flush(&mut self, channel: &CheckedSender<ToHub>) -> Result<(), Failure> {
        while let Some(message) = self.unsent.front() {
            wire::send(channel, message)?;
            self.unsent.pop_front();
        }
        Ok(())
    }
}

impl Shared {
    /// Sends what is kept, until nothing is left or the hub is gone.
    fn send_unsent(&self) {
        let mut retry = Retry::default();
        loop {
            let has_room = sys::wait_for_room(self.channel.as_fd(), None);
            let mut queue = lock(&self.queue);
            match has_room.map_err(Failure::Io).and_then(|_| queue.flush(&self.channel)) {
                Err(Failure::Full) => continue,
                Err(Failure::Io(error)) => {
                    drop(queue);
                    retry.pause(&error);
                    continue;
                }
                Err(_) => queue.unsent.clear(),
                Ok(()) => {}
            }
            queue.has_thread = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ipc::deadline::Deadline;

    #[test]
    fn what_finds_no_room_arrives_later_and_in_order() {
        let (sender, receiver) = wire::channel().unwrap();
        let channel = UpChannel::new(sender);
        for number in 0..2000 {
            channel.lock().post(ToHub::Detach { number }).unwrap();
            channel.ring(number).unwrap();
        }
        assert!(matches!(channel.lock().send(&ToHub::Bell { number: 0 }), Err(Failure::Full)));
        // Posted messages are sent even though the session has ended.
        drop(channel);
        let mut next = 0;
        while next < 2000 {
            match receiver.recv(&Deadline::after(Duration::from_secs(20))).unwrap() {
                ToHub::Detach { number } => {
                    assert_eq!(number, next);
                    next += 1;
                }
                ToHub::Bell { .. } => {}
                message => panic!("{message:?}"),
            }
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_when_the_hub_is_gone() {
        let (sender, receiver) = wire::channel::<ToHub>().unwrap();
        let channel = UpChannel::new(sender);
        for number in 0..2000 {
            channel.lock().post(ToHub::Detach { number }).unwrap();
        }
        drop(receiver);
        while channel.lock().queue.has_thread {
            std::thread::yield_now();
        }
        assert!(channel.lock().queue.unsent.is_empty());
        assert!(matches!(channel.lock().post(ToHub::Bell { number: 0 }), Err(Failure::Gone)));
    }
}
