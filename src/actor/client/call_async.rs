//! Calls of tasks: the steps of a call, each looked at again when something has changed, with no thread a call.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::call::{SendEnd, after, in_line};
use crate::actor::client::connect::ASK_AGAIN;
use crate::actor::client::connection::{ActorConnection, Ended};
use crate::actor::client::pending::{CallId, CallOutcome};
use crate::actor::client::session::{OpenEnd, Session};
use crate::actor::client::timer::Alarm;
use crate::actor::protocol::{Chain, Letter, Status};
use crate::error::CallError;
use crate::ipc::deadline::Deadline;
use crate::ipc::reactor::WakerSet;

/// How long one that found no room waits at first, and at most, before it tries again.
const NO_ROOM: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Waits until `look` finds something; it is asked at each change, and every now and then. `None` at the deadline.
async fn until<T>(
    told: &Arc<WakerSet>,
    deadline: Instant,
    mut look: impl FnMut() -> Option<T>,
) -> std::io::Result<Option<T>> {
    let waiter = told.register()?;
    let mut alarm = Alarm::default();
    let found = poll_fn(|context| {
        waiter.set(context.waker());
        if let Some(found) = look() {
            return Poll::Ready(Some(found));
        }
        let now = Instant::now();
        if deadline <= now {
            return Poll::Ready(None);
        }
        alarm.set(deadline.min(now + ASK_AGAIN), context.waker());
        Poll::Pending
    });
    Ok(found.await)
}

/// Lets some time pass, more each time; whether there is any left.
async fn pass(pause: &mut Duration, deadline: Instant) -> bool {
    let due = deadline.min(Instant::now() + *pause);
    *pause = (*pause * 2).min(NO_ROOM.1);
    let mut alarm = Alarm::default();
    poll_fn(|context| {
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        alarm.set(due, context.waker());
        Poll::Pending
    })
    .await;
    Instant::now() < deadline
}

/// A call whose answer somebody waits for. Dropped, nobody does.
struct Waiting<'a, R: DeserializeOwned> {
    session: &'a Session<R>,
    call: CallId,
    stage: Stage,
}

enum Stage {
    Unsent,
    Sent,
    /// It has come to something, so that it is no more.
    Over,
}

impl<R: DeserializeOwned> Drop for Waiting<'_, R> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Unsent => self.session.cancel(self.call),
            Stage::Sent => self.session.leave(self.call),
            Stage::Over => {}
        }
    }
}

impl<M, R> ActorConnection<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// As `call`. What this thread handles is looked at now, all else when the future is polled.
    pub(in crate::actor) fn call_async(
        self: &Arc<Self>,
        message: M,
        timeout: Duration,
    ) -> impl Future<Output = Result<R, CallError>> + Send + use<M, R> {
        let link = self.clone();
        let chain = in_line();
        async move {
            link.check_cycle(&chain)?;
            let deadline = after(timeout);
            let Some(session) = link.session_async(deadline).await? else {
                return Err(link.late(timeout));
            };
            let unhandled = link.unhandled();
            let outcome = link
                .outcome_async(&session, unhandled, chain, message, deadline)
                .await?;
            match link.conclude(outcome, unhandled, timeout) {
                Some(result) => result,
                None => {
                    link.drop_session(&session);
                    link.lost_async(session.generation, deadline, timeout).await
                }
            }
        }
    }

    async fn outcome_async(
        self: &Arc<Self>,
        session: &Session<R>,
        unhandled: Option<u64>,
        chain: Chain,
        message: M,
        deadline: Instant,
    ) -> Result<CallOutcome<R>, CallError> {
        let call = session.register(unhandled.is_none());
        let stage = Stage::Unsent;
        let mut waiting = Waiting {
            session,
            call,
            stage,
        };
        let sent = match call {
            CallId::Direct(place) => {
                self.send_async(session, place, chain, message, deadline)
                    .await
            }
            CallId::Letter(number) => {
                self.post_async(session.letter(number, chain, message), deadline)
                    .await
            }
        };
        match sent {
            Ok(()) => {
                waiting.stage = Stage::Sent;
                let answer = session
                    .answer_async(call, deadline)
                    .await
                    .map_err(|error| self.io(error))?;
                if answer.is_some() {
                    waiting.stage = Stage::Over;
                }
                Ok(answer.unwrap_or(CallOutcome::Timeout))
            }
            Err(end) => end.outcome(),
        }
    }

    async fn send_async(
        &self,
        session: &Session<R>,
        place: usize,
        chain: Chain,
        message: M,
        deadline: Instant,
    ) -> Result<(), SendEnd> {
        let mut pause = NO_ROOM.0;
        loop {
            match self.send(
                session,
                place,
                &chain,
                &message,
                &Deadline::after(Duration::ZERO),
            ) {
                Err(SendEnd::Timeout) if pass(&mut pause, deadline).await => {}
                sent => return sent,
            }
        }
    }

    async fn post_async(
        self: &Arc<Self>,
        mut letter: Letter<M>,
        deadline: Instant,
    ) -> Result<(), SendEnd> {
        let known = self
            .wait_async(deadline, |_, _| self.known_mailbox().map(|_| ()))
            .await;
        known.map_err(SendEnd::Failed)?.ok_or(SendEnd::Timeout)?;
        let mut pause = NO_ROOM.0;
        while let Some(back) = self.try_post(letter, Instant::now())? {
            letter = back;
            if !pass(&mut pause, deadline).await {
                return Err(SendEnd::Timeout);
            }
        }
        Ok(())
    }

    async fn lost_async(
        self: &Arc<Self>,
        called: u64,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let deadline = Self::last_word(deadline);
        match self
            .wait_async(deadline, |status, ended| {
                self.end_of_call(called, status, ended)
            })
            .await
        {
            Ok(Some(error)) | Err(error) => Err(error),
            Ok(None) => Err(self.late(timeout)),
        }
    }

    /// As `wait`.
    async fn wait_async<T>(
        self: &Arc<Self>,
        deadline: Instant,
        mut look: impl FnMut(&Status, &Ended) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        self.attach()?;
        let mut looked = Instant::now();
        let found = until(self.told(), deadline, || {
            if looked.elapsed() >= ASK_AGAIN {
                looked = Instant::now();
                if let Err(error) = self.look_for_keeper() {
                    return Some(Err(error));
                }
            }
            self.look(&mut look).map(Ok)
        });
        found.await.map_err(|error| self.io(error))?.transpose()
    }

    /// As `session`.
    async fn session_async(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Option<Arc<Session<R>>>, CallError> {
        if let Some(session) = self.own_session() {
            return Ok(Some(session));
        }
        let mut after = None;
        let mut pause = NO_ROOM.0;
        loop {
            let up = self
                .wait_async(deadline, |status, _| self.up(status, after))
                .await?;
            let Some(up) = up else { return Ok(None) };
            let (generation, door) = up?;
            match Session::open(generation, &door, Instant::now()) {
                Ok(session) => return Ok(Some(self.settle_session(session))),
                Err(OpenEnd::Timeout) => {
                    if !pass(&mut pause, deadline).await {
                        return Ok(None);
                    }
                }
                Err(OpenEnd::Gone) => after = Some(generation),
                Err(OpenEnd::Io(message)) => return Err(self.io(message)),
            }
        }
    }
}

impl<R: DeserializeOwned> Session<R> {
    /// As `wait`; `None` at the deadline.
    async fn answer_async(
        &self,
        call: CallId,
        deadline: Instant,
    ) -> std::io::Result<Option<CallOutcome<R>>> {
        let target = self.target();
        let told = until(self.told(), deadline, || self.try_wait(call));
        // Told by threads that lead; by the line itself when there are none.
        let waiter = target
            .as_ref()
            .map(|target| target.register())
            .transpose()?;
        let mut told = std::pin::pin!(told);
        let outcome = poll_fn(|context| {
            if let Poll::Ready(outcome) = told.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
            let seat = waiter.as_ref().map(|waiter| (waiter, context.waker()));
            if target.as_ref().is_some_and(|target| target.is_ready(seat)) {
                // Something came in between: for this call, or for that of a thread that is about to take it.
                context.waker().wake_by_ref();
            }
            Poll::Pending
        });
        outcome.await
    }
}
