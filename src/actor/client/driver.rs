//! How the steps of a call wait: [`BlockingCall`] blocks the calling thread, `Polling`
//! (`call_async.rs`) is a future.
//!
//! A call is written once, as `async` functions that wait only through a [`CallDriver`]; see
//! [`ipc::block`](crate::ipc::block).

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::connection::{ActorConnection, EndHistory};
use crate::actor::client::pending::{CallId, CallOutcome};
use crate::actor::client::session::CallSession;
use crate::actor::protocol::ActorStatus;
use crate::error::CallError;
use crate::ipc::deadline::Deadline;

/// A way to wait, with a deadline.
pub(in crate::actor) trait CallDriver: Sized {
    fn timeout(&self) -> Duration;

    /// Returns a driver of the same kind whose deadline is no earlier than `patience` from now.
    fn at_least(&self, patience: Duration) -> Self;

    /// Waits until `probe` finds something in the actor's status. Returns `Ok(None)` at the
    /// deadline.
    async fn status<M, R, T>(
        &self,
        connection: &Arc<ActorConnection<M, R>>,
        probe: impl FnMut(&ActorStatus, &EndHistory) -> Option<T>,
    ) -> Result<Option<T>, CallError>
    where
        M: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static;

    /// Waits until `attempt` succeeds; it returns `None` if it finds no room within the limit that
    /// it gets. Returns `None` at the deadline.
    async fn room<T>(&self, attempt: impl FnMut(&Deadline) -> Option<T>) -> Option<T>;

    /// Waits for the reply to a call that was sent; `Ok(None)` at the deadline.
    async fn reply<R: DeserializeOwned>(
        &self,
        session: &CallSession<R>,
        call: CallId,
    ) -> io::Result<Option<CallOutcome<R>>>;
}

pub(in crate::actor) struct BlockingCall {
    timeout: Duration,
    /// The clock starts at the first wait. So a call to a free actor sends its message first, and
    /// reads the clock while the actor is working.
    limit: Deadline,
}

impl BlockingCall {
    pub(in crate::actor) fn new(timeout: Duration) -> BlockingCall {
        BlockingCall { timeout, limit: Deadline::after(timeout) }
    }
}

// Each wait blocks inside the function that makes its future, which is then ready: a step without a
// frame of its own.
impl CallDriver for BlockingCall {
    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn at_least(&self, patience: Duration) -> BlockingCall {
        let least = Instant::now() + patience;
        BlockingCall {
            timeout: self.timeout,
            limit: self.limit.deadline().map(|end| end.max(least)).into(),
        }
    }

    fn status<M, R, T>(
        &self,
        connection: &Arc<ActorConnection<M, R>>,
        probe: impl FnMut(&ActorStatus, &EndHistory) -> Option<T>,
    ) -> impl Future<Output = Result<Option<T>, CallError>>
    where
        M: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        ready(connection.wait(&self.limit, probe))
    }

    #[inline]
    fn room<T>(
        &self,
        mut attempt: impl FnMut(&Deadline) -> Option<T>,
    ) -> impl Future<Output = Option<T>> {
        ready(attempt(&self.limit))
    }

    #[inline]
    fn reply<R: DeserializeOwned>(
        &self,
        session: &CallSession<R>,
        call: CallId,
    ) -> impl Future<Output = io::Result<Option<CallOutcome<R>>>> {
        ready(Ok(session.wait(call, &self.limit)))
    }
}
