//! The sending end: a ring for each process that sends.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcSender};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Bell, DONE, Inward, PARCEL, PARCEL_INLINE, PARCELS_MAX, PARCELS_TAKEN, READER_SLEEPS, REGION_BYTES, Token, VALUE, WRITER_SLEEPS,
};
use crate::error::{SendError, SendTimeoutError};
use crate::hub;
use crate::line::{Line, Side, WaitEnd, claim};
use crate::region::Region;
use crate::ring;
use crate::sys::{self, lock};
use crate::wire::{self, Failure, Packet, WireHandle};

/// The sending end of a [`channel`](crate::channel()). Clones share it; sent to another process, it stays usable here too.
///
/// Dropping it changes nothing for what was sent. When every sender is gone and all is received, the
/// receiver reports [`RecvError::Disconnected`](crate::RecvError::Disconnected).
pub struct Sender<T> {
    pub(super) shared: Arc<SenderShared>,
    message: PhantomData<fn(T)>,
}

#[derive(Debug)]
pub(super) struct SenderShared {
    pub(super) outward: Mutex<IpcSender<Inward>>,
    /// Made by the first `send`.
    ring: Mutex<Option<Arc<Outgoing>>>,
}

/// This process's ring to the receiver.
#[derive(Debug)]
struct Outgoing {
    source: u64,
    region: Arc<Region>,
    back: Line<Bell>,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    producer: ring::Producer,
    parcels: u64,
    pulse: wire::Pulse,
}

impl Side<Bell> for Outgoing {
    fn arm(&self) {
        self.region.atomic(WRITER_SLEEPS).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn disarm(&self) -> usize {
        usize::from(self.region.atomic(WRITER_SLEEPS).swap(0, Ordering::Relaxed) == 0)
    }

    fn message(&self, _: Bell) -> bool {
        true
    }
}

impl Outgoing {
    /// Whether the receiver has left entries for a while: it may be slow, or dead.
    fn is_suspicious(&self) -> bool {
        let mut entries = lock(&self.entries);
        entries.producer.is_backed_up().unwrap_or(true) && entries.pulse.is_due()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.region.atomic(DONE).store(1, Ordering::Release);
    }
}

enum SendEnd {
    Timeout,
    Disconnected,
    Io(io::Error),
}

impl From<Failure> for SendEnd {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Disconnected => SendEnd::Disconnected,
            Failure::Timeout => SendEnd::Timeout,
            Failure::Io(error) => SendEnd::Io(error),
        }
    }
}

impl SenderShared {
    fn tell(&self, message: Inward) -> Result<(), Failure> {
        wire::send(&lock(&self.outward), message)
    }

    fn ring(&self) -> Result<Arc<Outgoing>, SendEnd> {
        let mut ring = lock(&self.ring);
        if let Some(ring) = &*ring {
            return Ok(ring.clone());
        }
        let region = Arc::new(Region::new(REGION_BYTES).map_err(SendEnd::Io)?);
        let source = u64::from_le_bytes(sys::random().map_err(SendEnd::Io)?);
        let (back, bells) = ipc::channel().map_err(SendEnd::Io)?;
        self.tell(Inward::Join {
            source,
            region: region.share().map_err(SendEnd::Io)?,
            back,
        })?;
        let outgoing = Arc::new(Outgoing {
            source,
            back: Line::new(bells),
            entries: Mutex::new(Entries {
                producer: ring::Producer::new(region.clone(), 0),
                parcels: 0,
                pulse: wire::Pulse::new(),
            }),
            region,
        });
        *ring = Some(outgoing.clone());
        Ok(outgoing)
    }

    fn send(&self, bytes: &[u8], mut packet: Option<Packet>, deadline: Option<Instant>) -> Result<(), SendEnd> {
        let ring = self.ring()?;
        if ring.is_suspicious() && ring.back.check(&*ring) {
            return Err(SendEnd::Disconnected);
        }
        ring.back
            .wait(&*ring, deadline, || self.attempt(&ring, bytes, &mut packet))
            .unwrap_or_else(|end| {
                Err(match end {
                    WaitEnd::Timeout => SendEnd::Timeout,
                    WaitEnd::Gone => SendEnd::Disconnected,
                })
            })
    }

    fn attempt(&self, ring: &Outgoing, bytes: &[u8], packet: &mut Option<Packet>) -> Option<Result<(), SendEnd>> {
        if ring.back.is_gone() {
            return Some(Err(SendEnd::Disconnected));
        }
        let mut entries = lock(&ring.entries);
        let pushed = if packet.is_none() {
            entries.producer.push(VALUE, bytes)
        } else {
            let taken = ring.region.atomic(PARCELS_TAKEN).load(Ordering::SeqCst);
            if entries.parcels.saturating_sub(taken) >= PARCELS_MAX {
                return None;
            }
            match entries.producer.has_room(0) {
                // Under one lock, so that parcels and their entries come in one order.
                Ok(true) => {
                    let packet = packet.take().expect("checked above");
                    if let Err(failure) = self.tell(Inward::Parcel {
                        source: ring.source,
                        packet,
                    }) {
                        return Some(Err(failure.into()));
                    }
                    entries.parcels += 1;
                    entries.producer.push(PARCEL, &[])
                }
                other => other,
            }
        };
        drop(entries);
        match pushed {
            Ok(true) => {}
            Ok(false) => return None,
            Err(ring::Corrupt) => return Some(Err(SendEnd::Disconnected)),
        }
        if claim(ring.region.atomic(READER_SLEEPS)) {
            if let Err(failure) = wire::ring(&lock(&self.outward), Inward::Bell) {
                ring.back.set_gone();
                return Some(Err(failure.into()));
            }
        }
        Some(Ok(()))
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message; waits while the receiver's buffer (128 KiB, or 8 large messages) is full.
    ///
    /// "Sent" means that the receiver gets it even if this process dies; not that it has been received.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the receiver is gone, or the message does not encode; it comes back with the error.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.send_until(message, None).map_err(|end| match end {
            SendTimeoutError::Failed(error) => error,
            SendTimeoutError::Timeout(message) => SendError::Disconnected(message),
        })
    }

    /// As [`send`](Sender::send), but waits at most this long.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`], or as [`send`](Sender::send).
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        // A deadline that the clock cannot express is none.
        self.send_until(message, Instant::now().checked_add(timeout))
    }

    fn send_until(&self, message: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let encoded = match wire::encode(&message) {
            Ok(encoded) => encoded,
            Err(error) => {
                // Handles that were encoded before the error are under way to nobody.
                hub::announce();
                return Err(SendError::Encode(message, error).into());
            }
        };
        let announce = !encoded.handles.is_empty();
        let sent = if announce || encoded.bytes.len() > ring::ENTRY_MAX {
            Packet::new(encoded)
                .and_then(|packet| packet.with_inline_limit(PARCEL_INLINE))
                .map_err(SendEnd::Io)
                .and_then(|packet| self.shared.send(&[], Some(packet), deadline))
        } else {
            self.shared.send(&encoded.bytes, None, deadline)
        };
        if announce {
            hub::announce();
        }
        sent.map_err(|end| match end {
            SendEnd::Timeout => SendTimeoutError::Timeout(message),
            SendEnd::Disconnected => SendError::Disconnected(message).into(),
            SendEnd::Io(error) => SendError::Io(message, error).into(),
        })
    }
}

impl<T> Sender<T> {
    /// The same end, for those who know that its messages are of another type than is written here.
    pub(crate) fn retype<U>(self) -> Sender<U> {
        Sender {
            shared: self.shared,
            message: PhantomData,
        }
    }

    pub(super) fn new(outward: IpcSender<Inward>) -> Sender<T> {
        Sender {
            shared: Arc::new(SenderShared {
                outward: Mutex::new(outward),
                ring: Mutex::new(None),
            }),
            message: PhantomData,
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender {
            shared: self.shared.clone(),
            message: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("message", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outward = lock(&self.shared.outward).clone();
        Token::new::<T>(WireHandle::Sender(outward.to_opaque()))
            .map_err(wire::explain::<S::Error>)?
            .serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Token::deserialize(deserializer)?
            .claim::<T>()
            .map_err(wire::explain_de::<D::Error>)?
        {
            WireHandle::Sender(outward) => Ok(Sender::new(outward.to())),
            _ => Err(wire::explain_de("a sender came with another thing")),
        }
    }
}
