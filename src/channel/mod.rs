//! One-way channels: many senders, one receiver, no hub between.
//!
//! Each process that sends shares a region with the receiver: a byte ring, and behind it a heap for what is too
//! long for a ring entry. So what was sent survives the sender's death. The receiver's end of one ipc-channel is
//! where all of them ring, and join with a new region. Values with handles, and what is too long for the
//! heap, are parcels: they travel over an ipc-channel of their sender's own, whose end also tells that it is
//! gone. The way back is one ipc-channel for each ring, for a sender that waits for room.

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, IpcSharedMemory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::CreateError;
use crate::ipc::wire::{self, Envelope, WireHandle};

#[cfg(feature = "async")]
mod async_ops;
mod bytes;
mod heap;
#[cfg(test)]
mod hostile;
mod layout;
mod pipe;
mod receiver;
#[cfg(feature = "async")]
mod recv_async;
mod sender;
mod source;
mod spill;

pub use bytes::Bytes;
pub use pipe::{Connection, pipe};
pub use receiver::{Receiver, ReceiverIter};
pub use sender::Sender;

pub(crate) use layout::Mark;
pub(crate) use sender::SendEnd;
pub(crate) use source::Arrived;

/// To a receiver.
#[derive(Debug, Serialize, Deserialize)]
enum Inward {
    /// A process sends from now on through this region.
    Join(Joining),
    Bell,
}

/// What a receiver has of a process that sends.
#[derive(Debug, Serialize, Deserialize)]
struct Joining {
    region: IpcSharedMemory,
    back: IpcSender<Bell>,
    parcels: IpcReceiver<Envelope>,
}

/// Back to a sender: there is room.
#[derive(Debug, Serialize, Deserialize)]
struct Bell;

/// Parcels of one sender that the receiver has not taken.
const PARCELS_MAX: u64 = 8;
/// Longer bodies of parcels travel as shared memory, so that many parcels fit the socket's buffer.
const PARCEL_INLINE: usize = 1 << 10;

/// Makes a one-way channel: any number of senders, in any processes, and one receiver.
///
/// # Errors
///
/// [`CreateError::Io`] if the system gives no channel.
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
    let (outward, inward) = ipc::channel().map_err(CreateError::io("make a channel"))?;
    Ok((Sender::new(outward), Receiver::new(inward)))
}

/// An end as it is written into a value.
#[derive(Serialize, Deserialize)]
struct Token {
    fingerprint: u64,
    index: u32,
}

impl Token {
    fn new<T>(handle: WireHandle) -> Result<Token, &'static str> {
        Ok(Token {
            fingerprint: wire::fingerprint(std::any::type_name::<T>()),
            index: wire::note(handle)?,
        })
    }

    fn claim<T>(self) -> Result<WireHandle, &'static str> {
        if self.fingerprint == wire::fingerprint(std::any::type_name::<T>()) {
            wire::claim(self.index)
        } else {
            Err("the end is of a channel of another type")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::layout::READER_SLEEPS;
    use super::*;
    use crate::ipc::doorbell::claim;
    use crate::sys::lock;

    #[test]
    fn a_sender_that_dies_before_it_rings_does_not_silence_the_others() {
        let (dying, receiver) = channel::<u32>().unwrap();
        // As another process has it: a ring of its own over the same channel.
        let other = Sender::<u32>::new(lock(&dying.shared.outward).clone());
        dying.send(1).unwrap();
        other.send(2).unwrap();
        assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 3);
        let shared = receiver.shared().unwrap();
        let (seen, seen_here) = mpsc::channel();
        std::thread::spawn(move || receiver.iter().for_each(|n| seen.send(n).unwrap()));
        let flag = |source: usize| {
            lock(&shared.sources).all[source]
                .link
                .region
                .atomic(READER_SLEEPS)
                .load(Ordering::SeqCst)
        };
        while flag(0) == 0 {
            std::thread::yield_now();
        }
        // It claims the bell, and never rings.
        assert!(claim(
            lock(&shared.sources).all[0]
                .link
                .region
                .atomic(READER_SLEEPS)
        ));
        for n in 10..50 {
            other.send(n).unwrap();
            assert_eq!(seen_here.recv_timeout(Duration::from_secs(10)), Ok(n));
            // Let it sleep again, so that the next one has to ring.
            while flag(1) == 0 {
                std::thread::yield_now();
            }
        }
    }
}
