//! Shared bytes that are written once and then only read.

use std::fmt;
use std::ops::{Deref, RangeBounds};

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CreateError;
use crate::ipc::region::{Memory, Region};
use crate::ipc::wire;
use crate::shared::memory::SharedPart;

/// Bytes in memory that processes share and only read: `&[u8]` without a copy. Dropping the last
/// handle in any process frees the memory.
///
/// A clone is another handle of the same bytes.
///
/// ```
/// use offspring::shared::SharedBytes;
///
/// #[offspring::worker]
/// fn count(text: SharedBytes) -> usize {
///     text.split(|&byte| byte == b' ').count()
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let text = SharedBytes::copy_from(b"many words but one copy")?;
///     let one = count::spawn(text.slice(..10))?;
///     let two = count::spawn(text.slice(11..))?;
///     assert_eq!(one.join()? + two.join()?, 5);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct SharedBytes(SharedPart);

impl SharedBytes {
    /// Copies `bytes` into new memory.
    ///
    /// # Errors
    ///
    /// If the system refuses that much memory, or a descriptor for it.
    pub fn copy_from(bytes: &[u8]) -> Result<SharedBytes, CreateError> {
        SharedBytes::build(bytes.len(), |new| new.copy_from_slice(bytes))
    }

    /// Creates new memory of `len` zeroes, which `fill` then writes in place.
    ///
    /// ```
    /// use offspring::shared::SharedBytes;
    ///
    /// let squares = SharedBytes::build(10, |bytes| bytes.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n * n))?;
    /// assert_eq!(squares[9], 81);
    /// # Ok::<(), offspring::CreateError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`copy_from`](SharedBytes::copy_from).
    pub fn build(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<SharedBytes, CreateError> {
        let region = Region::constant(len, kind(), |region| {
            // SAFETY: in bounds, any bytes are a value, and no other handle of the memory exists
            // yet.
            fill(unsafe { std::slice::from_raw_parts_mut(region.address(0, len), len) });
        });
        SharedPart::of(region).map(SharedBytes)
    }

    /// Returns a handle of a part of the bytes, in the same memory.
    ///
    /// # Panics
    ///
    /// If the range reaches beyond the end.
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> SharedBytes {
        SharedBytes(self.0.slice(range, 1))
    }

    /// Returns the bytes as a slice of `T`. Returns `None` unless they are a whole number of
    /// elements and aligned for `T`. New memory begins on a page, so only a
    /// [`slice`](SharedBytes::slice) can be misaligned.
    ///
    /// ```
    /// use offspring::shared::SharedBytes;
    ///
    /// let numbers = SharedBytes::of(&[1.5_f64, 2.5])?;
    /// assert_eq!(numbers.cast::<f64>(), Some(&[1.5, 2.5][..]));
    /// assert_eq!(numbers.slice(1..).cast::<f64>(), None);
    /// # Ok::<(), offspring::CreateError>(())
    /// ```
    #[must_use]
    pub fn cast<T: Pod>(&self) -> Option<&[T]> {
        bytemuck::try_cast_slice(self).ok()
    }

    /// Copies plain data into new memory. [`cast`](SharedBytes::cast) returns it as a slice again.
    ///
    /// # Errors
    ///
    /// The errors of [`copy_from`](SharedBytes::copy_from).
    pub fn of<T: Pod>(elements: &[T]) -> Result<SharedBytes, CreateError> {
        SharedBytes::copy_from(bytemuck::cast_slice(elements))
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: in bounds, alive as long as `self`, any bytes are a value. No process can write:
        // the memory is sealed against it.
        unsafe { std::slice::from_raw_parts(self.0.address(), self.0.length) }
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &SharedBytes) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes").field("len", &self.len()).finish()
    }
}

impl Serialize for SharedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = |memory: &Memory| memory.map_constant(kind());
        SharedPart::deserialize(1, map, deserializer).map(SharedBytes)
    }
}

fn kind() -> u64 {
    wire::fingerprint(std::any::type_name::<SharedBytes>())
}
