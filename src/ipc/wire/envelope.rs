//! A value as it travels in one message.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::ipc::catch::with_quiet;
use crate::ipc::codec::{Input, Slice};
use crate::ipc::region::{Reader, Region, memory_from};
use crate::ipc::wire::{EncodedValue, WireHandle, decode, decode_shared, decode_with};

/// Bodies up to this many bytes ride in the message itself; four of them fit a socket's buffer.
pub(crate) const INLINE_MAX: usize = 32 << 10;

/// A value as it travels in one message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    body: Body,
    handles: Vec<WireHandle>,
    /// Its handles went elsewhere; only its bytes are left.
    #[serde(skip)]
    moved_out: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Body {
    Inline(Vec<u8>),
    /// So many bytes of this memory.
    Memory(Region, u64),
}

impl Body {
    fn memory(bytes: &[u8]) -> io::Result<Body> {
        Ok(Body::Memory(
            Region::adopt(memory_from(bytes)?),
            bytes.len() as u64,
        ))
    }
}

impl Envelope {
    pub(crate) fn new(encoded: EncodedValue) -> io::Result<Envelope> {
        let body = if encoded.bytes.len() <= INLINE_MAX {
            Body::Inline(encoded.bytes)
        } else {
            Body::memory(&encoded.bytes)?
        };
        Ok(Envelope {
            body,
            handles: encoded.handles,
            moved_out: false,
        })
    }

    /// The same with a body that is inline only up to `limit` bytes, so that many fit a socket's buffer.
    pub(crate) fn with_inline_limit(mut self, limit: usize) -> io::Result<Envelope> {
        if let Body::Inline(bytes) = &self.body {
            if bytes.len() > limit {
                self.body = Body::memory(bytes)?;
            }
        }
        Ok(self)
    }

    /// A second one, unless it holds something that exists once, or memory or descriptors are short.
    pub(crate) fn try_clone(&self) -> Option<Envelope> {
        self.with_handles(
            self.handles
                .iter()
                .map(WireHandle::try_clone)
                .collect::<Option<Vec<_>>>()?,
        )
    }

    /// A second one for another process that may not take it, see [`WireHandle::duplicate`].
    pub(crate) fn duplicate(&self) -> Option<Envelope> {
        self.with_handles(
            self.handles
                .iter()
                .map(WireHandle::duplicate)
                .collect::<Option<Vec<_>>>()?,
        )
    }

    fn with_handles(&self, handles: Vec<WireHandle>) -> Option<Envelope> {
        let body = match &self.body {
            Body::Inline(bytes) => Body::Inline(bytes.clone()),
            Body::Memory(memory, length) => Body::Memory(memory.try_clone().ok()?, *length),
        };
        let moved_out = false;
        Some(Envelope {
            body,
            handles,
            moved_out,
        })
    }

    /// It was delivered: if it holds what exists only once, that is elsewhere now.
    pub(crate) fn mark_moved_out(&mut self) {
        if self
            .handles
            .iter()
            .any(|handle| matches!(handle, WireHandle::Receiver(_)))
        {
            self.handles.clear();
            self.moved_out = true;
        }
    }

    pub(crate) fn is_moved_out(&self) -> bool {
        self.moved_out
    }

    /// Its bytes, if there are at most `limit`, and nothing else is in it.
    pub(crate) fn into_plain(self, limit: usize) -> Result<Vec<u8>, Envelope> {
        match self.body {
            Body::Inline(bytes) if bytes.len() <= limit && self.handles.is_empty() => Ok(bytes),
            body => Err(Envelope { body, ..self }),
        }
    }

    /// A value that was encoded there, in so many bytes.
    pub(crate) fn in_region(region: Region, length: usize, handles: Vec<WireHandle>) -> Envelope {
        Envelope {
            body: Body::Memory(region, length as u64),
            handles,
            moved_out: false,
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(mut self) -> Result<T, DecodeError> {
        self.decode_keeping_bytes()
    }

    /// Decodes it and keeps the bytes; the handles are moved_out.
    pub(crate) fn decode_keeping_bytes<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let handles = std::mem::take(&mut self.handles);
        match &self.body {
            Body::Inline(bytes) => decode(bytes, handles),
            Body::Memory(memory, length) => decode_shared(reader::<T>(memory, *length)?, handles),
        }
    }

    /// A copy of the encoded bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.body {
            Body::Inline(body) => bytes.extend_from_slice(body),
            Body::Memory(memory, length) => {
                if let Ok(mut reader) = reader::<Vec<u8>>(memory, *length) {
                    reader.append(reader.left(), &mut bytes);
                }
            }
        }
        bytes
    }

    /// Appends the bytes that were encoded as one value; how many they are.
    pub(crate) fn bytes_into(self, bytes: &mut Vec<u8>) -> Result<usize, DecodeError> {
        match self.body {
            Body::Inline(body) => decode_with(Slice(&body), self.handles, |decoder| {
                decoder.bytes_into(bytes)
            }),
            Body::Memory(memory, length) => decode_with(
                reader::<Vec<u8>>(&memory, length)?,
                self.handles,
                |decoder| decoder.bytes_into(bytes),
            ),
        }
    }
}

fn reader<T>(memory: &Region, length: u64) -> Result<Reader<'_>, DecodeError> {
    match usize::try_from(length) {
        Ok(length) if length <= memory.len() => Ok(memory.reader(0, length)),
        _ => Err(DecodeError::new::<T>("its memory is shorter than it says")),
    }
}

/// A [`Envelope`] that is decoded while its message is: there, and only there, raw handles of ipc-channel
/// inside the value find their descriptors.
pub(crate) struct Carried<T>(pub(crate) Result<T, DecodeError>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Carried<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The user's code: its panics are no secret.
        Envelope::deserialize(deserializer)
            .map(|envelope| Carried(with_quiet(false, || envelope.decode())))
    }
}

impl<T> std::fmt::Debug for Carried<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Carried").finish_non_exhaustive()
    }
}

/// ipc-channel asks it of what is received; what is sent is a [`Envelope`].
impl<T> Serialize for Carried<T> {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("send the envelope"))
    }
}
