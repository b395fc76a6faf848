//! Finding out, once for each type, whether its values are read as they are written, so that the
//! positional form suffices for them.
//!
//! The positional form consists of what `Serialize` writes, in its order, without names. It works
//! if `Deserialize` asks for the same in the same order. serde's attributes can make the two differ
//! in ways that neither shows alone: an untagged enum writes only what its variant writes; a
//! skipped variant changes the numbers of those after it. So both are run here. `Deserialize` gets
//! made-up values, and the [`Explorer`] notes their positional form. Then the value that
//! `Deserialize` returned is encoded, and the result must be the same bytes.
//!
//! A value follows one path through its type; other variants of its enums are other paths. Each
//! enum, option, sequence and map is a [`Choice`], and the exploration is repeated until each
//! choice was made in each way. Inside a type that contains itself, a choice is made in a way that
//! is known to end.
//!
//! A type that checks its values may refuse a made-up value, and so may a type with handles,
//! because there are none. Then the pass does not see the rest of the path, and later passes avoid
//! that value.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::Mutex;

use serde::Serialize;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::nesting::Nesting;
use super::number::{self, LONGEST};
use super::{Encoder, Error, Result};
use crate::sys;

/// The result of exploring a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symmetry {
    /// Values are read as they are written.
    Full,
    /// Values without handles are read as they are written. The exploration could not continue past
    /// a handle.
    WithoutHandles,
    /// The exploration found no answer.
    Unknown,
    /// Values are not read as they are written: the positional form does not work.
    None,
}

/// The most steps. Only a type that goes in circles takes more.
const STEPS_MAX: usize = 1 << 22;
const PASSES_MAX: usize = 1 << 12;

const NO_WAY: &str = "no way is left";

/// Explores a type. `met_handle` returns whether a handle was asked for since its last call.
pub(crate) fn explore<T>(met_handle: &dyn Fn() -> bool) -> Symmetry
where
    T: Serialize + DeserializeOwned,
{
    explore_with(pass::<T>, met_handle)
}

fn explore_with(pass: Pass, met_handle: &dyn Fn() -> bool) -> Symmetry {
    let mut map = Map::new(met_handle);
    for _ in 0..PASSES_MAX {
        map.begin(false);
        let passed = pass(&mut map);
        if map.is_asymmetric || passed == Some(false) {
            return Symmetry::None;
        }
        if map.steps > STEPS_MAX || (passed.is_none() && !map.avoided) {
            return Symmetry::Unknown;
        }
        if !map.pending && !map.avoided {
            // Once more, now leaving out everything that can be left out.
            map.begin(true);
            return match pass(&mut map) {
                Some(false) => Symmetry::None,
                _ if map.refused => Symmetry::Unknown,
                _ if map.met_handles => Symmetry::WithoutHandles,
                _ => Symmetry::Full,
            };
        }
    }
    Symmetry::Unknown
}

/// [`pass`] for one type.
type Pass = fn(&mut Map<'_>) -> Option<bool>;

/// Decodes a made-up value, and returns whether it encodes to the same bytes. Returns `None` if the
/// type refuses the value.
fn pass<T: Serialize + DeserializeOwned>(map: &mut Map<'_>) -> Option<bool> {
    let mut explorer = Explorer { map, bytes: Vec::new(), nesting: Nesting::new() };
    let value = T::deserialize(&mut explorer).ok()?;
    let made_up = explorer.bytes;
    let mut written = Vec::new();
    let encoded = Encoder::new(&mut written, usize::MAX).encode(&value);
    if std::mem::needs_drop::<T>() {
        keep(std::ptr::from_mut(Box::leak(Box::new(value))).addr());
    }
    Some(encoded.is_ok() && written == made_up)
}

/// Keeps a made-up value forever. The program never created it, so whatever the type does when it
/// is dropped, such as removing a file, must not happen.
fn keep(address: usize) {
    /// The addresses of the values, so that leak checkers find the values.
    static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    sys::lock(&KEPT).push(address);
}

/// The state that the passes over a type share.
struct Map<'m> {
    /// The choices, by the type of the visitor.
    choices: HashMap<TypeId, Choice>,
    met_handle: &'m dyn Fn() -> bool,
    met_handles: bool,
    /// The type refused a made-up value. It may accept other values.
    refused: bool,
    steps: usize,
    /// The type asked for something that the positional form does not have.
    is_asymmetric: bool,
    /// This pass met a choice that has not been made in each way yet.
    pending: bool,
    /// This pass failed, and because of that some choice will be made in another way.
    avoided: bool,
    /// This pass failed at a handle.
    failed_at_handle: bool,
    is_minimal: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    New,
    /// It came to an end, but choices inside it are left.
    Ended,
    Done,
    Barred,
}

struct Choice {
    ways: Vec<Way>,
    /// The first way that came to an end. It does not lead back to this choice.
    ending: Option<usize>,
    /// How many instances of it the current path is inside.
    entered: usize,
}

impl Choice {
    fn pick(&self, is_minimal: bool) -> Option<usize> {
        let open = |wanted: fn(Way) -> bool| self.ways.iter().position(|&way| wanted(way));
        if self.entered > 0 {
            // A different way at each level, until one has ended.
            let around = (0..self.ways.len()).map(|n| (self.entered + n) % self.ways.len());
            return self
                .ending
                .or_else(|| around.into_iter().find(|&way| self.ways[way] != Way::Barred));
        }
        if is_minimal {
            // The last way is `None` for an option, and an empty sequence for a sequence.
            return self.ways.iter().rposition(|&way| way != Way::Barred);
        }
        open(|way| matches!(way, Way::New | Way::Ended)).or_else(|| open(|way| way == Way::Done))
    }
}

impl<'m> Map<'m> {
    fn new(met_handle: &'m dyn Fn() -> bool) -> Map<'m> {
        met_handle();
        Map {
            choices: HashMap::new(),
            met_handle,
            met_handles: false,
            refused: false,
            steps: 0,
            is_asymmetric: false,
            pending: false,
            avoided: false,
            failed_at_handle: false,
            is_minimal: false,
        }
    }

    fn begin(&mut self, is_minimal: bool) {
        self.choices.values_mut().for_each(|choice| choice.entered = 0);
        (self.pending, self.avoided, self.failed_at_handle) = (false, false, false);
        self.is_minimal = is_minimal;
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX { Err(Error::new("it has no end")) } else { Ok(()) }
    }

    fn asymmetric<R>(&mut self) -> Result<R> {
        self.is_asymmetric = true;
        Err(Error::new("the positional form is not for this type"))
    }
}

struct Explorer<'p, 'm> {
    map: &'p mut Map<'m>,
    /// The positional form of the made-up value.
    bytes: Vec<u8>,
    nesting: Nesting,
}

impl Explorer<'_, '_> {
    fn number(&mut self, number: u64) {
        let mut buffer = [0; LONGEST];
        let length = number::write(number, &mut buffer);
        self.bytes.extend_from_slice(&buffer[..length]);
    }

    fn text(&mut self) -> &'static str {
        let text = if self.map.is_minimal { "" } else { "a" };
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
        text
    }

    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.map.step()?;
        self.nesting.enter(size_of::<R>())?;
        let result = read(self);
        self.nesting.leave();
        result
    }

    /// Makes a choice among `ways` ways.
    fn choose<V, R>(
        &mut self,
        ways: usize,
        go: impl FnOnce(&mut Self, usize) -> Result<R>,
    ) -> Result<R> {
        let id = sys::type_id_of::<V>();
        let is_minimal = self.map.is_minimal;
        let new = || Choice { ways: vec![Way::New; ways], ending: None, entered: 0 };
        let choice = self.map.choices.entry(id).or_insert_with(new);
        let Some(way) = choice.pick(is_minimal) else {
            // The enum has no variants, or the type refused each of them.
            return Err(Error::new(NO_WAY));
        };
        choice.entered += 1;
        let pending = std::mem::take(&mut self.map.pending);
        let result = self.inside(|inside| go(inside, way));
        let map = &mut *self.map;
        let choice = map.choices.get_mut(&id).expect("it was inserted above");
        choice.entered -= 1;
        if is_minimal {
            return result;
        }
        if result.is_ok() {
            choice.ending.get_or_insert(way);
        }
        match &result {
            Ok(_) if choice.ways[way] == Way::Done => {}
            Ok(_) if choice.entered > 0 || map.pending => choice.ways[way] = Way::Ended,
            Ok(_) => choice.ways[way] = Way::Done,
            // Another choice inside has been blamed, and will be made in another way.
            Err(_) if map.avoided || map.is_asymmetric => {}
            Err(error) => {
                choice.ways[way] = Way::Barred;
                map.avoided = choice.ways.iter().any(|&way| way != Way::Barred);
                if (map.met_handle)() {
                    map.failed_at_handle = true;
                }
                // Our errors pass through the type's code unchanged.
                map.met_handles |= map.failed_at_handle;
                map.refused |= !map.failed_at_handle && error.to_string() != NO_WAY;
            }
        }
        let is_open = |way: &Way| matches!(way, Way::New | Way::Ended);
        map.pending |= pending || (choice.entered == 0 && choice.ways.iter().any(is_open));
        result
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $write:expr;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.map.step()?;
            let value = if self.map.is_minimal { 0 as $type } else { 1 as $type };
            let write: fn(&mut Explorer<'_, '_>, $type) = $write;
            write(self, value);
            visitor.$visit(value)
        }
    )+};
}

impl<'de> Deserializer<'de> for &mut Explorer<'_, '_> {
    type Error = Error;

    positional_structs! {}

    numbers! {
        deserialize_u8 visit_u8 u8, |to, value| to.bytes.push(value);
        deserialize_i8 visit_i8 i8, |to, value| to.bytes.push(value as u8);
        deserialize_u16 visit_u16 u16, |to, value| to.number(value.into());
        deserialize_u32 visit_u32 u32, |to, value| to.number(value.into());
        deserialize_u64 visit_u64 u64, |to, value| to.number(value);
        deserialize_u128 visit_u128 u128, |to, value| to.number(value as u64);
        deserialize_i16 visit_i16 i16, |to, value| to.number(number::zigzag(value.into()));
        deserialize_i32 visit_i32 i32, |to, value| to.number(number::zigzag(value.into()));
        deserialize_i64 visit_i64 i64, |to, value| to.number(number::zigzag(value));
        deserialize_i128 visit_i128 i128, |to, value| to.number(number::zigzag(value as i64));
        deserialize_f32 visit_f32 f32, |to, value| to.bytes.extend(value.to_le_bytes());
        deserialize_f64 visit_f64 f64, |to, value| to.bytes.extend(value.to_le_bytes());
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        self.map.asymmetric()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        self.map.asymmetric()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        self.map.asymmetric()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let value = !self.map.is_minimal;
        self.bytes.push(value.into());
        visitor.visit_bool(value)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.number(1);
        self.bytes.push(b'a');
        visitor.visit_char('a')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_string(self.text().to_owned())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bytes(self.text().as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_byte_buf(self.text().as_bytes().to_vec())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.choose::<V, _>(2, |inside, way| {
            inside.bytes.push(1 - way as u8);
            if way == 0 { visitor.visit_some(inside) } else { visitor.visit_none() }
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.choose::<V, _>(2, |explorer, way| {
            let left = 1 - way;
            explorer.number(left as u64);
            visitor.visit_seq(Elements { explorer, left })
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value> {
        self.inside(|explorer| visitor.visit_seq(Elements { explorer, left }))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.choose::<V, _>(2, |explorer, way| {
            let left = 1 - way;
            explorer.number(left as u64);
            visitor.visit_map(Elements { explorer, left })
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.choose::<V, _>(variants.len(), |explorer, way| {
            explorer.number(way as u64);
            visitor.visit_enum(Variant { explorer, index: way as u32 })
        })
    }
}

struct Elements<'e, 'p, 'm> {
    explorer: &'e mut Explorer<'p, 'm>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, '_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.explorer).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, '_, '_> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        seed.deserialize(&mut *self.explorer)
    }
}

struct Variant<'e, 'p, 'm> {
    explorer: &'e mut Explorer<'p, 'm>,
    index: u32,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, '_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self)> {
        Ok((seed.deserialize(self.index.into_deserializer())?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, '_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.explorer)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value> {
        self.explorer.deserialize_tuple(count, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.explorer.deserialize_tuple(fields.len(), visitor)
    }
}
