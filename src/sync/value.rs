//! How a value lies in a lock.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CreateError, DecodeError, EncodeError};
use crate::ipc::region::Region;
use crate::ipc::wire;
use crate::sync::poison;

/// Where the word stands that says which of two copies is the value, in the regions of all locks.
const CURRENT: usize = 32;
/// Room for an encoded value of which nobody said how large it gets.
const ENCODED_MIN: usize = 64 << 10;
/// Set in it if the second copy is.
const SECOND: u64 = 1 << 63;

/// The place of a value: the memory from `offset` to its end.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub(super) region: &'a Region,
    pub(super) offset: usize,
}

/// How a value lies in a lock: [`InPlace`] or [`Encoded`].
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
    message = "`{T}` cannot lie in a lock in this way",
    label = "not a value that lies in a lock so",
    note = "without a second parameter a lock is `InPlace`, for plain data (`Pod`) such as numbers, and arrays and structs of them",
    note = "for any value that serde can encode: `Mutex::encoded(value)`, of the type `Mutex<T, Encoded>`"
)]
pub trait Storage<T: ?Sized>: sealed::Sealed + 'static {
    /// What a guard holds.
    #[doc(hidden)]
    type View;

    /// Whether a value fits memory of this length.
    #[doc(hidden)]
    fn fits(length: usize) -> bool;

    /// The value, for one who has locked it.
    #[doc(hidden)]
    fn open(place: Place<'_>) -> Result<Self::View, DecodeError>;

    #[doc(hidden)]
    fn get(view: &Self::View) -> &T;

    #[doc(hidden)]
    fn get_mut(view: &mut Self::View) -> &mut T;

    /// Puts back what was changed.
    #[doc(hidden)]
    fn close(place: Place<'_>, view: &mut Self::View) -> Result<(), EncodeError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::InPlace {}
    impl Sealed for super::Encoded {}
}

/// Plain data: a guard refers to the shared memory itself. The way of [`Mutex::new`](crate::sync::Mutex::new).
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

/// Any value that serde can encode: a guard holds a copy, and writes it back when it was changed. The way of
/// [`Mutex::encoded`](crate::sync::Mutex::encoded).
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

/// A place in shared memory that holds a `T`.
#[derive(Debug)]
pub struct Spot<T: ?Sized>(*mut T);

// SAFETY: the guard that has it has the lock, and thereby the value.
unsafe impl<T: ?Sized + Send> Send for Spot<T> {}
// SAFETY: it gives `&T` only by `&`.
unsafe impl<T: ?Sized + Sync> Sync for Spot<T> {}

#[diagnostic::do_not_recommend]
impl<T: Pod> Storage<T> for InPlace {
    type View = Spot<T>;

    fn fits(length: usize) -> bool {
        length == size_of::<T>()
    }

    fn open(place: Place<'_>) -> Result<Spot<T>, DecodeError> {
        Ok(Spot(
            place.region.address(place.offset, size_of::<T>()).cast(),
        ))
    }

    fn get(view: &Spot<T>) -> &T {
        // SAFETY: in bounds (`address` checks) and aligned (`place` sees to it); any bytes are a `T`; the guard that
        // has the view keeps the region, and the lock keeps out whoever would write.
        unsafe { &*view.0 }
    }

    fn get_mut(view: &mut Spot<T>) -> &mut T {
        // SAFETY: as above, and the lock keeps out all others.
        unsafe { &mut *view.0 }
    }

    fn close(_: Place<'_>, _: &mut Spot<T>) -> Result<(), EncodeError> {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Pod> Storage<[T]> for InPlace {
    type View = Spot<[T]>;

    fn fits(length: usize) -> bool {
        length.checked_rem(size_of::<T>()) == Some(0)
    }

    fn open(place: Place<'_>) -> Result<Spot<[T]>, DecodeError> {
        let length = place.region.len() - place.offset;
        let address = place.region.address(place.offset, length).cast();
        Ok(Spot(std::ptr::slice_from_raw_parts_mut(
            address,
            length / size_of::<T>(),
        )))
    }

    fn get(view: &Spot<[T]>) -> &[T] {
        // SAFETY: as for a single `T`.
        unsafe { &*view.0 }
    }

    fn get_mut(view: &mut Spot<[T]>) -> &mut [T] {
        // SAFETY: as for a single `T`.
        unsafe { &mut *view.0 }
    }

    fn close(_: Place<'_>, _: &mut Spot<[T]>) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// A decoded copy.
pub struct Decoded<T> {
    value: T,
    changed: bool,
}

impl<T: fmt::Debug> fmt::Debug for Decoded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Storage<T> for Encoded {
    type View = Decoded<T>;

    fn fits(length: usize) -> bool {
        length > 0 && length % 2 == 0
    }

    fn open(place: Place<'_>) -> Result<Decoded<T>, DecodeError> {
        let current = current(place).load(Ordering::Relaxed);
        let capacity = capacity(place);
        let length = usize::try_from(current & !SECOND)
            .ok()
            .filter(|&length| length <= capacity);
        let length =
            length.ok_or_else(|| DecodeError::new::<T>("its length is beyond its memory"))?;
        let mut bytes = vec![0; length];
        let second = if current & SECOND == 0 { 0 } else { capacity };
        place.region.load(place.offset + second, &mut bytes);
        let value = wire::decode(&bytes, Vec::new())?;
        Ok(Decoded {
            value,
            changed: false,
        })
    }

    fn get(view: &Decoded<T>) -> &T {
        &view.value
    }

    fn get_mut(view: &mut Decoded<T>) -> &mut T {
        view.changed = true;
        &mut view.value
    }

    fn close(place: Place<'_>, view: &mut Decoded<T>) -> Result<(), EncodeError> {
        if view.changed {
            write(place, &encode(&view.value)?)
                .map_err(|message| EncodeError::new::<T>(message))?;
            view.changed = false;
        }
        Ok(())
    }
}

/// The bytes of a value that is to lie in a lock.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let encoded = wire::encode(value)?;
    if encoded.handles.is_empty() {
        Ok(encoded.bytes)
    } else {
        Err(EncodeError::new::<T>(
            "handles cannot lie in a lock: send them over a queue",
        ))
    }
}

/// The bytes of a new value, and how much memory two copies of it and its successors take; `capacity` 0 leaves that
/// to us.
pub(super) fn value_room<T: Serialize>(
    value: &T,
    capacity: usize,
) -> Result<(Vec<u8>, usize), CreateError> {
    let failed = |error: EncodeError| io::Error::new(io::ErrorKind::InvalidData, error);
    let bytes = encode(value)
        .map_err(failed)
        .map_err(CreateError::io("encode the value"))?;
    let capacity = if capacity == 0 {
        (2 * bytes.len()).max(ENCODED_MIN)
    } else {
        capacity.max(bytes.len())
    };
    Ok((bytes, capacity.saturating_mul(2)))
}

/// What a guard that has written does at its end: puts back the value, unless its thread panics, and poisons the lock
/// if that is not the value that was meant.
#[inline]
pub(super) fn put_back<T: ?Sized, S: Storage<T>>(
    place: Place<'_>,
    view: &mut S::View,
    was_panicking: bool,
) {
    if std::thread::panicking() && !was_panicking {
        poison::by_panic(place.region);
    } else if let Err(error) = S::close(place, view) {
        log::error!(target: "offspring::sync", "a lock keeps its old value: {error}");
        poison::by_panic(place.region);
    }
}

/// Writes the bytes of a value where the current one is not, and then makes it the current one, by one store. So
/// one who dies in the middle leaves the old value whole.
pub(super) fn write(place: Place<'_>, bytes: &[u8]) -> Result<(), String> {
    let capacity = capacity(place);
    if bytes.len() > capacity {
        return Err(format!(
            "its {} bytes are more than the lock's {capacity}",
            bytes.len()
        ));
    }
    let current = current(place);
    let second = current.load(Ordering::Relaxed) & SECOND == 0;
    let (begin, mark) = if second { (capacity, SECOND) } else { (0, 0) };
    place.region.store(place.offset + begin, bytes);
    current.store(bytes.len() as u64 | mark, Ordering::Release);
    Ok(())
}

fn current(place: Place<'_>) -> &AtomicU64 {
    place.region.number(CURRENT)
}

/// The bytes of each of the two copies.
fn capacity(place: Place<'_>) -> usize {
    (place.region.len() - place.offset) / 2
}
