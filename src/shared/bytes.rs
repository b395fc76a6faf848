//! Shared bytes that are written once.

use std::fmt;
use std::ops::{Deref, RangeBounds};

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CreateError;
use crate::ipc::wire;
use crate::shared::memory::Part;

/// Bytes in memory that processes share and nobody writes any more: `&[u8]` without a copy. Dropping the last
/// handle of it in any process frees it.
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
pub struct SharedBytes(Part);

impl SharedBytes {
    /// New memory with a copy of these bytes.
    ///
    /// # Errors
    ///
    /// If that much memory, or a descriptor, cannot be had.
    pub fn copy_from(bytes: &[u8]) -> Result<SharedBytes, CreateError> {
        SharedBytes::build(bytes.len(), |new| new.copy_from_slice(bytes))
    }

    /// New memory, written in place by `fill`, which gets zeroes.
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
    /// As [`copy_from`](SharedBytes::copy_from).
    pub fn build(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<SharedBytes, CreateError> {
        let part = Part::zeroed(len, 1)?;
        // SAFETY: in bounds, any bytes are a value, and nobody else has the memory yet.
        fill(unsafe { std::slice::from_raw_parts_mut(part.address(), len) });
        Ok(SharedBytes(part))
    }

    /// A handle of a part of the bytes: the same memory.
    ///
    /// # Panics
    ///
    /// If the range reaches beyond the end.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> SharedBytes {
        SharedBytes(self.0.slice(range, 1))
    }

    /// The bytes as plain data, if they are a whole number of elements and begin where such an element may. Memory
    /// as it was made begins at a page, so only a [`slice`](SharedBytes::slice) may begin elsewhere.
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

    /// New memory with a copy of plain data; [`cast`](SharedBytes::cast) gives it back.
    ///
    /// # Errors
    ///
    /// As [`copy_from`](SharedBytes::copy_from).
    pub fn of<T: Pod>(elements: &[T]) -> Result<SharedBytes, CreateError> {
        SharedBytes::copy_from(bytemuck::cast_slice(elements))
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: in bounds, alive as long as `self`, any bytes are a value; and no handle of these bytes writes:
        // `build` was the last to do so, before there was a second one.
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
        f.debug_struct("SharedBytes")
            .field("len", &self.len())
            .finish()
    }
}

impl Serialize for SharedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(kind(), serializer)
    }
}

impl<'de> Deserialize<'de> for SharedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Part::deserialize(kind(), 1, deserializer).map(SharedBytes)
    }
}

fn kind() -> u64 {
    wire::fingerprint(std::any::type_name::<SharedBytes>())
}
