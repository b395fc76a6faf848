//! Messages as packets: one packet in ipc-channel's format, with descriptors beside it.
//!
//! ipc-channel sends and receives on the same sockets, but it blocks while a socket's buffer is
//! full, splits long messages, trusts the header of what it receives, and loses descriptors for
//! which a process has no room. So this crate sends and receives messages itself, here. An end or
//! memory inside a message is written as the index of its descriptor among those that accompany the
//! packet.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CheckedSender, Failure, explain, explain_de};
use crate::ipc::codec::{Decoder, Encoder, Slice};
use crate::ipc::region::Memory;
use crate::sys::{self, PACKET_FDS, Packet};

/// The descriptors of the message that is being encoded. The message owns them.
struct Attached {
    fds: [RawFd; PACKET_FDS],
    /// `None` if no message is being encoded.
    count: Option<usize>,
}

thread_local! {
    // It has no destructor, so that a message can be sent at any time in the life of a thread.
    static ATTACHED: RefCell<Attached> =
        const { RefCell::new(Attached { fds: [-1; PACKET_FDS], count: None }) };
    /// The descriptors of the message that is being decoded.
    static ARRIVED: RefCell<Vec<Option<OwnedFd>>> = const { RefCell::new(Vec::new()) };
}

/// The longest packet that is accepted. Packets of this crate are far shorter, see
/// [`INLINE_MAX`](super::envelope::INLINE_MAX).
const PACKET_MAX: usize = 128 << 10;

/// The size of the header that ipc-channel writes before a message: the length of the packet and
/// that of the message.
const HEADER: usize = 2 * size_of::<usize>();

/// The size of a buffer that fits a doorbell.
const SMALL: usize = 32;

fn header(message: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (packet, rest) = header.split_at_mut(size_of::<usize>());
    packet.copy_from_slice(&(HEADER + message).to_ne_bytes());
    rest.copy_from_slice(&message.to_ne_bytes());
    header
}

/// Returns whether a packet of this length, which begins with these bytes, is a whole message.
pub(in crate::ipc::wire) fn is_whole_message(length: usize, begin: &[u8]) -> bool {
    (HEADER..=PACKET_MAX).contains(&length) && begin.starts_with(&header(length - HEADER))
}

pub(in crate::ipc::wire) fn no_message(
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Failure {
    Failure::Io(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Sends one message, whole or not at all: [`Failure::Full`] if there is no room until the receiver
/// reads. Never blocks.
pub(crate) fn send<M: Serialize>(sender: &CheckedSender<M>, message: &M) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity(SMALL);
    bytes.resize(HEADER, 0);
    ATTACHED.with_borrow_mut(|attached| attached.count = Some(0));
    let encoded = Encoder::new(&mut bytes, usize::MAX).encode(message);
    let fds: Vec<_> = ATTACHED.with_borrow_mut(|attached| {
        let fds = &attached.fds[..attached.count.take().unwrap_or(0)];
        fds.iter().map(|&fd| sys::borrow_from(message, fd)).collect()
    });
    encoded.map_err(no_message)?;
    let length = bytes.len() - HEADER;
    bytes[..HEADER].copy_from_slice(&header(length));
    #[cfg(test)]
    if crate::ipc::fuzz::is_hostile() {
        crate::ipc::hostile::send_changed(sender.as_fd(), bytes, &fds);
        return Ok(());
    }
    sys::send_packet(sender.as_fd(), &bytes, &fds).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Failure::Full,
        _ => error.into(),
    })
}

/// Decodes a packet. A descriptor that the message does not name is closed.
pub(in crate::ipc::wire) fn open<M: DeserializeOwned>(packet: Packet) -> Result<M, Failure> {
    let has_fds = !packet.fds.is_empty();
    if has_fds {
        ARRIVED.set(packet.fds.into_iter().map(Some).collect());
    }
    let mut decoder = Decoder::new(Slice(&packet.bytes[HEADER..]));
    let message = M::deserialize(&mut decoder);
    if has_fds {
        ARRIVED.take();
    }
    match message {
        Ok(message) if decoder.left() == 0 => Ok(message),
        Ok(_) => Err(no_message("a message that is too long")),
        Err(error) => Err(no_message(error)),
    }
}

/// Adds a descriptor to the message that is being encoded, and returns its index.
pub(in crate::ipc::wire) fn attach(owner: &impl AsFd) -> Result<u32, &'static str> {
    ATTACHED.with_borrow_mut(|attached| {
        let index = attached.count.ok_or("a descriptor is sent in a message only")?;
        let room = attached.fds.get_mut(index).ok_or("it has too many descriptors")?;
        *room = owner.as_fd().as_raw_fd();
        attached.count = Some(index + 1);
        Ok(index as u32)
    })
}

/// Takes a descriptor that [`attach`] added.
pub(crate) fn deserialize_descriptor<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<OwnedFd, D::Error> {
    let index = u32::deserialize(deserializer)?;
    let arrived = ARRIVED.with_borrow_mut(|arrived| arrived.get_mut(index as usize)?.take());
    arrived.ok_or_else(|| explain_de("a descriptor is missing, or named twice"))
}

/// Encoding of a file inside a message.
pub(crate) mod file {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        file: &OwnedFd,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        attach(file).map_err(explain::<S::Error>)?.serialize(serializer)
    }

    pub(crate) use super::deserialize_descriptor as deserialize;
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        attach(self).map_err(explain::<S::Error>)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let descriptor = deserialize_descriptor(deserializer)?;
        Memory::adopt(descriptor).map_err(|error| explain_de(&error.to_string()))
    }
}
