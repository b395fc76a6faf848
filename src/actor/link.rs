//! An actor as one other process sees it: how it is, the way to its mailbox, the session with its incarnation.
//!
//! All addresses of one actor in one process share a link. It learns how the actor is from the keeper: directly
//! in the keeper's own process, elsewhere by news, which one thread of the process receives for all links.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::keeper::Post;
use crate::actor::letters::{ActorKey, DeskRequest, Erased, Letter, News, Status, own_number};
use crate::actor::peers::{self, Peer};
use crate::actor::session::{OpenEnd, Session};
use crate::channel::Sender;
use crate::error::{CallError, DownReason};
use crate::queue::{JoinableQueue, Queue};
use crate::sys::{self, lock};
use crate::watch::Waiters;

/// How often one that waits for news asks whether the keeper is still there.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(100);
/// When it asks for news once more: a process that was stopped for long may have missed some.
const MISSED: Duration = Duration::from_secs(10);

/// Where the keeper is.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Here(Arc<Post>),
    There(Queue<DeskRequest>),
}

pub(super) struct Link<M, R> {
    pub(super) key: ActorKey,
    pub(super) name: String,
    pub(super) way: Way,
    mailbox: OnceLock<JoinableQueue<Letter<M>>>,
    state: Mutex<State<M, R>>,
    changed: Condvar,
    /// Tasks that wait.
    told: Arc<Waiters>,
    /// Casts of this process that lie in the mailbox, or were handled.
    sent: AtomicU64,
    /// So many of them were handled for sure.
    handled: AtomicU64,
}

struct State<M, R> {
    /// For news.
    asked: Option<Instant>,
    status: Option<Status>,
    session: Option<Arc<Session<M, R>>>,
    ended: Ended,
}

/// For tasks.
#[cfg(feature = "async")]
impl<M, R> Link<M, R> {
    pub(super) fn told(&self) -> &Arc<Waiters> {
        &self.told
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Status, &Ended) -> Option<T>) -> Option<T> {
        let state = self.state();
        state.status.as_ref().and_then(|status| look(status, &state.ended))
    }
}

/// The last incarnations that ended, oldest first, and why.
pub(super) type Ended = VecDeque<(u64, DownReason)>;

/// So many ends are remembered, for those who ask late.
const ENDED_MAX: usize = 16;

/// How the incarnation ended, or the first one after it of which is known.
pub(super) fn end_of(ended: &Ended, generation: u64) -> Option<&(u64, DownReason)> {
    ended.iter().find(|(ended, _)| *ended >= generation)
}

impl<M: Send + 'static, R: Send + 'static> Link<M, R> {
    /// The link of this process to the actor; made if there is none.
    pub(super) fn of(key: ActorKey, name: &str, way: Way) -> Arc<Link<M, R>> {
        peers::get_or_make(key, || Link {
            key,
            name: name.to_owned(),
            way,
            mailbox: OnceLock::new(),
            state: Mutex::new(State {
                asked: None,
                status: None,
                session: None,
                ended: Ended::new(),
            }),
            changed: Condvar::new(),
            told: Arc::default(),
            sent: AtomicU64::new(0),
            handled: AtomicU64::new(0),
        })
    }
}

impl<M: Send + 'static, R: Send + 'static> Peer for Link<M, R> {
    fn news(&self, news: News) {
        if let Some(mailbox) = news.mailbox {
            let _ = self.mailbox.set(mailbox.retype());
        }
        self.take(news.status);
    }
}

impl<M, R> State<M, R> {
    /// Gives the session back with an incarnation that has ended.
    fn take(&mut self, status: Status) -> Option<Arc<Session<M, R>>> {
        let session = match &status {
            Status::Restarting { generation, reason } | Status::Down { generation, reason } => {
                // Told twice of the same end: first that it will be restarted, then that it will not.
                if self.ended.back().is_none_or(|(last, _)| last < generation) {
                    self.ended.push_back((*generation, reason.clone()));
                }
                if self.ended.len() > ENDED_MAX {
                    self.ended.pop_front();
                }
                self.session.take()
            }
            Status::Starting | Status::Up { .. } => None,
        };
        self.status = Some(status);
        session
    }
}

impl<M, R> Link<M, R> {
    fn take(&self, status: Status) {
        let session = self.state().take(status);
        // Its end sends a word, which is not for under the lock.
        drop(session);
        self.changed.notify_all();
        self.told.wake();
    }

    fn state(&self) -> MutexGuard<'_, State<M, R>> {
        lock(&self.state)
    }

    /// Has those who wait look again, at what is theirs.
    pub(super) fn nudge(&self) {
        drop(self.state());
        self.changed.notify_all();
    }

    pub(super) fn down(&self, reason: DownReason) -> CallError {
        CallError::Down {
            actor: self.name.clone(),
            reason,
        }
    }

    pub(super) fn io(&self, message: impl fmt::Display) -> CallError {
        CallError::Io {
            actor: self.name.clone(),
            message: message.to_string(),
        }
    }

    /// A cast of this process lies in the mailbox now.
    pub(super) fn note_cast(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// How many casts a call must not overtake, if there may be some in the mailbox.
    pub(super) fn unhandled(&self) -> Option<u64> {
        let sent = self.sent.load(Ordering::SeqCst);
        (sent > self.handled.load(Ordering::SeqCst)).then_some(sent)
    }

    /// A call through the mailbox was answered: what lay there before it is handled.
    pub(super) fn note_handled(&self, sent: u64) {
        self.handled.fetch_max(sent, Ordering::SeqCst);
    }
}

impl<M, R> Link<M, R>
where
    M: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// Asks the keeper how the actor is, unless that was done before.
    pub(super) fn attach(self: &Arc<Self>) -> Result<(), CallError> {
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
                    if desk.is_closed() {
                        self.down(DownReason::OwnerGone)
                    } else {
                        self.io(error)
                    }
                })
            }
        }
    }

    /// Waits until `look` finds what it looks for, or the actor's keeper is gone; `Ok(None)` at the deadline.
    pub(super) fn wait<T>(
        self: &Arc<Self>,
        deadline: Instant,
        mut look: impl FnMut(&Status, &Ended) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        self.attach()?;
        let mut state = self.state();
        loop {
            let found = state.status.as_ref().and_then(|status| look(status, &state.ended));
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
    pub(super) fn look_for_keeper(self: &Arc<Self>) -> Result<(), CallError> {
        let Way::There(desk) = &self.way else { return Ok(()) };
        if desk.is_closed() {
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
    pub(super) fn session(self: &Arc<Self>, deadline: Instant) -> Result<Option<Arc<Session<M, R>>>, CallError> {
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
            match Session::open(generation, door.retype(), deadline) {
                Ok(session) => return Ok(Some(self.settle_session(session))),
                Err(OpenEnd::Timeout) => return Ok(None),
                // The news of its end is on the way.
                Err(OpenEnd::Gone) => after = Some(generation),
                Err(OpenEnd::Io(message)) => return Err(self.io(message)),
            }
        }
    }

    pub(super) fn own_session(&self) -> Option<Arc<Session<M, R>>> {
        self.state().session.clone()
    }

    /// The incarnation that is up, if it is one after that; an error if there will be none.
    pub(super) fn up(&self, status: &Status, after: Option<u64>) -> Option<Result<(u64, Sender<Erased>), CallError>> {
        match status {
            Status::Up { generation, door } if after.is_none_or(|after| *generation > after) => Some(Ok((*generation, door.clone()))),
            Status::Down { reason, .. } => Some(Err(self.down(reason.clone()))),
            _ => None,
        }
    }

    /// Of two threads that open one, the first makes it everybody's.
    pub(super) fn settle_session(&self, session: Session<M, R>) -> Arc<Session<M, R>> {
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

    pub(super) fn mailbox(self: &Arc<Self>, deadline: Instant) -> Result<Option<&JoinableQueue<Letter<M>>>, CallError> {
        if let Some(mailbox) = self.mailbox.get() {
            return Ok(Some(mailbox));
        }
        self.wait(deadline, |_, _| self.mailbox.get().is_some().then_some(()))?;
        Ok(self.mailbox.get())
    }

    pub(super) fn known_mailbox(&self) -> Option<&JoinableQueue<Letter<M>>> {
        self.mailbox.get()
    }
}

impl<M, R> fmt::Debug for Link<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("key", &self.key)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
