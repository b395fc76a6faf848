//! Waiting for what another process writes into shared memory.
//!
//! A line is the receiving end of an ipc-channel that carries doorbells (and a few other messages), shared
//! by the threads of a process that wait for what the other side writes. There is no thread of its own.
//! One of those that wait, the *leader*, sleeps in the receive call; the others sleep on a condition
//! variable. A doorbell wakes the leader, and it wakes the others: each looks whether what it waits for
//! is there. A leader that leaves wakes the others too, and the first that has to wait on leads.
//!
//! No wake-up is lost: a thread waits as a follower only if it looked while there was a leader, and a
//! leader says that this side sleeps before anybody can look.
//!
//! Who waits for many things at once, or without a thread, is a *waiter* (see [`watch`](crate::ipc::reactor)): a follower
//! that is woken by its waker. Where no thread leads, it leaves the line armed, this side's flag as well as the watch
//! on the socket, and goes. The watch reads nothing: the waiter hears the line out when it looks again. A thread that
//! takes the lead takes over what was armed, and wakes the waiters when it leaves: they look, and arm it again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcReceiver, OpaqueIpcReceiver};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failpoints;
use crate::ipc::deadline::{Deadline, TimeLimit, WaitEnd, Waited};
use crate::ipc::reactor::{Interest, WakerSet, WakerSlot};
use crate::ipc::wire::{CheckedReceiver, Failure};
use crate::sys::{self, lock};

/// What a line has to know of its user.
pub(crate) trait SleepFlag<M> {
    /// Says to the other side, in shared memory, that this one sleeps; then a full fence.
    fn arm(&self);

    /// Says that it is awake. How many have rung, or are about to, since it was armed.
    fn disarm(&self) -> usize;

    /// A message came; whether it was a doorbell.
    fn message(&self, message: M) -> bool;
}

#[derive(Debug)]
pub(crate) struct SharedReceiver<M> {
    /// First, so that the watch ends before its socket is closed.
    waiters: Watch,
    messages: Mutex<CheckedReceiver<M>>,
    lead: Mutex<Lead>,
    changed: Condvar,
    gone: AtomicBool,
    spin: Spin,
}

/// Closes with the line.
#[derive(Debug)]
struct Watch(Arc<WakerSet>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A wait without descriptors ends after so long.
const STARVED: Duration = Duration::from_millis(10);

/// So many doorbells may lie unread; some hundred fit.
const UNREAD_MAX: usize = 32;

#[derive(Debug, Default)]
struct Lead {
    /// Whether a thread leads.
    taken: bool,
    /// Whether a waiter left this side's flag set; nobody leads then.
    armed: bool,
    /// Doorbells that were rung, or claimed by somebody who may have died before ringing, and not read. Unread
    /// ones must not pile up: then ringing would block.
    unread: usize,
}

impl<M: DeserializeOwned + Serialize + std::fmt::Debug> SharedReceiver<M> {
    pub(crate) fn new(messages: IpcReceiver<M>) -> SharedReceiver<M> {
        let messages = CheckedReceiver::new(messages);
        SharedReceiver {
            waiters: Watch(WakerSet::of(messages.socket())),
            messages: Mutex::new(messages),
            lead: Mutex::new(Lead::default()),
            changed: Condvar::new(),
            gone: AtomicBool::new(false),
            spin: Spin::new(),
        }
    }

    /// Whether the other side is known to be gone.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Somebody found out that the other side is gone.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    /// A second descriptor for its channel, for another process that goes on with it.
    pub(crate) fn share(&self) -> io::Result<OpaqueIpcReceiver> {
        lock(&self.messages).share()
    }

    /// Takes back what waiters left armed, before another process goes on.
    pub(crate) fn disarm(&self, side: &impl SleepFlag<M>) {
        if std::mem::take(&mut lock(&self.lead).armed) {
            side.disarm();
        }
    }

    /// Has the waiters look again.
    pub(crate) fn wake(&self) {
        self.waiters.0.wake();
    }

    /// A seat for [`poll`](SharedReceiver::poll).
    pub(crate) fn register(&self) -> io::Result<WakerSlot> {
        self.waiters.0.register()
    }

    /// As [`wait`](SharedReceiver::wait), but does not sleep: if `ready` gives nothing, the waker on the seat is woken when that may
    /// change.
    pub(crate) fn poll<R>(
        &self,
        side: &impl SleepFlag<M>,
        seat: Interest<'_>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Poll<Result<R, Failure>> {
        if let Some(result) = ready() {
            return Poll::Ready(Ok(result));
        }
        if self.waiters.0.is_rung() {
            match self.wait(side, &Deadline::now(), &mut ready) {
                Ok(result) => return Poll::Ready(Ok(result)),
                Err(WaitEnd::Failed(failure)) => return Poll::Ready(Err(failure)),
                Err(WaitEnd::Timeout(_)) => {}
            }
        }
        let Some((waiter, waker)) = seat else {
            return if self.is_gone() {
                Poll::Ready(Err(Failure::Gone))
            } else {
                Poll::Pending
            };
        };
        let mut lead = lock(&self.lead);
        waiter.set(waker);
        // A thread that leads wakes the waiters when it leaves.
        if !lead.taken {
            if !lead.armed {
                lead.armed = true;
                side.arm();
            }
            self.waiters.0.arm();
        }
        drop(lead);
        let outcome = ready()
            .map(Ok)
            .or_else(|| self.is_gone().then(|| ready().ok_or(Failure::Gone)));
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until `ready` gives something. It is called often, and must be quick. When the other side is
    /// gone, `ready` is asked once more: what it left behind counts.
    pub(crate) fn wait<R, L: TimeLimit>(
        &self,
        side: &impl SleepFlag<M>,
        limit: &L,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Waited<R, Failure, L> {
        if let Some(result) = ready() {
            return Ok(result);
        }
        if let Some(result) = self.spin.run(limit.deadline(), &mut ready) {
            return Ok(result);
        }
        let mut lead = lock(&self.lead);
        loop {
            if lead.taken {
                let may_wait = match self.is_gone() {
                    true => Err(Failure::Gone.into()),
                    false => limit.check().map_err(WaitEnd::Timeout),
                };
                // There is a leader, so a change after this look is told.
                if let Some(result) = ready() {
                    return Ok(result);
                }
                may_wait?;
                lead = sys::wait(&self.changed, lead, limit.deadline());
                continue;
            }
            lead.taken = true;
            if std::mem::take(&mut lead.armed) {
                lead.unread += side.disarm();
            }
            if lead.unread >= UNREAD_MAX {
                let now = Deadline::now();
                while !self.is_gone()
                    && matches!(self.receive(side, &now), Heard::Bell | Heard::Other)
                {
                }
                lead.unread = 0;
            }
            side.arm();
            failpoints::point("wait.armed");
            let mut outcome = ready()
                .map(Ok)
                .or_else(|| self.is_gone().then(|| Err(Failure::Gone.into())));
            let mut rung = false;
            if outcome.is_none() {
                drop(lead);
                // Also after the deadline: what the other side said before it is heard.
                let received = self.receive(side, limit);
                failpoints::point("wait.woken");
                match received {
                    Heard::Bell => rung = true,
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
            lead.unread = (lead.unread + side.disarm()).saturating_sub(usize::from(rung));
            lead.taken = false;
            self.changed.notify_all();
            drop(lead);
            self.waiters.0.wake();
            if let Some(outcome) = outcome {
                return outcome;
            }
            lead = lock(&self.lead);
        }
    }

    /// Finds out whether the other side is gone, without waiting. For one that only writes: it sees the
    /// end of a reader that sleeps when it rings, but a reader that died awake is silent.
    pub(crate) fn check(&self, side: &impl SleepFlag<M>) -> bool {
        let checked = self.wait(side, &Deadline::now(), || None::<()>);
        matches!(checked, Err(WaitEnd::Failed(Failure::Gone)))
    }

    /// Sleeps for one message.
    fn receive<L: TimeLimit>(&self, side: &impl SleepFlag<M>, limit: &L) -> Heard<L::Elapsed> {
        match lock(&self.messages).recv(limit) {
            Ok(message) => {
                if side.message(message) {
                    Heard::Bell
                } else {
                    Heard::Other
                }
            }
            Err(WaitEnd::Timeout(elapsed)) => Heard::Nothing(elapsed),
            Err(WaitEnd::Failed(Failure::Starved)) => {
                // Nothing tells when one is free again: so that who asks again and again does not do only that.
                let left = limit.deadline().map_or(STARVED, |deadline| {
                    deadline.saturating_duration_since(Instant::now())
                });
                std::thread::sleep(left.min(STARVED));
                Heard::Starved
            }
            // Many may write here; who wrote this is not known, and must not silence the others, nor keep this one beyond its time.
            Err(WaitEnd::Failed(Failure::Io(error)))
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                log::error!(target: "offspring::parking", "another process sent what it must not: {error}");
                match limit.check() {
                    Ok(()) => Heard::Other,
                    Err(elapsed) => Heard::Nothing(elapsed),
                }
            }
            Err(WaitEnd::Failed(Failure::Gone | Failure::Io(_))) => {
                self.set_gone();
                Heard::Other
            }
        }
    }
}

/// Lets others run, if that does not take long: the other side of a ring may wait for this processor. On a machine that
/// is busy with other things each turn would go to those, so after a long one there is a long pause.
pub(crate) fn snooze() {
    /// No one of our own runs for longer without a reason to sleep.
    const LONG: Duration = Duration::from_millis(1);
    const PAUSE: u32 = 100;
    static START: OnceLock<Instant> = OnceLock::new();
    static CROWDED_UNTIL: AtomicU64 = AtomicU64::new(0);

    let start = *START.get_or_init(Instant::now);
    let before = start.elapsed();
    if (before.as_nanos() as u64) < CROWDED_UNTIL.load(Ordering::Relaxed) {
        return;
    }
    std::thread::yield_now();
    let after = start.elapsed();
    let took = after - before;
    if took >= LONG {
        CROWDED_UNTIL.store((after + took * PAUSE).as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Looking for a moment before sleeping, while that has paid lately. A wake-up from sleep takes about 50 us when
/// the other core slept too; what a busy peer writes comes within one.
#[derive(Debug)]
pub(crate) struct Spin {
    /// Below 0: so many waits to sleep through at once before the next try.
    luck: AtomicI32,
    /// Looks between two looks at the clock.
    looks: u32,
}

impl Spin {
    /// Two wake-ups: what a peer does that must be woken itself comes within this. With a shorter limit three processes
    /// that hand something on in a circle all sleep, since each waits for a wake-up of another, and never stop doing so.
    const LIMIT: Duration = Duration::from_micros(100);
    /// A peer that runs answers within this.
    const ALONE: Duration = Duration::from_micros(2);
    /// Waits that sleep at once after a spin that did not pay.
    const PAUSE: i32 = 16;
    const BEST: i32 = 4;

    pub(crate) fn new() -> Spin {
        Spin::with_looks(32)
    }

    /// For one whose look takes longer than a look at the clock.
    pub(crate) fn of_long_looks() -> Spin {
        Spin::with_looks(1)
    }

    fn with_looks(looks: u32) -> Spin {
        // With one processor the other side cannot run while this one spins.
        let alone = std::thread::available_parallelism().map_or(1, usize::from) == 1;
        Spin {
            luck: AtomicI32::new(if alone { i32::MIN } else { 0 }),
            looks,
        }
    }

    pub(crate) fn run<R>(
        &self,
        deadline: Option<Instant>,
        ready: &mut impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let luck = self.luck.load(Ordering::Relaxed);
        if luck < 0 {
            if luck > i32::MIN {
                self.luck.store(luck + 1, Ordering::Relaxed);
            }
            return None;
        }
        let start = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= start) {
            return None;
        }
        loop {
            for _ in 0..self.looks {
                if let Some(result) = ready() {
                    self.luck
                        .store((luck + 1).min(Spin::BEST), Ordering::Relaxed);
                    return Some(result);
                }
                std::hint::spin_loop();
            }
            let elapsed = start.elapsed();
            if elapsed >= Spin::LIMIT {
                break;
            }
            if elapsed >= Spin::ALONE {
                // The one that it waits for may wait for this processor.
                snooze();
            }
        }
        // One miss among many hits costs one spin; misses in a row cost a spin in every PAUSE waits.
        let worse = if luck > 0 { 0 } else { -Spin::PAUSE };
        self.luck.store(worse, Ordering::Relaxed);
        None
    }
}

enum Heard<E> {
    Bell,
    Other,
    /// Until the deadline.
    Nothing(E),
    /// There is one, and no descriptors are left for it.
    Starved,
}
