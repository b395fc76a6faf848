//! Descriptors inside values.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ipc::wire::{self, WireHandle};

/// An open file, socket or other descriptor that can be a field of a worker, a message, or an item
/// of a queue. The receiving process gets a descriptor of the same open file, with close-on-exec
/// set.
///
/// Dropping it closes this process's descriptor. A descriptor on its way stays open until its value
/// is received, and is closed if that never happens. If an item is delivered again, each consumer
/// gets a descriptor of its own.
///
/// ```
/// use std::fs::File;
/// use std::io::{Read, Seek, Write};
/// use offspring::unix::SharedFd;
///
/// #[offspring::worker]
/// fn write(file: SharedFd) {
///     let mut file = File::from(file.into_fd());
///     file.write_all(b"from a child").expect("there is room");
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut file = tempfile::tempfile()?;
///     write::spawn(SharedFd::new(file.try_clone()?))?.join()?;
///     let mut text = String::new();
///     file.rewind()?;
///     file.read_to_string(&mut text)?;
///     assert_eq!(text, "from a child");
///     Ok(())
/// }
/// ```
pub struct SharedFd(OwnedFd);

impl SharedFd {
    /// Wraps a descriptor.
    pub fn new(descriptor: impl Into<OwnedFd>) -> SharedFd {
        SharedFd(descriptor.into())
    }

    /// Returns the descriptor, for a type of its own such as [`File`](std::fs::File).
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl From<SharedFd> for OwnedFd {
    fn from(descriptor: SharedFd) -> OwnedFd {
        descriptor.0
    }
}

impl From<OwnedFd> for SharedFd {
    fn from(descriptor: OwnedFd) -> SharedFd {
        SharedFd(descriptor)
    }
}

impl AsFd for SharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for SharedFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedFd").field(&self.0).finish()
    }
}

impl Serialize for SharedFd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        wire::may_note().map_err(wire::explain::<S::Error>)?;
        let copy = self.0.try_clone().map_err(|error| {
            wire::explain::<S::Error>(&format!("could not send a descriptor: {error}"))
        })?;
        wire::note(WireHandle::File(copy)).map_err(wire::explain::<S::Error>)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        match wire::claim(index).map_err(wire::explain_de::<D::Error>)? {
            WireHandle::File(file) => Ok(SharedFd(file)),
            _ => Err(wire::explain_de("a descriptor came with another object")),
        }
    }
}
