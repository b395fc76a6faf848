//! How a connection gets what a call needs: the actor's status, a session with the incarnation that
//! is up, and the mailbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::connection::{ActorConnection, EndHistory, Host};
use crate::actor::client::connections;
use crate::actor::client::driver::CallDriver;
use crate::actor::client::session::{CallSession, OpenFailure};
use crate::actor::host::record::StatusListener;
use crate::actor::protocol::{ActorStatus, DirectoryRequest, Erased, MailboxItem};
use crate::channel::Sender;
use crate::error::{CallError, DownReason};
use crate::ipc::deadline::Deadline;
use crate::queue::{ANSWER_WITHIN, JoinableProducer};
use crate::sys;

/// How often a caller that waits for an update checks whether the host still exists.
pub(in crate::actor) const HOST_CHECK: Duration = Duration::from_millis(100);
/// After how long a waiting caller subscribes again: the host drops a client that was stopped and
/// took no updates.
const RESUBSCRIBE: Duration = Duration::from_secs(10);

impl<M, R> ActorConnection<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// Subscribes to the actor's status, unless that was done before.
    pub(in crate::actor) fn subscribe(self: &Arc<Self>) -> Result<(), CallError> {
        let mut state = self.state();
        if state.subscribed.is_some() {
            return Ok(());
        }
        state.subscribed = Some(Instant::now());
        drop(state);
        self.send_subscription()
    }

    /// The caller holds no lock: a local host updates this connection at once.
    fn send_subscription(self: &Arc<Self>) -> Result<(), CallError> {
        match &self.host {
            Host::Local(record) => {
                let listener: Arc<dyn StatusListener> = self.clone();
                record.subscribe_local(&listener);
                Ok(())
            }
            Host::Remote(directory) => {
                let updates = connections::update_sender().map_err(|error| {
                    self.state().subscribed = None;
                    self.io(error)
                })?;
                let request = DirectoryRequest::Subscribe {
                    number: self.key.number,
                    client: connections::subscription(self.key),
                    updates,
                    mailbox: self.mailbox.get().is_none(),
                };
                directory.put_timeout(request, ANSWER_WITHIN).or_else(|error| {
                    self.state().subscribed = None;
                    if error.is_timeout() {
                        // The host is suspended. `check_host` tries again as long as the caller
                        // waits.
                        Ok(())
                    } else if matches!(directory.is_closed(), Ok(true)) {
                        Err(self.down(DownReason::OwnerGone))
                    } else {
                        Err(self.io(error))
                    }
                })
            }
        }
    }

    /// Blocks until `probe` finds something in the status. It is called at each change. Returns
    /// `Ok(None)` at the deadline. If the host is gone, the status becomes `Down`.
    pub(in crate::actor) fn wait<T>(
        self: &Arc<Self>,
        limit: &Deadline,
        mut probe: impl FnMut(&ActorStatus, &EndHistory) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        self.subscribe()?;
        let mut state = self.state();
        loop {
            let found = state.probe(&mut probe);
            if found.is_some() || limit.is_over() {
                return Ok(found);
            }
            if matches!(self.host, Host::Local(_)) {
                state = sys::wait(&self.changed, state, limit.deadline());
                continue;
            }
            let now = Instant::now();
            let check = now + HOST_CHECK;
            let until = limit.deadline().map_or(check, |end| end.min(check));
            state = sys::wait(&self.changed, state, Some(until));
            if now.elapsed() >= HOST_CHECK {
                drop(state);
                self.check_host();
                state = self.state();
            }
        }
    }

    /// For a caller that waits in vain: the host may be gone, or an update may have been missed. If
    /// the system refuses a resource here, the next check tries again.
    pub(in crate::actor) fn check_host(self: &Arc<Self>) {
        let Host::Remote(directory) = &self.host else {
            return;
        };
        if matches!(directory.is_closed(), Ok(true)) {
            let generation = {
                let state = self.state();
                if matches!(state.status, Some(ActorStatus::Down { .. })) {
                    return;
                }
                state.ended.back().map_or(0, |ended| ended.0 + 1)
            };
            let reason = DownReason::OwnerGone;
            self.set_status(ActorStatus::Down { generation, reason });
            return;
        }
        let mut state = self.state();
        if state.subscribed.is_none_or(|subscribed| subscribed.elapsed() >= RESUBSCRIBE) {
            state.subscribed = Some(Instant::now());
            drop(state);
            let _ = self.send_subscription();
        }
    }

    /// Opens a session with the incarnation that is up. While the actor is being restarted, waits
    /// for the next one. Returns `None` at the deadline.
    pub(in crate::actor) async fn open_session<D: CallDriver>(
        self: &Arc<Self>,
        driver: &D,
    ) -> Result<Option<Arc<CallSession<R>>>, CallError> {
        let mut after = None;
        loop {
            let up = driver.status(self, |status, _| self.up(status, after)).await?;
            let Some(up) = up else { return Ok(None) };
            let (generation, requests) = up?;
            // Not under the lock: an actor may be slow to take the request, and updates must still
            // come in.
            let open = move |limit: &Deadline| match CallSession::open(generation, &requests, limit)
            {
                Err(OpenFailure::Timeout) => None,
                opened => Some(opened),
            };
            match driver.room(open).await {
                None | Some(Err(OpenFailure::Timeout)) => return Ok(None),
                Some(Ok(session)) => return Ok(Some(self.share_session(session))),
                // The update about its end is on its way.
                Some(Err(OpenFailure::Gone)) => after = Some(generation),
                Some(Err(OpenFailure::Io(message))) => return Err(self.io(message)),
            }
        }
    }

    /// Returns the session that is open, unless the actor has closed it.
    pub(in crate::actor) fn shared_session(&self) -> Option<Arc<CallSession<R>>> {
        let session = self.state().session.clone()?;
        if session.is_sound() {
            return Some(session);
        }
        self.drop_session(&session);
        None
    }

    /// Makes the next call open another session.
    pub(in crate::actor) fn drop_session(&self, session: &Arc<CallSession<R>>) {
        let mut state = self.state();
        let own = state.session.take_if(|own| Arc::ptr_eq(own, session));
        // Without the lock: dropping a session sends a message.
        drop(state);
        drop(own);
    }

    /// Returns the incarnation that is up, if it comes after `after`. An error if there will be
    /// none.
    fn up(
        &self,
        status: &ActorStatus,
        after: Option<u64>,
    ) -> Option<Result<(u64, Sender<Erased>), CallError>> {
        match status {
            ActorStatus::Up { generation, requests }
                if after.is_none_or(|after| *generation > after) =>
            {
                Some(Ok((*generation, requests.clone())))
            }
            ActorStatus::Down { reason, .. } => Some(Err(self.down(reason.clone()))),
            _ => None,
        }
    }

    /// Makes a session the one that all callers use. If two threads open one at the same time, the
    /// first wins, and dropping the other's closes it. If the session's incarnation has already
    /// ended, only the thread that opened it uses it, and its call fails.
    fn share_session(&self, session: CallSession<R>) -> Arc<CallSession<R>> {
        let session = Arc::new(session);
        let mut state = self.state();
        if let Some(first) = &state.session {
            let first = first.clone();
            drop(state);
            return first;
        }
        let up = matches!(&state.status, Some(ActorStatus::Up { generation, .. }) if *generation == session.generation);
        if up {
            state.session = Some(session.clone());
        }
        session
    }

    /// Returns the mailbox, a handle of which the host sends with the first update; `None` at the
    /// deadline.
    pub(in crate::actor) fn mailbox(
        self: &Arc<Self>,
        limit: &Deadline,
    ) -> Result<Option<&JoinableProducer<MailboxItem<M>>>, CallError> {
        if self.mailbox.get().is_none() {
            self.wait(limit, |_, _| self.mailbox.get().map(drop))?;
        }
        Ok(self.mailbox.get())
    }
}
