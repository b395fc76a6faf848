//! Channels and pipes: messages from many senders to one receiver, and connections with two ends.
//!
//! [`channel`] makes a one-way channel, and [`pipe`] a two-way connection. Both ends can be sent to
//! other processes.

// How it works: each sending process shares a region with the receiver. It holds a byte ring, and
// after it a heap for messages that are too long for a ring entry. Messages pass through no third
// process, and what was sent survives the death of its sender, because the receiver maps the region
// too.
//
// A channel consists of:
//
// - One ipc-channel to the receiver. All senders ring there, and a new one introduces itself with
//   its region.
// - For each sending process, an ipc-channel for parcels: values with handles, or too long for the
//   heap. The kernel closes it when the process dies, which notifies the receiver of the death.
// - For each sending process, an ipc-channel back, where the receiver rings when a sender waits for
//   room.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::CreateError;
use crate::ipc::region::Memory;
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, Envelope, WireHandle};

mod bytes;
mod heap;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_wire;
mod inbound;
mod inbox;
mod iter;
mod layout;
mod long_message;
mod outbound;
mod pipe;
mod receiver;
mod rings;
mod sender;
#[cfg(feature = "stream")]
mod stream;

pub use bytes::Bytes;
pub use iter::{ReceiverIntoIter, ReceiverIter, ReceiverTryIter};
pub use pipe::{Connection, pipe};
pub use receiver::Receiver;
pub use sender::Sender;
#[cfg(feature = "stream")]
pub use stream::{ReceiverStream, SenderSink};

pub use crate::error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};

#[cfg(test)]
pub(crate) use hostile::attack;
pub(crate) use inbound::RawMessage;
pub(crate) use layout::Mark;
pub(crate) use outbound::SendFailure;
#[cfg(feature = "tracing")]
pub(crate) use rings::Backlog;

/// A message to a receiver.
#[derive(Debug, Serialize, Deserialize)]
enum ToReceiver {
    /// A process sends through this region from now on.
    Join(NewSender),
    /// The ring with this number has something to receive.
    Bell(u64),
}

/// The receiver's ends of everything that it shares with one sending process.
#[derive(Debug, Serialize, Deserialize)]
struct NewSender {
    region: Memory,
    room_bell: CheckedSender<RoomBell>,
    parcels: CheckedReceiver<Envelope>,
}

/// A message to a sender: there is room.
#[derive(Debug, Serialize, Deserialize)]
struct RoomBell;

/// Creates a one-way channel: any number of senders, in any processes, and one receiver.
///
/// # Errors
///
/// [`CreateError::Io`] if the system refuses a channel.
///
/// ```
/// use offspring::{ProcessWorker, Sender, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Count {
///     upto: u32,
///     numbers: Sender<u32>,
/// }
///
/// impl ProcessWorker for Count {
///     type Output = ();
///     fn run(self) {
///         for n in 1..=self.upto {
///             self.numbers.send(n).expect("the main program reads");
///         }
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (numbers, received) = offspring::channel()?;
///     let process = Count { upto: 3, numbers }.spawn()?;
///     assert_eq!(received.iter().collect::<Vec<u32>>(), [1, 2, 3]);
///     process.join()?;
///     Ok(())
/// }
/// ```
pub fn channel<T: Serialize + DeserializeOwned>() -> Result<(Sender<T>, Receiver<T>), CreateError> {
    let (to_receiver, bells) = wire::channel().map_err(CreateError::io("make a channel"))?;
    Ok((Sender::new(to_receiver), Receiver::new(bells)))
}

/// An end inside an encoded value.
#[derive(Serialize, Deserialize)]
struct EndToken {
    /// A hash of the message type's name, so that an end of a channel of another type does not
    /// decode.
    fingerprint: u64,
    /// The index of its handle among those beside the value.
    index: u32,
}

impl EndToken {
    fn new<T>(handle: WireHandle) -> Result<EndToken, &'static str> {
        Ok(EndToken {
            fingerprint: wire::fingerprint(std::any::type_name::<T>()),
            index: wire::note(handle)?,
        })
    }

    fn claim<T>(self) -> Result<WireHandle, &'static str> {
        if self.fingerprint == wire::fingerprint(std::any::type_name::<T>()) {
            wire::claim(self.index)
        } else {
            Err("the end belongs to a channel of another type")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::ipc::doorbell::claim;
    use crate::sys::lock;

    #[test]
    fn a_sender_that_dies_before_it_rings_does_not_silence_the_others() {
        let (dying, receiver) = channel::<u32>().unwrap();
        // Another ring to the same receiver, such as another process would have.
        let other = dying.separate();
        dying.send(1).unwrap();
        other.send(2).unwrap();
        assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 3);
        let inbox = receiver.inbox().unwrap();
        let (seen, seen_here) = mpsc::channel();
        std::thread::spawn(move || receiver.iter().for_each(|n| seen.send(n).unwrap()));
        let flag = |ring: usize| {
            lock(&inbox.rings).all().nth(ring).unwrap().flag().0.load(Ordering::SeqCst)
        };
        while flag(0) == 0 {
            std::thread::yield_now();
        }
        // The first sender claims the doorbell and dies before it rings.
        assert!(claim(lock(&inbox.rings).all().next().unwrap().flag().0));
        for n in 10..50 {
            other.send(n).unwrap();
            assert_eq!(seen_here.recv_timeout(Duration::from_secs(10)), Ok(n));
            // Wait until the receiver sleeps again, so that the next sender has to ring.
            while flag(1) == 0 {
                std::thread::yield_now();
            }
        }
    }
}
