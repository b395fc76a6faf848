//! Makes an argument that cannot be sent a single, helpful compile error. The macros use this for
//! each argument.
//!
//! Serde's derive alone would report such a type four times, without naming a remedy. So the macros
//! ask a constant, [`Probe::CROSSES`]. A type that does not cross fails an assertion with a helpful
//! message, and the derive gets functions that compile for every type, so that it adds no errors.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize, Serializer};

/// Tells whether values of `T` can be sent to another process.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T: Serialize + DeserializeOwned> Probe<T> {
    /// Exists only for types that cross, and then hides [`Otherwise::CROSSES`].
    pub const CROSSES: bool = true;
}

/// The answer for all types that do not cross.
pub trait Otherwise {
    /// `false`, for a type that does not cross.
    const CROSSES: bool = false;
}

impl<T> Otherwise for Probe<T> {}

/// Serde's functions for the fields of generated types, whether their types cross or not.
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

/// Exists so that serde's derive compiles. The failed assertion keeps the program from being built.
impl<T> Cross<T> for Crossing<false> {
    fn serialize<S: Serializer>(_: &T, _: S) -> Result<S::Ok, S::Error> {
        unreachable!("the type does not cross")
    }

    fn deserialize<'de, D: Deserializer<'de>>(_: D) -> Result<T, D::Error> {
        unreachable!("the type does not cross")
    }
}
