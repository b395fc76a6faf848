//! Sequences that are encoded as their own memory. serde passes their elements on one by one, in
//! both directions, which takes a nanosecond per byte, and much more without optimization. If a
//! sequence is a slice of such elements, and the visitor of serde's own `Vec` decodes it, the
//! elements move as one block.

use std::any::TypeId;
use std::fmt;
use std::sync::OnceLock;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use crate::sys;

/// Whether the target stores numbers in the byte order of the format.
const SAME_ORDER: bool = cfg!(target_endian = "little");

/// Calls `with` with the elements and their bytes, if this is such a slice.
#[inline]
pub(in crate::ipc::codec) fn with_block<I, R>(
    elements: &I,
    with: impl FnOnce(usize, &[u8]) -> R,
) -> Option<R> {
    let mut with = Some(with);
    let mut with = |count, bytes: &[u8]| with.take().map(|with| with(count, bytes));
    if let Some(result) = sys::with_slice(elements, |bytes: &[u8]| with(bytes.len(), bytes)) {
        return result;
    }
    if !SAME_ORDER {
        return None;
    }
    if let Some(result) = sys::with_slice(elements, |numbers: &[f64]| {
        with(numbers.len(), bytemuck::cast_slice(numbers))
    }) {
        return result;
    }
    sys::with_slice(elements, |numbers: &[f32]| with(numbers.len(), bytemuck::cast_slice(numbers)))
        .flatten()
}

/// An element type whose visitor is recognized.
pub(in crate::ipc::codec) trait Element:
    bytemuck::Pod + for<'de> Deserialize<'de>
{
    fn visitor() -> &'static OnceLock<Option<TypeId>>;
}

macro_rules! elements {
    ($($element:ident)+) => {$(
        impl Element for $element {
            fn visitor() -> &'static OnceLock<Option<TypeId>> {
                static VISITOR: OnceLock<Option<TypeId>> = OnceLock::new();
                &VISITOR
            }
        }
    )+};
}

elements! { u8 f32 f64 }

/// Returns whether `V` is the visitor of serde's `Vec` of these elements, and not of another type
/// that returns a `Vec` as well.
#[inline]
pub(in crate::ipc::codec) fn is_visitor_of<'de, E: Element, V: Visitor<'de>>() -> bool {
    (SAME_ORDER || size_of::<E>() == 1)
        && sys::type_id_of::<V::Value>() == TypeId::of::<Vec<E>>()
        && {
            let visitor = E::visitor()
                .get_or_init(|| Vec::<E>::deserialize(Probe).err().and_then(|found| found.0));
            *visitor == Some(sys::type_id_of::<V>())
        }
}

/// Returns the vector as the value of its visitor.
pub(in crate::ipc::codec) fn vector<E: Element, R>(elements: Vec<E>) -> super::Result<R> {
    sys::same_type::<Vec<E>, R>(elements)
        .map_err(|_| super::Error::new("a sequence is not of its own type"))
}

/// Returns the elements of a block as the value of their visitor.
pub(in crate::ipc::codec) fn vector_of<E: Element, R>(bytes: &[u8]) -> super::Result<R> {
    let mut elements = vec![E::zeroed(); bytes.len() / size_of::<E>()];
    let whole = elements.len() * size_of::<E>();
    bytemuck::cast_slice_mut(&mut elements).copy_from_slice(&bytes[..whole]);
    vector(elements)
}

/// Deserializes nothing, and records which visitor was passed.
struct Probe;

#[derive(Debug)]
struct Found(Option<TypeId>);

impl<'de> Deserializer<'de> for Probe {
    type Error = Found;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
        Err(Found(None))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
        Err(Found(Some(sys::type_id_of::<V>())))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a probe")
    }
}

impl std::error::Error for Found {}

impl Error for Found {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Found(None)
    }
}
