//! Items that nobody gets any more, and queues that are closed with items in them.

use std::time::Duration;

use offspring::queue::{DeadCause, DeadLetterError, GetError, PutError};
use offspring::{JoinableQueue, Queue, Receiver};
use serde::{Deserialize, Serialize};

use super::SHORT;
use crate::support::open_fds;

/// A job that kills who works on it, in one way or another.
#[offspring::worker]
fn risk_your_life(jobs: JoinableQueue<String>) {
    for job in &jobs {
        match job.as_str() {
            "panic" => panic!("as the job says"),
            "abort" => std::process::abort(),
            _ => job.task_done(),
        }
    }
}

#[offspring::test(timeout = "30s")]
fn an_item_that_kills_every_consumer_becomes_a_dead_letter_and_join_goes_on() {
    for poison in ["abort", "panic"] {
        let jobs = JoinableQueue::builder().max_deliveries(3).build().unwrap();
        for job in ["good", poison, "fine"] {
            jobs.put(job.to_owned()).unwrap();
        }
        let mut dead = 0;
        let consumer = |dead: &mut i32| {
            let process = risk_your_life::spawn(jobs.clone()).unwrap();
            *dead += 1;
            process
        };
        let mut process = consumer(&mut dead);
        loop {
            // A consumer that is gone with work left is replaced, as anybody would.
            match jobs.join_timeout(SHORT) {
                Ok(_) => break,
                Err(_) if !process.is_alive() => process = consumer(&mut dead),
                Err(_) => {}
            }
        }
        let letters = jobs.dead_letters().unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].decode().unwrap().as_str(), letters[0].attempts()), (poison, 3));
        assert!(matches!(letters[0].cause(), DeadCause::Deliveries));
        assert!((3..=4).contains(&dead), "{dead} consumers for 3 deliveries");
        jobs.close().unwrap();
        let _ = process.join_timeout(Duration::from_secs(10));
    }
}

#[offspring::test(timeout = "20s")]
fn the_default_is_five_deliveries() {
    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put(7).unwrap();
    for attempt in 1..=5 {
        assert_eq!(jobs.get().unwrap().attempt(), attempt);
    }
    assert!(jobs.try_get().unwrap_err().is_empty());
    jobs.join().unwrap();
    assert_eq!(jobs.dead_letters().unwrap().len(), 1);
}

#[offspring::test(timeout = "20s")]
fn dead_letters_are_redelivered_or_discarded_once() {
    let jobs = JoinableQueue::builder().max_deliveries(1).build().unwrap();
    for n in 0..3 {
        jobs.put(n).unwrap();
        drop(jobs.get().unwrap());
    }
    let again = jobs.dead_letters().unwrap();
    let mut letters = jobs.dead_letters().unwrap().into_iter();
    let (zero, one) = (letters.next().unwrap(), letters.next().unwrap());
    drop(letters);
    zero.redeliver().unwrap();
    one.discard().unwrap();
    assert!(jobs.join_timeout(SHORT).unwrap_err().is_timeout(), "it counts again");
    let outcomes: Vec<_> = again.into_iter().take(2).map(|letter| letter.redeliver()).collect();
    assert_eq!(outcomes, [Err(DeadLetterError::Gone), Err(DeadLetterError::Gone)]);
    let zero = jobs.get().unwrap();
    assert_eq!((*zero, zero.attempt()), (0, 1));
    zero.task_done();
    jobs.join().unwrap();
    jobs.close().unwrap();
    let two = jobs.dead_letters().unwrap().pop().unwrap();
    assert_eq!(two.decode().unwrap(), 2);
    assert_eq!(two.redeliver(), Err(DeadLetterError::Closed));
    assert_eq!(jobs.dead_letters().unwrap().len(), 1);
}

#[offspring::test(timeout = "20s")]
fn only_so_many_dead_letters_are_kept() {
    let jobs = JoinableQueue::builder().max_deliveries(1).max_dead_letters(10).build().unwrap();
    for n in 0..25u32 {
        jobs.put(n).unwrap();
        drop(jobs.get().unwrap());
    }
    let kept: Vec<u32> =
        jobs.dead_letters().unwrap().iter().map(|letter| letter.decode().unwrap()).collect();
    assert!(kept.into_iter().eq(15..25));
    jobs.join().unwrap();
}

/// Decodes only from an even length, and not where the environment says so.
#[derive(Debug, PartialEq)]
struct Fussy(Vec<u8>);

impl Serialize for Fussy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::deserialize(deserializer)?;
        if bytes.len() % 2 == 1 {
            return Err(serde::de::Error::custom("an odd length"));
        }
        Ok(Fussy(bytes))
    }
}

fn fussy(length: usize) -> Fussy {
    Fussy(vec![length as u8; length])
}

#[offspring::worker]
fn get_fussy(queue: Queue<Fussy>) -> String {
    let mut seen = String::new();
    loop {
        match queue.get() {
            Ok(Fussy(bytes)) => seen += &format!("{} ", bytes.len()),
            Err(GetError::Decode(_)) => seen += "bad ",
            Err(_) => return seen,
        }
    }
}

#[offspring::worker]
fn get_fussy_jobs(jobs: JoinableQueue<Fussy>) -> String {
    let mut seen = String::new();
    loop {
        match jobs.get() {
            Ok(job) => {
                seen += &format!("{} ", job.0.len());
                job.task_done();
            }
            Err(GetError::Decode(_)) => seen += "bad ",
            Err(_) => return seen,
        }
    }
}

const SIZES: [usize; 7] = [2, 3, 32_751, 40_000, 100_001, 1_000_001, 4];
const SEEN: &str = "2 bad bad 40000 bad bad 4 ";

/// Their bytes are there whole, and the reason is the one that the `get` gave.
fn check(letters: &[offspring::queue::DeadLetter<Fussy>]) {
    let lengths: Vec<usize> = letters
        .iter()
        .map(|letter| {
            // postcard writes the length first, 7 bits a byte.
            let bytes = letter.bytes();
            let length = bytes.iter().filter(|&&byte| byte == *bytes.last().unwrap()).count();
            let DeadCause::Decode(error) = letter.cause() else { panic!("{letter:?}") };
            assert!(error.to_string().contains("Fussy"), "{error}");
            assert!(letter.decode().is_err());
            assert_eq!(letter.attempts(), 1);
            length
        })
        .collect();
    assert_eq!(lengths.len(), 4);
    for (length, expected) in lengths.into_iter().zip([3, 32_751, 100_001, 1_000_001]) {
        assert!((expected..expected + 4).contains(&length), "{length} bytes of {expected}");
    }
}

#[offspring::test(timeout = "30s")]
fn items_that_do_not_decode_are_kept_whole() {
    let (queue, jobs) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
    for size in SIZES {
        queue.put(fussy(size)).unwrap();
        jobs.put(fussy(size)).unwrap();
    }
    let consumer = get_fussy::spawn(queue.clone()).unwrap();
    queue.close().unwrap();
    assert_eq!(consumer.join().unwrap(), SEEN);
    check(&queue.dead_letters().unwrap());
    let consumer = get_fussy_jobs::spawn(jobs.clone()).unwrap();
    jobs.join().unwrap();
    jobs.close().unwrap();
    assert_eq!(consumer.join().unwrap(), SEEN);
    check(&jobs.dead_letters().unwrap());
}

#[offspring::test(timeout = "30s")]
fn the_owner_keeps_what_its_own_threads_cannot_decode() {
    let (queue, jobs) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
    for size in SIZES {
        queue.put(fussy(size)).unwrap();
        jobs.put(fussy(size)).unwrap();
    }
    queue.close().unwrap();
    jobs.close().unwrap();
    assert_eq!(get_fussy(queue.clone()), SEEN);
    check(&queue.dead_letters().unwrap());
    assert_eq!(get_fussy_jobs(jobs.clone()), SEEN);
    jobs.join().unwrap();
    check(&jobs.dead_letters().unwrap());
}

#[offspring::worker]
fn look_at_letters(queue: Queue<u64>) -> String {
    queue.dead_letters().unwrap_err().to_string()
}

#[offspring::test(timeout = "20s")]
fn dead_letters_are_seen_in_the_owner_only() {
    let queue = Queue::unbounded().unwrap();
    let told = look_at_letters::spawn(queue.clone()).unwrap().join().unwrap();
    assert!(told.contains("another process owns"), "{told}");
}

#[offspring::worker]
fn close_now(queue: Queue<u64>) -> (usize, usize) {
    for n in 0..10 {
        queue.put(n).expect("it is open");
    }
    (queue.close_and_discard().unwrap(), queue.close_and_discard().unwrap())
}

#[offspring::test(timeout = "20s")]
fn closing_now_drops_the_rest_and_says_how_much() {
    let queue = Queue::unbounded().unwrap();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert_eq!(queue.close_and_discard().unwrap(), 2);
    assert_eq!(queue.close_and_discard().unwrap(), 0);
    assert!(matches!(queue.put(3), Err(PutError::Closed(3))));
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    let queue = Queue::unbounded().unwrap();
    queue.put(7).unwrap();
    assert_eq!(close_now::spawn(queue.clone()).unwrap().join().unwrap(), (11, 0));
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(queue.is_empty().unwrap());
}

#[offspring::worker]
fn take_two_slowly(jobs: JoinableQueue<u64>, told: Queue<u64>) -> u64 {
    let first = jobs.get().expect("there is one");
    told.put(*first).expect("somebody reads");
    eventually_closed(&jobs);
    first.task_done();
    u64::from(matches!(jobs.get(), Err(GetError::Closed)))
}

fn eventually_closed(jobs: &JoinableQueue<u64>) {
    crate::support::eventually("the queue is closed", || jobs.is_closed().unwrap());
}

#[offspring::test(timeout = "20s")]
fn closing_now_leaves_what_is_in_work_and_ends_the_join() {
    let (jobs, told) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let mine = {
        jobs.put(0).unwrap();
        jobs.get().unwrap()
    };
    let consumer = take_two_slowly::spawn(jobs.clone(), told.clone()).unwrap();
    for n in 1..100 {
        jobs.put(n).unwrap();
    }
    assert_eq!(told.get().unwrap(), 1);
    assert_eq!(jobs.close_and_discard().unwrap(), 98);
    assert_eq!(consumer.join().unwrap(), 1);
    assert!(jobs.join_timeout(SHORT).unwrap_err().is_timeout(), "one is in work here");
    // Given back, it is dropped too.
    drop(mine);
    jobs.join().unwrap();
    assert!(matches!(jobs.get(), Err(GetError::Closed)));
}

#[offspring::test(timeout = "20s")]
fn a_letter_that_cannot_be_redelivered_keeps_its_place() {
    let jobs = JoinableQueue::<(u32, Option<Receiver<u32>>)>::builder()
        .max_deliveries(1)
        .max_dead_letters(3)
        .build()
        .unwrap();
    let (_sender, receiver) = offspring::channel().unwrap();
    let mut receiver = Some(receiver);
    let mut bury = |n: u32| {
        // The second item holds what exists only once, and is gone with its delivery.
        let receiver = receiver.take_if(|_| n == 1);
        jobs.put((n, receiver)).unwrap();
        drop(jobs.get().unwrap());
    };
    (0..3).for_each(&mut bury);
    let numbers = || -> Vec<u32> {
        let letters = jobs.dead_letters().unwrap();
        // The second does not decode without what it held.
        letters.iter().map(|letter| letter.decode().map_or(1, |(n, _)| n)).collect()
    };
    assert_eq!(numbers(), [0, 1, 2]);
    let second = jobs.dead_letters().unwrap().remove(1);
    assert_eq!(second.redeliver(), Err(DeadLetterError::MovedOut));
    assert_eq!(numbers(), [0, 1, 2]);
    // So it is the oldest one that makes room for a new one.
    bury(3);
    assert_eq!(numbers(), [1, 2, 3]);
}

/// How many descriptors many dead letters with handles keep, and how many letters there are.
#[offspring::worker]
fn bury_handles(count: usize) -> (usize, usize) {
    let jobs = JoinableQueue::builder().max_deliveries(1).build().unwrap();
    let before = open_fds();
    for _ in 0..count {
        jobs.put(offspring::channel::<u8>().unwrap().0).unwrap();
        drop(jobs.get().unwrap());
    }
    let kept = jobs.dead_letters().unwrap().len();
    (open_fds().saturating_sub(before), kept)
}

#[offspring::test(timeout = "20s")]
fn dead_letters_keep_few_descriptors() {
    let (descriptors, letters) = bury_handles::spawn(200).unwrap().join().unwrap();
    assert!(descriptors <= 64 && letters > 10, "{descriptors} {letters}");
}

/// At most 100, which its `Deserialize` checks.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u8")]
struct Percent(u8);

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(n: u8) -> Result<Percent, String> {
        if n <= 100 { Ok(Percent(n)) } else { Err(format!("{n} is too much")) }
    }
}

/// Has no logger. Returns what loops got, and the dead letters.
#[offspring::worker]
fn pass_over() -> (Vec<u8>, [usize; 2]) {
    let jobs = JoinableQueue::builder().name("marks").build().expect("there is memory");
    jobs.put_all([200, 1, 201, 202, 203, 204, 2].map(Percent)).expect("it is open");
    jobs.close().expect("it is ours");
    let mut got = Vec::new();
    for job in &jobs {
        got.push(job.0);
        job.task_done();
    }
    let dead = jobs.join().expect("all are finished").dead_letters();
    let mut letters = jobs.dead_letters().expect("it is ours");
    letters.remove(0).discard().expect("it is there");
    let left = jobs.join().expect("all are finished").dead_letters();
    let (sender, receiver) = offspring::channel().expect("there are descriptors");
    [250, 3].map(Percent).into_iter().for_each(|n| sender.send(n).expect("we receive"));
    drop(sender);
    got.extend(receiver.iter().map(|n| n.0));
    (got, [dead, left])
}

#[offspring::worker]
fn join_from_afar(jobs: JoinableQueue<Percent>) -> usize {
    jobs.join().expect("all are finished").dead_letters()
}

#[offspring::test(timeout = "30s")]
fn what_a_loop_passes_over_is_printed_and_counted() {
    let builder = offspring::ProcessBuilder::new().stderr(offspring::Stdio::piped());
    let mut process = builder.spawn(pass_over::new()).unwrap();
    let mut stderr = process.take_stderr().unwrap();
    assert_eq!(process.join().unwrap(), (vec![1, 2, 3], [5, 4]));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("offspring: ")).collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, words) in lines.iter().zip([
        [
            "queue `marks` (of `it::queue::dead::Percent`)",
            "200 is too much",
            "dead letter (number 1)",
        ],
        [
            "queue `marks` (of `it::queue::dead::Percent`)",
            "201 is too much",
            "dead letter (number 2)",
        ],
        [
            "queue `marks` (of `it::queue::dead::Percent`)",
            "203 is too much",
            "dead letter (number 4)",
        ],
        ["Percent", "250 is too much", "skipped (number 1)"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}: {words:?}");
    }

    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put(Percent(250)).unwrap();
    assert!(matches!(jobs.get(), Err(GetError::Decode(_))));
    assert_eq!(join_from_afar::spawn(jobs.clone()).unwrap().join().unwrap(), 1);
}
