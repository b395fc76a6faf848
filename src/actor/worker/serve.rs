//! An incarnation at work: what comes in, and whose turn it is.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::actor::actor::{Actor, Context};
use crate::actor::client::call::handling;
use crate::actor::link;
use crate::actor::protocol::{Chain, Direct, Ending, Header, Letter, Report, Request};
use crate::actor::worker::fair_mutex::Turn;
use crate::actor::worker::reply_channels::{Clients, Doors};
use crate::channel::{Receiver, Sender};
use crate::error::{GetError, HandleError, PutTimeoutError, RecvError, RecvTimeoutError};
use crate::ipc::wire::Retry;
use crate::queue::{Delivery, JoinableQueue};
use crate::sys::{self, lock};

/// How often one that waits for the mailbox to be drained looks whether that was given up.
const DRAIN_STEP: Duration = Duration::from_millis(20);

struct Seat<A> {
    actor: A,
    /// Nothing more is handled.
    over: bool,
}

/// What both threads share.
pub(in crate::actor) struct Incarnation<A: Actor> {
    turn: Turn<Seat<A>>,
    context: Context<A>,
    reports: Sender<Report>,
    clients: Clients<A::Reply>,
    /// Whether the marker came out of the mailbox that `drain` puts.
    drained: Mutex<bool>,
    progress: Condvar,
    /// Of the other thread, for the main one to pass on.
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    redeliver: u32,
    mailbox: JoinableQueue<Letter<A::Message>>,
}

impl<A: Actor> Incarnation<A> {
    pub(in crate::actor) fn new(
        actor: A,
        context: Context<A>,
        reports: Sender<Report>,
        mailbox: JoinableQueue<Letter<A::Message>>,
        redeliver: u32,
    ) -> Incarnation<A> {
        Incarnation {
            turn: Turn::new(Seat { actor, over: false }),
            context,
            reports,
            clients: Clients::new(),
            drained: Mutex::default(),
            progress: Condvar::new(),
            panic: Mutex::default(),
            redeliver,
            mailbox,
        }
    }

    pub(in crate::actor) fn has_started(&self) {
        self.report_checkpoint(&self.turn.enter().actor);
        let _ = self.reports.send(Report::Started(Ok(())));
    }

    /// The main thread: until the actor ends.
    pub(in crate::actor) fn take_requests(&self, inbound: &Receiver<Request>) -> Ending {
        let mut doors = Doors::new();
        let mut retry = Retry::default();
        loop {
            match self.take_request(inbound, &mut doors) {
                Ok(()) => retry = Retry::default(),
                // What does not fit into this process now stays where it is.
                Err(RecvTimeoutError::Failed(error @ RecvError::Io(_))) => retry.pause(&error),
                // This process holds a sender itself, so this is no end of the others.
                Err(error) => return self.finish(Ending::Failed(error.to_string())),
            }
            if let Some(ending) = self.ending() {
                return self.finish(ending);
            }
        }
    }

    fn take_request(
        &self,
        inbound: &Receiver<Request>,
        doors: &mut Doors<A::Reply>,
    ) -> Result<(), RecvTimeoutError> {
        let arrived = inbound.take(None)?;
        let source = arrived.source;
        if let Some(direct) = Direct::of(arrived.mark) {
            let decoded = if direct.special {
                arrived.decode::<(Chain, A::Message)>()
            } else {
                arrived.decode().map(|message| (Chain::new(), message))
            };
            let mut seat = self.turn.enter();
            if seat.over {
                return Ok(());
            }
            let reply = match decoded {
                Ok((chain, message)) => Ok(self.handle(&mut seat.actor, chain, message)),
                Err(error) if error.is_starved() => return Err(error.into()),
                Err(error) => Err(error.to_string()),
            };
            doors.answer(source, direct.place, reply, &self.clients);
            return Ok(());
        }
        match arrived.decode() {
            Ok(Request::Open { session, answers }) => {
                doors.open(
                    source,
                    session,
                    answers.retype(),
                    &inbound.sources(),
                    &self.clients,
                );
            }
            Ok(Request::Close { session }) => doors.close(session, &self.clients),
            Ok(Request::Bind { partner, bond }) => {
                link::watch(partner, bond, self.context.inner.clone())
            }
            Ok(Request::Stop { drain }) => {
                if drain {
                    self.drain();
                }
                self.context.inner.set_ending(Ending::Shutdown);
            }
            Ok(Request::Ping(number)) => {
                // The answer says that messages are handled, so it takes its turn.
                drop(self.turn.enter());
                let _ = self.reports.send(Report::Pong(number));
            }
            Ok(Request::Wake) => {}
            Err(RecvError::Decode(error)) => {
                log::error!(target: "offspring::actor", "a request was passed over: {error}")
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether it is to end. Passes on a panic of the other thread.
    fn ending(&self) -> Option<Ending> {
        if !self.context.inner.news.load(Ordering::Acquire) {
            return None;
        }
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
        lock(&self.context.inner.ending).clone()
    }

    fn finish(&self, ending: Ending) -> Ending {
        let mut seat = self.turn.enter();
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
        seat.over = true;
        seat.actor.stop(&ending.clone().into());
        self.report_checkpoint(&seat.actor);
        ending
    }

    /// Waits until all is handled that the mailbox holds now.
    fn drain(&self) {
        // The question makes the keeper collect what other processes have put before; the marker comes after that.
        let _ = self.mailbox.len();
        let generation = self.context.inner.generation;
        let mut marker = Some(Letter::Marker { generation });
        let mut drained = lock(&self.drained);
        while !*drained && lock(&self.context.inner.ending).is_none() && lock(&self.panic).is_none()
        {
            drop(drained);
            if let Some(letter) = marker.take() {
                // A full mailbox has room when one of its letters is handled.
                marker = match self.mailbox.put_timeout(letter, DRAIN_STEP) {
                    Ok(()) => None,
                    Err(PutTimeoutError::Timeout(letter)) => Some(letter),
                    // The keeper has closed it: nobody waits for what is in it.
                    Err(_) => return,
                };
            }
            drained = lock(&self.drained);
            if !*drained && marker.is_none() {
                drained = sys::wait(&self.progress, drained, Some(Instant::now() + DRAIN_STEP));
            }
        }
    }

    /// The other thread.
    pub(in crate::actor) fn take_casts(&self) {
        let mut retry = Retry::default();
        loop {
            match self.mailbox.get() {
                Ok(letter) => {
                    retry = Retry::default();
                    // It is not for one that does not decode, later.
                    let _ = Header::heard();
                    if !self.take_letter(letter) {
                        return;
                    }
                }
                Err(GetError::Decode(error)) => self.refuse(Header::heard(), &error.to_string()),
                Err(error @ GetError::Handle(HandleError::Io { .. })) => retry.pause(&error),
                // The actor is stopped for good, or its keeper ends.
                Err(_) => return,
            }
        }
    }

    /// Handles it when its turn has come; whether there may be another one after it.
    fn take_letter(&self, letter: Delivery<Letter<A::Message>>) -> bool {
        let mut seat = self.turn.enter();
        if seat.over {
            // The letter goes back to the mailbox: the next incarnation has it.
            return false;
        }
        // Handled once at most, unless the next incarnation may have it again.
        let again = letter.attempt() <= self.redeliver;
        let letter = letter.into_inner();
        if !again {
            let _ = self.mailbox.task_done();
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| match letter {
            Letter::Marker { generation } => {
                *lock(&self.drained) |= generation == self.context.inner.generation;
                self.progress.notify_all();
            }
            Letter::Cast(message) => {
                self.handle(&mut seat.actor, Vec::new(), message);
            }
            Letter::Call {
                header,
                generation,
                chain,
                message,
            } => {
                // Of another incarnation nobody waits for the reply.
                if generation == self.context.inner.generation {
                    let reply = self.handle(&mut seat.actor, chain, message);
                    self.answer_letter(header, Ok(reply));
                }
            }
        }));
        if let Err(panic) = outcome {
            // The main thread ends the process with it.
            seat.over = true;
            *lock(&self.panic) = Some(panic);
            self.context.inner.news.store(true, Ordering::Release);
            self.context.inner.wake();
            return false;
        }
        if again {
            let _ = self.mailbox.task_done();
        }
        seat.over = lock(&self.context.inner.ending).is_some();
        !seat.over
    }

    fn handle(&self, actor: &mut A, chain: Chain, message: A::Message) -> A::Reply {
        let reply = handling(chain, || actor.handle(message));
        self.report_checkpoint(actor);
        reply
    }

    fn report_checkpoint(&self, actor: &A) {
        if let Some(checkpoint) = actor.checkpoint() {
            let _ = self.reports.send(Report::Checkpoint(checkpoint.0));
        }
    }

    fn answer_letter(&self, header: Header, reply: Result<A::Reply, String>) {
        if self.clients.answer(header, reply).is_err() {
            // The main thread has the way to that client as well. While it waits for this thread's turn, no room comes.
            let close = Request::Close {
                session: header.session,
            };
            let _ = self.context.inner.door.send_timeout(close, Duration::ZERO);
        }
    }

    fn refuse(&self, header: Option<Header>, message: &str) {
        match header {
            Some(header) => self.answer_letter(header, Err(message.to_owned())),
            None => log::error!(target: "offspring::actor", "a message was passed over: {message}"),
        }
    }
}
