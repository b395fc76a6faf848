//! Values as bytes, in one of two forms.
//!
//! The *positional form* is postcard's format, with three additions:
//!
//! - Bytes move in blocks. `serialize_bytes` is one copy, and so are the elements of a `Vec<u8>`,
//!   `Vec<f32>` or `Vec<f64>`, which serde passes on one by one. A value that is longer than the
//!   buffer is written straight to its destination ([`Spill`]).
//! - A decoder reads from private bytes, or from memory that another process may still write
//!   ([`Input`]). It never holds a reference to such memory, and copies each byte out once.
//! - Limits bound a value's length, its nesting, and how much a hostile length can make a decoder
//!   allocate or loop.
//!
//! It holds no names and no types, so it carries only what is read exactly as it is written.
//! serde's attributes `tag`, `untagged`, `flatten` and `skip_..` make types for which that is not
//! so. [`explore`] finds out which types these are, and their values have the [described
//! form](described).

/// The methods with which a positional deserializer reads things that leave no trace of their own:
/// a unit is nothing, and a struct is just its fields.
macro_rules! positional_structs {
    () => {
        #[inline]
        fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            visitor.visit_unit()
        }

        #[inline]
        fn deserialize_unit_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            visitor: V,
        ) -> Result<V::Value> {
            visitor.visit_unit()
        }

        #[inline]
        fn deserialize_newtype_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            visitor: V,
        ) -> Result<V::Value> {
            self.inside(|inside| visitor.visit_newtype_struct(inside))
        }

        #[inline]
        fn deserialize_tuple_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            count: usize,
            visitor: V,
        ) -> Result<V::Value> {
            self.deserialize_tuple(count, visitor)
        }

        #[inline]
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value> {
            self.deserialize_tuple(fields.len(), visitor)
        }
    };
}

mod decode;
mod described;
mod encode;
mod explore;
mod nesting;
mod number;
mod plain;

use std::borrow::Cow;
use std::fmt;

pub(crate) use decode::{Decoder, Input, Slice};
pub(crate) use described::{Describing, describes_variant};
pub(crate) use encode::{Encoder, Spill};
pub(crate) use explore::{Symmetry, explore};

/// Why a value was not encoded or decoded. It takes one word, so that the results of all the small
/// steps stay in registers.
#[derive(Debug)]
pub(crate) struct Error(Box<Cow<'static, str>>);

type Result<T> = std::result::Result<T, Error>;

impl Error {
    #[cold]
    pub(crate) fn new(message: &'static str) -> Error {
        Error(Box::new(Cow::Borrowed(message)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// serde's error for a `Path` or `PathBuf`, which does not name a way out.
const NO_TEXT_PATH: &str = "path contains invalid UTF-8 characters";

impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let mut message = message.to_string();
        if message == NO_TEXT_PATH {
            message.push_str(" (an `OsString` may have any bytes)");
        }
        Error(Box::new(Cow::Owned(message)))
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error(Box::new(Cow::Owned(message.to_string())))
    }
}

const SHORT: &str = "the bytes end too early";

#[cfg(test)]
mod tests;
