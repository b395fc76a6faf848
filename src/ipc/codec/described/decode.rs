//! Decoding the described form.

use serde::de::value::{SeqDeserializer, StrDeserializer, U32Deserializer};
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::tag;
use crate::ipc::codec::decode::{Input, Slice};
use crate::ipc::codec::nesting::Nesting;
use crate::ipc::codec::{Error, Result, SHORT, number, plain};

/// Decodes the described form, from bytes that are private to this process.
pub(crate) struct Describing<'de> {
    input: Slice<'de>,
    nesting: Nesting,
}

const NO_TAG: &str = "what follows is of no known kind";
const NO_VARIANT: &str = "an enum is neither a name nor a map with one entry";
const MORE: &str = "elements are left over: a sequence or map has more than its type";

impl<'de> Describing<'de> {
    pub(crate) fn new(bytes: &'de [u8]) -> Describing<'de> {
        Describing { input: Slice(bytes), nesting: Nesting::new() }
    }

    /// Returns how many bytes have not been read.
    pub(crate) fn left(&self) -> usize {
        self.input.left()
    }

    fn peek(&self) -> Option<u8> {
        self.input.0.first().copied()
    }

    /// Takes the next tag, if it is this one.
    fn takes(&mut self, tag: u8) -> bool {
        let is_next = self.peek() == Some(tag);
        if is_next {
            self.input.byte();
        }
        is_next
    }

    fn number(&mut self) -> Result<u64> {
        number::read(&mut self.input, 64)
    }

    fn bytes(&mut self) -> Result<&'de [u8]> {
        let length = usize::try_from(self.number()?).ok();
        length.and_then(|length| self.input.borrow(length)).ok_or_else(|| Error::new(SHORT))
    }

    fn text(&mut self) -> Result<&'de str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::new("a text is not UTF-8"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.input.fill(&mut bytes) { Ok(bytes) } else { Err(Error::new(SHORT)) }
    }

    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.nesting.enter(size_of::<R>())?;
        let result = read(self);
        self.nesting.leave();
        result
    }

    /// Reads the elements of a container up to its end.
    fn container<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let value = self.inside(read)?;
        if self.takes(tag::END) { Ok(value) } else { Err(Error::new(MORE)) }
    }
}

/// Visits the elements of a block.
fn visit_block<'de, E, V>(elements: impl Iterator<Item = E>, visitor: V) -> Result<V::Value>
where
    E: IntoDeserializer<'de, Error>,
    V: Visitor<'de>,
{
    let mut elements = SeqDeserializer::new(elements);
    let value = visitor.visit_seq(&mut elements)?;
    elements.end()?;
    Ok(value)
}

fn floats<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(|chunk| chunk.try_into().expect("a chunk of this length"))
}

impl<'de> Deserializer<'de> for &mut Describing<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.input.byte().ok_or_else(|| Error::new(SHORT))? {
            tag::NULL => visitor.visit_unit(),
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag::NUMBER => visitor.visit_u64(self.number()?),
            tag::NEGATIVE => visitor.visit_i64(number::unzigzag(self.number()?)),
            tag::WIDE => visitor.visit_u128(number::read_wide(&mut self.input, 128)?),
            tag::WIDE_NEGATIVE => {
                let number = number::read_wide(&mut self.input, 128)?;
                visitor.visit_i128(number::unzigzag_wide(number))
            }
            tag::F32 => visitor.visit_f32(f32::from_le_bytes(self.array()?)),
            tag::F64 => visitor.visit_f64(f64::from_le_bytes(self.array()?)),
            tag::TEXT => visitor.visit_borrowed_str(self.text()?),
            tag::BYTES => visit_block(self.bytes()?.iter().copied(), visitor),
            tag::F32_BLOCK => visit_block(floats(self.bytes()?).map(f32::from_le_bytes), visitor),
            tag::F64_BLOCK => visit_block(floats(self.bytes()?).map(f64::from_le_bytes), visitor),
            tag::SEQUENCE => self.container(|elements| visitor.visit_seq(DescribedParts(elements))),
            tag::MAP => self.container(|entries| visitor.visit_map(DescribedParts(entries))),
            tag::SOME => self.inside(|inside| visitor.visit_some(inside)),
            _ => Err(Error::new(NO_TAG)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.takes(tag::NULL) {
            return visitor.visit_none();
        }
        self.takes(tag::SOME);
        self.inside(|inside| visitor.visit_some(inside))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.inside(|inside| visitor.visit_newtype_struct(inside))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek() == Some(tag::BYTES) && plain::is_visitor_of::<u8, V>() {
            self.input.byte();
            return plain::vector_of::<u8, _>(self.bytes()?);
        }
        if self.peek() == Some(tag::F32_BLOCK) && plain::is_visitor_of::<f32, V>() {
            self.input.byte();
            return plain::vector_of::<f32, _>(self.bytes()?);
        }
        if self.peek() == Some(tag::F64_BLOCK) && plain::is_visitor_of::<f64, V>() {
            self.input.byte();
            return plain::vector_of::<f64, _>(self.bytes()?);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.takes(tag::BYTES) {
            return visitor.visit_borrowed_bytes(self.bytes()?);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.takes(tag::BYTES) {
            return visitor.visit_byte_buf(self.bytes()?.to_vec());
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.peek() {
            Some(tag::TEXT) => {
                self.input.byte();
                visitor.visit_enum(StrDeserializer::new(self.text()?))
            }
            // A type with a `Serialize` of its own may have written the index.
            Some(tag::NUMBER) => {
                self.input.byte();
                let index = u32::try_from(self.number()?).map_err(Error::custom)?;
                visitor.visit_enum(U32Deserializer::new(index))
            }
            Some(tag::MAP) => {
                self.input.byte();
                self.container(|entry| visitor.visit_enum(DescribedParts(entry)))
            }
            _ => Err(Error::new(NO_VARIANT)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The elements of a container, the entries of a map, or a variant with its content.
struct DescribedParts<'d, 'de>(&'d mut Describing<'de>);

impl<'de> de::SeqAccess<'de> for DescribedParts<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.0.peek() == Some(tag::END) {
            return Ok(None);
        }
        seed.deserialize(&mut *self.0).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for DescribedParts<'_, 'de> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        seed.deserialize(&mut *self.0)
    }
}

impl<'de> de::EnumAccess<'de> for DescribedParts<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self)> {
        Ok((seed.deserialize(&mut *self.0)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for DescribedParts<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        serde::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value> {
        self.0.deserialize_tuple(count, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
