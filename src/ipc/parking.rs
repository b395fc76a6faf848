//! Parking: how threads sleep until another process writes into shared memory.
//!
//! A [`SharedReceiver`] is the receiving end of an ipc-channel that carries doorbells, and a few
//! other messages. All threads of this process that wait for one peer share it, and it has no
//! thread of its own. One of the waiting threads is the *leader*: it sleeps in the receive call,
//! and the *followers* sleep on a condition variable. When a doorbell arrives, the leader steps
//! down and wakes the followers. Each of them checks its own condition, and the first one that
//! still has to wait becomes the next leader.
//!
//! A task, or a thread that waits for several sources at once, cannot sleep in one receive call. It
//! leaves a waker (see [`reactor`](crate::ipc::reactor)). If a thread leads, that thread will wake
//! it too. If none does, it *arms* the receiver: it sets this side's sleep flag, and has the
//! reactor wait for the socket.
//!
//! So a receiver is in one of three states:
//!
//! | state | who notices what the peer writes | what ends the state |
//! | --- | --- | --- |
//! | free | no thread, and none waits | a thread waits: led; a waker is left: armed |
//! | led | the leader, which sleeps in the receive call | the leader steps down: free, and all are woken |
//! | armed | the reactor, which polls the socket once | a packet: the wakers are woken; a thread waits: led |
//!
//! # Why no wake-up is lost
//!
//! The peer writes its data, and then rings if this side's flag is set. Every sleeper here relies
//! on a check that came *after* the flag was set. That check sees data that was written before, and
//! data that is written later is followed by a doorbell. The fences are those of
//! [`doorbell`](crate::ipc::doorbell); `tests/model` explores them.
//!
//! - The leader sets the flag while it holds `lead`, and checks its condition before it sleeps.
//! - A follower checks while it holds `lead` and `lead.taken` is true, so the flag is set. The
//!   leader clears the flag and `taken` under the same lock, and then notifies all followers. So a
//!   follower cannot go to sleep between these two.
//! - A task leaves its waker first, then makes sure under `lead` that a leader exists or the
//!   receiver is armed, and then checks. A leader that steps down in the meantime finds the waker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diagnostics;
use crate::failpoints;
use crate::ipc::deadline::{Deadline, TimeLimit, WaitEnd, Waited};
use crate::ipc::reactor::{Interest, WakerSet, WakerSlot};
use crate::ipc::spin::Spin;
use crate::ipc::wire::{CheckedReceiver, Failure};
use crate::sys::threads::{AtomicBool, Condvar, Mutex};
use crate::sys::{self, lock};

/// This side's sleep flags in shared memory, and what to do with its messages.
pub(crate) trait SleepFlag<M> {
    /// Sets the flag: from now on the peer rings. Ends with a full fence.
    fn arm(&self);

    /// Clears the flag. Returns how many doorbells were rung since [`arm`](SleepFlag::arm), or are
    /// about to be.
    fn disarm(&self) -> usize;

    /// Takes a message. Returns whether it was a doorbell.
    fn message(&self, message: M) -> bool;

    /// Called when a message was discarded, which may have kept others from being sent.
    fn malformed(&self) {}

    /// Returns `true` if some flags are set even while no thread waits. The receiver sees what
    /// those peers write only after it has read their doorbells. So a thread that polls must check
    /// for doorbells too.
    fn expects_doorbells(&self) -> bool {
        false
    }
}

/// The receiving end of a channel, shared by the threads and tasks of this process that wait for
/// its peer.
#[derive(Debug)]
pub(crate) struct SharedReceiver<M> {
    /// Declared first, so dropped first: the reactor must forget the socket before it is closed.
    wakers: ClosingWakers,
    messages: Mutex<CheckedReceiver<M>>,
    lead: Mutex<Lead>,
    /// Signaled when the leader steps down.
    changed: Condvar,
    gone: AtomicBool,
    spin: Spin,
}

/// The wakers of a receiver, closed when the receiver is dropped.
#[derive(Debug)]
struct ClosingWakers(Arc<WakerSet>);

impl Drop for ClosingWakers {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How long a receive call sleeps when this process is out of descriptors.
const STARVED: Duration = Duration::from_millis(10);

/// With this many unread doorbells, a leader reads them all before it sleeps. A socket holds some
/// hundreds.
const UNREAD_MAX: usize = 32;

#[derive(Debug, Default)]
struct Lead {
    /// Whether a thread leads.
    taken: bool,
    /// How many threads follow. Without any, notifying them would still cost a system call.
    followers: usize,
    /// Whether a waker was left with this side's flag set. Never true while a thread leads.
    armed: bool,
    /// Doorbells in the channel that have not been read. Some of them may never come, because a
    /// peer may die after it claimed the flag and before it rings. They must not pile up, or
    /// ringing would block.
    unread: usize,
}

impl<M: DeserializeOwned + Serialize + std::fmt::Debug> SharedReceiver<M> {
    pub(crate) fn new(messages: CheckedReceiver<M>) -> SharedReceiver<M> {
        sys::watch_forks();
        SharedReceiver {
            wakers: ClosingWakers(WakerSet::of(Some(messages.socket()))),
            messages: Mutex::new(messages),
            lead: Mutex::new(Lead::default()),
            changed: Condvar::new(),
            gone: AtomicBool::new(false),
            spin: Spin::new(),
        }
    }

    /// Returns whether the peer is known to be gone. In a fork of this process it always is: the
    /// peer belongs to the original.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst) || sys::is_fork()
    }

    /// Records that the peer is gone.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    /// Returns a second receiver for the channel, for the process that takes over.
    pub(crate) fn share(&self) -> io::Result<CheckedReceiver<()>> {
        Ok(lock(&self.messages).duplicate()?.to())
    }

    /// Clears the flag if a waker left it set, before another process takes over.
    pub(crate) fn disarm(&self, side: &impl SleepFlag<M>) {
        if std::mem::take(&mut lock(&self.lead).armed) {
            side.disarm();
        }
    }

    /// Wakes all wakers, so that their owners poll again.
    pub(crate) fn wake(&self) {
        self.wakers.0.wake();
    }

    /// Returns whether a packet is unread, or the channel is at its end.
    pub(crate) fn has_packet(&self) -> bool {
        self.wakers.0.has_packet()
    }

    /// Returns a slot to pass to [`poll`](SharedReceiver::poll).
    pub(crate) fn register(&self) -> io::Result<WakerSlot> {
        self.wakers.0.register()
    }

    /// Like [`wait`](SharedReceiver::wait), but never sleeps. If `ready` returns `None`, the waker
    /// of `interest` is woken when that may have changed.
    pub(crate) fn poll<R>(
        &self,
        side: &impl SleepFlag<M>,
        interest: Interest<'_>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Poll<Result<R, Failure>> {
        if let Some(result) = ready() {
            return Poll::Ready(Ok(result));
        }
        // The reactor reads nothing, so messages are taken here, on the thread that polls.
        if self.wakers.0.has_packet() {
            match self.wait(side, &Deadline::now(), &mut ready) {
                Ok(result) => return Poll::Ready(Ok(result)),
                Err(WaitEnd::Failed(failure)) => return Poll::Ready(Err(failure)),
                Err(WaitEnd::Timeout(_)) => {}
            }
        }
        let Some((slot, waker)) = interest else {
            return if self.is_gone() { Poll::Ready(Err(Failure::Gone)) } else { Poll::Pending };
        };
        // Set the waker before reading `taken`: a leader that steps down later then wakes it.
        if !failpoints::is_mutated("parking.late-waker") {
            slot.set(waker);
        }
        let mut lead = lock(&self.lead);
        if !lead.taken {
            if !lead.armed {
                lead.armed = true;
                side.arm();
            }
            self.wakers.0.arm();
        }
        drop(lead);
        if failpoints::is_mutated("parking.late-waker") {
            slot.set(waker);
        }
        if failpoints::is_mutated("parking.unchecked-waker") {
            return Poll::Pending;
        }
        // Check after the flag is set. This check sees what the peer wrote before, and a later
        // write rings.
        let outcome =
            ready().map(Ok).or_else(|| self.is_gone().then(|| ready().ok_or(Failure::Gone)));
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until `ready` returns a result.
    ///
    /// `ready` is called often, and under a lock, so it must be quick. When the peer is gone, it is
    /// called once more, because what the peer left still counts.
    pub(crate) fn wait<R, L: TimeLimit>(
        &self,
        side: &impl SleepFlag<M>,
        limit: &L,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Waited<R, Failure, L> {
        if let Some(result) = ready() {
            return Ok(result);
        }
        if let Some(result) = self.poll_for_a_while(side, limit, &mut ready) {
            return Ok(result);
        }
        let mut lead = lock(&self.lead);
        loop {
            if lead.taken {
                // Follow. Read the end and the time before the last check, so that the check still
                // sees what the peer wrote before either of them.
                let may_wait = match self.is_gone() {
                    true => Err(Failure::Gone.into()),
                    false => limit.check().map_err(WaitEnd::Timeout),
                };
                // The flag is set, and the leader cannot clear it while this thread holds `lead`.
                if let Some(result) = ready() {
                    return Ok(result);
                }
                may_wait?;
                lead.followers += 1;
                lead = sys::wait(&self.changed, lead, limit.deadline());
                lead.followers -= 1;
                continue;
            }
            lead.taken = true;
            if std::mem::take(&mut lead.armed) {
                // When this thread steps down, it wakes the wakers that had armed the receiver, and
                // they arm it again.
                lead.unread += side.disarm();
            }
            if lead.unread >= UNREAD_MAX {
                self.read_all(side);
                lead.unread = 0;
            }
            // Set the flag before the last check, so that a peer that writes in between rings.
            side.arm();
            failpoints::point("wait.armed");
            let unchecked = failpoints::is_mutated("parking.unchecked");
            let found = if unchecked { None } else { ready() };
            let mut outcome =
                found.map(Ok).or_else(|| self.is_gone().then(|| Err(Failure::Gone.into())));
            let mut rung = false;
            if outcome.is_none() {
                // Followers join while this thread sleeps, so it must not hold the lock.
                drop(lead);
                // Receive even after the deadline: messages that came in time are taken.
                let heard = self.receive(side, limit);
                failpoints::point("wait.woken");
                match heard {
                    Heard::Doorbell => rung = true,
                    Heard::Other => {}
                    Heard::Nothing(elapsed) => {
                        outcome = Some(ready().ok_or(WaitEnd::Timeout(elapsed)));
                    }
                    Heard::Starved => {
                        outcome = Some(ready().ok_or(Failure::Starved.into()));
                    }
                }
                lead = lock(&self.lead);
            }
            // Step down: clear the flag and `taken` under one lock, so that a follower never relies
            // on a flag that is clear, then wake all followers and wakers. The next leader is the
            // first thread that gets the lock and has to wait.
            lead.unread = (lead.unread + side.disarm()).saturating_sub(usize::from(rung));
            lead.taken = false;
            if lead.followers > 0 && !failpoints::is_mutated("parking.silent") {
                self.changed.notify_all();
            }
            // A waker runs an executor's code, which must not run under the lock.
            drop(lead);
            self.wakers.0.wake();
            if let Some(outcome) = outcome {
                return outcome;
            }
            lead = lock(&self.lead);
        }
    }

    /// Polls before it sleeps. Returns early, without a result, if a doorbell has to be read.
    fn poll_for_a_while<R>(
        &self,
        side: &impl SleepFlag<M>,
        limit: &impl TimeLimit,
        ready: &mut impl FnMut() -> Option<R>,
    ) -> Option<R> {
        /// The number of polls between two checks of the socket, which are system calls.
        const LOOK_EVERY: u32 = 8;

        let mut polls = 0;
        let mut poll = || {
            polls += 1;
            if let Some(result) = ready() {
                return Some(Some(result));
            }
            let is_rung =
                polls % LOOK_EVERY == 0 && side.expects_doorbells() && self.wakers.0.has_packet();
            is_rung.then_some(None)
        };
        self.spin.run(limit.deadline(), &mut poll).flatten()
    }

    /// Takes the messages that have arrived. If another thread leads, that thread takes them.
    pub(crate) fn hear(&self, side: &impl SleepFlag<M>) {
        if self.wakers.0.has_packet() {
            self.check(side);
        }
    }

    /// Checks whether the peer is gone, without waiting.
    ///
    /// For a side that only writes. If the reader died asleep, ringing it fails. But a reader that
    /// died awake has its flag clear, so the writer never rings it.
    pub(crate) fn check(&self, side: &impl SleepFlag<M>) -> bool {
        let checked = self.wait(side, &Deadline::now(), || None::<()>);
        matches!(checked, Err(WaitEnd::Failed(Failure::Gone)))
    }

    /// Takes all messages that are in the channel.
    fn read_all(&self, side: &impl SleepFlag<M>) {
        let now = Deadline::now();
        while !self.is_gone() && matches!(self.receive(side, &now), Heard::Doorbell | Heard::Other)
        {
        }
    }

    /// Sleeps until a message comes, and takes it.
    fn receive<L: TimeLimit>(&self, side: &impl SleepFlag<M>, limit: &L) -> Heard<L::Elapsed> {
        match lock(&self.messages).recv(limit) {
            Ok(message) => {
                if side.message(message) {
                    Heard::Doorbell
                } else {
                    Heard::Other
                }
            }
            Err(WaitEnd::Timeout(elapsed)) => Heard::Nothing(elapsed),
            Err(WaitEnd::Failed(Failure::Starved)) => {
                // No event reports that a descriptor is free again. The sleep keeps a caller that
                // retries from spinning.
                let left = limit
                    .deadline()
                    .map_or(STARVED, |deadline| deadline.saturating_duration_since(Instant::now()));
                std::thread::sleep(left.min(STARVED));
                Heard::Starved
            }
            // Many processes may write here, and it is unknown which of them wrote this message. It
            // must not silence the others, nor hold this call beyond its deadline.
            Err(WaitEnd::Failed(Failure::Io(error)))
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                diagnostics::error(
                    "offspring::parking",
                    format_args!("discarded a malformed message: {error}"),
                );
                side.malformed();
                match limit.check() {
                    Ok(()) => Heard::Other,
                    Err(elapsed) => Heard::Nothing(elapsed),
                }
            }
            Err(WaitEnd::Failed(Failure::Gone | Failure::Full | Failure::Io(_))) => {
                self.set_gone();
                Heard::Other
            }
        }
    }
}

/// How a receive call ended.
enum Heard<E> {
    Doorbell,
    /// Another message, or the end of the peer.
    Other,
    /// No message came before the deadline.
    Nothing(E),
    /// A message has arrived, but this process has no descriptors for it.
    Starved,
}
