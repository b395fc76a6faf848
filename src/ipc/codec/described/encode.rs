//! Encoding in the described form.

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::tag;
use crate::ipc::codec::encode::Encoder;
use crate::ipc::codec::{Error, Result, number, plain};

/// Writes the described form through an encoder.
pub(in crate::ipc::codec) struct Describer<'a, 'e>(pub(in crate::ipc::codec) &'e mut Encoder<'a>);

impl<'a, 'e> Describer<'a, 'e> {
    fn tag(&mut self, tag: u8) -> Result<()> {
        self.0.somes = 0;
        self.0.push(tag)
    }

    /// A `Some` is written only where it matters: around a value that is `None` or looks like it.
    fn null(&mut self) -> Result<()> {
        for _ in 0..std::mem::take(&mut self.0.somes) {
            self.0.push(tag::SOME)?;
        }
        self.tag(tag::NULL)
    }

    fn number(&mut self, value: u64) -> Result<()> {
        self.tag(tag::NUMBER)?;
        self.0.number(value)
    }

    fn signed(&mut self, value: i64) -> Result<()> {
        match u64::try_from(value) {
            Ok(value) => self.number(value),
            Err(_) => {
                self.tag(tag::NEGATIVE)?;
                self.0.number(number::zigzag(value))
            }
        }
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.tag(tag::TEXT)?;
        self.0.bytes(text.as_bytes())
    }

    fn inside<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
        self.0.enter()?;
        part(self.0, value)?;
        self.0.leave();
        Ok(())
    }

    fn begin(self, tags: &[u8], ends: u8) -> Result<OpenParts<'a, 'e>> {
        let Describer(encoder) = self;
        for &tag in tags {
            Describer(encoder).tag(tag)?;
        }
        encoder.enter()?;
        Ok(OpenParts { encoder, ends })
    }

    /// A map with one entry, whose key is the name.
    fn variant(&mut self, name: &str) -> Result<()> {
        self.tag(tag::MAP)?;
        self.text(name)
    }
}

fn part<T: ?Sized + Serialize>(encoder: &mut Encoder<'_>, value: &T) -> Result<()> {
    encoder.check_raw::<T>()?;
    value.serialize(Describer(encoder))
}

macro_rules! numbers {
    ($($method:ident $type:ty => $write:ident;)+) => {$(
        fn $method(mut self, value: $type) -> Result<()> {
            self.$write(value.into())
        }
    )+};
}

impl<'a, 'e> Serializer for Describer<'a, 'e> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = OpenParts<'a, 'e>;
    type SerializeTuple = OpenParts<'a, 'e>;
    type SerializeTupleStruct = OpenParts<'a, 'e>;
    type SerializeTupleVariant = OpenParts<'a, 'e>;
    type SerializeMap = OpenParts<'a, 'e>;
    type SerializeStruct = OpenParts<'a, 'e>;
    type SerializeStructVariant = OpenParts<'a, 'e>;

    numbers! {
        serialize_u8 u8 => number;
        serialize_u16 u16 => number;
        serialize_u32 u32 => number;
        serialize_u64 u64 => number;
        serialize_i8 i8 => signed;
        serialize_i16 i16 => signed;
        serialize_i32 i32 => signed;
        serialize_i64 i64 => signed;
    }

    fn serialize_bool(mut self, value: bool) -> Result<()> {
        self.tag(if value { tag::TRUE } else { tag::FALSE })
    }

    fn serialize_u128(mut self, value: u128) -> Result<()> {
        if let Ok(value) = u64::try_from(value) {
            return self.number(value);
        }
        self.tag(tag::WIDE)?;
        self.0.wide(value)
    }

    fn serialize_i128(mut self, value: i128) -> Result<()> {
        if let Ok(value) = u128::try_from(value) {
            return self.serialize_u128(value);
        }
        if let Ok(value) = i64::try_from(value) {
            return self.signed(value);
        }
        self.tag(tag::WIDE_NEGATIVE)?;
        self.0.wide(number::zigzag_wide(value))
    }

    fn serialize_f32(mut self, value: f32) -> Result<()> {
        self.tag(tag::F32)?;
        self.0.extend(&value.to_le_bytes())
    }

    fn serialize_f64(mut self, value: f64) -> Result<()> {
        self.tag(tag::F64)?;
        self.0.extend(&value.to_le_bytes())
    }

    fn serialize_char(mut self, value: char) -> Result<()> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(mut self, value: &str) -> Result<()> {
        self.text(value)
    }

    fn serialize_bytes(mut self, value: &[u8]) -> Result<()> {
        self.tag(tag::BYTES)?;
        self.0.bytes(value)
    }

    fn serialize_none(mut self) -> Result<()> {
        self.null()
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
        self.0.somes += 1;
        self.inside(value)
    }

    fn serialize_unit(mut self) -> Result<()> {
        self.null()
    }

    fn serialize_unit_struct(mut self, _: &'static str) -> Result<()> {
        self.null()
    }

    fn serialize_unit_variant(mut self, _: &'static str, _: u32, name: &'static str) -> Result<()> {
        self.text(name)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        self.inside(value)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        self.variant(name)?;
        Describer(self.0).inside(value)?;
        self.tag(tag::END)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<OpenParts<'a, 'e>> {
        self.begin(&[tag::SEQUENCE], 1)
    }

    fn serialize_tuple(self, _: usize) -> Result<OpenParts<'a, 'e>> {
        self.begin(&[tag::SEQUENCE], 1)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<OpenParts<'a, 'e>> {
        self.begin(&[tag::SEQUENCE], 1)
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<OpenParts<'a, 'e>> {
        self.variant(name)?;
        self.begin(&[tag::SEQUENCE], 2)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<OpenParts<'a, 'e>> {
        self.begin(&[tag::MAP], 1)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<OpenParts<'a, 'e>> {
        self.begin(&[tag::MAP], 1)
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<OpenParts<'a, 'e>> {
        self.variant(name)?;
        self.begin(&[tag::MAP], 2)
    }

    fn collect_seq<I>(mut self, elements: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let block = plain::with_block(&elements, |count, bytes| {
            self.tag(match bytes.len().checked_div(count) {
                None | Some(1) => tag::BYTES,
                Some(4) => tag::F32_BLOCK,
                Some(_) => tag::F64_BLOCK,
            })?;
            self.0.bytes(bytes)
        });
        if let Some(outcome) = block {
            return outcome;
        }
        let mut parts = self.serialize_seq(None)?;
        for element in elements {
            ser::SerializeSeq::serialize_element(&mut parts, &element)?;
        }
        ser::SerializeSeq::end(parts)
    }
}

/// Encodes the elements of a container.
pub(in crate::ipc::codec) struct OpenParts<'a, 'e> {
    encoder: &'e mut Encoder<'a>,
    /// How many containers end with it.
    ends: u8,
}

impl OpenParts<'_, '_> {
    fn element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        self.encoder.somes = 0;
        part(self.encoder, value)
    }

    fn finish(self) -> Result<()> {
        self.encoder.leave();
        (0..self.ends).try_for_each(|_| Describer(self.encoder).tag(tag::END))
    }
}

macro_rules! sequences {
    ($($trait:ident $method:ident;)+) => {$(
        impl ser::$trait for OpenParts<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
                self.element(value)
            }

            fn end(self) -> Result<()> {
                self.finish()
            }
        }
    )+};
}

sequences! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

macro_rules! structures {
    ($($trait:ident)+) => {$(
        impl ser::$trait for OpenParts<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: ?Sized + Serialize>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<()> {
                self.element(name)?;
                self.element(value)
            }

            fn end(self) -> Result<()> {
                self.finish()
            }
        }
    )+};
}

structures! { SerializeStruct SerializeStructVariant }

impl ser::SerializeMap for OpenParts<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<()> {
        self.element(key)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        self.element(value)
    }

    fn end(self) -> Result<()> {
        self.finish()
    }
}
