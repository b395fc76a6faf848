//! The worker's end of a link: takes tasks and writes replies.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ASLEEP, PARCEL_BIT, PARCEL_INLINE, PARCELS_MAX, PARCELS_TAKEN, PARENT_SLEEPS, POLLING, QUIT,
    REGION_BYTES, REPLIES_RING, TRACED_BIT, ToParent, ToWorker, WORKER_SLEEPS, tag,
};
use crate::ipc::deadline::{Forever, WaitEnd};
use crate::ipc::hub;
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::region::{Memory, Region};
use crate::ipc::ring::{self, Corrupt, RingConsumer, RingProducer};
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{
    self, CheckedReceiver, CheckedSender, EncodedValue, Envelope, Failure, Shape, SideData,
    WireHandle,
};
use crate::process::TaskFailure;
use crate::sys::lock;
use crate::trace::ORIGIN_BYTES;

/// The worker's end on its way: it travels to the process in a value, and is
/// [opened](WorkerEnd::open) there.
#[derive(Debug)]
pub(crate) struct WorkerEnd {
    parts: Mutex<Option<WorkerEndParts>>,
}

#[derive(Debug)]
struct WorkerEndParts {
    memory: Memory,
    receiver: CheckedReceiver<ToWorker>,
    to_parent: CheckedSender<ToParent>,
}

/// A task that this process has begun.
#[derive(Debug)]
pub(crate) struct NextTask {
    /// The number of its worker type.
    pub(crate) number: u32,
    bytes: SmallBytes,
    /// The value, if it came as a parcel and not as bytes.
    pub(crate) parcel: Option<Envelope>,
    /// The span that it was submitted in.
    pub(crate) origin: Option<[u8; ORIGIN_BYTES]>,
}

impl NextTask {
    fn new(tag: u32, bytes: SmallBytes, parcel: Option<Envelope>) -> NextTask {
        let is_traced = tag & TRACED_BIT != 0;
        let origin = is_traced.then(|| bytes.as_slice().last_chunk().copied()).flatten();
        NextTask { number: tag & !(TRACED_BIT | PARCEL_BIT), bytes, parcel, origin }
    }

    /// The encoded value.
    pub(crate) fn value(&self) -> &[u8] {
        let bytes = self.bytes.as_slice();
        &bytes[..bytes.len() - self.origin.map_or(0, |origin| origin.len())]
    }
}

/// The open end, in the worker process.
#[derive(Debug)]
pub(crate) struct Executor {
    tasks: RingConsumer,
    replies: RingProducer,
    parcels_sent: u64,
    /// Bytes of replies written since a polling parent was last rung.
    unannounced: usize,
    channel: WorkerChannel,
}

#[derive(Debug)]
struct WorkerChannel {
    region: Arc<Region>,
    receiver: SharedReceiver<ToWorker>,
    to_parent: CheckedSender<ToParent>,
    parcels: Mutex<VecDeque<Envelope>>,
}

/// A polling parent is rung after this many bytes of replies.
const POLL_BYTES: usize = 32 << 10;

impl WorkerEnd {
    pub(in crate::pool::link) fn new(
        memory: Memory,
        receiver: CheckedReceiver<ToWorker>,
        to_parent: CheckedSender<ToParent>,
    ) -> WorkerEnd {
        let parts = Some(WorkerEndParts { memory, receiver, to_parent });
        WorkerEnd { parts: Mutex::new(parts) }
    }

    /// Returns `None` if it was opened or sent before, or is corrupt.
    pub(crate) fn open(&self) -> Option<Executor> {
        let parts = lock(&self.parts).take()?;
        let region = Arc::new(parts.memory.map_within(REGION_BYTES..=REGION_BYTES).ok()?);
        Some(Executor {
            tasks: RingConsumer::new(region.clone(), 0),
            replies: RingProducer::new(region.clone(), REPLIES_RING),
            parcels_sent: 0,
            unannounced: 0,
            channel: WorkerChannel {
                region,
                receiver: SharedReceiver::new(parts.receiver),
                to_parent: parts.to_parent,
                parcels: Mutex::new(VecDeque::new()),
            },
        })
    }
}

impl SleepFlag<ToWorker> for WorkerChannel {
    fn arm(&self) {
        self.region.atomic(WORKER_SLEEPS).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // A polling parent expects more replies, but for now no more follow. The flag comes first:
        // the parent that this wakes checks it, and must find that the worker is idle.
        self.ring_if(POLLING);
    }

    fn disarm(&self) -> usize {
        usize::from(self.region.atomic(WORKER_SLEEPS).swap(0, Ordering::Relaxed) == 0)
    }

    fn message(&self, message: ToWorker) -> bool {
        match message {
            ToWorker::Bell => true,
            ToWorker::Parcel(envelope) => {
                lock(&self.parcels).push_back(envelope);
                false
            }
        }
    }
}

impl WorkerChannel {
    /// Waits until `ready` returns a result. Returns `None` if the parent is gone.
    fn wait<R>(&self, mut ready: impl FnMut() -> Option<R>) -> Option<R> {
        loop {
            match self.receiver.wait(self, &Forever, &mut ready) {
                Ok(result) => return Some(result),
                // The parcel stays until tasks have closed some descriptors.
                Err(WaitEnd::Failed(Failure::Starved)) => {}
                Err(_) => return None,
            }
        }
    }

    /// Rings the parent if it sleeps in this mode.
    fn ring_if(&self, sleep_mode: u64) {
        let flag = self.region.atomic(PARENT_SLEEPS);
        if flag.load(Ordering::SeqCst) == sleep_mode
            && flag.compare_exchange(sleep_mode, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        {
            // If the parent is gone, this process is about to be killed.
            let _ = hub::ring(&self.to_parent, ToParent::Bell);
        }
    }
}

impl Executor {
    /// Begins the next task; blocks until there is one. Returns `None` when the process must end.
    pub(crate) fn next(&mut self) -> Option<NextTask> {
        let (tasks, channel) = (&mut self.tasks, &self.channel);
        let mut begin = || begin(tasks, channel).transpose();
        // Usually there is one, so a wait need not be set up.
        let begun = begin().map_or_else(|| channel.wait(begin), Some)?;
        let (tag, bytes) = begun.ok().filter(|&(tag, _)| tag != QUIT)?;
        if tag & PARCEL_BIT == 0 {
            return Some(NextTask::new(tag, bytes, None));
        }
        let parcel = lock(&channel.parcels).pop_front();
        self.push(tag::BEGUN, &[]);
        Some(NextTask::new(tag, bytes, parcel))
    }

    /// Writes the output of the task that was begun last.
    pub(crate) fn reply(&mut self, output: &[u8], mut side: SideData) {
        if side.is_empty() && output.len() <= ring::ENTRY_MAX {
            return self.push(tag::OUTPUT, output);
        }
        let encoded = EncodedValue { bytes: output.to_vec(), handles: side.take_handles() };
        let sent = Envelope::new(encoded).and_then(|envelope| self.send_parcel(envelope));
        match sent {
            Ok(()) => self.push(tag::PARCEL, &[]),
            Err(error) => self
                .reply_failure(&TaskFailure::BadOutput(format!("it could not be sent: {error}"))),
        }
    }

    /// Writes why that task has no output.
    pub(crate) fn reply_failure(&mut self, failure: &TaskFailure) {
        let mut bytes = Vec::new();
        let fits = wire::encode_into(failure, Shape::Own, &mut bytes).is_ok()
            && bytes.len() <= ring::ENTRY_MAX;
        if !fits {
            bytes.clear();
            let short =
                TaskFailure::BadOutput("the report of what went wrong is too long".to_owned());
            let _ = wire::encode_into(&short, Shape::Own, &mut bytes);
        }
        self.push(tag::FAILED, &bytes);
    }

    fn send_parcel(&mut self, envelope: Envelope) -> io::Result<()> {
        let envelope = envelope.with_inline_limit(PARCEL_INLINE)?;
        let (channel, sent) = (&self.channel, self.parcels_sent);
        let has_room = || {
            let taken = channel.region.atomic(PARCELS_TAKEN).load(Ordering::SeqCst);
            (sent.saturating_sub(taken) < PARCELS_MAX).then_some(())
        };
        // If the parent is gone, this process is about to be killed.
        let _ = channel.receiver.wait(channel, &Forever, has_room);
        wire::send(&channel.to_parent, &ToParent::Parcel(envelope))
            .map_err(|failure| io::Error::other(format!("{failure:?}")))?;
        self.parcels_sent += 1;
        Ok(())
    }

    fn push(&mut self, tag: u32, payload: &[u8]) {
        let (replies, channel) = (&mut self.replies, &self.channel);
        let mut push = || replies.push(tag, payload).map(|pushed| pushed.then_some(())).transpose();
        if push().is_none() {
            let _ = channel.receiver.wait(channel, &Forever, push);
        }
        channel.ring_if(ASLEEP);
        self.unannounced += payload.len() + 16;
        if self.unannounced >= POLL_BYTES {
            self.unannounced = 0;
            channel.ring_if(POLLING);
        }
    }
}

/// Takes the next task if it is complete: a parcel's entry stays until its parcel has arrived.
fn begin(
    tasks: &mut RingConsumer,
    channel: &WorkerChannel,
) -> Result<Option<(u32, SmallBytes)>, Corrupt> {
    while let Some(front) = tasks.front()? {
        if front.tag & PARCEL_BIT != 0 && lock(&channel.parcels).is_empty() {
            return Ok(None);
        }
        // Read, then take. If the task was recalled in between, taking it fails, and what was read,
        // which may have been overwritten by then, is discarded.
        let bytes = tasks.read(&front);
        if tasks.take(&front) {
            return Ok(Some((front.tag, bytes)));
        }
    }
    Ok(None)
}

/// The end as it is written into a value.
#[derive(Serialize, Deserialize)]
struct Token {
    memory: u32,
    receiver: u32,
    to_parent: u32,
}

impl Serialize for WorkerEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = lock(&self.parts).take();
        let parts = parts
            .ok_or_else(|| wire::explain::<S::Error>("a worker's end of a link was sent before"))?;
        let note = |handle| wire::note(handle).map_err(wire::explain::<S::Error>);
        let token = Token {
            memory: note(WireHandle::Memory(parts.memory))?,
            receiver: note(WireHandle::Receiver(parts.receiver.to()))?,
            to_parent: note(WireHandle::Sender(parts.to_parent.to()))?,
        };
        token.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WorkerEnd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = Token::deserialize(deserializer)?;
        let claim = |index| wire::claim(index).map_err(wire::explain_de::<D::Error>);
        match (claim(token.memory)?, claim(token.receiver)?, claim(token.to_parent)?) {
            (
                WireHandle::Memory(memory),
                WireHandle::Receiver(receiver),
                WireHandle::Sender(to_parent),
            ) => Ok(WorkerEnd::new(memory, receiver.to(), to_parent.to())),
            _ => Err(wire::explain_de("a worker's end of a link came with other handles")),
        }
    }
}
