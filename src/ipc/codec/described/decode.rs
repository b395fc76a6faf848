//! Decoding the described form.

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, Expected, Unexpected, Visitor};

use super::tag;
use crate::ipc::codec::decode::{Input, Slice};
use crate::ipc::codec::nesting::Nesting;
use crate::ipc::codec::{Error, Result, SHORT, number, plain};

/// Decodes the described form, from bytes that are private to this process.
///
/// Much of a program consists of decoders, so a visitor gets only what its type may ask for, as
/// with JSON: a method that is never called need not be compiled for the type.
pub(crate) struct Describing<'de> {
    input: Slice<'de>,
    nesting: Nesting,
    /// The block whose elements are read, and what is left of it.
    block: Option<Block<'de>>,
}

/// A value, or the beginning of one.
enum Token<'de> {
    Null,
    Bool(bool),
    Number(u64),
    Negative(i64),
    Wide(u128),
    WideNegative(i128),
    F32(f32),
    F64(f64),
    Text(&'de str),
    Block(Block<'de>),
    Sequence,
    Map,
    Some,
}

impl Token<'_> {
    /// Returns the error for a type that asked for something else.
    #[cold]
    fn unexpected(&self, expected: &dyn Expected) -> Error {
        let found = match self {
            Token::Null => Unexpected::Unit,
            &Token::Bool(value) => Unexpected::Bool(value),
            &Token::Number(value) => Unexpected::Unsigned(value),
            &Token::Negative(value) => Unexpected::Signed(value),
            Token::Wide(_) | Token::WideNegative(_) => Unexpected::Other("a number of 128 bits"),
            &Token::F32(value) => Unexpected::Float(value.into()),
            &Token::F64(value) => Unexpected::Float(value),
            Token::Text(text) => Unexpected::Str(text),
            Token::Block(_) | Token::Sequence => Unexpected::Seq,
            Token::Map => Unexpected::Map,
            Token::Some => Unexpected::Option,
        };
        Error::invalid_type(found, expected)
    }
}

/// Elements of one type.
#[derive(Clone, Copy)]
struct Block<'de> {
    element: Element,
    bytes: &'de [u8],
}

#[derive(Clone, Copy)]
enum Element {
    Byte,
    F32,
    F64,
}

impl<'de> Block<'de> {
    fn next(&mut self) -> Option<Token<'de>> {
        Some(match self.element {
            Element::Byte => Token::Number(u64::from(self.array::<1>()?[0])),
            Element::F32 => Token::F32(f32::from_le_bytes(self.array()?)),
            Element::F64 => Token::F64(f64::from_le_bytes(self.array()?)),
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }
}

const NO_TAG: &str = "what follows is of no known kind";
const NO_VARIANT: &str = "an enum is neither a name nor a map with one entry";
const MORE: &str = "elements are left over: a sequence or map has more than its type";

impl<'de> Describing<'de> {
    pub(crate) fn new(bytes: &'de [u8]) -> Describing<'de> {
        Describing { input: Slice(bytes), nesting: Nesting::new(), block: None }
    }

    /// Returns how many bytes have not been read.
    pub(crate) fn left(&self) -> usize {
        self.input.left()
    }

    /// Returns the next tag. The elements of a block have none.
    fn peek(&self) -> Option<u8> {
        self.input.0.first().copied().filter(|_| self.block.is_none())
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

    fn token(&mut self) -> Result<Token<'de>> {
        if let Some(block) = &mut self.block {
            return block.next().ok_or_else(|| Error::new(SHORT));
        }
        Ok(match self.input.byte().ok_or_else(|| Error::new(SHORT))? {
            tag::NULL => Token::Null,
            tag::FALSE => Token::Bool(false),
            tag::TRUE => Token::Bool(true),
            tag::NUMBER => Token::Number(self.number()?),
            tag::NEGATIVE => Token::Negative(number::unzigzag(self.number()?)),
            tag::WIDE => Token::Wide(number::read_wide(&mut self.input, 128)?),
            tag::WIDE_NEGATIVE => {
                let number = number::read_wide(&mut self.input, 128)?;
                Token::WideNegative(number::unzigzag_wide(number))
            }
            tag::F32 => Token::F32(f32::from_le_bytes(self.array()?)),
            tag::F64 => Token::F64(f64::from_le_bytes(self.array()?)),
            tag::TEXT => Token::Text(self.text()?),
            tag::BYTES => self.block(Element::Byte)?,
            tag::F32_BLOCK => self.block(Element::F32)?,
            tag::F64_BLOCK => self.block(Element::F64)?,
            tag::SEQUENCE => Token::Sequence,
            tag::MAP => Token::Map,
            tag::SOME => Token::Some,
            _ => return Err(Error::new(NO_TAG)),
        })
    }

    fn block(&mut self, element: Element) -> Result<Token<'de>> {
        Ok(Token::Block(Block { element, bytes: self.bytes()? }))
    }

    /// Returns whether the current container has no more elements.
    fn is_at_end(&self) -> bool {
        match &self.block {
            Some(block) => block.bytes.is_empty(),
            None => self.peek() == Some(tag::END),
        }
    }

    /// Ends a container whose elements were read, or could not be read.
    fn close(&mut self) -> Result<()> {
        let is_whole = self.is_at_end();
        if self.block.take().is_none() {
            self.nesting.leave();
            // A reader that has failed may be anywhere. Then nothing more is read.
            self.takes(tag::END);
        }
        if is_whole { Ok(()) } else { Err(Error::new(MORE)) }
    }

    /// Ends a container, and returns its value if that was all.
    fn closed<R>(&mut self, value: Result<R>) -> Result<R> {
        let closed = self.close();
        value.and_then(|value| closed.map(|()| value))
    }

    /// Visits the elements of a sequence, or of this block.
    fn sequence<V: Visitor<'de>>(
        &mut self,
        block: Option<Block<'de>>,
        visitor: V,
    ) -> Result<V::Value> {
        match block {
            Some(_) => self.block = block,
            None => self.nesting.enter(size_of::<V::Value>())?,
        }
        let value = visitor.visit_seq(DescribedParts(&mut *self));
        self.closed(value)
    }

    /// Visits the entries of a map.
    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        self.nesting.enter(size_of::<V::Value>())?;
        let value = visitor.visit_map(DescribedParts(&mut *self));
        self.closed(value)
    }

    /// Visits a variant: its name or index alone, or with its content, as the entry of a map.
    fn variant<V: Visitor<'de>>(&mut self, has_content: bool, visitor: V) -> Result<V::Value> {
        if !has_content {
            return visitor.visit_enum(DescribedVariant { decoder: self, has_content });
        }
        self.nesting.enter(size_of::<V::Value>())?;
        let value = visitor.visit_enum(DescribedVariant { decoder: &mut *self, has_content });
        self.closed(value)
    }

    fn any_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        self.token()?.visit_number(visitor)
    }
}

impl Token<'_> {
    fn visit_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Token::Number(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::Wide(value) => visitor.visit_u128(value),
            Token::WideNegative(value) => visitor.visit_i128(value),
            Token::F32(value) => visitor.visit_f32(value),
            Token::F64(value) => visitor.visit_f64(value),
            other => Err(other.unexpected(&visitor)),
        }
    }
}

/// Implements these methods by one that suits all of them.
macro_rules! all_by {
    ($($by:ident: $($method:ident($($argument:ty),*))+;)+) => {$($(
        fn $method<V: Visitor<'de>>(self, $(_: $argument,)* visitor: V) -> Result<V::Value> {
            self.$by(visitor)
        }
    )+)+};
}

impl<'de> Deserializer<'de> for &mut Describing<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Null => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Text(text) => visitor.visit_borrowed_str(text),
            Token::Block(block) => self.sequence(Some(block), visitor),
            Token::Sequence => self.sequence(None, visitor),
            Token::Map => self.map(visitor),
            Token::Some => self.inside(|inside| visitor.visit_some(inside)),
            number => number.visit_number(visitor),
        }
    }

    all_by! {
        any_number:
            deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
            deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
            deserialize_f32() deserialize_f64();
        deserialize_str: deserialize_string() deserialize_char();
        deserialize_unit: deserialize_unit_struct(&'static str);
        deserialize_any: deserialize_ignored_any();
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Bool(value) => visitor.visit_bool(value),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Text(text) => visitor.visit_borrowed_str(text),
            other => Err(other.unexpected(&visitor)),
        }
    }

    /// Unlike in JSON, a key of a map is not always a text: `#[serde(flatten)]` asks for any.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Text(text) => visitor.visit_borrowed_str(text),
            Token::Number(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::Bool(value) => visitor.visit_bool(value),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Null => visitor.visit_unit(),
            other => Err(other.unexpected(&visitor)),
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
        self.deserialize_tuple(0, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Sequence => self.sequence(None, visitor),
            Token::Block(block) => self.sequence(Some(block), visitor),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(count, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Map => self.map(visitor),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.token()? {
            Token::Map => self.map(visitor),
            Token::Sequence => self.sequence(None, visitor),
            Token::Block(block) => self.sequence(Some(block), visitor),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            Token::Block(Block { element: Element::Byte, bytes }) => {
                visitor.visit_borrowed_bytes(bytes)
            }
            Token::Text(text) => visitor.visit_borrowed_str(text),
            Token::Sequence => self.sequence(None, visitor),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.takes(tag::BYTES) {
            return visitor.visit_byte_buf(self.bytes()?.to_vec());
        }
        self.deserialize_bytes(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.peek() {
            // A type with a `Serialize` of its own may have written the index.
            Some(tag::TEXT | tag::NUMBER) => self.variant(false, visitor),
            Some(tag::MAP) => {
                self.input.byte();
                self.variant(true, visitor)
            }
            _ => Err(Error::new(NO_VARIANT)),
        }
    }
}

/// The elements of a container, or the entries of a map.
struct DescribedParts<'d, 'de>(&'d mut Describing<'de>);

impl<'de> de::SeqAccess<'de> for DescribedParts<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.0.is_at_end() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.0).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        let block = self.0.block.as_ref()?;
        let element = match block.element {
            Element::Byte => 1,
            Element::F32 => 4,
            Element::F64 => 8,
        };
        Some(block.bytes.len() / element)
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

    fn size_hint(&self) -> Option<usize> {
        None
    }
}

/// A variant, whose name or index is next.
struct DescribedVariant<'d, 'de> {
    decoder: &'d mut Describing<'de>,
    has_content: bool,
}

impl DescribedVariant<'_, '_> {
    /// The error of a variant without content, if it should have some.
    fn check_content(&self, expected: &'static str) -> Result<()> {
        if self.has_content {
            return Ok(());
        }
        Err(Error::invalid_type(Unexpected::UnitVariant, &expected))
    }
}

impl<'de> de::EnumAccess<'de> for DescribedVariant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self)> {
        Ok((seed.deserialize(&mut *self.decoder)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for DescribedVariant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        if self.has_content { serde::Deserialize::deserialize(self.decoder) } else { Ok(()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.check_content("newtype variant")?;
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value> {
        self.check_content("tuple variant")?;
        self.decoder.deserialize_tuple(count, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.check_content("struct variant")?;
        self.decoder.deserialize_struct("", fields, visitor)
    }
}
