//! A call: from the message to the reply, or to the error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::chain;
use crate::actor::client::connection::{ActorConnection, end_since};
use crate::actor::client::driver::{BlockingCall, CallDriver};
use crate::actor::client::pending::{CallId, CallOutcome};
use crate::actor::client::session::CallSession;
use crate::actor::protocol::{ActorStatus, CallChain, CallMark, CallNumber, MailboxItem};
use crate::channel::SendFailure;
use crate::error::{CallError, DownReason, PutTimeoutError, printable};
use crate::ipc::block::block;
use crate::ipc::deadline::{Deadline, WaitEnd, Waited};
use crate::ipc::wire::Shape;
use crate::queue::JoinableProducer;
use crate::trace;

/// How long a caller whose incarnation is gone waits for the reason, if its own time is up.
const REASON_PATIENCE: Duration = Duration::from_millis(500);

/// Why a call was not sent.
enum NotSent {
    Timeout,
    Gone,
    Failed(CallError),
}

/// A registered call. Dropping it abandons the call, since a future may be dropped at any time.
struct CallGuard<'a, R> {
    session: &'a CallSession<R>,
    call: CallId,
    stage: Stage,
}

enum Stage {
    Unsent,
    Sent,
    /// Its outcome was taken, so the session no longer knows it.
    Over,
}

impl<R> Drop for CallGuard<'_, R> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Unsent => self.session.remove(self.call),
            Stage::Sent => self.session.abandon(self.call),
            Stage::Over => {}
        }
    }
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
        let outcome = {
            let context = trace::capture();
            let chain = chain::current().within(context.as_ref());
            block(self.call_by(BlockingCall::new(timeout), chain, message))
        };
        self.count_call(&outcome);
        trace::release_due();
        outcome
    }

    /// The steps of a call, which wait in the way of `driver`. Steps that few calls need are boxed,
    /// so that they do not enlarge the frame of every call. All other steps are in this one
    /// function, because a call becomes slower if values move between frames.
    pub(in crate::actor) async fn call_by<D: CallDriver>(
        self: &Arc<Self>,
        driver: D,
        chain: CallChain,
        mut message: M,
    ) -> Result<R, CallError> {
        chain::check_cycle(&chain.callers, self.key, &self.name)?;
        let session = match self.shared_session() {
            Some(session) => Some(session),
            None => Box::pin(self.open_session(&driver)).await?,
        };
        let Some(session) = session else {
            return Err(self.timed_out(driver.timeout()));
        };
        // If casts of this process may be unhandled, the call goes through the mailbox, after them.
        let unhandled = self.unhandled();
        let call = session.register(unhandled.is_none());
        let mut guard = CallGuard { session: &session, call, stage: Stage::Unsent };
        let sent = match call {
            CallId::Direct(slot) => {
                match driver.room(direct_attempt(&session, slot, &chain, &mut message)).await {
                    Some(Ok(())) => Ok(()),
                    failed => Err(self.not_sent(failed)),
                }
            }
            CallId::Mailbox(number) => {
                Box::pin(self.post(&driver, &session, number, &chain, message)).await
            }
        };
        let outcome = match sent {
            Ok(()) => {
                guard.stage = Stage::Sent;
                let reply = driver.reply(&session, call).await;
                reply.map_err(|error| self.io(error))?.inspect(|_| guard.stage = Stage::Over)
            }
            Err(NotSent::Timeout) => None,
            Err(NotSent::Gone) => Some(CallOutcome::Gone),
            Err(NotSent::Failed(error)) => return Err(error),
        };
        drop(guard);
        match outcome {
            None => Err(self.timed_out(driver.timeout())),
            Some(CallOutcome::Reply(reply)) => {
                unhandled.into_iter().for_each(|sent| self.set_handled(sent));
                Ok(reply)
            }
            Some(CallOutcome::Refused(message)) => {
                let message = printable::text(message);
                Err(CallError::Refused { actor: self.name.clone(), message })
            }
            Some(CallOutcome::Undecodable(cause)) => {
                Err(CallError::Decode { actor: self.name.clone(), cause })
            }
            Some(CallOutcome::Gone) => {
                self.drop_session(&session);
                Err(Box::pin(self.why_gone(&driver, session.generation)).await)
            }
        }
    }

    /// Returns why a direct call was not sent.
    #[cold]
    fn not_sent(&self, failed: Option<Waited<(), SendFailure, Deadline>>) -> NotSent {
        match failed {
            None | Some(Ok(()) | Err(WaitEnd::Timeout(_))) => NotSent::Timeout,
            Some(Err(WaitEnd::Failed(SendFailure::Disconnected))) => NotSent::Gone,
            Some(Err(WaitEnd::Failed(SendFailure::Encode(cause)))) => {
                NotSent::Failed(CallError::Encode { actor: self.name.clone(), cause })
            }
            Some(Err(WaitEnd::Failed(SendFailure::Io(error)))) => NotSent::Failed(self.io(error)),
        }
    }

    /// Puts a call into the mailbox.
    async fn post<D: CallDriver>(
        self: &Arc<Self>,
        driver: &D,
        session: &CallSession<R>,
        number: CallNumber,
        chain: &CallChain,
        message: M,
    ) -> Result<(), NotSent> {
        let known = driver.status(self, |_, _| self.mailbox.get().map(drop)).await;
        known.map_err(NotSent::Failed)?.ok_or(NotSent::Timeout)?;
        let mut item = Some(session.mailbox_call(number, chain.clone(), message));
        let attempt =
            move |limit: &Deadline| match put_within(self.mailbox.get()?, item.take()?, limit) {
                Err(PutTimeoutError::Timeout(back)) => {
                    item = Some(back);
                    None
                }
                put => Some(put),
            };
        match driver.room(attempt).await {
            Some(Ok(())) => Ok(()),
            None => Err(NotSent::Timeout),
            Some(Err(PutTimeoutError::Closed(_))) => Err(NotSent::Gone),
            Some(Err(PutTimeoutError::Disconnected(_))) => {
                Err(NotSent::Failed(self.down(DownReason::OwnerGone)))
            }
            Some(Err(PutTimeoutError::Encode(_, cause))) => {
                Err(NotSent::Failed(CallError::Encode { actor: self.name.clone(), cause }))
            }
            Some(Err(error)) => Err(NotSent::Failed(self.io(error))),
        }
    }

    /// Waits until the host has published why an incarnation is gone.
    async fn why_gone<D: CallDriver>(self: &Arc<Self>, driver: &D, called: u64) -> CallError {
        let driver = driver.at_least(REASON_PATIENCE);
        let reason = driver.status(self, |status, ended| match status {
            ActorStatus::Down { reason, .. } => Some(self.down(reason.clone())),
            _ => end_since(ended, called).map(|(_, reason)| CallError::Restarted {
                actor: self.name.clone(),
                reason: reason.clone(),
            }),
        });
        match reason.await {
            Ok(Some(error)) | Err(error) => error,
            Ok(None) => self.timed_out(driver.timeout()),
        }
    }

    pub(in crate::actor) fn timed_out(&self, after: Duration) -> CallError {
        CallError::Timeout { actor: self.name.clone(), after }
    }
}

/// Returns the closure that sends a direct call. The closure returns `None` if it finds no room
/// within the limit.
#[inline]
fn direct_attempt<M: Serialize + DeserializeOwned, R>(
    session: &CallSession<R>,
    slot: usize,
    chain: &CallChain,
    message: &mut M,
) -> impl FnMut(&Deadline) -> Option<Waited<(), SendFailure, Deadline>> {
    let special = !chain.is_empty();
    let mark = CallMark { slot, special };
    move |limit| {
        let sent = if special {
            let shape = Shape::of::<(CallChain, M)>();
            session.send(mark, (&(chain, &*message), shape), limit)
        } else {
            session.send(mark, (&*message, Shape::of::<M>()), limit)
        };
        match sent {
            Err(WaitEnd::Timeout(_)) => None,
            sent => Some(sent),
        }
    }
}

/// Puts an item into the mailbox. After the deadline, tries once, without waiting for anything
/// else.
pub(in crate::actor) fn put_within<M: Serialize + DeserializeOwned + Send + 'static>(
    mailbox: &JoinableProducer<MailboxItem<M>>,
    item: MailboxItem<M>,
    limit: &Deadline,
) -> Result<(), PutTimeoutError<MailboxItem<M>>> {
    if !limit.is_over() {
        let left = limit.instant().saturating_duration_since(Instant::now());
        return mailbox.put_timeout(item, left);
    }
    mailbox.put_at_deadline(item)
}
