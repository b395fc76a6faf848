//! The ring and the doorbells, in every order in which two processes can run, with a death at every
//! step; and what threads of one process share (`threads`), in every order in which they can run.
//! The code is the library's own; only the memory and the locks below it are the explorer's.

#![allow(dead_code, unreachable_pub)]

mod actor;
mod explore;
mod ipc;
mod memory;
mod select;
mod sys;
mod threads;

mod error {
    #[derive(Debug)]
    pub(crate) enum WaitError {
        Io(std::io::Error),
    }
}

mod diagnostics {
    pub(crate) fn error(target: &str, text: std::fmt::Arguments<'_>) {
        assert!(!crate::explore::is_exploring(), "{target}: {text}");
    }
}

mod failpoints {
    pub(crate) use crate::explore::is_mutated;
    pub(crate) fn point(_: &str) {}
}

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use explore::{Bounds, Found, Threads, explore};
use ipc::doorbell::FlagState;
use ipc::{doorbell, ring};
use memory::{AtomicU64, Region};
use ring::{ENTRY_MAX, RING_BYTES, RingConsumer, RingProducer};

type Log<T> = Arc<Mutex<Vec<T>>>;

fn log<T>() -> Log<T> {
    Arc::default()
}

fn note<T>(log: &Log<T>, entry: T) {
    log.lock().unwrap().push(entry);
}

fn taken<T>(log: &Log<T>) -> Vec<T> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn region() -> Arc<Region> {
    // After the ring, a sleep flag for each side.
    Arc::new(Region::new(RING_BYTES + 256).unwrap())
}

fn sleeps(region: &Region) -> &AtomicU64 {
    region.atomic(RING_BYTES)
}

/// With 5 bytes it is one word; with 40 it is copied in two halves.
fn payload(tag: u32, length: usize) -> Vec<u8> {
    vec![tag as u8; length]
}

/// Takes the next entry, which must be whole.
fn pop(consumer: &mut RingConsumer) -> Option<u32> {
    let (tag, bytes) = consumer.pop().expect("no side writes what is corrupt")?;
    assert!(bytes.as_slice().iter().all(|&byte| byte == tag as u8), "an entry was torn");
    Some(tag)
}

/// One side puts `count` entries. The other takes what it finds, and in the end the rest.
fn put_and_take(bounds: Bounds, count: u32, length: usize) -> Found {
    explore(bounds, move || {
        let (region, put, got) = (region(), log(), log());
        let mut producer = RingProducer::new(region.clone(), 0);
        let mut consumer = RingConsumer::new(region, 0);
        let (put_here, got_here, kept) = (put.clone(), got.clone(), Arc::new(Mutex::new(None)));
        let keep = kept.clone();
        let threads: Threads = vec![
            Box::new(move || {
                for tag in 1..=count {
                    if producer.push(tag, &payload(tag, length)).unwrap() {
                        note(&put_here, tag);
                    }
                }
            }),
            Box::new(move || {
                for _ in 0..count {
                    let found = pop(&mut consumer);
                    got_here.lock().unwrap().extend(found);
                }
                *keep.lock().unwrap() = Some(consumer);
            }),
        ];
        let check = move |died| {
            let mut got = taken(&got);
            let mut consumer = kept.lock().unwrap().take().expect("the consumer lives");
            got.extend(std::iter::from_fn(|| pop(&mut consumer)));
            let put = taken(&put);
            // One more may be there, whole, whose producer died before it could record that.
            assert!(got.starts_with(&put), "put {put:?}, got {got:?}");
            assert!(got.len() <= put.len() + usize::from(died), "put {put:?}, got {got:?}");
        };
        (threads, Box::new(check))
    })
}

/// Recalls, and returns the tags of those entries that the consumer has not taken.
fn recalled(producer: &mut RingProducer, sent: &[(u64, u32)]) -> Vec<u32> {
    let taken_to = producer.recall().unwrap();
    let back = sent.iter().filter(|&&(at, _)| ring::is_at_or_behind(at, taken_to));
    back.map(|&(_, tag)| tag).collect()
}

/// The producer recalls what the consumer has not taken, and puts it again after a new entry.
fn recall(bounds: Bounds, length: usize) -> Found {
    explore(bounds, move || {
        let (region, got, kept) = (region(), log(), Arc::new(Mutex::new(None)));
        let mut producer = RingProducer::new(region.clone(), 0);
        let mut consumer = RingConsumer::new(region.clone(), 0);
        let (got_here, keep) = (got.clone(), kept.clone());
        let threads: Threads = vec![
            Box::new(move || {
                let mut sent = Vec::new();
                for tag in 1..=2 {
                    sent.push((producer.position(), tag));
                    assert!(producer.push(tag, &payload(tag, length)).unwrap());
                }
                let back = recalled(&mut producer, &sent);
                let mut sent: Vec<(u64, u32)> = Vec::new();
                for tag in [9].into_iter().chain(back) {
                    sent.push((producer.position(), tag));
                    assert!(producer.push(tag, &payload(tag, length)).unwrap());
                }
                *keep.lock().unwrap() = Some((producer, sent));
            }),
            Box::new(move || {
                for _ in 0..3 {
                    let found = pop(&mut consumer);
                    got_here.lock().unwrap().extend(found);
                }
            }),
        ];
        let check = move |died| {
            let mut got = taken(&got);
            let (mut producer, sent) = kept.lock().unwrap().take().expect("the producer lives");
            got.extend(recalled(&mut producer, &sent));
            drop(region);
            // A consumer that died may have taken one without recording it.
            got.sort_unstable();
            assert!(got.windows(2).all(|two| two[0] != two[1]), "one came twice: {got:?}");
            assert!(got.len() == 3 || (died && got.len() == 2), "in the end there are {got:?}");
        };
        (threads, Box::new(check))
    })
}

/// A consumer that sleeps when it finds nothing, and a producer that wakes it. Neither has a
/// deadline.
fn sleep_and_wake(bounds: Bounds, count: u32, look_first: bool) -> Found {
    explore(bounds, move || {
        let (region, got) = (region(), log());
        let mut producer = RingProducer::new(region.clone(), 0);
        let mut consumer = RingConsumer::new(region.clone(), 0);
        let (here, there, got_here) = (region.clone(), region.clone(), got.clone());
        let threads: Threads = vec![
            Box::new(move || {
                for tag in 1..=count {
                    let claimed = look_first && doorbell::claim(sleeps(&here));
                    assert!(producer.push(tag, &payload(tag, 5)).unwrap());
                    if claimed || (!look_first && doorbell::claim(sleeps(&here))) {
                        explore::ring(1);
                    }
                }
            }),
            Box::new(move || {
                let mut wanted = 1;
                while wanted <= count {
                    if let Some(tag) = pop(&mut consumer) {
                        assert_eq!(tag, wanted);
                        note(&got_here, tag);
                        wanted += 1;
                        continue;
                    }
                    doorbell::arm(sleeps(&there));
                    if consumer.is_empty() {
                        explore::hear();
                    }
                    doorbell::disarm(sleeps(&there));
                }
            }),
        ];
        let check = move |_| {
            drop(region);
            assert!(taken(&got).into_iter().eq(1..=count));
        };
        (threads, Box::new(check))
    })
}

/// A mistake of a hub that polls a client for a while, and then lets it rest.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// It does not read the region once more after it has set the flag.
    RestsUnread,
    /// It sets the flag although a doorbell is still to come.
    ForgetsDoorbell,
}

/// A hub polls a client, and lets it rest when the client has written nothing. Once, the hub begins
/// to poll without a doorbell, as if it had given the client something. The client writes two
/// words, from `writers` threads.
fn poll_and_rest(bounds: Bounds, writers: usize, mistake: Mistake) -> Found {
    const WORDS: usize = 2;
    explore(bounds, move || {
        let (region, written, read) = (region(), log(), log());
        let (sent, received) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let word = |index: usize| RING_BYTES + 128 + index * 8;
        let mut threads: Threads = Vec::new();
        for writer in 0..writers {
            let (region, written) = (region.clone(), written.clone());
            let (sent, received) = (sent.clone(), received.clone());
            threads.push(Box::new(move || {
                for index in (writer..WORDS).step_by(writers) {
                    region.atomic(word(index)).store(1, Ordering::SeqCst);
                    if doorbell::claim(sleeps(&region)) {
                        explore::ring(writers);
                        let mut sent = sent.lock().unwrap();
                        *sent += 1;
                        let unread = *sent - *received.lock().unwrap();
                        assert!(unread <= 1, "{unread} doorbells are unread");
                    }
                    note(&written, index);
                }
            }));
        }
        let (here, read_here) = (region.clone(), read.clone());
        threads.push(Box::new(move || {
            let look = || {
                let seen = |&index: &usize| here.atomic(word(index)).load(Ordering::SeqCst) == 1;
                let seen: Vec<usize> = (0..WORDS).filter(seen).collect();
                *read_here.lock().unwrap() = seen.clone();
                seen.len()
            };
            let (mut flag, mut seen, mut gives) = (FlagState::default(), 0, true);
            loop {
                let found = look();
                if found == WORDS {
                    return;
                }
                if std::mem::replace(&mut seen, found) != found {
                    flag.disarm(sleeps(&here));
                    continue;
                }
                if mistake == Mistake::ForgetsDoorbell && flag == FlagState::Claimed {
                    flag.rung();
                }
                flag.arm(sleeps(&here));
                if mistake != Mistake::RestsUnread && look() != seen {
                    continue;
                }
                if std::mem::take(&mut gives) {
                    flag.disarm(sleeps(&here));
                    continue;
                }
                let died = explore::hear();
                if died {
                    look();
                    return;
                }
                *received.lock().unwrap() += 1;
                flag.rung();
            }
        }));
        let check = move |_| {
            drop(region);
            let (written, read) = (taken(&written), taken(&read));
            assert!(written.iter().all(|index| read.contains(index)), "not all was read");
        };
        (threads, Box::new(check))
    })
}

/// The number of interruptions. `OFFSPRING_MODEL_MORE` adds to it, up to nearly every order there
/// is.
fn few(interruptions: usize) -> Bounds {
    let more = std::env::var("OFFSPRING_MODEL_MORE")
        .map_or(0, |more| more.parse().expect("OFFSPRING_MODEL_MORE is a number"));
    Bounds { interruptions: interruptions + more, victim: None, buffers: true, mutation: "" }
}

fn holds(what: &str, found: Found) {
    println!("{what}: {} runs", found.runs);
    assert!(found.bad.is_none(), "{what}: {:?} in run {}", found.bad, found.runs);
    assert!(found.runs > 100, "{what}: hardly anything was tried");
}

fn breaks(what: &str, found: Found) {
    println!("{what}: found in run {}: {:?}", found.runs, found.bad);
    assert!(found.bad.is_some(), "{what}: not found in {} runs", found.runs);
}

#[test]
fn entries_come_whole_and_in_order_wherever_the_producer_dies() {
    let dies = |bounds| Bounds { victim: Some(0), ..bounds };
    holds("put and take", put_and_take(few(4), 2, 5));
    holds("put and take, longer", put_and_take(few(3), 2, 40));
    holds("a producer dies", put_and_take(dies(few(3)), 2, 5));
    holds("a producer dies, longer", put_and_take(dies(few(2)), 2, 40));
}

#[test]
fn a_full_ring_overwrites_nothing_that_is_not_taken() {
    holds("a full ring", put_and_take(few(2), 5, ENTRY_MAX));
}

#[test]
fn a_recall_gives_back_exactly_what_was_not_taken_wherever_the_consumer_dies() {
    for length in [5, 40] {
        holds("recall", recall(few(2), length));
        let dies = Bounds { victim: Some(1), ..few(2) };
        holds("a consumer dies", recall(dies, length));
    }
}

#[test]
fn nobody_sleeps_for_ever() {
    holds("sleep and wake", sleep_and_wake(few(4), 1, false));
    holds("sleep and wake twice", sleep_and_wake(few(3), 2, false));
}

#[test]
fn a_client_that_rests_is_heard_and_rings_once_wherever_it_dies() {
    holds("poll and rest", poll_and_rest(few(3), 2, Mistake::None));
    let dies = Bounds { victim: Some(0), ..few(2) };
    holds("a client that rests dies", poll_and_rest(dies, 1, Mistake::None));
}

#[test]
fn what_is_wrong_is_found() {
    let with = |mutation| Bounds { mutation, ..few(3) };
    // The two stores of a put, in the other order.
    breaks("the tail before the entry", put_and_take(with("ring.commit-first"), 2, 5));
    let dies = Bounds { victim: Some(0), ..with("ring.commit-first") };
    breaks("the tail before the entry, and a death", put_and_take(dies, 2, 5));
    breaks("a recall that does not see what was taken", recall(with("ring.recall-unseen"), 5));
    breaks("looking for a sleeper before putting", sleep_and_wake(few(3), 2, true));
    breaks("a client that rests unread", poll_and_rest(few(3), 2, Mistake::RestsUnread));
    breaks("a flag before the doorbell", poll_and_rest(few(3), 2, Mistake::ForgetsDoorbell));
    breaks(
        "a flag that is raised without a fence",
        sleep_and_wake(with("doorbell.relaxed"), 2, false),
    );
}
