//! The directory of a host. Other processes use it to subscribe to its actors, to ask it to stop
//! one, and to look up names.
//!
//! One queue and one thread serve all actors of the process. The thread runs no user code, and
//! waits for no client longer than an update may take.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::actor::host::record::ActorRecord;
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
const REPLY_PATIENCE: Duration = Duration::from_millis(200);

static IS_OPEN: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Default)]
struct Records {
    next: u64,
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
    let number = {
        let mut records = lock(records());
        records.next += 1;
        records.next
    };
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
    let mut names = HashMap::new();
    loop {
        match requests.get() {
            Ok(request) => answer(request, &mut names),
            Err(GetError::Decode(error)) => diagnostics::error(
                "offspring::actor",
                format_args!("skipping a request that does not decode: {error}"),
            ),
            // The program ends.
            Err(_) => return,
        }
    }
}

fn answer(request: DirectoryRequest, names: &mut HashMap<String, UntypedRef>) {
    match request {
        DirectoryRequest::Subscribe { number, client, updates, mailbox } => {
            match find_record(number) {
                Some(record) => record.subscribe_remote(client, updates, mailbox),
                None => send_forgotten(number, &updates),
            }
        }
        DirectoryRequest::Stop { number } => {
            if let Some(record) = find_record(number) {
                record.request_stop_briefly();
            }
        }
        DirectoryRequest::Register { name, actor, done } => {
            let free = !names.contains_key(&name);
            if free {
                names.insert(name.clone(), actor);
            }
            // A process that does not learn that it has the name must not keep it.
            if done.send_timeout(free, REPLY_PATIENCE).is_err() && free {
                names.remove(&name);
            }
        }
        DirectoryRequest::IsDown { number, answer } => {
            let is_down = find_record(number).is_none_or(|record| record.is_down());
            let _ = answer.send_timeout(is_down, REPLY_PATIENCE);
        }
        DirectoryRequest::Unregister { name, key } => {
            if names.get(&name).is_some_and(|actor| actor.key == key) {
                names.remove(&name);
            }
        }
        DirectoryRequest::Find { name, found } => {
            let _ = found.send_timeout(names.get(&name).cloned(), REPLY_PATIENCE);
        }
    }
}

/// Sends the status of an actor whose record is gone, because it has been down for long.
fn send_forgotten(number: u64, updates: &Sender<StatusUpdate>) {
    let update = StatusUpdate {
        key: ActorKey { host: own_process_number(), number },
        status: ActorStatus::Down { generation: 0, reason: DownReason::Normal },
        mailbox: None,
    };
    let _ = updates.send_timeout(update, REPLY_PATIENCE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::channel;

    #[test]
    fn who_does_not_hear_that_it_has_a_name_does_not_have_it() {
        let key = ActorKey { host: 1, number: 2 };
        let actor = UntypedRef {
            key,
            name: "name".to_owned(),
            fingerprint: 3,
            directory: Queue::unbounded().unwrap().producer(),
        };
        let mut names = HashMap::new();
        let (done, heard) = channel().unwrap();
        drop(heard);
        let request = DirectoryRequest::Register { name: actor.name.clone(), actor, done };
        answer(request, &mut names);
        assert!(names.is_empty());
    }
}
