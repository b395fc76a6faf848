//! Shared numbers that every process may read and write.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::atomic;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CreateError;
use crate::ipc::region::Memory;
use crate::ipc::wire;
use crate::shared::memory::SharedPart;

/// A slice of plain data in memory that processes share. Dropping the last handle in any process
/// frees the memory.
///
/// Every process with a handle may read and write every element at any time; no call blocks. An
/// element of 1, 2, 4 or 8 bytes is never read half written; one of another size may be. No call
/// orders its access relative to other elements: use queues, joins, locks or
/// [atomics](SharedSlice::atomics) for that.
///
/// A clone is another handle of the same memory; [`to_vec`](SharedSlice::to_vec) copies.
///
/// ```
/// use offspring::shared::SharedSlice;
///
/// #[offspring::worker]
/// fn double(numbers: SharedSlice<u32>) {
///     for n in 0..numbers.len() {
///         numbers.set(n, numbers.get(n).unwrap() * 2);
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let numbers = SharedSlice::from_slice(&[1, 2, 3])?;
///     double::spawn(numbers.slice(1..))?.join()?; // no copy: the child writes to the same memory
///     assert_eq!(numbers.to_vec(), [1, 4, 6]);
///     Ok(())
/// }
/// ```
#[must_use]
pub struct SharedSlice<T> {
    part: SharedPart,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Pod> SharedSlice<T> {
    const SIZE: usize = {
        assert!(size_of::<T>() > 0, "elements of size zero cannot be shared");
        assert!(align_of::<T>() <= 4096, "shared memory is aligned to a page");
        size_of::<T>()
    };

    /// Creates a slice of `len` elements in new memory, all of them zero.
    ///
    /// An element type of size zero, or one that must be aligned to more than a page, is refused at
    /// compile time:
    ///
    /// ```compile_fail,E0080
    /// let nothing = offspring::shared::SharedSlice::<()>::zeroed(10);
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses that much memory, or a descriptor for it.
    pub fn zeroed(len: usize) -> Result<SharedSlice<T>, CreateError> {
        SharedPart::zeroed(kind::<T>(), len, Self::SIZE).map(SharedSlice::new)
    }

    /// Creates a slice in new memory, with a copy of `elements`.
    ///
    /// # Errors
    ///
    /// The errors of [`zeroed`](SharedSlice::zeroed).
    pub fn from_slice(elements: &[T]) -> Result<SharedSlice<T>, CreateError> {
        let mut slice = SharedSlice::zeroed(elements.len())?;
        // SAFETY: no other handle of the memory exists yet.
        unsafe { slice.as_mut_slice() }.copy_from_slice(elements);
        Ok(slice)
    }

    fn new(part: SharedPart) -> SharedSlice<T> {
        SharedSlice { part, element: PhantomData }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.part.length / Self::SIZE
    }

    /// Whether the slice has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.part.length == 0
    }

    /// Returns the element at `index`, or `None` if it is beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        (index < self.len()).then(|| {
            let mut element = T::zeroed();
            let offset = self.part.offset + index * Self::SIZE;
            self.part.region.load(offset, Self::SIZE, bytemuck::bytes_of_mut(&mut element));
            element
        })
    }

    /// Replaces the element at `index`.
    ///
    /// # Panics
    ///
    /// If the index is beyond the end.
    #[track_caller]
    pub fn set(&self, index: usize, element: T) {
        assert!(
            index < self.len(),
            "index {index} is out of range for a shared slice of length {}",
            self.len()
        );
        let offset = self.part.offset + index * Self::SIZE;
        self.part.region.store(offset, Self::SIZE, bytemuck::bytes_of(&element));
    }

    /// Fills `elements` with copies of the elements from `start` on.
    ///
    /// # Panics
    ///
    /// If they reach beyond the end.
    #[track_caller]
    pub fn read(&self, start: usize, elements: &mut [T]) {
        let part = self.slice(start..start.saturating_add(elements.len())).part;
        part.region.load(part.offset, Self::SIZE, bytemuck::cast_slice_mut(elements));
    }

    /// Replaces the elements from `start` with a copy of `elements`.
    ///
    /// # Panics
    ///
    /// If they reach beyond the end.
    #[track_caller]
    pub fn write(&self, start: usize, elements: &[T]) {
        let part = self.slice(start..start.saturating_add(elements.len())).part;
        part.region.store(part.offset, Self::SIZE, bytemuck::cast_slice(elements));
    }

    /// Replaces every element.
    pub fn fill(&self, element: T) {
        (0..self.len()).for_each(|index| self.set(index, element));
    }

    /// Returns a copy of all elements.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::zeroed(); self.len()];
        self.read(0, &mut elements);
        elements
    }

    /// Iterates over copies of the elements.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Returns a handle of a part of the elements, in the same memory.
    ///
    /// # Panics
    ///
    /// If the range reaches beyond the end.
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> SharedSlice<T> {
        SharedSlice::new(self.part.slice(range, Self::SIZE))
    }

    /// Returns the elements as a slice, for code that needs one. [`RwLock`](crate::sync::RwLock)
    /// returns one without `unsafe`.
    ///
    /// ```
    /// use offspring::shared::SharedSlice;
    ///
    /// let numbers = SharedSlice::from_slice(&[3, 1, 2])?;
    /// // SAFETY: there is no other handle.
    /// assert_eq!(unsafe { numbers.as_slice() }.iter().max(), Some(&3));
    /// # Ok::<(), offspring::CreateError>(())
    /// ```
    ///
    /// # Safety
    ///
    /// While the slice is in use, no process may write to these elements.
    #[must_use]
    pub unsafe fn as_slice(&self) -> &[T] {
        // SAFETY: the part is in bounds and lives as long as `self`; it is aligned, since a region
        // begins on a page and a part at a multiple of the element's size; any bytes are a `T`, and
        // the caller excludes writers.
        unsafe { std::slice::from_raw_parts(self.part.address().cast(), self.len()) }
    }

    /// Returns the elements as a mutable slice, for code that needs one.
    /// [`Mutex`](crate::sync::Mutex) returns one without `unsafe`.
    ///
    /// # Safety
    ///
    /// While the slice is in use, no other process may read or write these elements, nor may this
    /// process through another handle.
    #[must_use]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and the caller excludes all others.
        unsafe { std::slice::from_raw_parts_mut(self.part.address().cast(), self.len()) }
    }
}

macro_rules! atomics {
    ($($integer:ident $atomic:ident)+) => {$(
        impl SharedSlice<$integer> {
            /// Returns the elements as atomics.
            ///
            /// ```
            /// use offspring::shared::SharedSlice;
            /// use std::sync::atomic::Ordering;
            ///
            #[doc = concat!("let counts = SharedSlice::<", stringify!($integer), ">::zeroed(10)?;")]
            /// counts.atomics()[3].fetch_add(1, Ordering::Relaxed);
            /// assert_eq!(counts.get(3), Some(1));
            /// # Ok::<(), offspring::CreateError>(())
            /// ```
            #[must_use]
            pub fn atomics(&self) -> &[atomic::$atomic] {
                self.part.region.numbers(self.part.offset, self.len())
            }
        }
    )+};
}

atomics! { u32 AtomicU32 u64 AtomicU64 i32 AtomicI32 i64 AtomicI64 usize AtomicUsize isize AtomicIsize }

impl<T> Clone for SharedSlice<T> {
    fn clone(&self) -> SharedSlice<T> {
        SharedSlice { part: self.part.clone(), element: PhantomData }
    }
}

impl<T: Pod> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSlice")
            .field("element", &std::any::type_name::<T>())
            .field("len", &self.len())
            .finish()
    }
}

impl<T: Pod> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.part.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = |memory: &Memory| memory.map_labelled(kind::<T>());
        SharedPart::deserialize(Self::SIZE, map, deserializer).map(SharedSlice::new)
    }
}

fn kind<T>() -> u64 {
    wire::fingerprint(std::any::type_name::<SharedSlice<T>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_of_its_own_type_only() {
        let numbers = SharedSlice::from_slice(&[1u32, 2]).unwrap();
        let encoded = wire::encode(&numbers, wire::Shape::Own).unwrap();
        let error = wire::decode::<SharedSlice<f32>>(&encoded.bytes, encoded.handles).unwrap_err();
        assert!(error.to_string().contains("another type"), "{error}");
    }

    #[test]
    fn a_handle_of_more_than_the_memory_is_refused() {
        let numbers = SharedSlice::from_slice(&[1u32, 2]).unwrap();
        let mut larger = numbers.clone();
        larger.part.length = 4096;
        let encoded = wire::encode(&larger, wire::Shape::Own).unwrap();
        let error = wire::decode::<SharedSlice<u32>>(&encoded.bytes, encoded.handles).unwrap_err();
        assert!(error.to_string().contains("smaller"), "{error}");
    }

    #[test]
    fn elements_of_any_size_at_any_offset() {
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(C)]
        struct Odd([u8; 7]);
        // SAFETY: bytes only.
        unsafe impl bytemuck::Zeroable for Odd {}
        // SAFETY: bytes only.
        unsafe impl Pod for Odd {}
        let odd: Vec<Odd> = (0..50).map(|n| Odd([n, 1, 2, 3, 4, 5, n])).collect();
        let shared = SharedSlice::from_slice(&odd).unwrap();
        assert_eq!(shared.to_vec(), odd);
        assert!(shared.iter().eq(odd.iter().copied()));
        shared.slice(9..).set(2, Odd([9; 7]));
        assert_eq!(shared.get(11), Some(Odd([9; 7])));
        assert_eq!((shared.get(10), shared.get(12)), (Some(odd[10]), Some(odd[12])));
        assert_eq!(shared.get(50), None);
    }
}
