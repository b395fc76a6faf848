//! How a link comes to what a call needs: the keeper's word, a session with the incarnation that is up, the mailbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::connection::{ActorConnection, Ended, Way};
use crate::actor::client::peers::{self, Peer};
use crate::actor::client::session::{OpenEnd, Session};
use crate::actor::protocol::{DeskRequest, Erased, Letter, Status, own_number};
use crate::channel::Sender;
use crate::error::{CallError, DownReason};
use crate::queue::JoinableQueue;
use crate::sys;

/// How often one that waits for news asks whether the keeper is still there.
pub(in crate::actor) const ASK_AGAIN: Duration = Duration::from_millis(100);
/// When it asks for news once more: a process that was stopped for long may have missed some.
const MISSED: Duration = Duration::from_secs(10);

impl<M, R> ActorConnection<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// Asks the keeper how the actor is, unless that was done before.
    pub(in crate::actor) fn attach(self: &Arc<Self>) -> Result<(), CallError> {
        let mut state = self.state();
        if state.asked.is_some() {
            return Ok(());
        }
        state.asked = Some(Instant::now());
        drop(state);
        self.ask()
    }

    /// The link's lock is not held while it asks.
    fn ask(self: &Arc<Self>) -> Result<(), CallError> {
        match &self.way {
            Way::Here(post) => {
                let peer: Arc<dyn Peer> = self.clone();
                post.subscribe_here(&peer);
                Ok(())
            }
            Way::There(desk) => {
                let news = peers::news_way().map_err(|error| self.io(error))?;
                let (number, client) = (self.key.number, own_number());
                let mailbox = self.mailbox.get().is_none();
                desk.put(DeskRequest::Attach {
                    number,
                    client,
                    news,
                    mailbox,
                })
                .map_err(|error| {
                    self.state().asked = None;
                    if matches!(desk.is_closed(), Ok(true)) {
                        self.down(DownReason::OwnerGone)
                    } else {
                        self.io(error)
                    }
                })
            }
        }
    }

    /// Waits until `look` finds what it looks for, or the actor's keeper is gone; `Ok(None)` at the deadline.
    pub(in crate::actor) fn wait<T>(
        self: &Arc<Self>,
        deadline: Instant,
        mut look: impl FnMut(&Status, &Ended) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        self.attach()?;
        let mut state = self.state();
        loop {
            let found = state
                .status
                .as_ref()
                .and_then(|status| look(status, &state.ended));
            if found.is_some() {
                return Ok(found);
            }
            let now = Instant::now();
            if deadline <= now {
                return Ok(None);
            }
            if matches!(self.way, Way::Here(_)) {
                state = sys::wait(&self.changed, state, Some(deadline));
                continue;
            }
            state = sys::wait(&self.changed, state, Some(deadline.min(now + ASK_AGAIN)));
            if now.elapsed() >= ASK_AGAIN {
                drop(state);
                self.look_for_keeper()?;
                state = self.state();
            }
        }
    }

    /// For one that waits in vain: the keeper may be gone, or its news were missed.
    pub(in crate::actor) fn look_for_keeper(self: &Arc<Self>) -> Result<(), CallError> {
        let Way::There(desk) = &self.way else {
            return Ok(());
        };
        if matches!(desk.is_closed(), Ok(true)) {
            let generation = {
                let state = self.state();
                if matches!(state.status, Some(Status::Down { .. })) {
                    return Ok(());
                }
                state.ended.back().map_or(0, |ended| ended.0 + 1)
            };
            let reason = DownReason::OwnerGone;
            self.take(Status::Down { generation, reason });
            return Ok(());
        }
        let mut state = self.state();
        if state.asked.is_some_and(|asked| asked.elapsed() >= MISSED) {
            state.asked = Some(Instant::now());
            drop(state);
            self.ask()?;
        }
        Ok(())
    }

    /// The session with the incarnation that is up; waits for one while the actor is restarted.
    pub(in crate::actor) fn session(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Option<Arc<Session<R>>>, CallError> {
        if let Some(session) = self.own_session() {
            return Ok(Some(session));
        }
        let mut after = None;
        loop {
            let Some(up) = self.wait(deadline, |status, _| self.up(status, after))? else {
                return Ok(None);
            };
            let (generation, door) = up?;
            // Not under the lock: the actor may be slow to take it, and news must still come in.
            match Session::open(generation, &door, deadline) {
                Ok(session) => return Ok(Some(self.settle_session(session))),
                Err(OpenEnd::Timeout) => return Ok(None),
                // The news of its end is on the way.
                Err(OpenEnd::Gone) => after = Some(generation),
                Err(OpenEnd::Io(message)) => return Err(self.io(message)),
            }
        }
    }

    /// The session that is open. One that gets no answers any more is no longer.
    pub(in crate::actor) fn own_session(&self) -> Option<Arc<Session<R>>> {
        let session = self.state().session.clone()?;
        if session.is_sound() {
            return Some(session);
        }
        self.drop_session(&session);
        None
    }

    /// The next call opens another one.
    pub(in crate::actor) fn drop_session(&self, session: &Arc<Session<R>>) {
        let mut state = self.state();
        let own = state.session.take_if(|own| Arc::ptr_eq(own, session));
        // Its end sends a word, which is not for under the lock.
        drop(state);
        drop(own);
    }

    /// The incarnation that is up, if it is one after that; an error if there will be none.
    pub(in crate::actor) fn up(
        &self,
        status: &Status,
        after: Option<u64>,
    ) -> Option<Result<(u64, Sender<Erased>), CallError>> {
        match status {
            Status::Up { generation, door } if after.is_none_or(|after| *generation > after) => {
                Some(Ok((*generation, door.clone())))
            }
            Status::Down { reason, .. } => Some(Err(self.down(reason.clone()))),
            _ => None,
        }
    }

    /// Of two threads that open one, the first makes it everybody's.
    pub(in crate::actor) fn settle_session(&self, session: Session<R>) -> Arc<Session<R>> {
        let session = Arc::new(session);
        let mut state = self.state();
        if let Some(first) = &state.session {
            let first = first.clone();
            drop(state);
            return first;
        }
        let up = matches!(&state.status, Some(Status::Up { generation, .. }) if *generation == session.generation);
        if up {
            state.session = Some(session.clone());
        }
        session
    }

    pub(in crate::actor) fn mailbox(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Option<&JoinableQueue<Letter<M>>>, CallError> {
        if let Some(mailbox) = self.mailbox.get() {
            return Ok(Some(mailbox));
        }
        self.wait(deadline, |_, _| self.mailbox.get().is_some().then_some(()))?;
        Ok(self.mailbox.get())
    }

    pub(in crate::actor) fn known_mailbox(&self) -> Option<&JoinableQueue<Letter<M>>> {
        self.mailbox.get()
    }
}
