//! A call: from the message to the reply, or to the reason why there is none.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::letters::{Caller, Chain, Letter, Request};
use crate::actor::link::Link;
use crate::actor::session::{Outcome, Session};
use crate::error::{CallError, DownReason, PutError, PutTimeoutError, SendError, SendTimeoutError};
use crate::sys::{self, lock};

/// Calls of one process that go around the mailbox at once; more wait in it, so that it bounds them.
const DIRECT_MAX: usize = 16;
/// How long one that lost its incarnation waits for the keeper's word, when its own time is up.
const LAST_WORD: Duration = Duration::from_millis(500);

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
            HANDLING.set(self.0.take());
        }
    }
    let _restore = Restore(HANDLING.replace(Some(chain)));
    handle()
}

/// Who waits for what this thread does, and last this actor itself. Empty on a thread that handles no message.
fn in_line() -> Chain {
    HANDLING.with_borrow(|waiting| match waiting {
        None => Vec::new(),
        Some(waiting) => waiting.iter().chain(ACTOR.get()).cloned().collect(),
    })
}

/// A deadline; one that the clock cannot express is far away.
pub(super) fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400 * 365))
}

impl<M, R> Link<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    pub(super) fn call(self: &Arc<Self>, message: M, timeout: Duration) -> Result<R, CallError> {
        let chain = in_line();
        self.check_cycle(&chain)?;
        let deadline = after(timeout);
        let Some(session) = self.session(deadline)? else {
            return Err(self.late(timeout));
        };
        let (header, others) = session.register();
        let unhandled = self.unhandled();
        let sent = if unhandled.is_some() || others >= DIRECT_MAX {
            let generation = session.generation;
            let letter = Letter::Call {
                header,
                generation,
                chain,
                message,
            };
            self.post(letter, deadline)
        } else {
            self.send(&session, Request::Call { header, chain, message }, deadline)
        };
        let outcome = match sent {
            Ok(()) => session.wait(header, deadline),
            Err(end) => {
                session.forget(header);
                match end {
                    SendEnd::Timeout => Outcome::Timeout,
                    SendEnd::Gone => Outcome::Gone,
                    SendEnd::Failed(error) => return Err(error),
                }
            }
        };
        match outcome {
            Outcome::Reply(reply) => {
                if let Some(sent) = unhandled {
                    self.note_handled(sent);
                }
                Ok(reply)
            }
            Outcome::Refused(message) => Err(CallError::Refused {
                actor: self.name.clone(),
                message,
            }),
            Outcome::Undecodable(source) => Err(CallError::Decode {
                actor: self.name.clone(),
                source,
            }),
            Outcome::Timeout => Err(self.late(timeout)),
            Outcome::Gone => Err(self.lost(&session, deadline, timeout)),
        }
    }

    /// Why there will be no answer from an incarnation that is gone.
    fn lost(self: &Arc<Self>, session: &Session<M, R>, deadline: Instant, timeout: Duration) -> CallError {
        let deadline = deadline.max(Instant::now() + LAST_WORD);
        match self.ended(session.generation, deadline) {
            Ok(Some(error)) | Err(error) => error,
            Ok(None) => self.late(timeout),
        }
    }

    fn late(&self, after: Duration) -> CallError {
        CallError::Timeout {
            actor: self.name.clone(),
            after,
        }
    }

    /// Whether what this thread handles now would wait for itself, if it waited for the actor.
    pub(super) fn check_cycle_now(&self) -> Result<(), CallError> {
        self.check_cycle(&in_line())
    }

    fn check_cycle(&self, chain: &[Caller]) -> Result<(), CallError> {
        let Some(first) = chain.iter().position(|caller| caller.key == self.key) else {
            return Ok(());
        };
        let names = chain[first..].iter().map(|caller| caller.name.as_str());
        let path: Vec<&str> = names.chain([self.name.as_str()]).collect();
        Err(CallError::Cycle { path: path.join(" -> ") })
    }

    fn send(&self, session: &Session<M, R>, request: Request<M, R>, deadline: Instant) -> Result<(), SendEnd> {
        let left = deadline.saturating_duration_since(Instant::now());
        session.door.send_timeout(request, left).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => SendEnd::Timeout,
            SendTimeoutError::Failed(SendError::Disconnected(_) | SendError::Moved(_)) => SendEnd::Gone,
            SendTimeoutError::Failed(SendError::Encode(_, source)) => SendEnd::Failed(CallError::Encode {
                actor: self.name.clone(),
                source,
            }),
            SendTimeoutError::Failed(error) => SendEnd::Failed(self.io(error)),
        })
    }

    fn post(self: &Arc<Self>, letter: Letter<M>, deadline: Instant) -> Result<(), SendEnd> {
        let mailbox = self.mailbox(deadline).map_err(SendEnd::Failed)?.ok_or(SendEnd::Timeout)?;
        let left = deadline.saturating_duration_since(Instant::now());
        mailbox.put_timeout(letter, left).map_err(|error| match error {
            PutTimeoutError::Timeout(_) => SendEnd::Timeout,
            PutTimeoutError::Failed(PutError::Closed(_)) => SendEnd::Gone,
            PutTimeoutError::Failed(PutError::Disconnected(_)) => SendEnd::Failed(self.down(DownReason::OwnerGone)),
            PutTimeoutError::Failed(PutError::Encode(_, source)) => SendEnd::Failed(CallError::Encode {
                actor: self.name.clone(),
                source,
            }),
            PutTimeoutError::Failed(error) => SendEnd::Failed(self.io(error)),
        })
    }

    pub(super) fn call_async(self: &Arc<Self>, message: M, timeout: Duration) -> PendingReply<R> {
        let waiting = HANDLING.with_borrow(Clone::clone);
        let slot = Arc::new(Mutex::new(Slot { reply: None, waker: None }));
        let (link, theirs) = (self.clone(), slot.clone());
        let started = sys::service_thread("offspring-call", move || {
            let reply = match waiting {
                Some(waiting) => handling(waiting, || link.call(message, timeout)),
                None => link.call(message, timeout),
            };
            let mut slot = lock(&theirs);
            slot.reply = Some(reply);
            let waker = slot.waker.take();
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        if let Err(error) = started {
            lock(&slot).reply = Some(Err(self.io(error)));
        }
        PendingReply { slot }
    }
}

/// Why a call did not get on its way.
enum SendEnd {
    Timeout,
    Gone,
    Failed(CallError),
}

struct Slot<R> {
    reply: Option<Result<R, CallError>>,
    waker: Option<Waker>,
}

/// The reply of a call that runs beside the caller: a future, for any executor.
///
/// Dropping it lets the call run on; its reply is dropped. The call runs from its making on, polled or not.
#[must_use = "futures do nothing unless polled; this one has made its call, but its reply is lost"]
pub struct PendingReply<R> {
    slot: Arc<Mutex<Slot<R>>>,
}

impl<R> Future for PendingReply<R> {
    type Output = Result<R, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.slot);
        match slot.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<R> std::fmt::Debug for PendingReply<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let here = lock(&self.slot).reply.is_some();
        f.debug_struct("PendingReply").field("here", &here).finish_non_exhaustive()
    }
}
