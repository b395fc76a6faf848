//! Determines whether the output of a worker is the `Err` of a `Result`.
//!
//! The type of an output is known only where it is encoded. There, a serializer that reads only the
//! name of the variant, and nothing inside it, gives the answer.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

pub(super) fn is_err<T: Serialize>(output: &T) -> bool {
    // Only `Result` is asked: the `serialize` of another type may do anything.
    let is_result = std::any::type_name::<T>().starts_with("core::result::Result<");
    is_result && matches!(output.serialize(OutputProbe), Err(VariantName(name)) if name == "Err")
}

struct OutputProbe;

/// The variant that was serialized, or an empty name.
#[derive(Debug)]
struct VariantName(&'static str);

impl fmt::Display for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for VariantName {}

impl ser::Error for VariantName {
    fn custom<T: fmt::Display>(_: T) -> VariantName {
        VariantName("")
    }
}

type Nothing = Impossible<std::convert::Infallible, VariantName>;

/// Implements the methods of all kinds of values that are not a `Result`.
macro_rules! no_result {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)+) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$ok, VariantName> {
            Err(VariantName(""))
        }
    )+};
}

impl Serializer for OutputProbe {
    type Ok = std::convert::Infallible;
    type Error = VariantName;
    type SerializeSeq = Nothing;
    type SerializeTuple = Nothing;
    type SerializeTupleStruct = Nothing;
    type SerializeTupleVariant = Nothing;
    type SerializeMap = Nothing;
    type SerializeStruct = Nothing;
    type SerializeStructVariant = Nothing;

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<Self::Ok, VariantName> {
        Err(VariantName(variant))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, VariantName> {
        Err(VariantName(""))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<Self::Ok, VariantName> {
        Err(VariantName(""))
    }

    no_result! {
        serialize_bool(bool) -> Self::Ok;
        serialize_i8(i8) -> Self::Ok;
        serialize_i16(i16) -> Self::Ok;
        serialize_i32(i32) -> Self::Ok;
        serialize_i64(i64) -> Self::Ok;
        serialize_u8(u8) -> Self::Ok;
        serialize_u16(u16) -> Self::Ok;
        serialize_u32(u32) -> Self::Ok;
        serialize_u64(u64) -> Self::Ok;
        serialize_f32(f32) -> Self::Ok;
        serialize_f64(f64) -> Self::Ok;
        serialize_char(char) -> Self::Ok;
        serialize_str(&str) -> Self::Ok;
        serialize_bytes(&[u8]) -> Self::Ok;
        serialize_none() -> Self::Ok;
        serialize_unit() -> Self::Ok;
        serialize_unit_struct(&'static str) -> Self::Ok;
        serialize_unit_variant(&'static str, u32, &'static str) -> Self::Ok;
        serialize_seq(Option<usize>) -> Nothing;
        serialize_tuple(usize) -> Nothing;
        serialize_tuple_struct(&'static str, usize) -> Nothing;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Nothing;
        serialize_map(Option<usize>) -> Nothing;
        serialize_struct(&'static str, usize) -> Nothing;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Nothing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    enum Result2 {
        Err(u32),
    }

    #[test]
    fn only_the_err_of_a_result_is_one() {
        assert!(is_err(&Err::<u32, String>("no".to_owned())));
        assert!(is_err(&Err::<Vec<u32>, ()>(())));
        assert!(!is_err(&Ok::<u32, String>(7)));
        assert!(!is_err(&Ok::<Result<u32, u32>, u32>(Err(7))));
        assert!(!is_err(&Result2::Err(7)));
        assert!(!is_err(&Some(Err::<u32, u32>(7))));
        assert!(!is_err(&()));
    }
}
