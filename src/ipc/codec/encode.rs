//! Encoding: a value becomes bytes.

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::described::Describer;
use super::nesting::Nesting;
use super::number::{self, LONGEST};
use super::plain;
use super::{Error, Result};

/// The destination of a value that is longer than the buffer.
pub(crate) trait Spill {
    /// Announces that at least `total` bytes will be written in all.
    fn reserve(&mut self, total: usize);

    fn write(&mut self, bytes: &[u8]);

    /// Discards what was written.
    fn clear(&mut self);
}

pub(crate) struct Encoder<'a> {
    front: &'a mut Vec<u8>,
    /// The length of what `front` held before.
    start: usize,
    /// The length up to which `front` may grow.
    ceiling: usize,
    spill: Option<&'a mut dyn Spill>,
    spilled: usize,
    limit: usize,
    nesting: Nesting,
    raw: bool,
    /// If true, the positional form cannot hold the value.
    needs_names: bool,
    /// How many `Some`s surround the next value; see [`Describer`].
    pub(in crate::ipc::codec) somes: u32,
}

impl<'a> Encoder<'a> {
    /// Appends to `front`, at most `limit` bytes.
    #[inline]
    pub(crate) fn new(front: &'a mut Vec<u8>, limit: usize) -> Encoder<'a> {
        let start = front.len();
        Encoder {
            start,
            ceiling: start.saturating_add(limit),
            front,
            spill: None,
            spilled: 0,
            limit,
            nesting: Nesting::new(),
            raw: false,
            needs_names: false,
            somes: 0,
        }
    }

    /// Like [`new`](Self::new), but a value of more than `above` bytes goes to `spill` as a whole.
    #[inline]
    pub(crate) fn spilling(
        front: &'a mut Vec<u8>,
        limit: usize,
        above: usize,
        spill: &'a mut dyn Spill,
    ) -> Encoder<'a> {
        Encoder {
            ceiling: front.len() + above.min(limit),
            spill: Some(spill),
            ..Encoder::new(front, limit)
        }
    }

    /// Like [`new`](Self::new), but raw handles of ipc-channel may be encoded, because ipc-channel
    /// itself will send the value.
    pub(crate) fn raw(front: &'a mut Vec<u8>, limit: usize) -> Encoder<'a> {
        Encoder { raw: true, ..Encoder::new(front, limit) }
    }

    /// Returns an encoder with the same rules for another buffer.
    pub(crate) fn aside<'b>(&self, front: &'b mut Vec<u8>) -> Encoder<'b> {
        Encoder { raw: self.raw, ..Encoder::new(front, self.limit) }
    }

    /// Encodes the value in the positional form. Returns how many bytes were spilled: all of them
    /// or none.
    #[inline]
    pub(crate) fn encode<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<usize> {
        self.part(value)?;
        Ok(self.finish())
    }

    /// Encodes the value in the described form.
    pub(crate) fn describe<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<usize> {
        self.check_raw::<T>()?;
        value.serialize(Describer(&mut *self))?;
        Ok(self.finish())
    }

    /// Appends bytes as they are.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<usize> {
        self.expect(bytes.len());
        self.extend(bytes)?;
        Ok(self.finish())
    }

    /// Returns whether an encoding failed because the positional form cannot hold the value.
    pub(crate) fn needs_names(&self) -> bool {
        self.needs_names
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Discards what was encoded.
    pub(crate) fn restart(&mut self) {
        self.front.truncate(self.start);
        if let Some(spill) = &mut self.spill {
            spill.clear();
        }
        (self.spilled, self.somes) = (0, 0);
        self.nesting = Nesting::new();
    }

    #[inline]
    fn finish(&mut self) -> usize {
        if self.spilled > 0 {
            self.flush();
        }
        self.spilled
    }

    #[inline]
    pub(in crate::ipc::codec) fn check_raw<T: ?Sized>(&self) -> Result<()> {
        if !self.raw && is_raw(std::any::type_name::<T>()) {
            return Err(Error::new(RAW));
        }
        Ok(())
    }

    #[inline]
    fn part<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        self.check_raw::<T>()?;
        value.serialize(&mut *self)
    }

    #[cold]
    fn nameless<R>(&mut self, why: &'static str) -> Result<R> {
        self.needs_names = true;
        Err(Error::new(why))
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) -> Result<()> {
        if self.front.len() >= self.ceiling {
            self.make_room(1)?;
        }
        self.front.push(byte);
        Ok(())
    }

    #[inline]
    pub(in crate::ipc::codec) fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.ceiling - self.front.len()
            && self.make_room(bytes.len())? == Room::Beyond
        {
            self.spill_one(bytes);
            return Ok(());
        }
        self.front.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes room for more bytes, in `front` if they fit.
    #[cold]
    fn make_room(&mut self, more: usize) -> Result<Room> {
        let total = (self.spilled + self.front.len() - self.start).saturating_add(more);
        if total > self.limit || self.spill.is_none() {
            return Err(ser::Error::custom(format_args!(
                "it takes more than the limit of {} bytes (`offspring::set_message_limit`)",
                self.limit.saturating_sub(1)
            )));
        }
        self.flush();
        Ok(if more > self.ceiling - self.start { Room::Beyond } else { Room::Front })
    }

    fn flush(&mut self) {
        if let Some(spill) = &mut self.spill {
            spill.write(&self.front[self.start..]);
            self.spilled += self.front.len() - self.start;
            self.front.truncate(self.start);
        }
    }

    fn spill_one(&mut self, bytes: &[u8]) {
        if let Some(spill) = &mut self.spill {
            spill.write(bytes);
            self.spilled += bytes.len();
        }
    }

    #[inline]
    pub(in crate::ipc::codec) fn number(&mut self, number: u64) -> Result<()> {
        if number > 0x7f { self.long_number(number) } else { self.push(number as u8) }
    }

    fn long_number(&mut self, number: u64) -> Result<()> {
        if let Some((word, length)) = number::in_word(number) {
            // One store. If bytes are stored one by one, and then copied together, the processor
            // waits until the bytes have reached the cache.
            if self.ceiling - self.front.len() >= size_of::<u64>() {
                let end = self.front.len() + length;
                self.front.extend_from_slice(&word.to_le_bytes());
                self.front.truncate(end);
                return Ok(());
            }
        }
        let mut buffer = [0; LONGEST];
        let length = number::write(number, &mut buffer);
        self.extend(&buffer[..length])
    }

    pub(in crate::ipc::codec) fn wide(&mut self, number: u128) -> Result<()> {
        let mut buffer = [0; LONGEST];
        let length = number::write_wide(number, &mut buffer);
        self.extend(&buffer[..length])
    }

    /// Writes the length of the bytes that follow.
    #[inline]
    fn expect(&mut self, bytes: usize) {
        if bytes <= self.ceiling - self.front.len() {
            // The length is what a user's iterator reports, and may be wrong.
            self.front.reserve(bytes.min(1 << 26));
        } else if let Some(spill) = &mut self.spill {
            let total = (self.spilled + self.front.len() - self.start).saturating_add(bytes);
            if total <= self.limit {
                spill.reserve(total);
            }
        }
    }

    #[inline]
    pub(in crate::ipc::codec) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.number(bytes.len() as u64)?;
        self.expect(bytes.len());
        self.extend(bytes)
    }

    #[inline]
    pub(in crate::ipc::codec) fn enter(&mut self) -> Result<&mut Self> {
        self.nesting.enter(0)?;
        Ok(self)
    }

    #[inline]
    pub(in crate::ipc::codec) fn leave(&mut self) {
        self.nesting.leave();
    }
}

#[derive(PartialEq, Eq)]
enum Room {
    Front,
    /// The bytes do not even fit an empty `front`.
    Beyond,
}

const UNCOUNTED: &str = "a sequence or map does not say how many elements it has: collect it first";
const SKIPPED: &str = "`#[serde(skip_serializing_if)]` leaves out a field";
const RAW: &str = "it holds a raw handle of ipc-channel, which crosses in a worker's fields only: use offspring's channel, pipe or queue, or a type of its own for shared memory";

/// Returns whether this is the name of a handle of ipc-channel. Such a handle adds itself to the
/// next message that this thread sends.
#[inline(always)]
fn is_raw(name: &str) -> bool {
    // The compiler knows the name, so for nearly all types it removes this check.
    name.starts_with(RAW_NAMES)
        || (WRAPPERS.iter().any(|wrapper| name.starts_with(wrapper)) && is_raw_inside(name))
}

const RAW_NAMES: &str = "ipc_channel::ipc::";
const WRAPPERS: [&str; 5] =
    ["&", "mut ", "alloc::boxed::Box<", "alloc::sync::Arc<", "alloc::rc::Rc<"];

#[cold]
fn is_raw_inside(mut name: &str) -> bool {
    while let Some(inside) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = inside;
    }
    name.starts_with(RAW_NAMES)
}

macro_rules! numbers {
    ($($method:ident $type:ty => $write:ident $convert:expr;)+) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<()> {
            self.$write($convert(value))
        }
    )+};
}

impl<'a, 'e> Serializer for &'e mut Encoder<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Elements<'a, 'e>;
    type SerializeTuple = Elements<'a, 'e>;
    type SerializeTupleStruct = Elements<'a, 'e>;
    type SerializeTupleVariant = Elements<'a, 'e>;
    type SerializeMap = Elements<'a, 'e>;
    type SerializeStruct = Elements<'a, 'e>;
    type SerializeStructVariant = Elements<'a, 'e>;

    numbers! {
        serialize_bool bool => push u8::from;
        serialize_u8 u8 => push u8::from;
        serialize_u16 u16 => number u64::from;
        serialize_u32 u32 => number u64::from;
        serialize_u64 u64 => number u64::from;
        serialize_u128 u128 => wide u128::from;
        serialize_i8 i8 => push |value| value as u8;
        serialize_i16 i16 => number |value| number::zigzag(i64::from(value));
        serialize_i32 i32 => number |value| number::zigzag(i64::from(value));
        serialize_i64 i64 => number number::zigzag;
        serialize_i128 i128 => wide number::zigzag_wide;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<()> {
        self.extend(&value.to_le_bytes())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<()> {
        self.extend(&value.to_le_bytes())
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.bytes(value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<()> {
        self.bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        self.bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<()> {
        self.push(0)
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
        self.push(1)?;
        let inside = self.enter()?;
        inside.part(value)?;
        inside.leave();
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<()> {
        self.number(u64::from(index))
    }

    #[inline]
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        let inside = self.enter()?;
        inside.part(value)?;
        inside.leave();
        Ok(())
    }

    #[inline]
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        self.number(u64::from(index))?;
        let inside = self.enter()?;
        inside.part(value)?;
        inside.leave();
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, count: Option<usize>) -> Result<Elements<'a, 'e>> {
        let Some(count) = count else { return self.nameless(UNCOUNTED) };
        self.number(count as u64)?;
        Ok(Elements(self.enter()?))
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Elements<'a, 'e>> {
        Ok(Elements(self.enter()?))
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements<'a, 'e>> {
        Ok(Elements(self.enter()?))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Elements<'a, 'e>> {
        self.number(u64::from(index))?;
        Ok(Elements(self.enter()?))
    }

    #[inline]
    fn serialize_map(self, count: Option<usize>) -> Result<Elements<'a, 'e>> {
        self.serialize_seq(count)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Elements<'a, 'e>> {
        Ok(Elements(self.enter()?))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Elements<'a, 'e>> {
        self.number(u64::from(index))?;
        Ok(Elements(self.enter()?))
    }

    #[inline]
    fn collect_seq<I>(self, elements: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let block = plain::with_block(&elements, |count, bytes| {
            self.number(count as u64)?;
            self.expect(bytes.len());
            self.extend(bytes)
        });
        if let Some(outcome) = block {
            return outcome;
        }
        let mut elements = elements.into_iter();
        let count = match elements.size_hint() {
            (low, Some(high)) if low == high => low,
            _ => return self.nameless(UNCOUNTED),
        };
        let mut inside = self.serialize_seq(Some(count))?;
        elements
            .try_for_each(|element| ser::SerializeSeq::serialize_element(&mut inside, &element))?;
        ser::SerializeSeq::end(inside)
    }
}

/// Encodes the elements of a container.
pub(crate) struct Elements<'a, 'e>(&'e mut Encoder<'a>);

macro_rules! containers {
    ($($trait:ident $method:ident$(($key:ty, $skip:ident))?;)+) => {$(
        impl ser::$trait for Elements<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $method<T: ?Sized + Serialize>(&mut self, $(_: $key,)? value: &T) -> Result<()> {
                self.0.part(value)
            }

            $(fn $skip(&mut self, _: $key) -> Result<()> {
                self.0.nameless(SKIPPED)
            })?

            #[inline]
            fn end(self) -> Result<()> {
                self.0.leave();
                Ok(())
            }
        }
    )+};
}

containers! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
    SerializeStruct serialize_field(&'static str, skip_field);
    SerializeStructVariant serialize_field(&'static str, skip_field);
}

impl ser::SerializeMap for Elements<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<()> {
        self.0.part(key)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        self.0.part(value)
    }

    fn end(self) -> Result<()> {
        self.0.leave();
        Ok(())
    }
}
