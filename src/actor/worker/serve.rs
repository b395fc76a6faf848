//! An incarnation at work: two threads that bring messages to the state, one message at a time.
//!
//! # Why there are two ways in
//!
//! The main thread reads the **channel**: direct calls, and the host's requests. A call needs one
//! hop there and one back, and no thread switch within this process: the thread that receives it
//! handles it and sends the reply. The other thread reads the **mailbox**: a queue of the host,
//! whose items survive this process. A cast must be safe there before it returns, so it takes the
//! longer way, and it is taken out only when its turn has come. With a mailbox alone, each call
//! would pay for the host's queue. With a channel alone, a crash would lose all casts that wait.
//!
//! This costs a fair mutex around the state, a second thread, and the rules below. The actor's own
//! timers are a third way in, with a thread of their own (`timers.rs`).
//!
//! # Rules that keep the two in order
//!
//! 1. **A call does not overtake its own process's casts.** While casts of a client may be
//!    unhandled, its calls go through the mailbox too, after them ([`MailboxItem::Call`];
//!    `ActorConnection::unhandled`). The reply proves that everything before it was handled, and
//!    the client returns to direct calls.
//! 2. **Neither way starves the other**: [`FairMutex`] serves the threads in the order of their
//!    arrival.
//! 3. **Nothing is handled after the end.** Each thread checks `ended` under the mutex before it
//!    handles a message, and the thread that decides the end sets it under the same guard. It is
//!    also set while a handler runs, so it stays set if the handler panics. If the mailbox thread
//!    has already taken an item, the item goes back when its delivery is dropped, and the next
//!    incarnation gets it.
//! 4. **A call through the mailbox is for one incarnation.** It carries the generation, and a later
//!    incarnation skips it, because the client has already got its error.
//! 5. **A cast is acknowledged before it is handled** ("at most once"), because a message that
//!    kills the actor must not kill each incarnation after it. A cast that may be redelivered
//!    (`redeliver`) is acknowledged afterwards.
//! 6. **The process ends on the main thread**, with its panic or ending. Another thread leaves
//!    the reason (`panic`, the context's ending), sets `must_check`, and wakes the main thread
//!    through that thread's own channel. The flag is set after the reason, so a main thread that
//!    reads the flag finds the reason. The wake-up is sent after the flag, so the main thread does
//!    not sleep for long.
//!
//! No other thread may wait for the main thread while it holds the state, because the main thread
//! may be waiting for the state.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::actor::actor::Actor;
use crate::actor::chain::handling;
use crate::actor::context::Context;
use crate::actor::link;
use crate::actor::protocol::{
    CallChain, CallHeader, CallMark, Ending, MailboxItem, Report, Request,
};
use crate::actor::worker::fair_mutex::FairMutex;
use crate::actor::worker::reply_channels::{ReplyChannels, RingSessions};
use crate::channel::{Receiver, Sender};
use crate::diagnostics;
use crate::error::{GetError, HandleError, PutTimeoutError, RecvError, SendError, is_starved};
use crate::ipc::deadline::{Forever, WaitEnd};
use crate::ipc::wire::Retry;
use crate::queue::{Delivery, JoinableQueue};
use crate::sys::{self, lock};

/// How often a thread that drains the mailbox checks whether the actor has ended in the meantime.
const DRAIN_STEP: Duration = Duration::from_millis(20);

struct ActorState<A> {
    actor: A,
    /// No more messages are to be handled. Also set while one is.
    ended: bool,
}

/// The state that the threads share.
pub(in crate::actor) struct Incarnation<A: Actor> {
    served: FairMutex<ActorState<A>>,
    context: Context<A>,
    reports: Sender<Report>,
    channels: ReplyChannels<A::Reply>,
    /// True once the marker that `drain` puts has come out of the mailbox.
    drained: Mutex<bool>,
    progress: Condvar,
    /// A panic of another thread, which the main thread is to resume.
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    redeliver: u32,
    mailbox: JoinableQueue<MailboxItem<A::Message>>,
}

impl<A: Actor> Incarnation<A> {
    pub(in crate::actor) fn new(
        actor: A,
        context: Context<A>,
        reports: Sender<Report>,
        mailbox: JoinableQueue<MailboxItem<A::Message>>,
        redeliver: u32,
    ) -> Incarnation<A> {
        Incarnation {
            served: FairMutex::new(ActorState { actor, ended: false }),
            context,
            reports,
            channels: ReplyChannels::new(),
            drained: Mutex::default(),
            progress: Condvar::new(),
            panic: Mutex::default(),
            redeliver,
            mailbox,
        }
    }

    pub(in crate::actor) fn context(&self) -> &Context<A> {
        &self.context
    }

    pub(in crate::actor) fn report_started(&self) {
        self.report_checkpoint(&mut self.served.lock().actor);
        let _ = self.reports.send(Report::Started(Ok(())));
    }

    /// The main thread: serves the channel until the actor ends.
    pub(in crate::actor) fn serve_requests(&self, inbound: &Receiver<Request>) -> Ending {
        let mut rings = RingSessions::new();
        let mut retry = Retry::default();
        loop {
            match self.serve_request(inbound, &mut rings) {
                Ok(()) => retry = Retry::default(),
                // A message that needs more descriptors than this process has stays in the channel.
                Err(error @ RecvError::Io(_)) => retry.pause(&error),
                // The senders have not all ended, because this process holds one itself. So the
                // channel is broken.
                Err(error) => return self.finish(Ending::Failed(error.to_string())),
            }
            if let Some(ending) = self.ending() {
                return self.finish(ending);
            }
        }
    }

    fn serve_request(
        &self,
        inbound: &Receiver<Request>,
        rings: &mut RingSessions<A::Reply>,
    ) -> Result<(), RecvError> {
        let arrived = inbound.recv_raw(&Forever).map_err(WaitEnd::into_failed)?;
        let ring = arrived.ring;
        if let Some(mark) = CallMark::of(arrived.mark) {
            let decoded = if mark.special {
                arrived.decode::<(CallChain, A::Message)>()
            } else {
                arrived.decode().map(|message| (CallChain::default(), message))
            };
            let mut served = self.served.lock();
            if served.ended {
                return Ok(());
            }
            let reply = match decoded {
                Ok((chain, message)) => Ok(self.handle(&mut served, chain, message)),
                Err(error) if error.is_starved() => return Err(error),
                Err(error) => Err(error.to_string()),
            };
            rings.reply(ring, mark.slot, reply, &self.channels);
            return Ok(());
        }
        match arrived.decode() {
            Ok(Request::Open { session, replies }) => {
                rings.open(ring, session, replies.cast(), &inbound.rings(), &self.channels)
            }
            Ok(Request::Close { session }) => rings.close(session, &self.channels),
            Ok(Request::Link { partner, unlinked }) => {
                link::watch(partner, unlinked, self.context.inner.clone())
            }
            Ok(Request::Stop { drain }) => {
                if drain {
                    self.drain();
                }
                self.context.inner.set_ending(Ending::Shutdown);
            }
            Ok(Request::Ping(number)) => {
                // A pong means that messages are being handled. So it waits for the message that is
                // being handled now.
                drop(self.served.lock());
                let _ = self.reports.send(Report::Pong(number));
            }
            Ok(Request::Wake) => {}
            Err(RecvError::Decode(error)) => diagnostics::error(
                "offspring::actor",
                format_args!("skipping a request that does not decode: {error}"),
            ),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns the ending if the actor should end. Resumes a panic of another thread.
    fn ending(&self) -> Option<Ending> {
        if !self.context.inner.must_check() {
            return None;
        }
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
        self.context.inner.ending()
    }

    /// Whether the message that was just handled, or an earlier one, ended the actor.
    fn ending_of_handler(&self) -> bool {
        self.context.inner.must_check() && self.context.inner.ending().is_some()
    }

    fn finish(&self, ending: Ending) -> Ending {
        let mut served = self.served.lock();
        // Checked again under the guard: another thread may have panicked since the last check.
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
        served.ended = true;
        served.actor.stop(&ending.clone().into());
        self.report_checkpoint(&mut served.actor);
        ending
    }

    /// Waits until everything that is in the mailbox now has been handled. Runs on the main thread,
    /// which holds no guard in the meantime.
    fn drain(&self) {
        // This question makes the host collect what other processes have put so far. The marker
        // comes after that.
        let _ = self.mailbox.len();
        let generation = self.context.inner.generation;
        let mut marker = Some(MailboxItem::Marker { generation });
        let mut drained = lock(&self.drained);
        while !*drained && self.context.inner.ending().is_none() && lock(&self.panic).is_none() {
            drop(drained);
            if let Some(item) = marker.take() {
                // A full mailbox has room again when one of its items has been handled.
                marker = match self.mailbox.put_timeout(item, DRAIN_STEP) {
                    Ok(()) => None,
                    Err(PutTimeoutError::Timeout(item)) => Some(item),
                    // The host has closed it, and dropped what it held.
                    Err(_) => return,
                };
            }
            drained = lock(&self.drained);
            if !*drained && marker.is_none() {
                drained = sys::wait(&self.progress, drained, Some(Instant::now() + DRAIN_STEP));
            }
        }
    }

    /// The mailbox thread: serves the mailbox until the actor ends.
    pub(in crate::actor) fn serve_mailbox(&self) {
        let mut retry = Retry::default();
        loop {
            let (item, header) = CallHeader::observe(|| self.mailbox.get());
            match item {
                Ok(item) => {
                    retry = Retry::default();
                    if !self.serve_item(item) {
                        return;
                    }
                }
                Err(GetError::Decode(error)) => self.refuse(header, &error.to_string()),
                Err(error @ GetError::Handle(HandleError::Io { .. })) => retry.pause(&error),
                // The actor is down for good, or its host is ending.
                Err(_) => return,
            }
        }
    }

    /// Handles an item. Returns `false` if no other item may be handled after it.
    fn serve_item(&self, item: Delivery<MailboxItem<A::Message>>) -> bool {
        let mut served = self.served.lock();
        if served.ended {
            // Dropping the delivery returns the item to the mailbox.
            return false;
        }
        let again = item.attempt() <= self.redeliver;
        let item = item.into_inner();
        if !again {
            let _ = self.mailbox.task_done();
        }
        let handled = self.resume_on_main(|| match item {
            MailboxItem::Marker { generation } => {
                *lock(&self.drained) |= generation == self.context.inner.generation;
                self.progress.notify_all();
            }
            MailboxItem::Cast(message) => {
                self.handle(&mut served, CallChain::default(), message);
            }
            MailboxItem::Call { header, generation, chain, message } => {
                if generation == self.context.inner.generation {
                    let reply = self.handle(&mut served, chain, message);
                    self.reply(header, Ok(reply));
                }
            }
        });
        if handled && again {
            let _ = self.mailbox.task_done();
        }
        served.ended |= !handled;
        !served.ended
    }

    /// The timers' thread: handles the message of a timer that is due. Returns `false` if no other
    /// message may be handled after it.
    pub(in crate::actor) fn serve_timer(&self) -> bool {
        let mut served = self.served.lock();
        if served.ended {
            return false;
        }
        // Taken only after the mutex: see `timers.rs`.
        let Some(due) = self.context.timers.take_due(Instant::now()) else {
            return true;
        };
        let handled = self.resume_on_main(|| {
            self.handle(&mut served, CallChain::default(), due.into_message());
        });
        served.ended |= !handled;
        !served.ended
    }

    /// Runs a handler on a thread that is not the main one, which resumes its panic. Returns `false`
    /// if it panicked.
    fn resume_on_main(&self, handler: impl FnOnce()) -> bool {
        let Err(panic) = catch_unwind(AssertUnwindSafe(handler)) else {
            return true;
        };
        *lock(&self.panic) = Some(panic);
        self.context.inner.set_must_check();
        self.context.inner.wake();
        false
    }

    fn handle(
        &self,
        served: &mut ActorState<A>,
        chain: CallChain,
        message: A::Message,
    ) -> A::Reply {
        // Stays set if the handler panics: another thread may get the mutex before the process ends.
        served.ended = true;
        let reply = handling(chain, || served.actor.handle(message));
        self.report_checkpoint(&mut served.actor);
        // The message may have stopped the actor. Another thread may get the mutex next, before
        // `finish`, and must find that out.
        served.ended = self.ending_of_handler();
        reply
    }

    /// Sends the checkpoint, if there is one. The caller may get its reply only once the host has
    /// the checkpoint, and the actor may have reset its flag for changes. So a process without
    /// descriptors or memory waits for some.
    fn report_checkpoint(&self, actor: &mut A) {
        let Some(checkpoint) = actor.checkpoint() else {
            return;
        };
        let mut report = Report::Checkpoint(checkpoint.0);
        let mut retry = Retry::default();
        loop {
            match self.reports.send(report) {
                Err(SendError::Io(unsent, error)) if is_starved(&error) => {
                    report = unsent;
                    retry.pause(&error);
                }
                Err(SendError::Disconnected(_)) | Ok(()) => return,
                Err(error) => {
                    diagnostics::error(
                        "offspring::actor",
                        format_args!("a checkpoint is lost: {error}"),
                    );
                    return;
                }
            }
        }
    }

    fn reply(&self, header: CallHeader, reply: Result<A::Reply, String>) {
        if self.channels.reply(header, reply).is_err() {
            // The main thread must close that session too. It may be waiting for this thread's
            // guard, so this does not wait for room.
            let close = Request::Close { session: header.session };
            let _ = self.context.inner.requests.send_timeout(close, Duration::ZERO);
        }
    }

    fn refuse(&self, header: Option<CallHeader>, error: &str) {
        match header {
            Some(header) => self.reply(header, Err(error.to_owned())),
            None => diagnostics::error(
                "offspring::actor",
                format_args!("skipping a message that does not decode: {error}"),
            ),
        }
    }
}
