//! Calls of tasks: each step is tried again when something has changed. A call occupies no thread.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::chain;
use crate::actor::client::connect::HOST_CHECK;
use crate::actor::client::connection::{ActorConnection, EndHistory};
use crate::actor::client::driver::CallDriver;
use crate::actor::client::pending::{CallId, CallOutcome};
use crate::actor::client::session::CallSession;
use crate::actor::client::timer::Alarm;
use crate::actor::protocol::ActorStatus;
use crate::error::CallError;
use crate::ipc::deadline::Deadline;
use crate::ipc::reactor::WakerSet;
use crate::trace;

/// How long a task that found no room pauses before it tries again: the first pause, and the
/// longest. No event wakes it earlier.
const NO_ROOM: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

impl<M, R> ActorConnection<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// Like `call`. The chain and the span are those of the calling thread; everything else happens
    /// when the future is polled.
    pub(in crate::actor) fn call_async(
        self: &Arc<Self>,
        message: M,
        timeout: Duration,
    ) -> impl Future<Output = Result<R, CallError>> + Send + use<M, R> {
        let connection = self.clone();
        let context = trace::capture();
        let chain = chain::current().within(context.as_ref());
        async move {
            let driver = Polling { timeout, deadline: Deadline::after(timeout).instant() };
            let outcome = {
                let _held = context;
                connection.call_by(driver, chain, message).await
            };
            connection.count_call(&outcome);
            trace::release_due();
            outcome
        }
    }
}

struct Polling {
    timeout: Duration,
    deadline: Instant,
}

impl CallDriver for Polling {
    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn at_least(&self, patience: Duration) -> Polling {
        Polling { timeout: self.timeout, deadline: self.deadline.max(Instant::now() + patience) }
    }

    async fn status<M, R, T>(
        &self,
        connection: &Arc<ActorConnection<M, R>>,
        mut probe: impl FnMut(&ActorStatus, &EndHistory) -> Option<T>,
    ) -> Result<Option<T>, CallError>
    where
        M: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        connection.subscribe()?;
        let mut checked = Instant::now();
        let found = until(&connection.wakers, self.deadline, || {
            if checked.elapsed() >= HOST_CHECK {
                checked = Instant::now();
                connection.check_host();
            }
            connection.state().probe(&mut probe)
        });
        found.await.map_err(|error| connection.io(error))
    }

    async fn room<T>(&self, mut attempt: impl FnMut(&Deadline) -> Option<T>) -> Option<T> {
        let mut pause = NO_ROOM.0;
        loop {
            if let Some(done) = attempt(&Deadline::now()) {
                return Some(done);
            }
            sleep_until(self.deadline.min(Instant::now() + pause)).await;
            if self.deadline <= Instant::now() {
                return None;
            }
            pause = (pause * 2).min(NO_ROOM.1);
        }
    }

    async fn reply<R: DeserializeOwned>(
        &self,
        session: &CallSession<R>,
        call: CallId,
    ) -> io::Result<Option<CallOutcome<R>>> {
        // Threads that lead wake the session's wakers; if no thread leads, the channel's event
        // source does.
        let source = session.event_source();
        let slot = source.as_ref().map(|source| source.register()).transpose()?;
        let mut delivered =
            pin!(until(session.wakers(), self.deadline, || { session.try_reply(call) }));
        poll_fn(|context| {
            if let Poll::Ready(outcome) = delivered.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
            let interest = slot.as_ref().map(|slot| (slot, context.waker()));
            if source.as_ref().is_some_and(|source| source.is_ready(interest)) {
                // A message came after the check. It is for this call, or for the call of a thread
                // that is about to receive it.
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }
}

/// Waits until `probe` finds something. It is called at each change, and at least every
/// [`HOST_CHECK`]. Returns `None` at the deadline.
async fn until<T>(
    wakers: &Arc<WakerSet>,
    deadline: Instant,
    mut probe: impl FnMut() -> Option<T>,
) -> io::Result<Option<T>> {
    let slot = wakers.register()?;
    let mut alarm = Alarm::default();
    let found = poll_fn(|context| {
        // Before the check, so that a change after it wakes the task.
        slot.set(context.waker());
        if let Some(found) = probe() {
            return Poll::Ready(Some(found));
        }
        let now = Instant::now();
        if deadline <= now {
            return Poll::Ready(None);
        }
        alarm.set(deadline.min(now + HOST_CHECK), context.waker());
        Poll::Pending
    });
    Ok(found.await)
}

async fn sleep_until(due: Instant) {
    let mut alarm = Alarm::default();
    poll_fn(|context| {
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        alarm.set(due, context.waker());
        Poll::Pending
    })
    .await;
}
