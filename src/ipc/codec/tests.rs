use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::ipc::fuzz::{Random, rounds};

fn encode<T: ?Sized + Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, usize::MAX).encode(value).unwrap();
    bytes
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut decoder = Decoder::new(Slice(bytes));
    T::deserialize(&mut decoder)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Figure {
    Nothing,
    One(i8, u8),
    Named { text: String, letter: char, maybe: Option<Box<Figure>> },
    Many(Vec<Figure>),
    Wrapped(Numbers),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Numbers {
    small: (i16, u16, i32, u32, i64, u64),
    wide: (i128, u128),
    real: (f32, f64),
    lists: (Vec<u8>, Vec<f32>, Vec<f64>, Vec<i64>, Vec<bool>),
    map: BTreeMap<String, u32>,
}

/// Random numbers, the same each time.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut random = Random::of(seed);
    move |below| random.below(below)
}

fn shape(random: &mut impl FnMut(u64) -> u64, deep: u32) -> Figure {
    match random(if deep == 0 { 2 } else { 5 }) {
        0 => Figure::Nothing,
        1 => Figure::One(random(256) as i8, random(256) as u8),
        2 => Figure::Named {
            text: (0..random(40)).map(|_| char::from_u32(random(0xd800) as u32).unwrap()).collect(),
            letter: char::from_u32(0x1_0000 - 0x1000 + random(0x800) as u32).unwrap(),
            maybe: (random(2) == 0).then(|| Box::new(shape(random, deep - 1))),
        },
        3 => Figure::Many((0..random(6)).map(|_| shape(random, deep - 1)).collect()),
        _ => Figure::Wrapped(Numbers {
            small: (
                random(1 << 16) as i16,
                random(1 << 16) as u16,
                random(1 << 32) as i32,
                random(1 << 32) as u32,
                random(u64::MAX) as i64,
                random(u64::MAX),
            ),
            wide: (
                i128::from(random(u64::MAX)) - (1 << 63),
                u128::from(random(u64::MAX)) << random(64),
            ),
            real: (random(1000) as f32 / 7.0, random(1000) as f64 / -7.0),
            lists: (
                (0..random(300)).map(|n| n as u8).collect(),
                (0..random(9)).map(|n| n as f32).collect(),
                (0..random(2000)).map(|n| n as f64).collect(),
                (0..random(9)).map(|n| n as i64 - 4).collect(),
                (0..random(9)).map(|n| n % 2 == 0).collect(),
            ),
            map: (0..random(5)).map(|n| (n.to_string(), n as u32)).collect(),
        }),
    }
}

#[test]
fn values_come_back_and_look_as_postcard_writes_them() {
    let mut random = random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds(500) {
        let value = shape(&mut random, 4);
        let bytes = encode(&value);
        assert_eq!(bytes, postcard::to_stdvec(&value).unwrap());
        assert_eq!(decode::<Figure>(&bytes).unwrap(), value);
    }
}

#[test]
fn changed_cut_and_random_bytes_are_a_value_or_an_error() {
    let mut random = random(7);
    for _ in 0..rounds(4000) {
        let mut bytes = encode(&shape(&mut random, 3));
        for _ in 0..=random(3) {
            let at = random(bytes.len() as u64) as usize;
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(random(bytes.len() as u64 + 1) as usize);
        let _ = decode::<Figure>(&bytes);
        let noise: Vec<u8> = (0..random(60)).map(|_| random(256) as u8).collect();
        let _ = decode::<Figure>(&noise);
        let _ = decode::<(Vec<u64>, String, Vec<()>)>(&noise);
    }
}

#[test]
fn extreme_numbers_come_back() {
    let ends = (
        u64::MAX,
        i64::MIN,
        i64::MAX,
        u128::MAX,
        i128::MIN,
        u16::MAX,
        i16::MIN,
        (i8::MIN, u32::MAX, i32::MIN),
    );
    let bytes = encode(&ends);
    assert_eq!(bytes, postcard::to_stdvec(&ends).unwrap());
    assert_eq!(
        decode::<(u64, i64, i64, u128, i128, u16, i16, (i8, u32, i32))>(&bytes).unwrap(),
        ends
    );
    // One bit too many.
    assert!(decode::<u16>(&[0xff, 0xff, 0x04]).is_err());
    assert!(decode::<u64>(&[0xff; 10]).is_err());
    assert!(decode::<u128>(&[0xff; 19]).is_err());
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    let mut bytes = encode(&(1u64 << 60));
    assert!(decode::<Vec<u8>>(&bytes).is_err());
    assert!(decode::<String>(&bytes).is_err());
    assert!(decode::<Vec<()>>(&bytes).is_err(), "it would count for years");
    bytes.push(0);
    assert!(decode::<BTreeMap<u8, u8>>(&bytes).is_err());
}

#[derive(Debug, Serialize, Deserialize)]
struct Nested(Option<Box<Nested>>);

#[test]
fn too_deep_is_an_error_at_both_ends() {
    let deep = (0..100).fold(Nested(None), |inner, _| Nested(Some(Box::new(inner))));
    assert!(decode::<Nested>(&encode(&deep)).is_ok());
    let deeper = (0..1000).fold(Nested(None), |inner, _| Nested(Some(Box::new(inner))));
    assert!(Encoder::new(&mut Vec::new(), usize::MAX).encode(&deeper).is_err());
    assert!(decode::<Nested>(&[1; 100_000]).is_err());
}

#[derive(Default)]
struct Heap(Vec<u8>, usize);

impl Spill for Heap {
    fn reserve(&mut self, total: usize) {
        self.1 = self.1.max(total);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[test]
fn long_values_spill_whole_and_short_ones_not_at_all() {
    for length in [0, 1, 90, 95, 96, 97, 98, 99, 100, 101, 5000, 100_000] {
        let value = (vec![1u8; length], "text", vec![1.5f64; length / 3], length as u64);
        let (mut front, mut spill) = (vec![9], Heap::default());
        let spilled =
            Encoder::spilling(&mut front, usize::MAX, 100, &mut spill).encode(&value).unwrap();
        let whole = postcard::to_stdvec(&value).unwrap();
        assert_eq!(spilled > 0, whole.len() > 100);
        assert_eq!(if spilled > 0 { &spill.0[..] } else { &front[1..] }, whole);
        assert!(spilled == 0 || (front == [9] && spilled == whole.len() && spill.1 <= whole.len()));
    }
}

#[test]
fn the_limit_is_exact() {
    for spills in [false, true] {
        for limit in [0, 3, 4, 5, 1000] {
            let (mut front, mut spill) = (vec![7; 3], Heap::default());
            let mut encoder = match spills {
                true => Encoder::spilling(&mut front, limit, 2, &mut spill),
                false => Encoder::new(&mut front, limit),
            };
            let outcome = encoder.encode("abc");
            assert_eq!(outcome.is_ok(), limit >= 4, "{limit} {spills} {outcome:?}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "has no sockets")]
fn raw_handles_are_refused_before_they_note_themselves() {
    let (sender, receiver) = ipc_channel::ipc::channel::<u8>().unwrap();
    let value = (1u8, Box::new(sender), vec![Some(receiver)]);
    assert!(Encoder::new(&mut Vec::new(), usize::MAX).encode(&value).is_err());
    assert!(Encoder::new(&mut Vec::new(), usize::MAX).encode(&value.2).is_err());
    value.1.send(5).unwrap();
    assert_eq!(value.2[0].as_ref().unwrap().recv().unwrap(), 5, "it was moved out of the value");
}

#[test]
fn a_visitor_of_its_own_for_bytes_is_asked() {
    /// Bytes that are written as numbers and read in reverse.
    #[derive(Debug, PartialEq)]
    struct Reversed(Vec<u8>);
    impl<'de> Deserialize<'de> for Reversed {
        fn deserialize<D: serde::Deserializer<'de>>(
            deserializer: D,
        ) -> std::result::Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Vec<u8>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("numbers")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    mut elements: A,
                ) -> std::result::Result<Vec<u8>, A::Error> {
                    let mut bytes = Vec::new();
                    while let Some(number) = elements.next_element::<u64>()? {
                        bytes.insert(0, number as u8);
                    }
                    Ok(bytes)
                }
            }
            deserializer.deserialize_seq(Visitor).map(Reversed)
        }
    }
    let bytes = encode(&vec![1u64, 2, 3]);
    assert_eq!(decode::<Reversed>(&bytes).unwrap(), Reversed(vec![3, 2, 1]));
    assert_eq!(decode::<Vec<u8>>(&bytes).unwrap(), [1, 2, 3]);
}

#[test]
#[cfg_attr(miri, ignore = "has no stack")]
fn large_values_in_each_other_do_not_overflow_the_stack_of_a_thread() {
    #[derive(Serialize, Deserialize)]
    struct Large {
        numbers: [[u64; 32]; 16],
        inner: Option<Box<Large>>,
    }
    let nested = |depth: usize| {
        (0..depth).fold(None, |inner, _| Some(Box::new(Large { numbers: [[1; 32]; 16], inner })))
    };
    let on_a_thread = |depth: usize| {
        let work = move || decode::<Option<Box<Large>>>(&encode(&nested(depth)));
        std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap()
    };
    assert!(on_a_thread(5).is_ok());
    let _ = on_a_thread(80);
    let _ = on_a_thread(120);
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn elements_without_bytes_are_capped_for_a_whole_value() {
    // A few hundred kilobytes that ask for 10^10 elements, 10^5 at a time.
    let bytes = encode(&vec![100_000u32; 100_000]);
    assert!(bytes.len() < 400_000);
    assert!(decode::<Vec<Vec<()>>>(&bytes).is_err());
    // A value that a program may actually send is below the cap.
    let value = vec![vec![(); 1000]; 1000];
    assert_eq!(decode::<Vec<Vec<()>>>(&encode(&value)).unwrap(), value);
}

#[derive(Serialize, Deserialize)]
struct Large {
    inner: Option<Box<Large>>,
    words: [[u64; 32]; 16],
}

/// Runs on a thread with a stack of 2 MiB, as std's threads have.
fn on_a_small_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

#[test]
#[cfg_attr(miri, ignore = "has no stack")]
fn large_frames_are_an_error_before_the_stack_overflows() {
    for levels in [4, 250] {
        // The options come first, the words of the innermost structure next.
        let bytes = [&vec![1; levels][..], &[0], &vec![7; (levels + 1) * 512][..]].concat();
        let decoded = on_a_small_stack(|| decode::<Large>(&bytes).map(|large| large.words[0][0]));
        match levels {
            4 => assert_eq!(decoded.unwrap(), 7),
            // Frames are larger in a debug build than in a release build.
            _ => assert!(decoded.map_or(true, |word| word == 7)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Branches {
    Leaf(bool),
    Branch(Vec<Branches>),
}

#[test]
#[cfg_attr(miri, ignore = "has no stack")]
fn deep_descriptions_are_an_error_before_the_stack_overflows() {
    let deep =
        |levels| (0..levels).fold(Branches::Leaf(true), |tree, _| Branches::Branch(vec![tree]));
    let decoded = |tree: &Branches| {
        let bytes = describe(tree);
        on_a_small_stack(|| described::<Branches>(&bytes))
    };
    assert_eq!(decoded(&deep(50)).unwrap(), deep(50));
    assert!(decoded(&deep(200)).map_or(true, |tree| tree == deep(200)));
    let bytes = [13; 100_000];
    assert!(on_a_small_stack(|| described::<Branches>(&bytes)).is_err());
    let bytes = [16; 100_000];
    assert!(on_a_small_stack(|| described::<Option<Branches>>(&bytes)).is_err());
}

fn describe<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, usize::MAX).describe(value).unwrap();
    bytes
}

fn described<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut decoder = Describing::new(bytes);
    T::deserialize(&mut decoder)
}

#[test]
fn descriptions_come_back() {
    let mut random = random(3);
    for _ in 0..rounds(300) {
        let value = shape(&mut random, 4);
        assert_eq!(described::<Figure>(&describe(&value)).unwrap(), value);
    }
    let nested = [None, Some(None), Some(Some(None)), Some(Some(Some(7u8)))];
    assert_eq!(described::<[Option<Option<Option<u8>>>; 4]>(&describe(&nested)).unwrap(), nested);
    let units = [None, Some(())];
    assert_eq!(described::<[Option<()>; 2]>(&describe(&units)).unwrap(), units);
}

#[test]
fn changed_cut_and_random_descriptions_are_a_value_or_an_error() {
    let mut random = random(8);
    for _ in 0..rounds(4000) {
        let mut bytes = describe(&shape(&mut random, 3));
        for _ in 0..=random(3) {
            let at = random(bytes.len() as u64) as usize;
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(random(bytes.len() as u64 + 1) as usize);
        let _ = described::<Figure>(&bytes);
        let noise: Vec<u8> = (0..random(60)).map(|_| random(20) as u8).collect();
        let _ = described::<Figure>(&noise);
        let _ = described::<Vec<Branches>>(&noise);
        let _ = described::<serde::de::IgnoredAny>(&noise);
    }
}

/// Explores a type without handles.
fn found<T: Serialize + DeserializeOwned>() -> Symmetry {
    explore::<T>(&|| false)
}

#[derive(Serialize, Deserialize)]
enum Expression {
    Negative(Box<Expression>),
    Sum(Vec<Expression>, BTreeMap<String, Expression>),
    Both { left: Box<Expression>, right: Box<Expression> },
    Number(f64),
    Maybe(Option<Box<Expression>>),
}

#[derive(Serialize, Deserialize)]
enum Hidden {
    One(u8),
    Two(Option<(u8, Vec<Deep>)>),
}

#[derive(Serialize, Deserialize)]
enum Deep {
    Plain,
    Untagged(Branches),
}

#[allow(dead_code)]
#[derive(Serialize, Deserialize)]
enum Skips {
    #[serde(skip_deserializing)]
    Old,
    New,
}

#[allow(dead_code)]
#[derive(Serialize, Deserialize)]
struct Defaults {
    #[serde(skip_serializing, default)]
    gone: u8,
    kept: u8,
}

/// Accepts no made-up value.
#[derive(Serialize)]
struct Picky(u8);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            7 => Ok(Picky(7)),
            _ => Err(serde::de::Error::custom("not 7")),
        }
    }
}

#[test]
fn types_that_are_read_as_they_are_written_are_known() {
    assert_eq!(found::<Figure>(), Symmetry::Full);
    assert_eq!(found::<Nested>(), Symmetry::Full);
    assert_eq!(found::<Expression>(), Symmetry::Full);
    assert_eq!(found::<std::result::Result<(), Vec<std::time::Duration>>>(), Symmetry::Full);
    assert_eq!(found::<(std::net::SocketAddr, std::num::NonZeroU8)>(), Symmetry::Full);
    for found in [found::<Branches>, found::<Hidden>, found::<Skips>, found::<Defaults>] {
        assert_eq!(found(), Symmetry::None);
    }
    assert_eq!(found::<(Vec<Picky>, u8)>(), Symmetry::Unknown);
    assert_eq!(found::<(Option<Picky>, Branches)>(), Symmetry::None);
    let at_handle = std::cell::Cell::new(true);
    let found = explore::<(Option<Picky>, Vec<Picky>, u8)>(&|| at_handle.get());
    assert_eq!(found, Symmetry::WithoutHandles);
}
