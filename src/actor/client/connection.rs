//! An actor as one other process sees it: how it is, and what this process has sent there.
//!
//! All addresses of one actor in one process share a link. It learns how the actor is from the keeper: directly
//! in the keeper's own process, elsewhere by news, which one thread of the process receives for all links.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use crate::actor::client::peers::{self, Peer};
use crate::actor::client::session::Session;
use crate::actor::host::record::Post;
use crate::actor::protocol::{ActorKey, DeskRequest, Letter, News, Status};
use crate::error::{CallError, DownReason};
use crate::ipc::reactor::WakerSet;
use crate::queue::{JoinableQueue, Queue};
use crate::sys::lock;

/// Where the keeper is.
#[derive(Clone, Debug)]
pub(in crate::actor) enum Way {
    Here(Arc<Post>),
    There(Queue<DeskRequest>),
}

pub(in crate::actor) struct ActorConnection<M, R> {
    pub(in crate::actor) key: ActorKey,
    pub(in crate::actor) name: String,
    pub(in crate::actor) way: Way,
    pub(in crate::actor) mailbox: OnceLock<JoinableQueue<Letter<M>>>,
    pub(in crate::actor) state: Mutex<State<R>>,
    pub(in crate::actor) changed: Condvar,
    /// Tasks that wait.
    told: Arc<WakerSet>,
    /// Casts of this process that lie in the mailbox, or were handled.
    sent: AtomicU64,
    /// So many of them were handled for sure.
    handled: AtomicU64,
}

pub(in crate::actor) struct State<R> {
    /// For news.
    pub(in crate::actor) asked: Option<Instant>,
    pub(in crate::actor) status: Option<Status>,
    pub(in crate::actor) session: Option<Arc<Session<R>>>,
    pub(in crate::actor) ended: Ended,
}

/// For tasks.
#[cfg(feature = "async")]
impl<M, R> ActorConnection<M, R> {
    pub(in crate::actor) fn told(&self) -> &Arc<WakerSet> {
        &self.told
    }

    pub(in crate::actor) fn look<T>(
        &self,
        look: impl FnOnce(&Status, &Ended) -> Option<T>,
    ) -> Option<T> {
        let state = self.state();
        state
            .status
            .as_ref()
            .and_then(|status| look(status, &state.ended))
    }
}

/// The last incarnations that ended, oldest first, and why.
pub(in crate::actor) type Ended = VecDeque<(u64, DownReason)>;

/// So many ends are remembered, for those who ask late.
const ENDED_MAX: usize = 16;

/// How the incarnation ended, or the first one after it of which is known.
pub(in crate::actor) fn end_of(ended: &Ended, generation: u64) -> Option<&(u64, DownReason)> {
    ended.iter().find(|(ended, _)| *ended >= generation)
}

impl<M: Send + 'static, R: Send + 'static> ActorConnection<M, R> {
    /// The link of this process to the actor; made if there is none.
    pub(in crate::actor) fn of(key: ActorKey, name: &str, way: Way) -> Arc<ActorConnection<M, R>> {
        peers::get_or_make(key, || ActorConnection {
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

impl<M: Send + 'static, R: Send + 'static> Peer for ActorConnection<M, R> {
    fn news(&self, news: News) {
        if let Some(mailbox) = news.mailbox {
            let _ = self.mailbox.set(mailbox.cast());
        }
        self.take(news.status);
    }
}

impl<R> State<R> {
    /// Gives the session back with an incarnation that has ended.
    fn take(&mut self, status: Status) -> Option<Arc<Session<R>>> {
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

impl<M, R> ActorConnection<M, R> {
    /// This is how the actor is now.
    pub(in crate::actor) fn take(&self, status: Status) {
        let session = self.state().take(status);
        // Its end sends a word, which is not for under the lock.
        drop(session);
        self.changed.notify_all();
        self.told.wake();
    }

    pub(in crate::actor) fn state(&self) -> MutexGuard<'_, State<R>> {
        lock(&self.state)
    }

    /// Has those who wait look again, at what is theirs.
    pub(in crate::actor) fn nudge(&self) {
        drop(self.state());
        self.changed.notify_all();
    }

    pub(in crate::actor) fn down(&self, reason: DownReason) -> CallError {
        CallError::Down {
            actor: self.name.clone(),
            reason,
        }
    }

    pub(in crate::actor) fn io(&self, message: impl fmt::Display) -> CallError {
        CallError::Io {
            actor: self.name.clone(),
            message: message.to_string(),
        }
    }

    /// A cast of this process lies in the mailbox now.
    pub(in crate::actor) fn note_cast(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// How many casts a call must not overtake, if there may be some in the mailbox.
    pub(in crate::actor) fn unhandled(&self) -> Option<u64> {
        let sent = self.sent.load(Ordering::SeqCst);
        (sent > self.handled.load(Ordering::SeqCst)).then_some(sent)
    }

    /// A call through the mailbox was answered: what lay there before it is handled.
    pub(in crate::actor) fn note_handled(&self, sent: u64) {
        self.handled.fetch_max(sent, Ordering::SeqCst);
    }
}

impl<M, R> fmt::Debug for ActorConnection<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorConnection")
            .field("key", &self.key)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
