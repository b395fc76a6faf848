//! How a lock stores its value.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diagnostics;
use crate::error::{CreateError, DecodeError, EncodeError};
use crate::ipc::hub;
use crate::ipc::region::Region;
use crate::ipc::wire::{self, Shape};
use crate::sync::object::{ObjectContent, ObjectHandle, Primitive};
use crate::sync::poison;
use crate::sys;

/// Offset, in the region of every lock, of the word with the length of an encoded value.
const CURRENT: usize = 32;
/// Set in that word if the second of the two copies is the value.
const SECOND: u64 = 1 << 63;
/// The least room for an encoded value, if the caller did not choose a capacity.
const ENCODED_MIN: usize = 64 << 10;
/// A value begins at a multiple of this, so no type may require a larger alignment.
const ALIGN_MAX: usize = 64;

/// The memory of a lock's value: from `offset` to the end of the region.
#[derive(Clone, Copy, Debug)]
pub struct ValueMemory<'a> {
    pub(super) region: &'a Region,
    pub(super) offset: usize,
}

/// How a lock stores its value: [`InPlace`] or [`Encoded`].
///
/// ```
/// use offspring::sync::{LockError, Mutex, Storage, SyncError};
///
/// /// Takes a mutex of either kind.
/// fn add<S: Storage<u64>>(total: &Mutex<u64, S>, n: u64) -> Result<(), SyncError> {
///     let mut total = total.lock().or_else(LockError::into_guard)?;
///     *total += n;
///     Ok(())
/// }
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (in_place, encoded) = (Mutex::new(1)?, Mutex::encoded(1)?);
/// add(&in_place, 2)?;
/// add(&encoded, 2)?;
/// assert_eq!((*in_place.lock().unwrap(), *encoded.lock().unwrap()), (3, 3));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a lock cannot store `{T}` in this way",
    label = "not a value that this kind of lock can store",
    note = "without a second parameter a lock is `InPlace`, for plain data (`Pod`) such as numbers, and arrays and structs of them",
    note = "for any value that serde can encode: `Mutex::encoded(value)`, of the type `Mutex<T, Encoded>`"
)]
pub trait Storage<T: ?Sized>: sealed::SealedStorage + 'static {
    /// The part of a guard that refers to the value.
    #[doc(hidden)]
    type View;

    /// Returns whether memory of this length can store a value.
    #[doc(hidden)]
    fn fits(length: usize) -> bool;

    /// Returns the value, for a thread that has locked it.
    #[doc(hidden)]
    fn open(memory: ValueMemory<'_>) -> Result<Self::View, DecodeError>;

    #[doc(hidden)]
    fn get(view: &Self::View) -> &T;

    #[doc(hidden)]
    fn get_mut(view: &mut Self::View) -> &mut T;

    /// Writes back what was changed.
    #[doc(hidden)]
    fn close(memory: ValueMemory<'_>, view: &mut Self::View) -> Result<(), EncodeError>;
}

mod sealed {
    pub trait SealedStorage {}
    impl SealedStorage for super::InPlace {}
    impl SealedStorage for super::Encoded {}
}

/// The content of a lock: a `T` that `S` stores.
pub(super) struct LockValue<T: ?Sized, S>(PhantomData<fn(S) -> Box<T>>);

impl<T: ?Sized + 'static, S: Storage<T>> ObjectContent for LockValue<T, S> {
    fn fits(length: usize) -> bool {
        S::fits(length)
    }
}

/// Plain data in shared memory: a guard refers to the memory itself. This is how
/// [`Mutex::new`](crate::sync::Mutex::new) stores its value.
///
/// ```
/// use offspring::sync::{InPlace, Mutex};
///
/// struct Totals {
///     bytes: Mutex<u64>, // the same as `Mutex<u64, InPlace>`
///     files: Mutex<[u32], InPlace>,
/// }
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let totals = Totals { bytes: Mutex::new(0)?, files: Mutex::zeroed(3)? };
/// *totals.bytes.lock().unwrap() += 100;
/// totals.files.lock().unwrap()[1] += 1;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum InPlace {}

/// Any value that serde can encode: a guard holds a decoded copy, and writes it back if it was
/// changed. This is how [`Mutex::encoded`](crate::sync::Mutex::encoded) stores its value.
///
/// ```
/// use std::collections::HashMap;
/// use offspring::sync::{Encoded, Mutex};
///
/// #[offspring::worker]
/// fn count(words: Mutex<HashMap<String, u32>, Encoded>) {
///     *words.lock().unwrap().entry("tree".to_owned()).or_default() += 1;
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let words = Mutex::encoded(HashMap::new())?;
///     count::spawn(words.clone())?.join()?;
///     assert_eq!(words.lock().unwrap()["tree"], 1);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Encoded {}

/// A `T` in shared memory.
#[derive(Debug)]
pub struct InPlaceView<T: ?Sized>(*mut T);

// SAFETY: the guard that holds the view holds the lock, and thereby the value.
unsafe impl<T: ?Sized + Send> Send for InPlaceView<T> {}
// SAFETY: a shared view returns only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for InPlaceView<T> {}

#[diagnostic::do_not_recommend]
impl<T: Pod> Storage<T> for InPlace {
    type View = InPlaceView<T>;

    fn fits(length: usize) -> bool {
        length == size_of::<T>()
    }

    #[inline]
    fn open(memory: ValueMemory<'_>) -> Result<InPlaceView<T>, DecodeError> {
        let address = memory.region.address(memory.offset, size_of::<T>());
        Ok(InPlaceView(address.cast()))
    }

    #[inline]
    fn get(view: &InPlaceView<T>) -> &T {
        // SAFETY: in bounds (`address` checks); aligned, because the offset is a multiple of
        // `ALIGN_MAX`; any bytes are a `T`. The guard that holds the view keeps the region alive,
        // and holds the lock, which excludes writers.
        unsafe { &*view.0 }
    }

    #[inline]
    fn get_mut(view: &mut InPlaceView<T>) -> &mut T {
        // SAFETY: as above, and the guard holds the lock exclusively.
        unsafe { &mut *view.0 }
    }

    #[inline]
    fn close(_: ValueMemory<'_>, _: &mut InPlaceView<T>) -> Result<(), EncodeError> {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Pod> Storage<[T]> for InPlace {
    type View = InPlaceView<[T]>;

    fn fits(length: usize) -> bool {
        length.checked_rem(size_of::<T>()) == Some(0)
    }

    fn open(memory: ValueMemory<'_>) -> Result<InPlaceView<[T]>, DecodeError> {
        let length = memory.region.len() - memory.offset;
        let address = memory.region.address(memory.offset, length).cast();
        let count = length / size_of::<T>();
        Ok(InPlaceView(std::ptr::slice_from_raw_parts_mut(address, count)))
    }

    fn get(view: &InPlaceView<[T]>) -> &[T] {
        // SAFETY: as for a single `T`.
        unsafe { &*view.0 }
    }

    fn get_mut(view: &mut InPlaceView<[T]>) -> &mut [T] {
        // SAFETY: as for a single `T`.
        unsafe { &mut *view.0 }
    }

    fn close(_: ValueMemory<'_>, _: &mut InPlaceView<[T]>) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// A decoded copy of a value.
pub struct DecodedView<T> {
    value: T,
    changed: bool,
}

impl<T: fmt::Debug> fmt::Debug for DecodedView<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Storage<T> for Encoded {
    type View = DecodedView<T>;

    fn fits(length: usize) -> bool {
        length > 0 && length % 2 == 0
    }

    fn open(memory: ValueMemory<'_>) -> Result<DecodedView<T>, DecodeError> {
        let current = memory.current().load(Ordering::Relaxed);
        let capacity = memory.capacity();
        let length = usize::try_from(current & !SECOND).ok().filter(|&length| length <= capacity);
        let length =
            length.ok_or_else(|| DecodeError::new::<T>("its length exceeds the lock's memory"))?;
        let mut bytes = vec![0; length];
        let begin = if current & SECOND == 0 { 0 } else { capacity };
        memory.region.read(memory.offset + begin, &mut bytes);
        let value = wire::decode(&bytes, Vec::new())?;
        Ok(DecodedView { value, changed: false })
    }

    fn get(view: &DecodedView<T>) -> &T {
        &view.value
    }

    fn get_mut(view: &mut DecodedView<T>) -> &mut T {
        view.changed = true;
        &mut view.value
    }

    fn close(memory: ValueMemory<'_>, view: &mut DecodedView<T>) -> Result<(), EncodeError> {
        if view.changed {
            sys::not_in_fork().map_err(|error| EncodeError::new::<T>(error.to_string()))?;
            let bytes = encode(&view.value)?;
            memory.write(&bytes).map_err(|message| EncodeError::new::<T>(message))?;
            view.changed = false;
        }
        Ok(())
    }
}

/// The memory of an encoded value is two buffers of equal size, of which one holds the value and
/// the other is free.
impl<'a> ValueMemory<'a> {
    /// Writes the bytes of a value into the free buffer, then makes it the current one by a single
    /// store. A process that dies before the store leaves the old value whole.
    fn write(self, bytes: &[u8]) -> Result<(), String> {
        let capacity = self.capacity();
        if bytes.len() > capacity {
            return Err(format!(
                "its {} bytes exceed the lock's capacity of {capacity} bytes: pass a larger one to `encoded_within`",
                bytes.len()
            ));
        }
        let current = self.current();
        let second = current.load(Ordering::Relaxed) & SECOND == 0;
        let (begin, mark) = if second { (capacity, SECOND) } else { (0, 0) };
        self.region.write(self.offset + begin, bytes);
        current.store(bytes.len() as u64 | mark, Ordering::Release);
        Ok(())
    }

    fn current(self) -> &'a AtomicU64 {
        self.region.number(CURRENT)
    }

    /// Returns the size of each buffer.
    fn capacity(self) -> usize {
        (self.region.len() - self.offset) / 2
    }
}

/// Encodes a value for a lock to store.
fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let encoded = wire::encode(value, Shape::of::<T>()).inspect_err(|_| hub::announce())?;
    if encoded.handles.is_empty() {
        Ok(encoded.bytes)
    } else {
        // Handles in it go nowhere, but until this drop the hubs of this process count them as on
        // their way.
        drop(encoded);
        hub::announce();
        Err(EncodeError::new::<T>("a lock cannot store handles: send them over a queue"))
    }
}

/// Called when a guard with write access is dropped. Writes the value back, unless the guard's
/// thread panics, and poisons the lock if the value in it is not the intended one.
#[inline]
pub(super) fn write_back<T: ?Sized, S: Storage<T>>(
    memory: ValueMemory<'_>,
    view: &mut S::View,
    was_panicking: bool,
) {
    if std::thread::panicking() && !was_panicking {
        poison::by_panic(memory.region);
    } else if let Err(error) = S::close(memory, view) {
        diagnostics::error("offspring::sync", format_args!("a lock keeps its old value: {error}"));
        poison::by_panic(memory.region);
    }
}

impl<P: Primitive, T: ?Sized, S> ObjectHandle<P, LockValue<T, S>> {
    #[inline]
    pub(super) fn value(&self) -> ValueMemory<'_> {
        Self::value_in(&self.region)
    }

    #[inline]
    fn value_in(region: &Region) -> ValueMemory<'_> {
        ValueMemory { region, offset: P::WORDS_LEN }
    }
}

impl<P: Primitive, T: Pod> ObjectHandle<P, LockValue<T, InPlace>> {
    pub(super) fn in_place(value: &T) -> Result<Self, CreateError> {
        const {
            assert!(
                align_of::<T>() <= ALIGN_MAX,
                "a value in a lock is aligned to 64 bytes at most"
            );
        }
        ObjectHandle::new(size_of::<T>(), |region| {
            region.write(P::WORDS_LEN, bytemuck::bytes_of(value));
        })
    }
}

impl<P: Primitive, T: Pod> ObjectHandle<P, LockValue<[T], InPlace>> {
    const ELEMENT: usize = {
        assert!(align_of::<T>() <= ALIGN_MAX, "a value in a lock is aligned to 64 bytes at most");
        assert!(size_of::<T>() > 0, "elements of size zero cannot be shared");
        size_of::<T>()
    };

    pub(super) fn zeroed(len: usize) -> Result<Self, CreateError> {
        ObjectHandle::new(len.saturating_mul(Self::ELEMENT), |_| ())
    }

    pub(super) fn from_slice(elements: &[T]) -> Result<Self, CreateError> {
        ObjectHandle::new(elements.len() * Self::ELEMENT, |region| {
            region.write(P::WORDS_LEN, bytemuck::cast_slice(elements));
        })
    }
}

impl<P: Primitive, T: Serialize + DeserializeOwned> ObjectHandle<P, LockValue<T, Encoded>> {
    /// `capacity` is the length up to which the encoded value may grow; `None` chooses the default.
    pub(super) fn encoded(value: &T, capacity: Option<usize>) -> Result<Self, CreateError> {
        let failed = |error: EncodeError| io::Error::new(io::ErrorKind::InvalidData, error);
        let bytes = encode(value).map_err(failed).map_err(CreateError::io("encode the value"))?;
        let default = || (2 * bytes.len()).max(ENCODED_MIN);
        let capacity = capacity.unwrap_or_else(default).max(bytes.len()).max(1);
        ObjectHandle::new(capacity.saturating_mul(2), |region| {
            // There is room, because the capacity is at least the value's length.
            let _ = Self::value_in(region).write(&bytes);
        })
    }
}

/// The constructors and the poison methods of a lock around a value.
macro_rules! lock_around_value {
    ($lock:ident, $noun:literal) => {
        impl<T: Pod> $lock<T> {
            #[doc = concat!("Creates a ", $noun, " around plain data, which is stored in shared memory.")]
            ///
            /// A type that must be aligned to more than 64 bytes is refused at compile time:
            ///
            /// ```compile_fail,E0080
            /// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
            /// #[repr(C, align(128))]
            /// struct CacheLines([u8; 128]);
            ///
            #[doc = concat!("let lock = offspring::sync::", stringify!($lock), "::new(CacheLines([0; 128]));")]
            /// ```
            ///
            /// # Errors
            ///
            /// If the system refuses the memory, or a descriptor for it.
            pub fn new(value: T) -> Result<$lock<T>, CreateError> {
                ObjectHandle::in_place(&value).map(|object| $lock { object })
            }
        }

        impl<T: Pod> $lock<[T]> {
            #[doc = concat!("Creates a ", $noun, " around `len` elements, all of them zero, in shared memory.")]
            ///
            /// An element type of size zero is refused at compile time:
            ///
            /// ```compile_fail,E0080
            #[doc = concat!("let nothing = offspring::sync::", stringify!($lock), "::<[()]>::zeroed(10);")]
            /// ```
            ///
            /// ```
            #[doc = concat!("let numbers = offspring::sync::", stringify!($lock), "::<[f64]>::zeroed(1000)?;")]
            #[doc = concat!("assert!(format!(\"{numbers:?}\").starts_with(\"", stringify!($lock), "\"));")]
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            ///
            /// # Errors
            ///
            /// If the system refuses that much memory, or a descriptor for it.
            pub fn zeroed(len: usize) -> Result<$lock<[T]>, CreateError> {
                ObjectHandle::zeroed(len).map(|object| $lock { object })
            }

            #[doc = concat!("Creates a ", $noun, " around a copy of `elements`. An element type of size zero is refused at")]
            /// compile time:
            ///
            /// ```compile_fail,E0080
            #[doc = concat!("let nothing = offspring::sync::", stringify!($lock), "::from_slice(&[()]);")]
            /// ```
            ///
            /// # Errors
            ///
            /// The errors of [`zeroed`](Self::zeroed).
            pub fn from_slice(elements: &[T]) -> Result<$lock<[T]>, CreateError> {
                ObjectHandle::from_slice(elements).map(|object| $lock { object })
            }
        }

        impl<T: Serialize + DeserializeOwned + 'static> $lock<T, Encoded> {
            #[doc = concat!("Creates a ", $noun, " around any value that serde can encode. Each guard holds a decoded copy.")]
            ///
            /// The encoded value may grow to twice its current length or 64 KiB, whichever is more.
            /// To choose another limit, use [`encoded_within`](Self::encoded_within).
            ///
            /// # Errors
            ///
            /// If the value does not encode, or the system refuses the memory.
            pub fn encoded(value: T) -> Result<$lock<T, Encoded>, CreateError> {
                ObjectHandle::encoded(&value, None).map(|object| $lock { object })
            }

            #[doc = concat!("Creates a ", $noun, " around a value of up to `capacity` encoded bytes, or its present length if")]
            /// that is more.
            ///
            /// If a guard's value does not fit, the lock keeps the old value and is poisoned.
            ///
            /// # Errors
            ///
            /// The errors of [`encoded`](Self::encoded).
            pub fn encoded_within(
                value: T,
                capacity: usize,
            ) -> Result<$lock<T, Encoded>, CreateError> {
                ObjectHandle::encoded(&value, Some(capacity)).map(|object| $lock { object })
            }
        }

        poison_methods! { impl [T: ?Sized, S] $lock<T, S> }
    };
}

/// Implements the poison methods of a lock, and `Clone`.
macro_rules! poison_methods {
    (impl [$($generics:tt)*] $lock:ident<$($parameter:ident),*>) => {
        impl<$($generics)*> $lock<$($parameter),*> {
            /// Returns whether a holder panicked or died, and the poison has not been cleared
            /// since.
            #[must_use]
            pub fn is_poisoned(&self) -> bool {
                poison::is_set(&self.object.region)
            }

            /// Clears the poison. Call it after the value has been repaired.
            ///
            /// ```
            /// # let mutex = offspring::sync::Mutex::new(1)?;
            /// let guard = mutex.lock().or_else(|error| {
            ///     let mut guard = error.into_guard()?;
            ///     *guard = 0; // start over
            ///     mutex.clear_poison();
            ///     Ok::<_, offspring::sync::SyncError>(guard)
            /// })?;
            /// # drop(guard);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn clear_poison(&self) {
                poison::clear(&self.object.region);
            }
        }

        impl<$($generics)*> Clone for $lock<$($parameter),*> {
            fn clone(&self) -> Self {
                $lock {
                    object: self.object.clone(),
                }
            }
        }
    };
}

pub(super) use {lock_around_value, poison_methods};
