//! Shared atomic numbers.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{self, AtomicU8, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CreateError;
use crate::ipc::region::Memory;
use crate::ipc::wire;
use crate::shared::memory::SharedPart;

macro_rules! shared_atomics {
    ($($atomic:ident $integer:ident)+) => {$(
        #[doc = concat!("A [`std::sync::atomic::", stringify!($atomic), "`] that processes share. Dropping the last handle in any process frees it.")]
        ///
        /// It derefs to std's type, so it has all of its methods. A clone is another handle of the
        /// same number.
        ///
        /// ```
        #[doc = concat!("use offspring::shared::", stringify!($atomic), ";")]
        /// use std::sync::atomic::Ordering;
        ///
        /// #[offspring::worker]
        #[doc = concat!("fn count(hits: ", stringify!($atomic), ") {")]
        ///     hits.fetch_add(1, Ordering::Relaxed);
        /// }
        ///
        /// #[offspring::main]
        /// fn main() -> Result<(), Box<dyn std::error::Error>> {
        #[doc = concat!("    let hits = ", stringify!($atomic), "::new(5)?;")]
        ///     count::spawn(hits.clone())?.join()?;
        ///     assert_eq!(hits.load(Ordering::Relaxed), 6);
        ///     Ok(())
        /// }
        /// ```
        #[derive(Clone)]
        #[must_use]
        pub struct $atomic(SharedPart);

        impl $atomic {
            /// Creates a number in memory of its own.
            ///
            /// # Errors
            ///
            /// If the system refuses the memory, or a descriptor for it.
            pub fn new(value: $integer) -> Result<$atomic, CreateError> {
                let number = $atomic(SharedPart::zeroed(kind::<$atomic>(), 1, size_of::<$integer>())?);
                number.store(value, Ordering::Relaxed);
                Ok(number)
            }
        }

        impl Deref for $atomic {
            type Target = atomic::$atomic;

            fn deref(&self) -> &atomic::$atomic {
                self.0.region.number(self.0.offset)
            }
        }

        impl fmt::Debug for $atomic {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl Serialize for $atomic {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $atomic {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                single::<$atomic, _>(size_of::<$integer>(), deserializer).map($atomic)
            }
        }
    )+};
}

shared_atomics! { AtomicU32 u32 AtomicU64 u64 AtomicI32 i32 AtomicI64 i64 AtomicUsize usize AtomicIsize isize }

/// Decodes a part that holds exactly one `A`, of this size.
fn single<'de, A, D: Deserializer<'de>>(
    size: usize,
    deserializer: D,
) -> Result<SharedPart, D::Error> {
    let map = |memory: &Memory| memory.map_labelled(kind::<A>());
    let part = SharedPart::deserialize(size, map, deserializer)?;
    if part.length == size {
        Ok(part)
    } else {
        Err(wire::explain_de("the shared memory does not hold exactly one number"))
    }
}

fn kind<A>() -> u64 {
    wire::fingerprint(std::any::type_name::<A>())
}

/// A [`std::sync::atomic::AtomicBool`] that processes share. Dropping the last handle in any
/// process frees it.
///
/// It has the methods of std's type. To wait for a flag, use a [`sync::Event`](crate::sync::Event).
/// A clone is another handle of the same flag.
///
/// ```
/// use offspring::shared::AtomicBool;
/// use std::sync::atomic::Ordering;
///
/// #[offspring::worker]
/// fn stop(flag: AtomicBool) {
///     flag.store(true, Ordering::Release);
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let flag = AtomicBool::new(false)?;
///     stop::spawn(flag.clone())?.join()?;
///     assert!(flag.load(Ordering::Acquire));
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct AtomicBool(SharedPart);

impl AtomicBool {
    /// Creates a flag in memory of its own.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory, or a descriptor for it.
    pub fn new(value: bool) -> Result<AtomicBool, CreateError> {
        let flag = AtomicBool(SharedPart::zeroed(kind::<AtomicBool>(), 1, 1)?);
        flag.store(value, Ordering::Relaxed);
        Ok(flag)
    }

    /// A byte, not std's `AtomicBool`: another process could write a byte that is not a valid
    /// `bool`.
    fn byte(&self) -> &AtomicU8 {
        self.0.region.number(self.0.offset)
    }

    /// Returns the flag. Like [`std::sync::atomic::AtomicBool::load`].
    #[must_use]
    pub fn load(&self, order: Ordering) -> bool {
        self.byte().load(order) != 0
    }

    /// Sets the flag to `value`. Like [`std::sync::atomic::AtomicBool::store`].
    pub fn store(&self, value: bool, order: Ordering) {
        self.byte().store(u8::from(value), order);
    }

    /// Sets the flag to `value`, and returns the previous one. Like
    /// [`std::sync::atomic::AtomicBool::swap`].
    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        self.byte().swap(u8::from(value), order) != 0
    }

    /// Sets the flag to `new` if it is `current`. Like
    /// [`std::sync::atomic::AtomicBool::compare_exchange`].
    ///
    /// ```
    /// use offspring::shared::AtomicBool;
    /// use std::sync::atomic::Ordering::{AcqRel, Acquire};
    ///
    /// let taken = AtomicBool::new(false)?;
    /// assert_eq!(taken.compare_exchange(false, true, AcqRel, Acquire), Ok(false));
    /// assert_eq!(taken.compare_exchange(false, true, AcqRel, Acquire), Err(true)); // it is taken
    /// # Ok::<(), offspring::CreateError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The flag, if it is not `current`.
    pub fn compare_exchange(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        let (current, new) = (u8::from(current), u8::from(new));
        let exchanged = self.byte().compare_exchange(current, new, success, failure);
        exchanged.map(|was| was != 0).map_err(|is| is != 0)
    }

    /// Like [`compare_exchange`](AtomicBool::compare_exchange), but may fail even if the flag is
    /// `current`. Like [`std::sync::atomic::AtomicBool::compare_exchange_weak`].
    ///
    /// # Errors
    ///
    /// The flag, if it was not changed.
    pub fn compare_exchange_weak(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        let (current, new) = (u8::from(current), u8::from(new));
        let exchanged = self.byte().compare_exchange_weak(current, new, success, failure);
        exchanged.map(|was| was != 0).map_err(|is| is != 0)
    }

    /// Ands `value` into the flag, and returns the previous one. Like
    /// [`std::sync::atomic::AtomicBool::fetch_and`].
    pub fn fetch_and(&self, value: bool, order: Ordering) -> bool {
        self.byte().fetch_and(u8::from(value), order) != 0
    }

    /// Ors `value` into the flag, and returns the previous one. Like
    /// [`std::sync::atomic::AtomicBool::fetch_or`].
    pub fn fetch_or(&self, value: bool, order: Ordering) -> bool {
        self.byte().fetch_or(u8::from(value), order) != 0
    }

    /// Xors `value` into the flag, and returns the previous one. Like
    /// [`std::sync::atomic::AtomicBool::fetch_xor`].
    pub fn fetch_xor(&self, value: bool, order: Ordering) -> bool {
        self.byte().fetch_xor(u8::from(value), order) != 0
    }

    /// Nands `value` into the flag, and returns the previous one. Like
    /// [`std::sync::atomic::AtomicBool::fetch_nand`].
    pub fn fetch_nand(&self, value: bool, order: Ordering) -> bool {
        if value { self.fetch_xor(true, order) } else { self.swap(true, order) }
    }

    /// Inverts the flag, and returns the previous one. Like
    /// [`std::sync::atomic::AtomicBool::fetch_not`].
    pub fn fetch_not(&self, order: Ordering) -> bool {
        self.fetch_xor(true, order)
    }

    /// Sets the flag to what `change` returns for it, and returns the previous one. Like
    /// [`std::sync::atomic::AtomicBool::fetch_update`].
    ///
    /// # Errors
    ///
    /// The flag, if `change` returns `None`.
    pub fn fetch_update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut change: impl FnMut(bool) -> Option<bool>,
    ) -> Result<bool, bool> {
        let updated = self
            .byte()
            .fetch_update(set_order, fetch_order, |byte| change(byte != 0).map(u8::from));
        updated.map(|was| was != 0).map_err(|is| is != 0)
    }
}

impl fmt::Debug for AtomicBool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load(Ordering::Relaxed).fmt(f)
    }
}

impl Serialize for AtomicBool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AtomicBool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        single::<AtomicBool, _>(1, deserializer).map(AtomicBool)
    }
}
