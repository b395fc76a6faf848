//! A value as it travels in one message.

use std::any::type_name;
use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::ipc::account::{Account, Charge};
use crate::ipc::codec::{Input, Slice};
use crate::ipc::region::{Memory, Reader, Region, memory_from};
use crate::ipc::wire::{
    EncodedValue, WireHandle, decode, decode_bytes, decode_from, message_limit,
};

/// A body of up to this many bytes is part of the message. Four of them fit a socket's buffer.
pub(crate) const INLINE_MAX: usize = 32 << 10;

/// A value as it travels in one message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    body: Body,
    /// The mapping of a body in memory, if that was mapped before the decoding.
    #[serde(skip)]
    mapped: Option<Region>,
    handles: Vec<WireHandle>,
    /// Whether its receivers were moved to another process, so that only its bytes are left.
    #[serde(skip)]
    moved_out: bool,
    /// Its descriptors, on the account of the process that it came from.
    #[serde(skip)]
    charge: Option<Charge>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Body {
    Inline(Vec<u8>),
    /// The first bytes of this memory, and how many they are.
    Memory(Memory, u64),
}

impl Body {
    fn memory(bytes: &[u8]) -> io::Result<Body> {
        Ok(Body::Memory(memory_from(bytes)?, bytes.len() as u64))
    }
}

impl Envelope {
    pub(crate) fn new(encoded: EncodedValue) -> io::Result<Envelope> {
        let body = if encoded.bytes.len() <= INLINE_MAX {
            Body::Inline(encoded.bytes)
        } else {
            Body::memory(&encoded.bytes)?
        };
        Ok(Envelope::of(body, encoded.handles))
    }

    fn of(body: Body, handles: Vec<WireHandle>) -> Envelope {
        Envelope { body, mapped: None, handles, moved_out: false, charge: None }
    }

    /// Maps everything that decoding will use: a body in memory, and shared memory in the value. A
    /// process that has too few addresses learns that here, while the value can still stay where it
    /// is. Decoding would use it up.
    pub(crate) fn map(&mut self) -> io::Result<()> {
        for handle in &self.handles {
            if let WireHandle::Memory(memory) = handle {
                memory.map_ahead()?;
            }
        }
        if let (Body::Memory(memory, length), None) = (&self.body, &self.mapped) {
            // The decoder will refuse a body that is longer than what is accepted, or than its
            // memory.
            let length = usize::try_from(*length).unwrap_or(usize::MAX);
            if length <= message_limit().min(memory.len()) {
                self.mapped = Some(memory.map_part(length)?);
            }
        }
        Ok(())
    }

    /// Puts what it keeps open on an account, for as long as it exists.
    pub(crate) fn charge_to(&mut self, account: &Arc<Account>) {
        let descriptors = self.descriptors();
        self.charge = (descriptors > 0).then(|| account.charge(descriptors));
    }

    /// Moves a body of more than `limit` bytes to shared memory, so that many messages fit a
    /// socket's buffer.
    pub(crate) fn with_inline_limit(mut self, limit: usize) -> io::Result<Envelope> {
        if let Body::Inline(bytes) = &self.body {
            if bytes.len() > limit {
                self.body = Body::memory(bytes)?;
            }
        }
        Ok(self)
    }

    /// Returns a copy, unless it holds a receiver, or memory or descriptors are short.
    pub(crate) fn try_clone(&self) -> Option<Envelope> {
        self.with_handles(
            self.handles.iter().map(WireHandle::try_clone).collect::<Option<Vec<_>>>()?,
        )
    }

    /// Returns a copy for a process that may never take it; see [`WireHandle::duplicate`].
    pub(crate) fn duplicate(&self) -> Option<Envelope> {
        self.with_handles(
            self.handles.iter().map(WireHandle::duplicate).collect::<Option<Vec<_>>>()?,
        )
    }

    fn with_handles(&self, handles: Vec<WireHandle>) -> Option<Envelope> {
        let body = match &self.body {
            Body::Inline(bytes) => Body::Inline(bytes.clone()),
            Body::Memory(memory, length) => Body::Memory(memory.clone(), *length),
        };
        Some(Envelope::of(body, handles))
    }

    /// Records that it was delivered. If it holds a receiver, that receiver is in another process
    /// now.
    pub(crate) fn mark_moved_out(&mut self) {
        if self.handles.iter().any(|handle| matches!(handle, WireHandle::Receiver(_))) {
            self.handles.clear();
            self.moved_out = true;
        }
    }

    pub(crate) fn is_moved_out(&self) -> bool {
        self.moved_out
    }

    /// How many descriptors it keeps open.
    pub(crate) fn descriptors(&self) -> usize {
        self.handles.len() + usize::from(matches!(self.body, Body::Memory(..)))
    }

    /// Returns its bytes, if they are at most `limit` and it holds no handles.
    pub(crate) fn into_plain(self, limit: usize) -> Result<Vec<u8>, Envelope> {
        match self.body {
            Body::Inline(bytes) if bytes.len() <= limit && self.handles.is_empty() => Ok(bytes),
            body => Err(Envelope { body, ..self }),
        }
    }

    /// Wraps a value that was encoded into the first `length` bytes of `region`.
    pub(crate) fn in_region(region: Region, length: usize, handles: Vec<WireHandle>) -> Envelope {
        Envelope::of(Body::Memory(region.memory(), length as u64), handles)
    }

    pub(crate) fn decode<T: DeserializeOwned>(mut self) -> Result<T, DecodeError> {
        self.decode_keeping_bytes()
    }

    /// Decodes the value and keeps its bytes. This uses up the handles.
    pub(crate) fn decode_keeping_bytes<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let handles = std::mem::take(&mut self.handles);
        match &self.body {
            Body::Inline(bytes) => decode(bytes, handles),
            Body::Memory(memory, length) => {
                let name = type_name::<T>();
                let region = self.mapped.take().map_or_else(|| map(name, memory), Ok)?;
                decode_from(reader(name, &region, *length)?, handles)
            }
        }
    }

    /// Returns a copy of the encoded bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.body {
            Body::Inline(body) => bytes.extend_from_slice(body),
            Body::Memory(memory, length) => {
                let region = map(BYTES, memory);
                let reader = region.as_ref().ok().map(|region| reader(BYTES, region, *length));
                if let Some(Ok(mut reader)) = reader {
                    let count = reader.left().min(message_limit().saturating_add(1));
                    reader.append(count, &mut bytes);
                }
            }
        }
        bytes
    }

    /// Appends a value that was encoded as bytes. Returns its length.
    pub(crate) fn bytes_into(self, bytes: &mut Vec<u8>) -> Result<usize, DecodeError> {
        match self.body {
            Body::Inline(body) => decode_bytes(Slice(&body), bytes),
            Body::Memory(memory, length) => {
                let region = self.mapped.map_or_else(|| map(BYTES, &memory), Ok)?;
                decode_bytes(reader(BYTES, &region, length)?, bytes)
            }
        }
    }
}

/// The type of the bytes of an envelope that is not decoded.
const BYTES: &str = "alloc::vec::Vec<u8>";

fn map(name: &'static str, memory: &Memory) -> Result<Region, DecodeError> {
    memory.map().map_err(|error| {
        DecodeError::elsewhere(name, format!("its memory cannot be mapped: {error}"))
    })
}

fn reader<'r>(
    name: &'static str,
    region: &'r Region,
    length: u64,
) -> Result<Reader<'r>, DecodeError> {
    match usize::try_from(length) {
        Ok(length) if length <= region.len() => Ok(region.reader(0, length)),
        _ => Err(DecodeError::elsewhere(name, "its memory is shorter than its length")),
    }
}
