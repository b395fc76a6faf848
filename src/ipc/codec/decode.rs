//! Decoding: bytes become a value.

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::nesting::Nesting;
use super::{Error, Result, SHORT, number, plain};

/// Bytes to decode. No part of the input is borrowed, so another process may write to it meanwhile:
/// each byte is read once, and may have any value.
pub(crate) trait Input<'de> {
    /// Returns the next byte.
    fn byte(&mut self) -> Option<u8>;

    /// Appends the next `count` bytes to `bytes`. Returns whether there were enough.
    fn append(&mut self, count: usize, bytes: &mut Vec<u8>) -> bool;

    /// Copies the next bytes. Returns whether there were enough.
    fn fill(&mut self, bytes: &mut [u8]) -> bool;

    /// Returns how many bytes are left.
    fn left(&self) -> usize;

    /// Returns the next bytes without a copy, if they are private to this process.
    fn borrow(&mut self, _count: usize) -> Option<&'de [u8]> {
        None
    }
}

/// Bytes that are private to this process.
#[derive(Debug)]
pub(crate) struct Slice<'de>(pub(crate) &'de [u8]);

impl<'de> Input<'de> for Slice<'de> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    #[inline]
    fn append(&mut self, count: usize, bytes: &mut Vec<u8>) -> bool {
        self.borrow(count).map(|taken| bytes.extend_from_slice(taken)).is_some()
    }

    #[inline]
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        match self.borrow(bytes.len()) {
            Some(taken) => bytes.copy_from_slice(taken),
            None => return false,
        }
        true
    }

    #[inline]
    fn left(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn borrow(&mut self, count: usize) -> Option<&'de [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// The most elements of one value that take no bytes. Without a limit, a few bytes with a large
/// length could keep a decoder busy forever.
const EMPTY_ELEMENTS_MAX: usize = 1 << 24;

/// Decodes the positional form.
pub(crate) struct Decoder<I> {
    input: I,
    nesting: Nesting,
    /// How many elements all sequences and maps together may still have. Each element that takes
    /// bytes has at least one byte that belongs to no element inside it.
    elements: usize,
}

impl<'de, I: Input<'de>> Decoder<I> {
    #[inline]
    pub(crate) fn new(input: I) -> Decoder<I> {
        let elements = input.left().saturating_add(EMPTY_ELEMENTS_MAX);
        Decoder { input, nesting: Nesting::new(), elements }
    }

    /// Returns how many bytes have not been read.
    pub(crate) fn left(&self) -> usize {
        self.input.left()
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        self.input.byte().ok_or_else(|| Error::new(SHORT))
    }

    #[inline]
    fn number(&mut self, bits: u32) -> Result<u64> {
        number::read(&mut self.input, bits)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.input.fill(&mut bytes) { Ok(bytes) } else { Err(Error::new(SHORT)) }
    }

    /// Reads a length. If it exceeds the bytes that are left, that is an error before anything is
    /// allocated.
    #[inline]
    fn length(&mut self) -> Result<usize> {
        let length = self.number(64)?;
        usize::try_from(length)
            .ok()
            .filter(|&length| length <= self.input.left())
            .ok_or_else(|| Error::new(SHORT))
    }

    #[inline]
    fn bytes(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.bytes_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Appends a value that was encoded as bytes. Returns its length.
    pub(crate) fn bytes_into(&mut self, bytes: &mut Vec<u8>) -> Result<usize> {
        let length = self.length()?;
        if self.input.append(length, bytes) { Ok(length) } else { Err(Error::new(SHORT)) }
    }

    /// Decodes elements for a type that wants them as a vector.
    fn block<E: plain::Element, R>(&mut self) -> Result<R> {
        let count = self.number(64)?;
        let left = self.input.left();
        let length =
            usize::try_from(count).ok().and_then(|count| count.checked_mul(size_of::<E>()));
        let length = length.filter(|&length| length <= left).ok_or_else(|| Error::new(SHORT))?;
        if size_of::<E>() == 1 {
            let mut bytes = Vec::new();
            self.input.append(length, &mut bytes);
            return plain::vector::<u8, R>(bytes);
        }
        let mut elements = vec![E::zeroed(); length / size_of::<E>()];
        self.input.fill(bytemuck::cast_slice_mut(&mut elements));
        plain::vector::<E, R>(elements)
    }

    #[inline]
    fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| Error::new(NO_TEXT))
    }

    /// Reads a number of elements.
    #[inline]
    fn count(&mut self) -> Result<usize> {
        let count = usize::try_from(self.number(64)?).ok();
        let rest = count.and_then(|count| self.elements.checked_sub(count));
        self.elements = rest.ok_or_else(|| Error::new(SHORT))?;
        Ok(count.unwrap_or_default())
    }

    #[inline]
    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.nesting.enter(size_of::<R>())?;
        let result = read(self);
        self.nesting.leave();
        result
    }
}

const NO_TEXT: &str = "a text is not UTF-8";
const UNTOLD: &str = "the encoding does not say which type follows, as `#[serde(untagged)]`, `#[serde(tag)]`, `#[serde(flatten)]` and types such as `serde_json::Value` need";

macro_rules! numbers {
    ($($method:ident $visit:ident $bits:literal $convert:expr;)+) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let number = self.number($bits)?;
            visitor.$visit($convert(number))
        }
    )+};
}

impl<'de, I: Input<'de>> Deserializer<'de> for &mut Decoder<I> {
    type Error = Error;

    positional_structs! {}

    numbers! {
        deserialize_u16 visit_u16 16 |number| number as u16;
        deserialize_u32 visit_u32 32 |number| number as u32;
        deserialize_u64 visit_u64 64 |number| number;
        deserialize_i16 visit_i16 16 |number| number::unzigzag(number) as i16;
        deserialize_i32 visit_i32 32 |number| number::unzigzag(number) as i32;
        deserialize_i64 visit_i64 64 number::unzigzag;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(Error::new(UNTOLD))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(Error::new(UNTOLD))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(Error::new(UNTOLD))
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(Error::new("a bool is neither 0 nor 1")),
        }
    }

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u8(self.byte()?)
    }

    #[inline]
    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i8(self.byte()? as i8)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u128(number::read_wide(&mut self.input, 128)?)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i128(number::unzigzag_wide(number::read_wide(&mut self.input, 128)?))
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f32(f32::from_le_bytes(self.array()?))
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f64(f64::from_le_bytes(self.array()?))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let length = self.length()?;
        let mut bytes = [0; 4];
        let bytes = bytes.get_mut(..length).ok_or_else(|| Error::new(NO_CHARACTER))?;
        if !self.input.fill(bytes) {
            return Err(Error::new(SHORT));
        }
        let mut characters = std::str::from_utf8(bytes).map_err(|_| Error::new(NO_TEXT))?.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => visitor.visit_char(character),
            _ => Err(Error::new(NO_CHARACTER)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_string(visitor)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let length = self.length()?;
        if let Some(bytes) = self.input.borrow(length) {
            return visitor.visit_borrowed_bytes(bytes);
        }
        let mut bytes = Vec::new();
        if !self.input.append(length, &mut bytes) {
            return Err(Error::new(SHORT));
        }
        visitor.visit_byte_buf(bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_byte_buf(self.bytes()?)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => self.inside(|inside| visitor.visit_some(inside)),
            _ => Err(Error::new(
                "invalid Option: does `#[serde(skip_serializing_if)]` or a `Serialize` written by hand leave a field out?",
            )),
        }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if plain::is_visitor_of::<u8, V>() {
            return self.block::<u8, _>();
        }
        if plain::is_visitor_of::<f64, V>() {
            return self.block::<f64, _>();
        }
        if plain::is_visitor_of::<f32, V>() {
            return self.block::<f32, _>();
        }
        let left = self.count()?;
        self.inside(|decoder| visitor.visit_seq(Elements { decoder, left }))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value> {
        self.inside(|decoder| visitor.visit_seq(Elements { decoder, left }))
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.count()?;
        self.inside(|decoder| visitor.visit_map(Elements { decoder, left }))
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.inside(|decoder| visitor.visit_enum(Variant(decoder)))
    }
}

const NO_CHARACTER: &str = "a character is not one character";

struct Elements<'d, I> {
    decoder: &'d mut Decoder<I>,
    left: usize,
}

impl<'de, I: Input<'de>> de::SeqAccess<'de> for Elements<'_, I> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.decoder.input.left()))
    }
}

impl<'de, I: Input<'de>> de::MapAccess<'de> for Elements<'_, I> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        de::SeqAccess::size_hint(self)
    }
}

struct Variant<'d, I>(&'d mut Decoder<I>);

impl<'de, I: Input<'de>> de::EnumAccess<'de> for Variant<'_, I> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self)> {
        let index = self.0.number(32)? as u32;
        Ok((seed.deserialize(index.into_deserializer())?, self))
    }
}

impl<'de, I: Input<'de>> de::VariantAccess<'de> for Variant<'_, I> {
    type Error = Error;

    #[inline]
    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.0)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value> {
        self.0.deserialize_tuple(count, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.0.deserialize_tuple(fields.len(), visitor)
    }
}
