//! A call: from the message to the reply, or to the reason why there is none.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::board::Outcome;
use crate::actor::letters::{Caller, Chain, Header, Letter, Request, Status};
use crate::actor::link::{Ended, Link, end_of};
use crate::actor::session::Session;
use crate::error::{CallError, DownReason, PutError, PutTimeoutError, SendError, SendTimeoutError, TryPutError};
use crate::limit::Limit;
use crate::queue::JoinableQueue;

/// Calls of one process that go around the mailbox at once; more wait in it, so that it bounds them.
const DIRECT_MAX: usize = 16;
/// How long one that lost its incarnation waits for the keeper's word, when its own time is up.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The way that a call takes.
pub(super) enum Route<M, R> {
    Mailbox(Letter<M>),
    Direct(Request<M, R>),
}

/// The actor that this process is.
static ACTOR: OnceLock<Caller> = OnceLock::new();

thread_local! {
    /// Who waits for the message that this thread handles now; `None` if it handles none.
    static HANDLING: RefCell<Option<Chain>> = const { RefCell::new(None) };
}

pub(super) fn be_actor(own: Caller) {
    let _ = ACTOR.set(own);
}

/// Runs `handle` while those in `chain` wait for it.
pub(super) fn handling<T>(chain: Chain, handle: impl FnOnce() -> T) -> T {
    struct Restore(Option<Chain>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HANDLING.with(|handling| handling.replace(self.0.take()));
        }
    }
    let _restore = Restore(HANDLING.replace(Some(chain)));
    handle()
}

/// Who waits for what this thread does, and last this actor itself. Empty on a thread that handles no message.
pub(super) fn in_line() -> Chain {
    HANDLING.with_borrow(|waiting| match waiting {
        None => Vec::new(),
        Some(waiting) => waiting.iter().chain(ACTOR.get()).cloned().collect(),
    })
}

/// A deadline; one that the clock cannot express is far away.
pub(super) fn after(timeout: Duration) -> Instant {
    Limit::after(timeout).instant()
}

impl<M, R> Link<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    pub(super) fn call(self: &Arc<Self>, message: M, timeout: Duration) -> Result<R, CallError> {
        let chain = in_line();
        self.check_cycle(&chain)?;
        // The clock is asked on the way, if nothing has to be waited for before: the actor works meanwhile.
        let limit = Limit::after(timeout);
        let session = match self.own_session() {
            Some(session) => session,
            None => self.session(limit.instant())?.ok_or_else(|| self.late(timeout))?,
        };
        let (header, others) = session.register();
        let unhandled = self.unhandled();
        let sent = match self.route(session.generation, header, unhandled, others, chain, message) {
            Route::Mailbox(letter) => self.post(letter, limit.instant()),
            Route::Direct(request) => self.send(&session, request, &limit),
        };
        let outcome = match sent {
            Ok(()) => session.wait(header.call, &limit),
            Err(end) => {
                session.forget(header.call);
                end.outcome()?
            }
        };
        self.conclude(outcome, unhandled, timeout)
            .unwrap_or_else(|| Err(self.lost(&session, limit.instant(), timeout)))
    }

    /// A call does not overtake this process's casts, and a process has not more than some calls around the mailbox.
    pub(super) fn route(
        &self,
        generation: u64,
        header: Header,
        unhandled: Option<u64>,
        others: usize,
        chain: Chain,
        message: M,
    ) -> Route<M, R> {
        if unhandled.is_some() || others >= DIRECT_MAX {
            Route::Mailbox(Letter::Call {
                header,
                generation,
                chain,
                message,
            })
        } else if chain.is_empty() {
            Route::Direct(Request::Call(header, message))
        } else {
            Route::Direct(Request::CallInLine(header, chain, message))
        }
    }

    /// What the caller gets; `None` if the incarnation is gone, and its keeper must be asked.
    pub(super) fn conclude(&self, outcome: Outcome<R>, unhandled: Option<u64>, timeout: Duration) -> Option<Result<R, CallError>> {
        let actor = || self.name.clone();
        Some(match outcome {
            Outcome::Reply(reply) => {
                unhandled.into_iter().for_each(|sent| self.note_handled(sent));
                Ok(reply)
            }
            Outcome::Refused(message) => Err(CallError::Refused { actor: actor(), message }),
            Outcome::Undecodable(source) => Err(CallError::Decode { actor: actor(), source }),
            Outcome::Timeout => Err(self.late(timeout)),
            Outcome::Gone => return None,
        })
    }

    /// Why there will be no answer from an incarnation that is gone.
    fn lost(self: &Arc<Self>, session: &Session<M, R>, deadline: Instant, timeout: Duration) -> CallError {
        let generation = session.generation;
        match self.wait(Self::last_word(deadline), |status, ended| {
            self.end_of_call(generation, status, ended)
        }) {
            Ok(Some(error)) | Err(error) => error,
            Ok(None) => self.late(timeout),
        }
    }

    pub(super) fn last_word(deadline: Instant) -> Instant {
        deadline.max(Instant::now() + LAST_WORD)
    }

    /// The error for callers of an incarnation that is gone, as soon as its keeper has said why.
    pub(super) fn end_of_call(&self, called: u64, status: &Status, ended: &Ended) -> Option<CallError> {
        match status {
            Status::Down { reason, .. } => Some(self.down(reason.clone())),
            _ => end_of(ended, called).map(|(_, reason)| CallError::Restarted {
                actor: self.name.clone(),
                reason: reason.clone(),
            }),
        }
    }

    pub(super) fn late(&self, after: Duration) -> CallError {
        CallError::Timeout {
            actor: self.name.clone(),
            after,
        }
    }

    /// Whether what this thread handles now would wait for itself, if it waited for the actor.
    pub(super) fn check_cycle_now(&self) -> Result<(), CallError> {
        self.check_cycle(&in_line())
    }

    pub(super) fn check_cycle(&self, chain: &[Caller]) -> Result<(), CallError> {
        let Some(first) = chain.iter().position(|caller| caller.key == self.key) else {
            return Ok(());
        };
        let names = chain[first..].iter().map(|caller| caller.name.as_str());
        let path: Vec<&str> = names.chain([self.name.as_str()]).collect();
        Err(CallError::Cycle { path: path.join(" -> ") })
    }

    fn send(&self, session: &Session<M, R>, request: Request<M, R>, limit: &Limit) -> Result<(), SendEnd> {
        match self.try_send(session, request, limit)? {
            None => Ok(()),
            Some(_) => Err(SendEnd::Timeout),
        }
    }

    /// Gives the request back if there was no room for it until then.
    pub(super) fn try_send(
        &self,
        session: &Session<M, R>,
        request: Request<M, R>,
        limit: &Limit,
    ) -> Result<Option<Request<M, R>>, SendEnd> {
        match session.door.send_within(request, limit) {
            Ok(()) => Ok(None),
            Err(SendTimeoutError::Timeout(request)) => Ok(Some(request)),
            Err(SendTimeoutError::Failed(SendError::Disconnected(_) | SendError::Moved(_))) => Err(SendEnd::Gone),
            Err(SendTimeoutError::Failed(SendError::Encode(_, source))) => Err(SendEnd::Failed(CallError::Encode {
                actor: self.name.clone(),
                source,
            })),
            Err(SendTimeoutError::Failed(error)) => Err(SendEnd::Failed(self.io(error))),
        }
    }

    fn post(self: &Arc<Self>, letter: Letter<M>, deadline: Instant) -> Result<(), SendEnd> {
        self.mailbox(deadline).map_err(SendEnd::Failed)?.ok_or(SendEnd::Timeout)?;
        match self.try_post(letter, deadline)? {
            None => Ok(()),
            Some(_) => Err(SendEnd::Timeout),
        }
    }

    /// Gives the letter back if there was no room for it until then. The mailbox is known.
    pub(super) fn try_post(&self, letter: Letter<M>, deadline: Instant) -> Result<Option<Letter<M>>, SendEnd> {
        let mailbox = self.known_mailbox().ok_or(SendEnd::Timeout)?;
        match put_until(mailbox, letter, deadline) {
            Ok(()) => Ok(None),
            Err(PutTimeoutError::Timeout(letter)) => Ok(Some(letter)),
            Err(PutTimeoutError::Failed(PutError::Closed(_))) => Err(SendEnd::Gone),
            Err(PutTimeoutError::Failed(PutError::Disconnected(_))) => Err(SendEnd::Failed(self.down(DownReason::OwnerGone))),
            Err(PutTimeoutError::Failed(PutError::Encode(_, source))) => Err(SendEnd::Failed(CallError::Encode {
                actor: self.name.clone(),
                source,
            })),
            Err(PutTimeoutError::Failed(error)) => Err(SendEnd::Failed(self.io(error))),
        }
    }
}

/// With a deadline that is over, the mailbox's keeper is asked whether there is room, and nothing else is waited for.
pub(super) fn put_until<M: Serialize + DeserializeOwned + Send + 'static>(
    mailbox: &JoinableQueue<Letter<M>>,
    letter: Letter<M>,
    deadline: Instant,
) -> Result<(), PutTimeoutError<Letter<M>>> {
    let left = deadline.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        return mailbox.put_timeout(letter, left);
    }
    mailbox.try_put(letter).map_err(|error| match error {
        TryPutError::Full(letter) => PutTimeoutError::Timeout(letter),
        TryPutError::Failed(error) => PutTimeoutError::Failed(error),
    })
}

/// Why a call did not get on its way.
pub(super) enum SendEnd {
    Timeout,
    Gone,
    Failed(CallError),
}

impl SendEnd {
    pub(super) fn outcome<R>(self) -> Result<Outcome<R>, CallError> {
        match self {
            SendEnd::Timeout => Ok(Outcome::Timeout),
            SendEnd::Gone => Ok(Outcome::Gone),
            SendEnd::Failed(error) => Err(error),
        }
    }
}
