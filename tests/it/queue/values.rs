//! Items of every size, and such as do not encode or decode.

use offspring::Queue;
use offspring::queue::{GetError, PutError};
use serde::{Deserialize, Serialize};

#[offspring::worker]
fn sizes(queue: Queue<Vec<u8>>, sizes: Vec<usize>) {
    for size in sizes {
        queue.put(vec![size as u8; size]).expect("somebody reads");
    }
}

#[offspring::worker]
fn measure(queue: Queue<Vec<u8>>) -> Vec<usize> {
    queue
        .iter()
        .map(|bytes| {
            assert!(bytes.iter().all(|&byte| byte == bytes.len() as u8));
            bytes.len()
        })
        .collect()
}

#[offspring::test(timeout = "30s")]
fn items_of_every_size_cross_in_order() {
    let lengths = vec![
        0,
        1,
        7,
        8,
        100,
        32_700,
        32_750,
        32_760,
        32_768,
        40_000,
        1 << 20,
        3,
        20 << 20,
        5,
        70_000,
        0,
    ];
    let queue = Queue::unbounded().unwrap();
    let consumer = measure::spawn(queue.clone()).unwrap();
    let producer = sizes::spawn(queue.clone(), lengths.clone()).unwrap();
    producer.join().unwrap();
    queue.close().unwrap();
    assert_eq!(consumer.join().unwrap(), lengths);
}

#[offspring::test(timeout = "30s")]
fn more_large_items_than_may_be_under_way_at_once() {
    let queue = Queue::bounded(100).unwrap();
    let consumer = measure::spawn(queue.clone()).unwrap();
    for _ in 0..200 {
        queue.put(vec![64; 200_000]).unwrap();
    }
    queue.close().unwrap();
    assert_eq!(consumer.join().unwrap().len(), 200);
}

#[derive(Debug, PartialEq)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 {
            return Err(serde::ser::Error::custom("13 does not encode"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        if number == 14 {
            panic!("14 does not decode");
        }
        Ok(Picky(number))
    }
}

#[offspring::test(timeout = "20s")]
fn an_item_that_does_not_encode_comes_back() {
    let queue = Queue::bounded(1).unwrap();
    let error = queue.put(Picky(13)).unwrap_err();
    assert!(matches!(error, PutError::Encode(Picky(13), _)));
    queue.put(Picky(1)).unwrap();
    assert_eq!(queue.get().unwrap(), Picky(1));
}

#[offspring::worker]
fn take_picky(queue: Queue<Picky>) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match queue.get() {
            Ok(Picky(number)) => seen.push(number.to_string()),
            Err(GetError::Decode(_)) => seen.push("bad".to_owned()),
            Err(_) => return seen,
        }
    }
}

#[offspring::test(timeout = "20s")]
fn an_item_that_does_not_decode_is_one_error_only() {
    let queue = Queue::unbounded().unwrap();
    let consumer = take_picky::spawn(queue.clone()).unwrap();
    for number in [1, 14, 2] {
        queue.put(Picky(number)).unwrap();
    }
    queue.close().unwrap();
    assert_eq!(consumer.join().unwrap(), ["1", "bad", "2"]);
}
