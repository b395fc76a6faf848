//! Shared memory: what one process writes the others see, it ends with its last handle, and it
//! fails as an error.

use std::sync::atomic::{self, Ordering};
use std::time::Duration;

use offspring::process::Backend;
use offspring::shared::{AtomicBool, AtomicU64, SharedBytes, SharedSlice};
use offspring::{CreateError, JoinableQueue, ProcessBuilder, Queue};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::{eventually, open_fds};

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
}

// SAFETY: two numbers, without padding.
unsafe impl bytemuck::Zeroable for Point {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Point {}

#[offspring::worker]
fn prefix_sums(numbers: SharedSlice<i64>) {
    for n in 1..numbers.len() {
        numbers.set(n, numbers.get(n).unwrap() + numbers.get(n - 1).unwrap());
    }
}

#[offspring::worker]
fn double(points: SharedSlice<Point>, number: SharedSlice<f32>, count: AtomicU64) {
    for n in 0..points.len() {
        let point = points.get(n).unwrap();
        points.set(n, Point { x: point.x * 2.0, y: point.y * 2.0 });
        count.fetch_add(1, Ordering::Relaxed);
    }
    number.set(0, number.get(0).unwrap() * 2.0);
}

#[offspring::test(timeout = "60s")]
fn a_child_changes_what_the_parent_sees() {
    let numbers = SharedSlice::from_slice(&[1, 2, 3, 4, 5]).unwrap();
    prefix_sums::spawn(numbers.slice(1..4)).unwrap().join().unwrap();
    assert_eq!(numbers.to_vec(), [1, 2, 5, 9, 5]);

    let points = SharedSlice::from_slice(&[Point { x: 1.0, y: 2.0 }; 3]).unwrap();
    let copy = points.to_vec();
    let number = SharedSlice::from_slice(&[1.5]).unwrap();
    let count = AtomicU64::new(10).unwrap();
    double::spawn(points.clone(), number.clone(), count.clone()).unwrap().join().unwrap();
    assert_eq!(points.to_vec(), [Point { x: 2.0, y: 4.0 }; 3]);
    assert_eq!(copy, [Point { x: 1.0, y: 2.0 }; 3]);
    assert_eq!(number.get(0), Some(3.0));
    assert_eq!(count.load(Ordering::Relaxed), 13);
}

/// Each operation has std's result, for both values of the flag and the operand.
#[test]
fn a_shared_flag_has_the_operations_of_stds() {
    use std::sync::atomic::Ordering::SeqCst;
    let (ours, stds) = (AtomicBool::new(false).unwrap(), atomic::AtomicBool::new(false));
    for (flag, operand) in [(false, false), (false, true), (true, false), (true, true)] {
        macro_rules! same {
            ($($operation:ident($($argument:expr),*))+) => {$(
                ours.store(flag, SeqCst);
                stds.store(flag, SeqCst);
                let results = (ours.$operation($($argument),*), stds.$operation($($argument),*));
                assert_eq!(results.0, results.1, concat!(stringify!($operation), " of {} and {}"), flag, operand);
                assert_eq!(ours.load(SeqCst), stds.load(SeqCst), stringify!($operation));
            )+};
        }
        same! {
            swap(operand, SeqCst)
            fetch_and(operand, SeqCst)
            fetch_or(operand, SeqCst)
            fetch_xor(operand, SeqCst)
            fetch_nand(operand, SeqCst)
            fetch_not(SeqCst)
            compare_exchange(operand, !operand, SeqCst, SeqCst)
            fetch_update(SeqCst, SeqCst, |now| (now == operand).then_some(!now))
        }
    }
    ours.store(true, SeqCst);
    while ours.compare_exchange_weak(true, false, SeqCst, SeqCst).is_err() {}
    assert!(!ours.load(SeqCst));
}

#[test]
fn new_memory_is_zeroed_also_when_it_was_used_before() {
    for round in 0..3 {
        let numbers = SharedSlice::<u64>::zeroed(1 << 16).unwrap();
        assert!(numbers.iter().all(|number| number == 0), "round {round}");
        numbers.fill(u64::MAX);
    }
    assert!(SharedSlice::<u8>::zeroed(0).unwrap().is_empty());
    assert!(SharedBytes::copy_from(&[]).unwrap().is_empty());
}

#[test]
fn ranges_and_indices_are_checked_as_those_of_slices() {
    let numbers = SharedSlice::from_slice(&[1u8, 2, 3]).unwrap();
    assert_eq!(numbers.slice(1..=2).to_vec(), [2, 3]);
    assert_eq!(numbers.slice(3..).len(), 0);
    for wrong in [
        std::panic::catch_unwind(|| drop(numbers.slice(2..4))),
        std::panic::catch_unwind(|| numbers.set(3, 0)),
        std::panic::catch_unwind(|| numbers.slice(0..2).set(2, 0)),
        std::panic::catch_unwind(|| numbers.read(2, &mut [0; 2])),
        std::panic::catch_unwind(|| numbers.write(usize::MAX, &[0; 2])),
    ] {
        wrong.unwrap_err();
    }
    assert_eq!(numbers.to_vec(), [1, 2, 3]);
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    for len in [usize::MAX, isize::MAX as usize, 1 << 45, 1 << 40] {
        let error = SharedSlice::<u64>::zeroed(len).unwrap_err();
        let CreateError::Io { cause, .. } = error else { panic!("{error:?}") };
        assert_eq!(cause.kind(), std::io::ErrorKind::OutOfMemory);
    }
    // Within the limits again.
    assert_eq!(SharedSlice::<u64>::zeroed(1000).unwrap().len(), 1000);
}

#[offspring::worker]
fn limited(resource: u8, limit: u64) -> Result<(), String> {
    let resource = if resource == 0 { Resource::Fsize } else { Resource::As };
    let before = rustix::process::getrlimit(resource);
    let low = Rlimit { current: Some(limit), maximum: before.maximum };
    setrlimit(resource, low).expect("a limit can be lowered");
    let outcome = SharedSlice::<u64>::zeroed(1 << 21);
    setrlimit(resource, before).expect("and raised again");
    outcome.map(|_| ()).map_err(|error| error.to_string())
}

#[offspring::test(timeout = "60s")]
fn limits_of_the_process_are_errors_not_signals() {
    for (resource, limit) in [(0, 0), (0, 1 << 20), (1, 1 << 20)] {
        let outcome = limited::spawn(resource, limit).unwrap().join().unwrap();
        outcome.unwrap_err();
    }
    limited::spawn(0, 1 << 30).unwrap().join().unwrap().unwrap();
}

#[offspring::worker]
fn make(text: String) -> (SharedBytes, SharedSlice<u32>) {
    let bytes = SharedBytes::copy_from(text.as_bytes()).unwrap();
    (bytes, SharedSlice::from_slice(&[1, 2, 3]).unwrap())
}

#[offspring::test(timeout = "60s")]
fn memory_outlives_the_process_that_made_it() {
    let (bytes, numbers) = make::spawn("made elsewhere".to_owned()).unwrap().join().unwrap();
    assert_eq!(&*bytes, b"made elsewhere");
    assert_eq!(numbers.to_vec(), [1, 2, 3]);
    // And a third process gets it from this one.
    prefix_sums_of(&numbers);
    assert_eq!(numbers.to_vec(), [1, 3, 6]);
}

fn prefix_sums_of(numbers: &SharedSlice<u32>) {
    sums::spawn(numbers.clone()).unwrap().join().unwrap();
}

#[offspring::worker]
fn sums(numbers: SharedSlice<u32>) {
    for n in 1..numbers.len() {
        numbers.set(n, numbers.get(n).unwrap() + numbers.get(n - 1).unwrap());
    }
}

#[offspring::worker]
fn take(work: Queue<(SharedBytes, SharedSlice<u64>)>) {
    for (bytes, lengths) in &work {
        lengths.set(0, bytes.len() as u64);
    }
}

#[offspring::test(timeout = "60s")]
fn handles_travel_in_queue_items_and_leave_nothing_behind() {
    send_around::spawn().unwrap().join().unwrap();
}

/// In a process where no other test opens anything.
#[offspring::worker]
fn send_around() {
    let work = Queue::unbounded().unwrap();
    let taker = take::spawn(work.clone()).unwrap();
    let round = |len: usize| {
        let bytes = SharedBytes::build(len, |_| ()).unwrap();
        let lengths = SharedSlice::zeroed(1).unwrap();
        work.put((bytes, lengths.clone())).unwrap();
        eventually("the length is written", || lengths.get(0) == Some(len as u64));
    };
    round(5);
    let before = open_fds();
    (1..50).for_each(round);
    eventually("no descriptor is left open", || open_fds() <= before);
    work.close().unwrap();
    taker.join().unwrap();
}

#[offspring::worker]
fn hold_for_ever(numbers: SharedSlice<u64>) {
    numbers.set(0, 1);
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Shared memory of the whole system, in bytes.
fn shared_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Shmem:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[offspring::test(timeout = "60s")]
fn memory_goes_with_its_last_handle_even_if_that_is_killed() {
    const BYTES: u64 = 256 << 20;
    let before = shared_memory();
    let numbers = SharedSlice::zeroed((BYTES / 8) as usize).unwrap();
    let child = hold_for_ever::spawn(numbers.clone()).unwrap();
    eventually("the child has the memory", || numbers.get(0) == Some(1));
    drop(numbers);
    assert!(shared_memory() > before + BYTES / 2, "the child's handle keeps it");
    child.kill();
    child.join().unwrap_err();
    eventually("the memory is free", || shared_memory() < before + BYTES / 2);
}

#[test]
fn bytes_are_cut_without_a_copy() {
    let bytes = SharedBytes::copy_from(b"0123456789").unwrap();
    let part = bytes.slice(2..8).slice(1..=2);
    assert_eq!(&*part, b"34");
    assert_eq!(part.as_ptr(), bytes[3..].as_ptr());
    assert_eq!(bytes.slice(1..9).cast::<u64>(), None);
    assert_eq!(bytes.slice(..8).cast::<u64>(), Some(&[u64::from_ne_bytes(*b"01234567")][..]));
}

/// Serializes one handle, and decodes as the other: what a `Deserialize` of one's own can do.
struct Forged<From, To>(Option<From>, Option<To>);

impl<F: Serialize, T> Serialize for Forged<F, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, F, T: Deserialize<'de>> Deserialize<'de> for Forged<F, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Forged(None, Option::deserialize(deserializer)?))
    }
}

fn forge<F: Serialize, T: DeserializeOwned>(handle: F) -> String {
    let queue = Queue::<Forged<F, T>>::unbounded().unwrap();
    assert!(queue.put(Forged(Some(handle), None)).is_ok());
    let Err(error) = queue.get() else { panic!("it passed for {}", std::any::type_name::<T>()) };
    error.to_string()
}

#[offspring::test(timeout = "20s")]
fn a_forged_handle_is_of_no_other_type() {
    let slice = || SharedSlice::<u8>::zeroed(100).unwrap();
    let bytes = || SharedBytes::copy_from(&[1; 100]).unwrap();
    let errors = [
        forge::<_, SharedBytes>(slice()),
        forge::<_, SharedSlice<u8>>(bytes()),
        forge::<_, SharedSlice<u32>>(slice()),
        forge::<_, AtomicU64>(SharedSlice::<u64>::zeroed(1).unwrap()),
        forge::<_, SharedBytes>(AtomicU64::new(1).unwrap()),
    ];
    for error in errors {
        assert!(error.contains("another type"), "{error}");
    }
}

#[offspring::test(timeout = "20s")]
fn bytes_of_any_length_are_got_where_they_were_put() {
    for length in [0, 1, 31, 32, 33, 100, 4080, 4096, 5000, 1 << 20] {
        let bytes = SharedBytes::build(length, |new| new.fill(7)).unwrap();
        let queue = Queue::unbounded().unwrap();
        queue.put(bytes.clone()).unwrap();
        assert!(queue.get().unwrap() == bytes, "{length}");
        let slice = SharedSlice::<u8>::from_slice(&bytes).unwrap();
        let queue = Queue::unbounded().unwrap();
        queue.put(slice.clone()).unwrap();
        let got = queue.get().unwrap();
        assert_eq!(got.to_vec(), *bytes);
        if length > 0 {
            slice.set(0, 9);
            assert_eq!(got.get(0), Some(9), "it is the same memory");
        }
        // A dead letter.
        let jobs = JoinableQueue::builder().max_deliveries(1).build().unwrap();
        jobs.put(bytes.clone()).unwrap();
        drop(jobs.get().unwrap());
        assert!(jobs.dead_letters().unwrap()[0].decode().unwrap() == bytes, "{length}");
        // The output of a worker on a thread.
        let inline = ProcessBuilder::new().backend(Backend::Inline);
        let output = inline.spawn(back::new(bytes.clone())).unwrap().join().unwrap();
        assert!(output == bytes, "{length}");
    }
}

#[offspring::worker]
fn back(bytes: SharedBytes) -> SharedBytes {
    bytes
}
