//! Shared atomic numbers.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{self, AtomicU8, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CreateError;
use crate::ipc::wire;
use crate::shared::memory::Part;

macro_rules! shared_atomics {
    ($($atomic:ident $integer:ident)+) => {$(
        #[doc = concat!("A [`std::sync::atomic::", stringify!($atomic), "`] that processes share. Dropping the last handle of it in any process frees it.")]
        ///
        /// It derefs to std's, so it has all of its methods. A clone is another handle of the same number.
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
        pub struct $atomic(Part);

        impl $atomic {
            /// A new number in memory of its own.
            ///
            /// # Errors
            ///
            /// If the memory, or a descriptor for it, cannot be had.
            pub fn new(value: $integer) -> Result<$atomic, CreateError> {
                let number = $atomic(Part::zeroed(1, size_of::<$integer>())?);
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
                self.0.serialize(kind::<$atomic>(), serializer)
            }
        }

        impl<'de> Deserialize<'de> for $atomic {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                single(Part::deserialize(kind::<$atomic>(), size_of::<$integer>(), deserializer)?, size_of::<$integer>()).map($atomic)
            }
        }
    )+};
}

shared_atomics! { AtomicU32 u32 AtomicU64 u64 AtomicI32 i32 AtomicI64 i64 AtomicUsize usize AtomicIsize isize }

/// The part, if it holds just one number.
fn single<E: serde::de::Error>(part: Part, size: usize) -> Result<Part, E> {
    if part.length == size {
        Ok(part)
    } else {
        Err(wire::explain_de(
            "the shared memory holds more or less than one number",
        ))
    }
}

fn kind<A>() -> u64 {
    wire::fingerprint(std::any::type_name::<A>())
}

/// A flag that processes share. Dropping the last handle of it in any process frees it.
///
/// To wait for a flag, use a [`sync::Event`](crate::sync::Event). A clone is another handle of the same flag.
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
pub struct AtomicBool(Part);

impl AtomicBool {
    /// A new flag in memory of its own.
    ///
    /// # Errors
    ///
    /// If the memory, or a descriptor for it, cannot be had.
    pub fn new(value: bool) -> Result<AtomicBool, CreateError> {
        let flag = AtomicBool(Part::zeroed(1, 1)?);
        flag.store(value, Ordering::Relaxed);
        Ok(flag)
    }

    /// Not std's type: another process could write what is no `bool`.
    fn byte(&self) -> &AtomicU8 {
        self.0.region.number(self.0.offset)
    }

    /// The flag; as [`std::sync::atomic::AtomicBool::load`].
    #[must_use]
    pub fn load(&self, order: Ordering) -> bool {
        self.byte().load(order) != 0
    }

    /// Sets the flag; as [`std::sync::atomic::AtomicBool::store`].
    pub fn store(&self, value: bool, order: Ordering) {
        self.byte().store(u8::from(value), order);
    }

    /// Sets the flag, and gives what it was; as [`std::sync::atomic::AtomicBool::swap`].
    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        self.byte().swap(u8::from(value), order) != 0
    }
}

impl fmt::Debug for AtomicBool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load(Ordering::Relaxed).fmt(f)
    }
}

impl Serialize for AtomicBool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(kind::<AtomicBool>(), serializer)
    }
}

impl<'de> Deserialize<'de> for AtomicBool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        single(Part::deserialize(kind::<AtomicBool>(), 1, deserializer)?, 1).map(AtomicBool)
    }
}
