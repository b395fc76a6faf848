//! Processes that run out of descriptors, in the middle of anything: their calls report it, and
//! nothing is lost.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offspring::sync::Event;
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{JoinableQueue, ProcessBuilder, Queue, Receiver, Sender, channel};

use super::SHORT;
use crate::support::eventually;

const LONG: Duration = Duration::from_secs(10);

/// All descriptors that are left.
fn hoard() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn with_few_descriptors() -> ProcessBuilder {
    ProcessBuilder::new().rlimit(Resource::OpenFiles, 64, 64)
}

/// What a wait without descriptors says, and what comes afterwards.
#[offspring::worker]
fn hear(receiver: Receiver<u64>, count: u64) -> (String, Vec<u64>) {
    let hoard = hoard();
    let error = receiver.recv_timeout(LONG).unwrap_err();
    drop(hoard);
    let heard = (0..count).map(|_| receiver.recv_timeout(LONG).unwrap()).collect();
    (error.to_string(), heard)
}

#[offspring::test(timeout = "60s")]
fn a_receiver_without_descriptors_says_so_and_hears_all_later() {
    let (sender, receiver) = channel().unwrap();
    (0..4).for_each(|n| sender.send(n).unwrap());
    let child = with_few_descriptors().spawn(hear::new(receiver, 4)).unwrap();
    let (error, heard) = child.join().unwrap();
    assert!(error.contains("Too many open files"), "{error}");
    assert_eq!(heard, [0, 1, 2, 3]);
}

/// The same for messages with handles, of a sender that is known.
#[offspring::worker]
fn hear_handles(receiver: Receiver<Sender<u64>>) -> String {
    receiver.recv().unwrap().send(0).unwrap();
    let hoard = hoard();
    let error = receiver.recv_timeout(LONG).unwrap_err();
    drop(hoard);
    receiver.recv().unwrap().send(1).unwrap();
    error.to_string()
}

#[offspring::test(timeout = "60s")]
fn a_message_with_handles_stays_until_there_are_descriptors_for_them() {
    let (sender, receiver) = channel().unwrap();
    let (answers, answered) = channel().unwrap();
    sender.send(answers.clone()).unwrap();
    let child = with_few_descriptors().spawn(hear_handles::new(receiver)).unwrap();
    assert_eq!(answered.recv_timeout(LONG).unwrap(), 0);
    sender.send(answers).unwrap();
    let error = child.join().unwrap();
    assert!(error.contains("Too many open files"), "{error}");
    assert_eq!(answered.recv_timeout(LONG).unwrap(), 1);
}

/// What gets and puts say without descriptors, of items with handles; then what was put is got.
#[offspring::worker]
fn work(jobs: JoinableQueue<(u64, Queue<u64>)>, ready: Event) -> (String, Vec<u64>) {
    jobs.get().unwrap().task_done();
    let hoard = hoard();
    ready.set();
    let error = jobs.get_timeout(LONG).unwrap_err();
    drop(hoard);
    let got = |_| {
        let job = jobs.get_timeout(LONG).unwrap();
        let number = job.0;
        job.task_done();
        number
    };
    (error.to_string(), (1..4).map(got).collect())
}

#[offspring::test(timeout = "60s")]
fn a_client_without_descriptors_keeps_its_session() {
    let (jobs, ready, inner) =
        (JoinableQueue::unbounded().unwrap(), Event::new().unwrap(), Queue::unbounded().unwrap());
    jobs.put((0, inner.clone())).unwrap();
    let child = with_few_descriptors().spawn(work::new(jobs.clone(), ready.clone())).unwrap();
    ready.wait().unwrap();
    (1..4).for_each(|n| jobs.put((n, inner.clone())).unwrap());
    let (error, got) = child.join().unwrap();
    assert!(error.contains("Too many open files"), "{error}");
    assert_eq!(got, [1, 2, 3]);
    jobs.join_timeout(LONG).unwrap();
}

/// Loops over a receiver and over a queue, both with handles in what arrives. For a while, there
/// are no descriptors.
#[offspring::worker]
fn loop_over(
    receiver: Receiver<(u64, Queue<u64>)>,
    jobs: JoinableQueue<(u64, Queue<u64>)>,
    ready: Event,
) -> (Vec<u64>, Vec<u64>) {
    assert_eq!(receiver.recv().unwrap().0, 0);
    jobs.get().unwrap().task_done();
    let hoard = hoard();
    ready.set();
    std::thread::scope(|scope| {
        let heard = scope.spawn(|| receiver.iter().map(|(n, _)| n).collect());
        let got = scope.spawn(|| {
            let batches = jobs.batches(2).flatten();
            batches.map(|job| (job.0, job.task_done()).0).collect()
        });
        // Time for both to find out that they have none.
        std::thread::sleep(SHORT * 2);
        drop(hoard);
        (heard.join().unwrap(), got.join().unwrap())
    })
}

#[offspring::test(timeout = "60s")]
fn loops_do_not_end_for_want_of_descriptors() {
    let (sender, receiver) = channel().unwrap();
    let (jobs, inner) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let ready = Event::new().unwrap();
    sender.send((0, inner.clone())).unwrap();
    jobs.put((0, inner.clone())).unwrap();
    let worker = loop_over::new(receiver, jobs.clone(), ready.clone());
    let child = with_few_descriptors().spawn(worker).unwrap();
    ready.wait().unwrap();
    for n in 1..4 {
        sender.send((n, inner.clone())).unwrap();
        jobs.put((n, inner.clone())).unwrap();
    }
    drop(sender);
    jobs.close().unwrap();
    let (heard, got) = child.join().unwrap();
    assert_eq!((heard, got), (vec![1, 2, 3], vec![1, 2, 3]));
}

/// Told by a file, since an event would open the session.
#[offspring::worker]
fn put_when_told(queue: Queue<u64>, go: PathBuf) {
    eventually("it is told", || go.exists());
    queue.put_timeout(7, LONG).unwrap();
}

/// Its client opens its first session while it has no descriptors for that.
#[offspring::worker]
fn own() -> (bool, u64) {
    let queue = Queue::unbounded().unwrap();
    let go = std::env::temp_dir().join(format!("offspring-starved-{}", std::process::id()));
    let child = put_when_told::spawn(queue.clone(), go.clone()).unwrap();
    let mut hoard = hoard();
    hoard.pop();
    hoard.push(File::create(&go).unwrap());
    let waited = queue.get_timeout(SHORT).is_err_and(|error| error.is_timeout());
    drop(hoard);
    let got = queue.get_timeout(LONG).unwrap();
    child.join().unwrap();
    std::fs::remove_file(go).unwrap();
    (waited, got)
}

#[offspring::test(timeout = "60s")]
fn an_owner_without_descriptors_hears_its_clients_later() {
    let owner = with_few_descriptors().spawn(own::new()).unwrap();
    assert_eq!(owner.join().unwrap(), (true, 7));
}

#[offspring::worker]
fn give(queue: Queue<Sender<u8>>, sender: Sender<Sender<u8>>, count: u32) {
    for _ in 0..count {
        let (handle, _) = channel().unwrap();
        queue.put(handle.clone()).unwrap();
        sender.send(handle).unwrap();
    }
}

/// Gets handles while another thread takes the last descriptors again and again. Returns what went
/// wrong.
#[offspring::worker]
fn get_beside_a_hoarder(count: u32) -> Result<(), String> {
    let (queue, (sender, receiver)) = (Queue::bounded(4).unwrap(), channel().unwrap());
    let giver = give::spawn(queue.clone(), sender, count).unwrap();
    let done = AtomicBool::new(false);
    let all = |mut next: Box<dyn FnMut() -> Result<(), String>>| {
        for n in 0..count {
            while let Err(error) = next() {
                // Out of descriptors, for now.
                if !error.contains("Too many open files") {
                    return Err(format!("{n}: {error}"));
                }
            }
        }
        Ok(())
    };
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(hoard());
            }
        });
        let got = scope.spawn(|| {
            all(Box::new(|| queue.get_timeout(LONG).map(drop).map_err(|error| error.to_string())))
        });
        let received = all(Box::new(|| {
            receiver.recv_timeout(LONG).map(drop).map_err(|error| error.to_string())
        }));
        let got = got.join().unwrap();
        done.store(true, Ordering::Relaxed);
        received.and(got)
    });
    outcome.and_then(|()| giver.join().map_err(|error| error.to_string()))
}

#[offspring::test(timeout = "60s")]
fn descriptors_that_come_and_go_lose_nothing_and_nobody() {
    let owner = with_few_descriptors().spawn(get_beside_a_hoarder::new(300)).unwrap();
    assert_eq!(owner.join().unwrap(), Ok(()));
}
