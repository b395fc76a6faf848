//! An actor as one other process sees it: how it is, the way to its mailbox, the session with its incarnation.
//!
//! All addresses of one actor in one process share a link. It learns how the actor is from the keeper: directly
//! in the keeper's own process, elsewhere by news, which one thread of the process receives for all links.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::keeper::Post;
use crate::actor::letters::{ActorKey, DeskRequest, Letter, News, Status, own_number};
use crate::actor::session::{OpenEnd, Session};
use crate::channel::{Receiver, Sender, channel};
use crate::error::{CallError, CreateError, DownReason};
use crate::queue::{JoinableQueue, Queue};
use crate::sys::{self, lock};

/// How often one that waits for news asks whether the keeper is still there.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// When it asks for news once more: a process that was stopped for long may have missed some.
const MISSED: Duration = Duration::from_secs(10);

/// A link without its types: what news reach.
pub(super) trait Peer: Any + Send + Sync {
    fn news(&self, news: News);
}

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

/// The last incarnations that ended, oldest first, and why.
pub(super) type Ended = VecDeque<(u64, DownReason)>;

/// So many ends are remembered, for those who ask late.
const ENDED_MAX: usize = 16;

/// How the incarnation ended, or the first one after it of which is known.
pub(super) fn end_of(ended: &Ended, generation: u64) -> Option<&(u64, DownReason)> {
    ended.iter().find(|(ended, _)| *ended >= generation)
}

fn peers() -> &'static Mutex<HashMap<ActorKey, Weak<dyn Peer>>> {
    static PEERS: OnceLock<Mutex<HashMap<ActorKey, Weak<dyn Peer>>>> = OnceLock::new();
    PEERS.get_or_init(Mutex::default)
}

/// Where keepers of other processes send this one their news.
fn news_way() -> Result<Sender<News>, CreateError> {
    static WAY: Mutex<Option<Sender<News>>> = Mutex::new(None);
    let mut way = lock(&WAY);
    if let Some(way) = &*way {
        return Ok(way.clone());
    }
    let (sender, receiver) = channel()?;
    sys::service_thread("offspring-news", move || spread(&receiver)).map_err(CreateError::io("start a thread"))?;
    *way = Some(sender.clone());
    Ok(sender)
}

/// Never ends, since this process holds a sender itself.
fn spread(receiver: &Receiver<News>) {
    for news in receiver {
        let peer = lock(peers()).get(&news.key).and_then(Weak::upgrade);
        if let Some(peer) = peer {
            peer.news(news);
        }
    }
}

impl<M: Send + 'static, R: Send + 'static> Link<M, R> {
    /// The link of this process to the actor; made if there is none.
    pub(super) fn of(key: ActorKey, name: &str, way: Way) -> Arc<Link<M, R>> {
        let mut peers = lock(peers());
        if let Some(peer) = peers.get(&key).and_then(Weak::upgrade) {
            let any: Arc<dyn Any + Send + Sync> = peer;
            if let Ok(link) = any.downcast() {
                return link;
            }
        }
        peers.retain(|_, peer| peer.strong_count() > 0);
        let link = Arc::new(Link {
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
            sent: AtomicU64::new(0),
            handled: AtomicU64::new(0),
        });
        let peer: Arc<dyn Peer> = link.clone();
        peers.insert(key, Arc::downgrade(&peer));
        link
    }
}

impl<M: Send + 'static, R: Send + 'static> Peer for Link<M, R> {
    fn news(&self, news: News) {
        if let Some(mailbox) = news.mailbox {
            let _ = self.mailbox.set(mailbox.retype());
        }
        let mut state = self.state();
        state.take(news.status);
        drop(state);
        self.changed.notify_all();
    }
}

impl<M, R> State<M, R> {
    fn take(&mut self, status: Status) {
        match &status {
            Status::Restarting { generation, reason } | Status::Down { generation, reason } => {
                // Told twice of the same end: first that it will be restarted, then that it will not.
                if self.ended.back().is_none_or(|(last, _)| last < generation) {
                    self.ended.push_back((*generation, reason.clone()));
                }
                if self.ended.len() > ENDED_MAX {
                    self.ended.pop_front();
                }
                self.session = None;
            }
            Status::Starting | Status::Up { .. } => {}
        }
        self.status = Some(status);
    }
}

impl<M, R> Link<M, R> {
    fn state(&self) -> MutexGuard<'_, State<M, R>> {
        lock(&self.state)
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
    fn attach(self: &Arc<Self>) -> Result<(), CallError> {
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
                let news = news_way().map_err(|error| self.io(error))?;
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
            let Way::There(desk) = &self.way else {
                state = sys::wait(&self.changed, state, Some(deadline));
                continue;
            };
            state = sys::wait(&self.changed, state, Some(deadline.min(now + ASK_AGAIN)));
            if now.elapsed() < ASK_AGAIN {
                continue;
            }
            let missed = state.asked.is_some_and(|asked| asked.elapsed() >= MISSED);
            if missed {
                state.asked = Some(Instant::now());
            }
            drop(state);
            let gone = desk.is_closed();
            if missed && !gone {
                self.ask()?;
            }
            state = self.state();
            if gone && !matches!(state.status, Some(Status::Down { .. })) {
                let generation = state.ended.back().map_or(0, |ended| ended.0 + 1);
                let reason = DownReason::OwnerGone;
                state.take(Status::Down { generation, reason });
                self.changed.notify_all();
            }
        }
    }

    /// The session with the incarnation that is up; waits for one while the actor is restarted.
    pub(super) fn session(self: &Arc<Self>, deadline: Instant) -> Result<Option<Arc<Session<M, R>>>, CallError> {
        if let Some(session) = &self.state().session {
            return Ok(Some(session.clone()));
        }
        let mut after = None;
        loop {
            let up = self.wait(deadline, |status, _| match status {
                Status::Up { generation, door } if after.is_none_or(|after| *generation > after) => Some(Ok((*generation, door.clone()))),
                Status::Down { reason, .. } => Some(Err(reason.clone())),
                _ => None,
            })?;
            let (generation, door) = match up {
                None => return Ok(None),
                Some(Err(reason)) => return Err(self.down(reason)),
                Some(Ok(up)) => up,
            };
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

    /// Of two threads that open one, the first makes it everybody's.
    fn settle_session(&self, session: Session<M, R>) -> Arc<Session<M, R>> {
        let mut state = self.state();
        if let Some(first) = &state.session {
            return first.clone();
        }
        let session = Arc::new(session);
        let up = matches!(&state.status, Some(Status::Up { generation, .. }) if *generation == session.generation);
        if up {
            state.session = Some(session.clone());
        }
        session
    }

    /// The incarnation that was called is gone: the error for its callers, as soon as its keeper has said why.
    pub(super) fn ended(self: &Arc<Self>, called: u64, deadline: Instant) -> Result<Option<CallError>, CallError> {
        self.wait(deadline, |status, ended| match status {
            Status::Down { reason, .. } => Some(self.down(reason.clone())),
            _ => end_of(ended, called).map(|(_, reason)| CallError::Restarted {
                actor: self.name.clone(),
                reason: reason.clone(),
            }),
        })
    }

    pub(super) fn mailbox(self: &Arc<Self>, deadline: Instant) -> Result<Option<&JoinableQueue<Letter<M>>>, CallError> {
        if let Some(mailbox) = self.mailbox.get() {
            return Ok(Some(mailbox));
        }
        self.wait(deadline, |_, _| self.mailbox.get().is_some().then_some(()))?;
        Ok(self.mailbox.get())
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
