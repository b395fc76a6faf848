//! A call: from the message to the reply, or to the reason why there is none.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::connection::{ActorConnection, Ended, end_of};
use crate::actor::client::pending::{CallId, CallOutcome};
use crate::actor::client::session::Session;
use crate::actor::protocol::{Caller, Chain, Direct, Letter, Status};
use crate::channel;
use crate::error::{CallError, DownReason, PutTimeoutError};
use crate::ipc::deadline::Deadline;
use crate::queue::JoinableQueue;

/// How long one that lost its incarnation waits for the keeper's word, when its own time is up.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The actor that this process is.
static ACTOR: OnceLock<Caller> = OnceLock::new();

thread_local! {
    /// Who waits for the message that this thread handles now; `None` if it handles none.
    static HANDLING: RefCell<Option<Chain>> = const { RefCell::new(None) };
}

pub(in crate::actor) fn be_actor(own: Caller) {
    let _ = ACTOR.set(own);
}

/// Runs `handle` while those in `chain` wait for it.
pub(in crate::actor) fn handling<T>(chain: Chain, handle: impl FnOnce() -> T) -> T {
    struct Restore(Option<Chain>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HANDLING.set(self.0.take());
        }
    }
    let _restore = Restore(HANDLING.replace(Some(chain)));
    handle()
}

/// Who waits for what this thread does, and last this actor itself. Empty on a thread that handles no message.
pub(in crate::actor) fn in_line() -> Chain {
    HANDLING.with_borrow(|waiting| match waiting {
        None => Vec::new(),
        Some(waiting) => waiting.iter().chain(ACTOR.get()).cloned().collect(),
    })
}

/// A deadline; one that the clock cannot express is far away.
pub(in crate::actor) fn after(timeout: Duration) -> Instant {
    Deadline::after(timeout).instant()
}

impl<M, R> ActorConnection<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    pub(in crate::actor) fn call(
        self: &Arc<Self>,
        message: M,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let chain = in_line();
        self.check_cycle(&chain)?;
        // The clock is asked on the way, if nothing has to be waited for before: the actor works meanwhile.
        let limit = Deadline::after(timeout);
        let session = match self.own_session() {
            Some(session) => session,
            None => self
                .session(limit.instant())?
                .ok_or_else(|| self.late(timeout))?,
        };
        // A call does not overtake this process's casts.
        let unhandled = self.unhandled();
        let call = session.register(unhandled.is_none());
        let sent = match call {
            CallId::Direct(place) => self.send(&session, place, &chain, &message, &limit),
            CallId::Letter(number) => {
                self.post(session.letter(number, chain, message), limit.instant())
            }
        };
        let outcome = match sent {
            Ok(()) => session.wait(call, &limit),
            Err(end) => {
                session.cancel(call);
                end.outcome()?
            }
        };
        self.conclude(outcome, unhandled, timeout)
            .unwrap_or_else(|| {
                self.drop_session(&session);
                Err(self.lost(&session, limit.instant(), timeout))
            })
    }

    /// What the caller gets; `None` if the incarnation is gone, and its keeper must be asked.
    pub(in crate::actor) fn conclude(
        &self,
        outcome: CallOutcome<R>,
        unhandled: Option<u64>,
        timeout: Duration,
    ) -> Option<Result<R, CallError>> {
        let actor = || self.name.clone();
        Some(match outcome {
            CallOutcome::Reply(reply) => {
                unhandled
                    .into_iter()
                    .for_each(|sent| self.note_handled(sent));
                Ok(reply)
            }
            CallOutcome::Refused(message) => Err(CallError::Refused {
                actor: actor(),
                message,
            }),
            CallOutcome::Undecodable(source) => Err(CallError::Decode {
                actor: actor(),
                source,
            }),
            CallOutcome::Timeout => Err(self.late(timeout)),
            CallOutcome::Gone => return None,
        })
    }

    /// Why there will be no answer from an incarnation that is gone.
    fn lost(
        self: &Arc<Self>,
        session: &Session<R>,
        deadline: Instant,
        timeout: Duration,
    ) -> CallError {
        let generation = session.generation;
        match self.wait(Self::last_word(deadline), |status, ended| {
            self.end_of_call(generation, status, ended)
        }) {
            Ok(Some(error)) | Err(error) => error,
            Ok(None) => self.late(timeout),
        }
    }

    pub(in crate::actor) fn last_word(deadline: Instant) -> Instant {
        deadline.max(Instant::now() + LAST_WORD)
    }

    /// The error for callers of an incarnation that is gone, as soon as its keeper has said why.
    pub(in crate::actor) fn end_of_call(
        &self,
        called: u64,
        status: &Status,
        ended: &Ended,
    ) -> Option<CallError> {
        match status {
            Status::Down { reason, .. } => Some(self.down(reason.clone())),
            _ => end_of(ended, called).map(|(_, reason)| CallError::Restarted {
                actor: self.name.clone(),
                reason: reason.clone(),
            }),
        }
    }

    pub(in crate::actor) fn late(&self, after: Duration) -> CallError {
        CallError::Timeout {
            actor: self.name.clone(),
            after,
        }
    }

    /// Whether what this thread handles now would wait for itself, if it waited for the actor.
    pub(in crate::actor) fn check_cycle_now(&self) -> Result<(), CallError> {
        self.check_cycle(&in_line())
    }

    pub(in crate::actor) fn check_cycle(&self, chain: &[Caller]) -> Result<(), CallError> {
        let Some(first) = chain.iter().position(|caller| caller.key == self.key) else {
            return Ok(());
        };
        let names = chain[first..].iter().map(|caller| caller.name.as_str());
        let path: Vec<&str> = names.chain([self.name.as_str()]).collect();
        Err(CallError::Cycle {
            path: path.join(" -> "),
        })
    }

    pub(in crate::actor) fn send(
        &self,
        session: &Session<R>,
        place: usize,
        chain: &Chain,
        message: &M,
        limit: &Deadline,
    ) -> Result<(), SendEnd> {
        let special = !chain.is_empty();
        let direct = Direct { place, special };
        let sent = if special {
            session.send(direct, &(chain, message), limit)
        } else {
            session.send(direct, message, limit)
        };
        sent.map_err(|end| match end {
            channel::SendEnd::Timeout => SendEnd::Timeout,
            channel::SendEnd::Disconnected => SendEnd::Gone,
            channel::SendEnd::Encode(source) => SendEnd::Failed(CallError::Encode {
                actor: self.name.clone(),
                source,
            }),
            channel::SendEnd::Io(error) => SendEnd::Failed(self.io(error)),
        })
    }

    fn post(self: &Arc<Self>, letter: Letter<M>, deadline: Instant) -> Result<(), SendEnd> {
        self.mailbox(deadline)
            .map_err(SendEnd::Failed)?
            .ok_or(SendEnd::Timeout)?;
        match self.try_post(letter, deadline)? {
            None => Ok(()),
            Some(_) => Err(SendEnd::Timeout),
        }
    }

    /// Gives the letter back if there was no room for it until then. The mailbox is known.
    pub(in crate::actor) fn try_post(
        &self,
        letter: Letter<M>,
        deadline: Instant,
    ) -> Result<Option<Letter<M>>, SendEnd> {
        let mailbox = self.known_mailbox().ok_or(SendEnd::Timeout)?;
        match put_until(mailbox, letter, deadline) {
            Ok(()) => Ok(None),
            Err(PutTimeoutError::Timeout(letter)) => Ok(Some(letter)),
            Err(PutTimeoutError::Closed(_)) => Err(SendEnd::Gone),
            Err(PutTimeoutError::Disconnected(_)) => {
                Err(SendEnd::Failed(self.down(DownReason::OwnerGone)))
            }
            Err(PutTimeoutError::Encode(_, source)) => Err(SendEnd::Failed(CallError::Encode {
                actor: self.name.clone(),
                source,
            })),
            Err(error) => Err(SendEnd::Failed(self.io(error))),
        }
    }
}

/// With a deadline that is over, the mailbox's keeper is asked whether there is room, and nothing else is waited for.
pub(in crate::actor) fn put_until<M: Serialize + DeserializeOwned + Send + 'static>(
    mailbox: &JoinableQueue<Letter<M>>,
    letter: Letter<M>,
    deadline: Instant,
) -> Result<(), PutTimeoutError<Letter<M>>> {
    let left = deadline.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        return mailbox.put_timeout(letter, left);
    }
    mailbox.put_at_deadline(letter)
}

/// Why a call did not get on its way.
pub(in crate::actor) enum SendEnd {
    Timeout,
    Gone,
    Failed(CallError),
}

impl SendEnd {
    pub(in crate::actor) fn outcome<R>(self) -> Result<CallOutcome<R>, CallError> {
        match self {
            SendEnd::Timeout => Ok(CallOutcome::Timeout),
            SendEnd::Gone => Ok(CallOutcome::Gone),
            SendEnd::Failed(error) => Err(error),
        }
    }
}
