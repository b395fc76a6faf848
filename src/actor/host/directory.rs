//! The directory of a host. Other processes use it to subscribe to its actors, to ask it to stop
//! one, and to look up names.
//!
//! One queue and one thread serve all actors of the process. The thread runs no user code, and
//! waits for no client longer than an update may take.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::actor::host::record::{ActorRecord, UPDATE_PATIENCE};
use crate::actor::protocol::{
    ActorKey, ActorStatus, DirectoryRequest, StatusUpdate, UntypedRef, own_process_number,
};
use crate::channel::Sender;
use crate::diagnostics;
use crate::error::{CreateError, DownReason, GetError};
use crate::queue::{Producer, Queue, QueueKind};
use crate::sys::{self, lock};

/// How many actors that are down for good are remembered, for clients that ask how they ended.
const DOWN_MAX: usize = 1024;

/// How long names may be, in bytes.
const NAME_MAX: usize = 4096;
/// At how many names those of ended processes are removed for the first time.
const SWEEP_MIN: usize = 64;

static IS_OPEN: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Default)]
struct Records {
    all: HashMap<u64, Arc<ActorRecord>>,
    /// Oldest first.
    down: VecDeque<u64>,
}

fn records() -> &'static Mutex<Records> {
    static RECORDS: OnceLock<Mutex<Records>> = OnceLock::new();
    RECORDS.get_or_init(Mutex::default)
}

/// Makes the record of a new actor.
pub(crate) fn open_record(name: &str, mailbox: usize) -> Result<Arc<ActorRecord>, CreateError> {
    own_directory()?;
    // A process that has the address of one actor has this process's directory, and must not reach
    // the others by counting.
    let number = sys::random().map_err(CreateError::io("number an actor"))?;
    let number = u64::from_le_bytes(number);
    let key = ActorKey { host: own_process_number(), number };
    let record = Arc::new(ActorRecord::new(key, name, mailbox)?);
    lock(records()).all.insert(number, record.clone());
    Ok(record)
}

/// Publishes that the actor is down for good. Its record stays for a while, for clients that ask
/// how it ended.
pub(crate) fn close_record(record: &ActorRecord, generation: u64, reason: DownReason) {
    record.publish(ActorStatus::Down { generation, reason });
    let mut records = lock(records());
    records.down.push_back(record.key.number);
    if records.down.len() > DOWN_MAX {
        let oldest = records.down.pop_front();
        oldest.and_then(|oldest| records.all.remove(&oldest));
    }
}

/// Removes the record of an actor that never started: no client can ask for it.
pub(crate) fn remove_record(record: &ActorRecord) {
    record.publish(ActorStatus::Down {
        generation: record.generation(),
        reason: record.previous().unwrap_or(DownReason::Normal),
    });
    lock(records()).all.remove(&record.key.number);
}

pub(in crate::actor) fn find_record(number: u64) -> Option<Arc<ActorRecord>> {
    lock(records()).all.get(&number).cloned()
}

/// Returns the queue of this process's directory. The first call opens it.
///
/// Every process that has an actor's address gets this handle, so it is one that only puts: with a
/// `Queue`, such a process could take the requests of others.
pub(in crate::actor) fn own_directory() -> Result<Producer<DirectoryRequest>, CreateError> {
    // Both are kept for ever, so the queue is not abandoned while it has no clients.
    static DIRECTORY: Mutex<Option<(Queue<DirectoryRequest>, Producer<DirectoryRequest>)>> =
        Mutex::new(None);
    let mut directory = lock(&DIRECTORY);
    if let Some((_, directory)) = &*directory {
        return Ok(directory.clone());
    }
    let queue = Queue::builder().kind(QueueKind::Internal).build()?;
    let (requests, producer) = (queue.clone(), queue.producer());
    sys::service_thread("offspring-actors", move || serve(&requests))
        .map_err(CreateError::io("start a thread"))?;
    *directory = Some((queue, producer.clone()));
    IS_OPEN.store(true, Ordering::SeqCst);
    Ok(producer)
}

/// Returns whether this process has a directory already.
pub(in crate::actor) fn is_open() -> bool {
    IS_OPEN.load(Ordering::SeqCst)
}

fn serve(requests: &Queue<DirectoryRequest>) {
    let mut desk = Desk { names: Names::default(), lost_time: None };
    loop {
        match requests.get() {
            Ok(request) => desk.answer(request),
            Err(GetError::Decode(error)) => diagnostics::error(
                "offspring::actor",
                format_args!("skipping a request that does not decode: {error}"),
            ),
            // The program ends.
            Err(_) => return,
        }
    }
}

/// The state of the directory's thread.
#[derive(Debug)]
struct Desk {
    names: Names,
    /// When it last waited in vain for a client.
    lost_time: Option<Instant>,
}

impl Desk {
    fn answer(&mut self, request: DirectoryRequest) {
        // A process that asks a question makes a channel for the answer, so the channel has room
        // unless that process no longer listens: no answer waits.
        match request {
            DirectoryRequest::Subscribe { number, client, updates, mailbox } => {
                self.within(|patience| match find_record(number) {
                    Some(record) => record.subscribe_remote(client, updates, mailbox, patience),
                    None => send_forgotten(number, client, &updates),
                });
            }
            DirectoryRequest::Stop { number } => {
                if let Some(record) = find_record(number) {
                    self.within(|patience| record.request_stop_within(patience));
                }
            }
            DirectoryRequest::Register { name, actor, done } => {
                let most = sys::descriptors_max() / 4;
                let outcome = self.names.register(&name, actor, most);
                // A process that does not learn that it has the name must not keep it.
                if done.try_send(outcome.clone()).is_err() && outcome == Ok(true) {
                    self.names.all.remove(&name);
                }
            }
            DirectoryRequest::IsDown { number, answer } => {
                let is_down = find_record(number).is_none_or(|record| record.is_down());
                let _ = answer.try_send(is_down);
            }
            DirectoryRequest::Unregister { name, key } => {
                if self.names.all.get(&name).is_some_and(|actor| actor.key == key) {
                    self.names.all.remove(&name);
                }
            }
            DirectoryRequest::Find { name, found } => {
                let _ = found.try_send(self.names.all.get(&name).cloned());
            }
        }
    }

    /// Serves a client that this thread may have to wait for. After it has waited in vain, it does
    /// not wait for any client for a while, so that a flood of requests for one that reads nothing
    /// takes at most a tenth of its time.
    fn within(&mut self, serve: impl FnOnce(Duration)) {
        let is_short = self.lost_time.is_some_and(|at| at.elapsed() < 10 * UPDATE_PATIENCE);
        let begun = Instant::now();
        serve(if is_short { Duration::ZERO } else { UPDATE_PATIENCE });
        if begun.elapsed() >= UPDATE_PATIENCE {
            self.lost_time = Some(Instant::now());
        }
    }
}

/// The names of the whole tree, in the main process.
#[derive(Debug, Default)]
struct Names {
    all: HashMap<String, UntypedRef>,
    /// At how many names those of ended processes are removed.
    sweep_at: usize,
}

impl Names {
    /// Returns whether the name was free. Takes at most `most` names of other processes, because
    /// each of those costs a descriptor.
    fn register(&mut self, name: &str, actor: UntypedRef, most: usize) -> Result<bool, String> {
        if name.len() > NAME_MAX {
            return Err(format!("it is longer than {NAME_MAX} bytes"));
        }
        if self.all.len() >= self.sweep_at.min(most) {
            // A process that was killed did not free its names.
            self.all.retain(|_, actor| !actor.directory.is_orphan());
            self.sweep_at = (2 * self.all.len()).max(SWEEP_MIN);
        }
        if self.all.contains_key(name) {
            return Ok(false);
        }
        let remote = |actor: &&UntypedRef| actor.directory.is_remote();
        if remote(&&actor) && self.all.values().filter(remote).count() >= most {
            return Err(format!("other processes have {most} names, and descriptors are short"));
        }
        self.all.insert(name.to_owned(), actor);
        Ok(true)
    }
}

/// Sends the status of an actor whose record is gone, because it has been down for long.
fn send_forgotten(number: u64, client: u64, updates: &Sender<StatusUpdate>) {
    let update = StatusUpdate {
        key: ActorKey { host: own_process_number(), number },
        client,
        status: ActorStatus::Down { generation: 0, reason: DownReason::Normal },
        mailbox: None,
    };
    let _ = updates.try_send(update);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::channel;
    use crate::ipc::wire::{self, CheckedReceiver, Shape, WireHandle};

    fn desk() -> Desk {
        Desk { names: Names::default(), lost_time: None }
    }

    fn address(name: &str, directory: Producer<DirectoryRequest>) -> UntypedRef {
        let key = ActorKey { host: 1, number: 2 };
        UntypedRef { key, name: name.to_owned(), fingerprint: 3, directory }
    }

    #[test]
    fn who_does_not_hear_that_it_has_a_name_does_not_have_it() {
        let actor = address("name", Queue::unbounded().unwrap().producer());
        let mut desk = desk();
        let (done, heard) = channel().unwrap();
        drop(heard);
        desk.answer(DirectoryRequest::Register { name: actor.name.clone(), actor, done });
        assert!(desk.names.all.is_empty());
    }

    #[test]
    fn the_number_of_an_actor_leads_to_no_other_actor() {
        let (first, second) = (open_record("a", 1).unwrap(), open_record("b", 1).unwrap());
        let near = |record: &ActorRecord| {
            let number = record.key.number;
            (1..1000).filter(move |n| {
                find_record(number.wrapping_add(*n)).is_some()
                    || find_record(number.wrapping_sub(*n)).is_some()
            })
        };
        assert_eq!((near(&first).count(), near(&second).count()), (0, 0));
        remove_record(&first);
        remove_record(&second);
    }

    #[test]
    fn clients_that_read_no_answers_do_not_hold_up_others() {
        let mut desk = desk();
        let record = open_record("followed", 1).unwrap();
        let number = record.key.number;
        let (updates, _unread) = channel().unwrap();
        let (found, _unread_too) = channel().unwrap();
        let begun = Instant::now();
        for _ in 0..1000 {
            let (updates, found) = (updates.clone(), found.clone());
            desk.answer(DirectoryRequest::Find { name: "nobody".repeat(1000), found });
            desk.answer(DirectoryRequest::Subscribe { number, client: 7, updates, mailbox: true });
        }
        // Many that follow the actor.
        for client in 0..1000 {
            record.subscribe_remote(client, updates.clone(), false, Duration::ZERO);
        }
        remove_record(&record);
        // If each took 200 ms, it would be four times as much.
        assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    }

    /// Returns the directory of another process, which has ended when the receiver is dropped.
    fn remote() -> (Producer<DirectoryRequest>, CheckedReceiver<()>) {
        let queue = Queue::<DirectoryRequest>::unbounded().unwrap();
        let mut encoded = wire::encode(&queue.producer(), Shape::Own).unwrap();
        // A bit of the number of this process's hub.
        encoded.bytes[1] ^= 1;
        let (owner, end) = wire::channel::<()>().unwrap();
        let owner = wire::decode(&encoded.bytes, vec![WireHandle::Sender(owner.to())]);
        (owner.unwrap(), end)
    }

    #[test]
    fn names_of_a_process_are_limited_and_free_after_its_end() {
        let mut names = Names::default();
        let mut ends = Vec::new();
        let mut of_host = |name: &str| {
            let (directory, end) = remote();
            ends.push(end);
            address(name, directory)
        };
        for n in 0..10 {
            let name = format!("name {n}");
            assert_eq!(names.register(&name, of_host(&name), 10), Ok(true));
        }
        assert_eq!(names.register("name 0", of_host("name 0"), 10), Ok(false));
        names.register("one more", of_host("one more"), 10).unwrap_err();
        let mine = || address("mine", Queue::unbounded().unwrap().producer());
        assert_eq!(names.register("mine", mine(), 10), Ok(true), "it costs no descriptor");
        names.register(&"long".repeat(NAME_MAX), mine(), 10).unwrap_err();
        ends.clear();
        assert_eq!(names.register("name 0", mine(), 10), Ok(true));
        assert_eq!(names.all.len(), 2, "its names are free");
    }
}
