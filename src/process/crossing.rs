//! What the macros generate for each argument, so that one that cannot be sent is one error.
//!
//! Serde's derive alone would report such a type four times, and name none of the ways out. So the
//! macros ask a constant, [`Probe::CROSSES`], report a type that does not cross by a failed
//! assertion, and give the derive functions that compile for every type.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize, Serializer};

/// Asks whether values of `T` can be sent to another process.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T: Serialize + DeserializeOwned> Probe<T> {
    /// Exists only for types that cross, for which it hides [`Otherwise::CROSSES`].
    pub const CROSSES: bool = true;
}

/// The answer for all other types.
pub trait Otherwise {
    /// `false`, for a type that does not cross.
    const CROSSES: bool = false;
}

impl<T> Otherwise for Probe<T> {}

/// Serde's functions for a type that crosses, or that does not.
#[derive(Debug)]
pub struct Crossing<const CROSSES: bool>;

/// Serde's functions for values of `T`.
pub trait Cross<T> {
    /// Like [`Serialize::serialize`].
    fn serialize<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>;

    /// Like [`Deserialize::deserialize`](serde::Deserialize::deserialize).
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>;
}

impl<T: Serialize + DeserializeOwned> Cross<T> for Crossing<true> {
    #[inline]
    fn serialize<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    #[inline]
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

/// For programs that the failed assertion keeps from being compiled.
impl<T> Cross<T> for Crossing<false> {
    fn serialize<S: Serializer>(_: &T, _: S) -> Result<S::Ok, S::Error> {
        unreachable!("the type does not cross")
    }

    fn deserialize<'de, D: Deserializer<'de>>(_: D) -> Result<T, D::Error> {
        unreachable!("the type does not cross")
    }
}
