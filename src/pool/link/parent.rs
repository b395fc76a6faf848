//! The parent's end of a link: it pushes tasks and drains replies.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{
    ASLEEP, PARCEL_BIT, PARCEL_INLINE, PARCELS_MAX, PARCELS_TAKEN, PARENT_SLEEPS, POLLING, QUIT,
    REGION_BYTES, REPLIES_RING, TRACED_BIT, ToParent, ToWorker, WORKER_SLEEPS, tag,
};
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::doorbell::claim;
use crate::ipc::hub;
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::region::{Memory, Region};
use crate::ipc::ring::{self, CAPACITY, Corrupt, RingConsumer, RingProducer};
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, Envelope, Failure};
use crate::process::TaskFailure;
use crate::sys::lock;

/// How often `tend` is called while this process has no descriptors for a parcel.
const TEND_EVERY: Duration = Duration::from_millis(20);

/// Any thread may push tasks; one thread, the worker's monitor, waits and drains.
#[derive(Debug)]
pub(crate) struct ParentEnd {
    region: Arc<Region>,
    tasks: Mutex<RingProducer>,
    replies: Mutex<RingConsumer>,
    receiver: SharedReceiver<ToParent>,
    to_worker: CheckedSender<ToWorker>,
    to_self: CheckedSender<ToParent>,
    parcels: Mutex<VecDeque<Envelope>>,
    /// The value of [`PARENT_SLEEPS`] while the monitor waits.
    sleep_mode: AtomicU64,
    interrupted: AtomicBool,
    /// True if an unread interrupt is in the channel: one is enough.
    interrupt_unread: AtomicBool,
    ended: AtomicBool,
    /// True if the worker wrote something invalid into the ring of tasks.
    corrupt: AtomicBool,
}

/// Replies as they were drained, in the order of their tasks.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    bytes: Vec<u8>,
    parcels: VecDeque<Envelope>,
}

/// A worker's reply about one task.
#[derive(Debug)]
pub(crate) enum Reply<'a> {
    Output(&'a [u8]),
    Parcel(Envelope),
    Failed(TaskFailure),
    /// The task has begun. Written only for a task that came as a parcel; the task's result
    /// follows.
    Begun,
}

/// Returns the ring's tag for tasks of this worker type.
fn task_tag(number: u32) -> u32 {
    assert!(number & !TRACED_BIT < QUIT, "a program has fewer than {QUIT} workers");
    number
}

impl ParentEnd {
    pub(in crate::pool::link) fn new(
        to_worker: CheckedSender<ToWorker>,
        receiver: CheckedReceiver<ToParent>,
        to_self: CheckedSender<ToParent>,
    ) -> io::Result<ParentEnd> {
        let region = Arc::new(Region::new(REGION_BYTES)?);
        Ok(ParentEnd {
            tasks: Mutex::new(RingProducer::new(region.clone(), 0)),
            replies: Mutex::new(RingConsumer::new(region.clone(), REPLIES_RING)),
            region,
            receiver: SharedReceiver::new(receiver),
            to_worker,
            to_self,
            parcels: Mutex::new(VecDeque::new()),
            sleep_mode: AtomicU64::new(ASLEEP),
            interrupted: AtomicBool::new(false),
            interrupt_unread: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
        })
    }

    pub(in crate::pool::link) fn memory(&self) -> Memory {
        self.region.memory()
    }

    /// Writes tasks while there is room. Returns the position of the first one, and how many were
    /// written. `number` is that of the worker type, with [`TRACED_BIT`] if an origin follows each
    /// value. The caller [rings](ParentEnd::ring) afterwards.
    pub(crate) fn push<'a>(
        &self,
        number: u32,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> (u64, u64) {
        let tag = task_tag(number);
        let mut tasks = lock(&self.tasks);
        let position = tasks.position();
        let mut write = |value| self.checked(tasks.write(tag, value)).unwrap_or(false);
        let count = values.take_while(|value| write(value)).count();
        tasks.publish();
        (position, count as u64)
    }

    /// Sends a task as a parcel, and returns its position; `None` if the worker is gone. Only for
    /// an idle worker, whose channel and ring are empty, so this does not block. The caller
    /// [rings](ParentEnd::ring) afterwards.
    pub(crate) fn push_parcel(
        &self,
        number: u32,
        envelope: Envelope,
        origin: &[u8],
    ) -> io::Result<Option<u64>> {
        let tag = task_tag(number) | PARCEL_BIT;
        let envelope = envelope.with_inline_limit(PARCEL_INLINE)?;
        // The parcel first, so that a worker that sees the entry finds the parcel in its channel.
        match wire::send(&self.to_worker, &ToWorker::Parcel(envelope)) {
            Ok(()) => {}
            Err(Failure::Gone) => return Ok(None),
            Err(failure) => return Err(io::Error::other(format!("{failure:?}"))),
        }
        let mut tasks = lock(&self.tasks);
        let position = tasks.position();
        // An idle worker's ring has room unless it is corrupt.
        Ok(matches!(self.checked(tasks.push(tag, origin)), Ok(true)).then_some(position))
    }

    /// Makes the worker end once it has taken all tasks before this. The caller rings afterwards.
    pub(crate) fn quit(&self) {
        // An idle worker's ring has room unless it is corrupt.
        let _ = self.checked(lock(&self.tasks).push(QUIT, &[]));
    }

    /// Wakes the worker if it sleeps.
    pub(crate) fn ring(&self) {
        if claim(self.region.atomic(WORKER_SLEEPS)) {
            // A failure means that the worker is dead. Its monitor learns that from the process.
            let _ = hub::ring(&self.to_worker, ToWorker::Bell);
        }
    }

    /// Returns whether the task at this position has begun.
    pub(crate) fn is_begun(&self, position: u64) -> bool {
        let mut tasks = lock(&self.tasks);
        self.checked(tasks.look()).is_ok() && tasks.is_taken(position)
    }

    /// Takes back all tasks that have not begun. Returns how many of `positions`, which must be in
    /// the order of the ring, have begun.
    pub(crate) fn recall(&self, positions: impl Iterator<Item = u64>) -> Result<u64, Corrupt> {
        let taken_to = self.checked(lock(&self.tasks).recall())?;
        let begun = positions.filter(|&position| !ring::is_at_or_behind(position, taken_to));
        Ok(begun.count() as u64)
    }

    /// A corrupt ring takes no task, and does not show which tasks have begun. So this wakes the
    /// monitor, which finds out that the ring is corrupt when it drains.
    #[inline]
    fn checked<R>(&self, result: Result<R, Corrupt>) -> Result<R, Corrupt> {
        if result.is_err() && !self.corrupt.swap(true, Ordering::SeqCst) {
            self.interrupt();
        }
        result
    }

    /// Blocks until there are replies, an [interrupt](ParentEnd::interrupt) or the worker's end. In
    /// poll mode, blocks until there are many replies, or the worker is out of tasks. Blocks until
    /// `deadline` at most.
    pub(crate) fn wait(&self, poll_mode: bool, deadline: Option<Instant>) {
        let sleep_mode = if poll_mode { POLLING } else { ASLEEP };
        self.sleep_mode.store(sleep_mode, Ordering::Relaxed);
        let _ = self
            .receiver
            .wait(self, &Deadline::from(deadline), || self.is_due(poll_mode).then_some(()));
        self.interrupted.store(false, Ordering::SeqCst);
    }

    fn is_due(&self, poll_mode: bool) -> bool {
        if self.interrupted.load(Ordering::SeqCst) || self.has_ended() {
            return true;
        }
        let waiting = lock(&self.replies).waiting();
        let idle = || self.region.atomic(WORKER_SLEEPS).load(Ordering::SeqCst) == 1;
        waiting > 0 && (!poll_mode || waiting >= CAPACITY as u64 / 4 || idle())
    }

    /// Takes all replies that have arrived. While this process has no descriptors for a parcel,
    /// calls `tend` from time to time.
    pub(crate) fn drain(
        &self,
        replies: &mut Replies,
        tend: &mut dyn FnMut(),
    ) -> Result<(), Corrupt> {
        replies.parcels.clear();
        if self.corrupt.load(Ordering::SeqCst) {
            return Err(Corrupt);
        }
        lock(&self.replies).take_all(&mut replies.bytes)?;
        let wanted = ring::entries(&replies.bytes)
            .filter(|entry| matches!(entry, Ok((tag::PARCEL, _))))
            .count();
        for _ in 0..wanted {
            replies.parcels.push_back(self.next_parcel(tend).ok_or(Corrupt)?);
            self.region.atomic(PARCELS_TAKEN).fetch_add(1, Ordering::SeqCst);
        }
        if !replies.bytes.is_empty() {
            // The worker may be waiting for room.
            self.ring();
        }
        Ok(())
    }

    /// Returns the next parcel. The worker sends it before it writes the entry, so it has arrived,
    /// unless the worker violates the protocol. While this process has no descriptors for it, this
    /// waits.
    fn next_parcel(&self, tend: &mut dyn FnMut()) -> Option<Envelope> {
        let next = || lock(&self.parcels).pop_front();
        let mut until = Some(Instant::now());
        loop {
            match self.receiver.wait(self, &Deadline::from(until), next) {
                Ok(parcel) => return Some(parcel),
                // The parcel has arrived, but stays in the socket because there are no descriptors
                // for it.
                Err(WaitEnd::Timeout(_)) if self.receiver.has_packet() => {}
                Err(_) => return None,
            }
            tend();
            until = Some(Instant::now() + TEND_EVERY);
        }
    }

    /// Makes [`wait`](ParentEnd::wait) return.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        if !self.interrupt_unread.swap(true, Ordering::SeqCst) {
            let sent = wire::send(&self.to_self, &ToParent::Interrupt);
            // The worker has filled the channel, so there is already something to read.
            if sent.is_err() {
                self.interrupt_unread.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Records that the worker's process has ended, and interrupts the wait.
    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.interrupt();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

impl SleepFlag<ToParent> for ParentEnd {
    fn arm(&self) {
        let sleep_mode = self.sleep_mode.load(Ordering::Relaxed);
        self.region.atomic(PARENT_SLEEPS).store(sleep_mode, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn disarm(&self) -> usize {
        usize::from(self.region.atomic(PARENT_SLEEPS).swap(0, Ordering::Relaxed) == 0)
    }

    fn message(&self, message: ToParent) -> bool {
        match message {
            ToParent::Bell => return true,
            ToParent::Parcel(envelope) => {
                let mut parcels = lock(&self.parcels);
                // If a worker sends more parcels than it may, the surplus is dropped, and found
                // missing when its entry is read.
                if (parcels.len() as u64) < PARCELS_MAX {
                    parcels.push_back(envelope);
                }
            }
            ToParent::Interrupt => self.interrupt_unread.store(false, Ordering::SeqCst),
        }
        false
    }
}

impl Replies {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many tasks have ended, and whether a [`Reply::Begun`] is among the replies.
    pub(crate) fn count(&self) -> Result<(u64, bool), Corrupt> {
        let (mut ended, mut begun) = (0, false);
        for entry in ring::entries(&self.bytes) {
            match entry?.0 {
                tag::BEGUN => begun = true,
                _ => ended += 1,
            }
        }
        Ok((ended, begun))
    }

    /// Calls `each` for every reply. A reply that no correct worker writes is passed on as a
    /// failure, and makes the call return an error at the end.
    pub(crate) fn for_each(&mut self, mut each: impl FnMut(Reply<'_>)) -> Result<(), Corrupt> {
        let mut sound = Ok(());
        for entry in ring::entries(&self.bytes) {
            let (tag, payload) = entry?;
            let reply = match tag {
                tag::OUTPUT => Some(Reply::Output(payload)),
                tag::PARCEL => self.parcels.pop_front().map(Reply::Parcel),
                tag::FAILED => wire::decode(payload, Vec::new()).ok().map(Reply::Failed),
                tag::BEGUN => Some(Reply::Begun),
                _ => None,
            };
            each(reply.unwrap_or_else(|| {
                sound = Err(Corrupt);
                Reply::Failed(TaskFailure::BadOutput(
                    "its process wrote a corrupt reply".to_owned(),
                ))
            }));
        }
        sound
    }
}
