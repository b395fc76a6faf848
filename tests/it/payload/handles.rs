//! Descriptors and raw handles of ipc-channel in values.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, IpcSharedMemory};
use offspring::channel::SendError;
use offspring::queue::PutError;
use offspring::unix::SharedFd;
use offspring::{Connection, JoinableQueue, Queue, Sender, channel, pipe};
use serde::{Deserialize, Serialize};

use crate::support::{eventually, open_fds};

#[derive(Serialize, Deserialize)]
struct Raw {
    number: u8,
    sender: Option<IpcSender<u8>>,
    receivers: Vec<IpcReceiver<u8>>,
}

fn raw() -> Raw {
    let (sender, receiver) = ipc::channel().unwrap();
    Raw { number: 7, sender: Some(sender), receivers: vec![receiver] }
}

fn works(raw: &Raw) {
    raw.sender.as_ref().unwrap().send(raw.number).unwrap();
    assert_eq!(raw.receivers[0].recv().unwrap(), 7, "it was taken out of the value");
}

#[offspring::test(timeout = "20s")]
fn raw_handles_in_items_and_messages_come_back_with_an_error() {
    let queue = Queue::unbounded().unwrap();
    let Err(error) = queue.put(raw()) else { panic!("it was taken") };
    assert!(
        matches!(&error, PutError::Encode(_, why) if why.to_string().contains("raw handle")),
        "{error:?}"
    );
    works(&error.into_inner());
    let (sender, _receiver) = channel().unwrap();
    let Err(error) = sender.send(raw()) else { panic!("it was sent") };
    assert!(matches!(error, SendError::Encode(..)));
    works(&error.into_inner());
    let memory = Queue::unbounded().unwrap();
    assert!(memory.put((1, IpcSharedMemory::from_bytes(b"x"))).is_err());
    assert!(queue.is_empty().unwrap() && memory.is_empty().unwrap());
}

fn file(text: &str) -> SharedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    SharedFd::new(file)
}

#[offspring::worker]
fn read_files(
    field: SharedFd,
    over: Connection<String, SharedFd>,
    jobs: JoinableQueue<(u8, SharedFd)>,
) -> String {
    let read = |descriptor: SharedFd| {
        let mut file = File::from(descriptor.into_fd());
        assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    while let Ok(descriptor) = over.recv() {
        over.send(read(descriptor)).expect("the test receives");
    }
    for job in &jobs {
        if job.attempt() == 1 {
            // It goes back, with its descriptor.
            continue;
        }
        let (_, descriptor) = job.into_inner();
        assert_eq!(read(descriptor), "item");
        jobs.task_done().unwrap();
    }
    read(field)
}

#[offspring::test(timeout = "30s")]
fn descriptors_travel_in_fields_messages_and_items() {
    let jobs = JoinableQueue::unbounded().unwrap();
    let (over, theirs) = pipe().unwrap();
    let process = read_files::spawn(file("field"), theirs, jobs.clone()).unwrap();
    for n in 0..20 {
        over.send(file(&format!("message {n}"))).unwrap();
        assert_eq!(over.recv().unwrap(), format!("message {n}"));
    }
    drop(over);
    jobs.put((1, file("item"))).unwrap();
    jobs.join().unwrap();
    jobs.close().unwrap();
    assert_eq!(process.join().unwrap(), "field");
}

#[offspring::test(timeout = "20s")]
fn a_descriptor_crosses_only_with_our_values() {
    assert!(postcard::to_stdvec(&file("x")).is_err());
    assert!(postcard::from_bytes::<SharedFd>(&[0]).is_err());
}

#[offspring::worker]
fn send_descriptors_away() {
    let round = |file: &SharedFd| {
        let (sender, receiver) = channel().unwrap();
        for _ in 0..3 {
            sender.send(SharedFd::new(file.as_fd().try_clone_to_owned().unwrap())).unwrap();
        }
        assert!(receiver.recv().unwrap().as_fd().as_raw_fd() > 2);
        let queue = Queue::unbounded().unwrap();
        queue.put(SharedFd::new(file.as_fd().try_clone_to_owned().unwrap())).unwrap();
    };
    let file = file("kept");
    round(&file);
    let before = open_fds();
    (0..20).for_each(|_| round(&file));
    eventually("what was not received is closed", || open_fds() <= before);
    // The open file itself is closed too: no other descriptor refers to it.
    let (read, write) = rustix::pipe::pipe().unwrap();
    let (sender, receiver) = channel().unwrap();
    sender.send(SharedFd::new(write)).unwrap();
    drop(receiver);
    drop(sender);
    assert_eq!(File::from(read).read(&mut [0; 1]).unwrap(), 0);
}

#[offspring::test(timeout = "30s")]
fn undelivered_descriptors_are_closed() {
    send_descriptors_away::spawn().unwrap().join().unwrap();
}

/// A sender with a ring of its own, as another process would have it.
fn another(sender: &Sender<SharedFd>) -> Sender<SharedFd> {
    let (carry, carried) = channel().unwrap();
    carry.send(sender.clone()).unwrap();
    carried.recv().unwrap()
}

#[offspring::worker]
fn crowd() {
    let (sender, receiver) = channel().unwrap();
    let senders: Vec<_> = (0..30).map(|_| another(&sender)).collect();
    let null = || SharedFd::new(File::open("/dev/null").unwrap());
    let timeout = Duration::from_millis(10);
    for sender in &senders {
        (0..8).for_each(|_| sender.send(null()).unwrap());
        // A send that did not time out would block for ever: no one receives.
        assert!(sender.send_timeout(null(), timeout).is_err_and(|error| error.is_timeout()));
    }
    for _ in 0..30 * 8 {
        receiver.recv().unwrap();
    }
    assert!(senders.iter().all(|sender| sender.send_timeout(null(), timeout).is_ok()));
}

#[offspring::test(timeout = "30s")]
fn no_number_of_senders_fills_the_receivers_socket() {
    crowd::spawn().unwrap().join().unwrap();
}
