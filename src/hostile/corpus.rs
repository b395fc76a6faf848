//! Bytes that once went wrong, or are likely to: the files in `tests/corpus`, unchanged and with
//! random changes from a seed. `OFFSPRING_MUTATIONS` sets how often each is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::number;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::fuzz::Random;
use crate::ipc::hostile::{RawPacket, odd_descriptor};
use crate::ipc::hub::{ToClient, ToHub};
use crate::ipc::wire::{self, Envelope, Failure};

/// Calls `act` with each file of a folder, and with its mutations.
fn each(folder: &str, mutations: u64, mut act: impl FnMut(&str, &[u8], &mut Random)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    // Sorted, so that the order is the same everywhere.
    let files: BTreeMap<_, _> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(files.len() > 10);
    let mut random = Random::of(number("OFFSPRING_HOSTILE_SEED", 1));
    for (path, bytes) in files {
        let name = path.file_name().unwrap().to_string_lossy();
        act(&name, &bytes, &mut random);
        for _ in 0..number("OFFSPRING_MUTATIONS", mutations) {
            let mut bytes = bytes.clone();
            random.mutate(&mut bytes);
            act(&name, &bytes, &mut random);
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Shape {
    Nothing,
    One(u8),
    Many(Vec<Shape>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Value {
    small: u8,
    wide: i64,
    text: Option<String>,
    bytes: Vec<u8>,
    pairs: Vec<(char, bool)>,
    shape: Shape,
}

/// The files that decode to a value without any change.
const VALUES: [&str; 3] = ["plain", "nested", "described"];

#[test]
fn bytes_are_values_or_errors() {
    let mut seen = BTreeSet::new();
    each("codec", 2000, |name, bytes, _| {
        let value = wire::decode::<Value>(bytes, Vec::new());
        if seen.insert(name.to_owned()) {
            assert_eq!(value.is_ok(), VALUES.contains(&name), "{name}: {value:?}");
        }
        let _ = wire::decode::<Vec<Option<String>>>(bytes, Vec::new());
        let _ = wire::decode::<BTreeMap<u16, (f32, char)>>(bytes, Vec::new());
        let _ = wire::decode::<(u128, Box<[i16]>, [bool; 3])>(bytes, Vec::new());
    });
}

/// Sends the packet with a few descriptors. Returns whether it is a message.
fn is_message<M>(packet: &RawPacket, good: &M) -> bool
where
    M: Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let (sender, receiver) = wire::channel::<M>().unwrap();
    packet.send(sender.as_fd()).unwrap();
    wire::send(&sender, good).unwrap();
    let is_message = match receiver.recv(&Deadline::now()) {
        Ok(_) => true,
        Err(WaitEnd::Failed(Failure::Io(error))) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            false
        }
        Err(other) => panic!("{other:?}"),
    };
    // The receiver can still receive the next message.
    receiver.recv(&Deadline::now()).unwrap();
    is_message
}

#[test]
fn packets_are_messages_or_errors_and_the_next_message_comes() {
    let mut seen = BTreeSet::new();
    let good = Envelope::new(wire::encode(&1u8, wire::Shape::Own).unwrap()).unwrap();
    each("wire", 150, |name, bytes, random| {
        let odd = (0..random.below(4)).map(|_| Arc::new(odd_descriptor(random)));
        let packet = RawPacket { bytes: bytes.to_vec(), descriptors: odd.collect() };
        let is_text = is_message(&packet, &"good".to_owned());
        if seen.insert(name.to_owned()) {
            assert_eq!(is_text, name == "whole", "{name}");
        }
        is_message(&packet, &ToHub::Bell { number: 0 });
        is_message(&packet, &ToClient::Bell);
        is_message(&packet, &good);
    });
}
