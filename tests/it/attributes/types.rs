//! Types with serde's attributes, and random values of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers that are the same each time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A type of which a random value can be made.
pub(crate) trait Make: Sized {
    fn make(random: &mut Random) -> Self;
}

macro_rules! make {
    ($($type:ty: $random:ident => $value:expr;)+) => {$(
        impl Make for $type {
            fn make($random: &mut Random) -> Self {
                $value
            }
        }
    )+};
}

macro_rules! structs {
    ($($name:ident { $($field:ident)* })+) => {$(
        impl Make for $name {
            fn make(random: &mut Random) -> Self {
                $name { $($field: Make::make(random)),* }
            }
        }
    )+};
}

/// One expression for each variant; `_` makes a field.
macro_rules! enums {
    ($($name:ident($random:ident) { $($value:expr),+ $(,)? })+) => {$(
        impl Make for $name {
            fn make($random: &mut Random) -> Self {
                #[allow(unused_variables)]
                let ways: &[fn(&mut Random) -> $name] = &[$(|$random| $value),+];
                ways[$random.below(ways.len() as u64) as usize]($random)
            }
        }
    )+};
}

fn any<T: Make>(random: &mut Random) -> T {
    T::make(random)
}

make! {
    bool: random => random.below(2) == 0;
    u8: random => random.below(256) as u8;
    i8: random => random.below(256) as i8;
    u16: random => random.below(1 << 16) as u16;
    u32: random => random.below(1 << 32) as u32;
    i32: random => random.below(1 << 32) as i32;
    u64: random => random.below(u64::MAX) >> random.below(64);
    i64: random => random.below(u64::MAX) as i64 >> random.below(64);
    u128: random => u128::from(random.below(u64::MAX)) << random.below(60);
    i128: random => i128::from(any::<i64>(random)) << random.below(60);
    f32: random => random.below(1000) as f32 / 8.0 - 60.0;
    f64: random => random.below(1 << 40) as f64 / 1024.0 - 60.0;
    char: random => char::from_u32(random.below(0x1_0000) as u32).unwrap_or('\u{1f980}');
    String: random => (0..random.below(6)).map(|_| any::<char>(random)).collect();
    (): _random => ();
    Cow<'static, str>: random => Cow::Owned(any(random));
    PathBuf: random => PathBuf::from(any::<String>(random));
    Duration: random => Duration::new(any(random), random.below(1_000_000_000) as u32);
    NonZeroU32: random => NonZeroU32::new(any::<u32>(random).max(1)).unwrap();
    IpAddr: random => match random.below(2) {
        0 => IpAddr::from(any::<u32>(random).to_be_bytes()),
        _ => IpAddr::from(any::<u128>(random).to_be_bytes()),
    };
    serde_json::Value: random => json(random, 3);
}

impl<T: Make> Make for Option<T> {
    fn make(random: &mut Random) -> Self {
        (random.below(3) > 0).then(|| any(random))
    }
}

impl<T: Make> Make for Box<T> {
    fn make(random: &mut Random) -> Self {
        Box::new(any(random))
    }
}

impl<T: Make> Make for Vec<T> {
    fn make(random: &mut Random) -> Self {
        (0..random.below(4)).map(|_| any(random)).collect()
    }
}

impl<T: Make + Ord> Make for BTreeSet<T> {
    fn make(random: &mut Random) -> Self {
        (0..random.below(4)).map(|_| any(random)).collect()
    }
}

impl<K: Make + Ord, V: Make> Make for BTreeMap<K, V> {
    fn make(random: &mut Random) -> Self {
        (0..random.below(4)).map(|_| (any(random), any(random))).collect()
    }
}

impl<K: Make + Eq + std::hash::Hash, V: Make> Make for HashMap<K, V> {
    fn make(random: &mut Random) -> Self {
        (0..random.below(4)).map(|_| (any(random), any(random))).collect()
    }
}

impl<A: Make, B: Make> Make for (A, B) {
    fn make(random: &mut Random) -> Self {
        (any(random), any(random))
    }
}

impl<T: Make, E: Make> Make for Result<T, E> {
    fn make(random: &mut Random) -> Self {
        if random.below(2) == 0 { Ok(any(random)) } else { Err(any(random)) }
    }
}

fn json(random: &mut Random, deep: u32) -> serde_json::Value {
    match random.below(if deep == 0 { 5 } else { 7 }) {
        0 => serde_json::Value::Null,
        1 => any::<bool>(random).into(),
        2 => any::<i64>(random).into(),
        3 => any::<f64>(random).into(),
        4 => any::<String>(random).into(),
        5 => (0..random.below(4)).map(|_| json(random, deep - 1)).collect(),
        _ => (0..random.below(4))
            .map(|_| (any::<String>(random), json(random, deep - 1)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

macro_rules! types {
    ($($(#[$attribute:meta])* $kind:ident $name:ident $body:tt $($semicolon:literal)?)+) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        $(#[$attribute])*
        pub(crate) $kind $name $body
    )+};
}

types! {
    struct Plain { flag: bool, number: i64, text: String, list: Vec<u16>, maybe: Option<Box<Plain>> }
    enum External { Unit, New(u8), Pair(String, i32), Named { a: f64, b: Option<char> } }

    #[serde(tag = "type")]
    enum Internal { Unit, Named { x: u32, y: Option<String> }, New(Plain), Map(BTreeMap<String, u8>), Inner(External) }
    #[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
    enum Event { ClickEvent { mouse_x: u32, mouse_y: u32 }, KeyEvent { key_code: String } }
    #[serde(tag = "t", content = "c")]
    enum Adjacent { Unit, New(u8), Pair(String, i32), Named { a: u8, b: Vec<u8> } }
    #[serde(tag = "t", content = "c", deny_unknown_fields)]
    enum AdjacentStrict { Unit, New(Option<Internal>) }
    #[serde(untagged)]
    enum Untagged { Flag(bool), Number(u64), Pair(String, i64), Named { a: u8, b: Option<bool> }, List(Vec<Untagged>), Text(String) }
    #[serde(untagged)]
    enum Deeper { Internal(Internal), Adjacent(Adjacent), Tree { left: Box<Deeper>, right: Box<Deeper> }, Nothing }

    struct Flat { id: u32, #[serde(flatten)] plain: Optional, #[serde(flatten)] rest: BTreeMap<String, serde_json::Value> }
    struct FlatEnum { id: u32, #[serde(flatten)] event: Event, after: Vec<u8> }
    struct FlatOption { id: u32, #[serde(flatten)] inner: Option<Renamed> }

    struct Optional {
        #[serde(default, skip_serializing_if = "Option::is_none")] hint: Option<u8>,
        level: u8,
        #[serde(default, skip_serializing_if = "Vec::is_empty")] body: Vec<u8>,
    }
    enum OptionalVariant { Named { #[serde(default, skip_serializing_if = "String::is_empty")] text: String, n: u8 }, Other(Optional) }
    struct Renamed { #[serde(rename = "a b", alias = "ab")] one: u8, #[serde(rename(serialize = "x", deserialize = "x"))] two: String }
    #[serde(default)]
    struct Defaults { a: Option<u8>, #[serde(default = "seven")] b: u8 }
    #[serde(deny_unknown_fields)]
    struct Strict { a: u8, #[serde(skip_serializing_if = "is_zero", default)] b: u32 }
    struct With { #[serde(with = "as_text")] number: u64, #[serde(with = "as_bytes")] bytes: Vec<u8>, last: i8 }
    #[serde(from = "Wire", into = "Wire")]
    struct Converted { celsius: f64 }
    struct Wire { kelvin: f64 }
    #[serde(try_from = "u8", into = "u8")]
    struct Percent { value: u8 }
    struct Percents { all: Vec<Percent>, tail: u8 }
    struct Remotes { #[serde(with = "Remote")] far: Far, near: u8 }
    struct Keys { numbers: BTreeMap<i64, String>, letters: BTreeMap<char, u8>, variants: BTreeMap<Key, u8>, flags: HashMap<bool, u8> }
    struct Odd { maybe: Option<Option<u8>>, units: Vec<()>, unit: Option<()>, wide: (i128, u128), small: (f32, char), result: Result<u8, String> }
    struct Standard { path: PathBuf, duration: Duration, nonzero: NonZeroU32, ip: IpAddr, text: Cow<'static, str>, set: BTreeSet<String> }
    #[serde(tag = "kind")]
    enum InternalStandard { A { ip: IpAddr, duration: Duration, path: PathBuf }, B { bytes: Bytes, keys: BTreeMap<i64, String>, small: (f32, char) } }
    struct Json { value: serde_json::Value, map: HashMap<String, serde_json::Value>, n: u8 }
    #[serde(transparent)]
    struct Transparent { value: serde_json::Value }
    enum Newer { Known, Third, #[serde(other)] Unknown }
    #[serde(tag = "t")]
    enum WithOther { Known { a: u8 }, #[serde(other)] Other }
    enum Expression { Negative(Box<Expression>), Sum(Vec<Expression>), Number(i64), Json(serde_json::Value) }
    struct Skipped { #[serde(skip)] gone: u8, kept: u8 }
    struct SkippedWithDefault { #[serde(skip_serializing, default)] gone: u8, kept: u8 }
    struct OnlyWritten { #[serde(skip_deserializing)] gone: u8, kept: u8 }
    enum OldFirst { #[serde(skip_deserializing)] Old, New, Newer }
    #[allow(dead_code)]
    enum SkippedVariant { One, #[serde(skip)] Never, Two(u8), Three }
    struct Nan { a: f32, b: f64 }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tuple(u8, #[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Key {
    #[serde(rename = "the first")]
    First,
    Second,
}

/// Writes itself as bytes, and is read as a sequence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Bytes)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Far {
    a: u8,
    b: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Far")]
struct Remote {
    a: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    b: Option<String>,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

mod as_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        Vec::deserialize(deserializer)
    }
}

fn seven() -> u8 {
    7
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults { a: Some(1), b: 2 }
    }
}

impl From<Wire> for Converted {
    fn from(wire: Wire) -> Converted {
        Converted { celsius: wire.kelvin - 273.0 }
    }
}

impl From<Converted> for Wire {
    fn from(value: Converted) -> Wire {
        Wire { kelvin: value.celsius + 273.0 }
    }
}

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(value: u8) -> Result<Percent, String> {
        if (10..=100).contains(&value) {
            Ok(Percent { value })
        } else {
            Err(format!("{value} is out of range"))
        }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> u8 {
        percent.value
    }
}

structs! {
    Plain { flag number text list maybe }
    Flat { id plain rest }
    FlatEnum { id event after }
    FlatOption { id inner }
    Optional { hint level body }
    Renamed { one two }
    Defaults { a b }
    Strict { a b }
    With { number bytes last }
    Converted { celsius }
    Percents { all tail }
    Far { a b }
    Remotes { far near }
    Keys { numbers letters variants flags }
    Odd { maybe units unit wide small result }
    Standard { path duration nonzero ip text set }
    Json { value map n }
    Transparent { value }
    Skipped { gone kept }
    SkippedWithDefault { gone kept }
    OnlyWritten { gone kept }
}

enums! {
    External(random) { External::Unit, External::New(any(random)), External::Pair(any(random), any(random)), External::Named { a: any(random), b: any(random) } }
    Internal(random) { Internal::Unit, Internal::Named { x: any(random), y: any(random) }, Internal::New(any(random)), Internal::Map(any(random)) }
    Event(random) { Event::ClickEvent { mouse_x: any(random), mouse_y: any(random) }, Event::KeyEvent { key_code: any(random) } }
    Adjacent(random) { Adjacent::Unit, Adjacent::New(any(random)), Adjacent::Pair(any(random), any(random)), Adjacent::Named { a: any(random), b: any(random) } }
    AdjacentStrict(random) { AdjacentStrict::Unit, AdjacentStrict::New(any(random)) }
    Untagged(random) { Untagged::Flag(any(random)), Untagged::Number(any(random)), Untagged::Pair(any(random), any(random)), Untagged::Named { a: any(random), b: any(random) }, Untagged::List(any(random)), Untagged::Text(any(random)) }
    Deeper(random) { Deeper::Internal(any(random)), Deeper::Adjacent(any(random)), Deeper::Nothing, Deeper::Tree { left: Box::new(Deeper::Nothing), right: any(random) } }
    OptionalVariant(random) { OptionalVariant::Named { text: any(random), n: any(random) }, OptionalVariant::Other(any(random)) }
    Percent(random) { Percent { value: 10 + random.below(91) as u8 } }
    Key(_random) { Key::First, Key::Second }
    InternalStandard(random) { InternalStandard::A { ip: any(random), duration: any(random), path: any(random) }, InternalStandard::B { bytes: any(random), keys: any(random), small: any(random) } }
    Newer(_random) { Newer::Unknown, Newer::Known, Newer::Third }
    WithOther(random) { WithOther::Known { a: any(random) }, WithOther::Other }
    Expression(random) { Expression::Number(any(random)), Expression::Number(any(random)), Expression::Negative(any(random)), Expression::Sum(any(random)), Expression::Json(any(random)) }
    OldFirst(_random) { OldFirst::Old, OldFirst::New, OldFirst::Newer }
    SkippedVariant(random) { SkippedVariant::One, SkippedVariant::Two(any(random)), SkippedVariant::Three }
    Bytes(random) { Bytes(any(random)) }
    Tuple(random) { Tuple(any(random), any(random)) }
    Nan(_random) { Nan { a: f32::INFINITY, b: f64::NEG_INFINITY }, Nan { a: 0.1, b: 0.1 } }
}
