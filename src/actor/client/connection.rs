//! The connection of this process to an actor: the actor's status, the session with its current
//! incarnation, and the casts sent.
//!
//! All addresses of one actor in one process share a connection. In the host's own process, the
//! host reports status changes by a direct call. Elsewhere it sends updates, which one thread of
//! the process receives for all connections (`connections.rs`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use crate::actor::client::connections;
use crate::actor::client::session::CallSession;
use crate::actor::host::record::{ActorRecord, StatusListener};
use crate::actor::protocol::{ActorKey, ActorStatus, DirectoryRequest, MailboxItem, StatusUpdate};
use crate::error::{CallError, DownReason};
use crate::ipc::reactor::WakerSet;
use crate::queue::{JoinableProducer, Producer};
use crate::sys::lock;
use crate::tally::{self, Tally};

/// How this process reaches the actor's host.
#[derive(Clone, Debug)]
pub(in crate::actor) enum Host {
    /// The host is this process.
    Local(Arc<ActorRecord>),
    Remote(Producer<DirectoryRequest>),
}

pub(in crate::actor) struct ActorConnection<M, R> {
    pub(in crate::actor) key: ActorKey,
    pub(in crate::actor) name: String,
    pub(in crate::actor) host: Host,
    pub(in crate::actor) mailbox: OnceLock<JoinableProducer<MailboxItem<M>>>,
    pub(in crate::actor) state: Mutex<State<R>>,
    pub(in crate::actor) changed: Condvar,
    /// The wakers of tasks that wait for a status.
    pub(in crate::actor) wakers: Arc<WakerSet>,
    /// How many casts of this process have entered the mailbox.
    sent: AtomicU64,
    /// How many of them have certainly been handled.
    handled: AtomicU64,
    answered: Tally,
    failed: Tally,
}

pub(in crate::actor) struct State<R> {
    /// When it last subscribed to the host.
    pub(in crate::actor) subscribed: Option<Instant>,
    pub(in crate::actor) status: Option<ActorStatus>,
    pub(in crate::actor) session: Option<Arc<CallSession<R>>>,
    pub(in crate::actor) ended: EndHistory,
}

/// The incarnations that ended last, oldest first, and why they ended.
pub(in crate::actor) type EndHistory = VecDeque<(u64, DownReason)>;

const ENDED_MAX: usize = 16;

/// Returns how the incarnation ended. If that is not known any more, returns the end of the first
/// one after it that is known.
pub(in crate::actor) fn end_since(
    ended: &EndHistory,
    generation: u64,
) -> Option<&(u64, DownReason)> {
    ended.iter().find(|(ended, _)| *ended >= generation)
}

impl<M: Send + 'static, R: Send + 'static> ActorConnection<M, R> {
    /// Returns this process's connection to the actor. The first call makes it.
    pub(in crate::actor) fn to(
        key: ActorKey,
        name: &str,
        host: Host,
    ) -> Arc<ActorConnection<M, R>> {
        let calls = |outcome| {
            Tally::of("offspring_actor_calls_total", tally::without_number(name), Some(outcome))
        };
        connections::get_or_make(key, || ActorConnection {
            answered: calls("answered"),
            failed: calls("failed"),
            key,
            name: name.to_owned(),
            host,
            mailbox: OnceLock::new(),
            state: Mutex::new(State {
                subscribed: None,
                status: None,
                session: None,
                ended: EndHistory::new(),
            }),
            changed: Condvar::new(),
            wakers: Arc::default(),
            sent: AtomicU64::new(0),
            handled: AtomicU64::new(0),
        })
    }
}

impl<M: Send + 'static, R: Send + 'static> StatusListener for ActorConnection<M, R> {
    fn update(&self, update: StatusUpdate) {
        if let Some(mailbox) = update.mailbox {
            let _ = self.mailbox.set(mailbox.cast());
        }
        self.take_status(update.status);
    }

    fn wake(&self) {
        self.wakers.wake();
    }
}

impl<R> State<R> {
    /// Returns the session if its incarnation has ended. The caller must drop it without the lock.
    fn set_status(&mut self, status: ActorStatus) -> Option<Arc<CallSession<R>>> {
        let session = match &status {
            ActorStatus::Restarting { generation, reason }
            | ActorStatus::Down { generation, reason } => {
                // The same end may be reported twice: first with a restart to follow, then without.
                if self.ended.back().is_none_or(|(last, _)| last < generation) {
                    self.ended.push_back((*generation, reason.clone()));
                }
                if self.ended.len() > ENDED_MAX {
                    self.ended.pop_front();
                }
                self.session.take()
            }
            ActorStatus::Starting | ActorStatus::Up { .. } => None,
        };
        self.status = Some(status);
        session
    }

    pub(in crate::actor) fn probe<T>(
        &self,
        probe: impl FnOnce(&ActorStatus, &EndHistory) -> Option<T>,
    ) -> Option<T> {
        let status = self.status.as_ref()?;
        probe(status, &self.ended)
    }
}

impl<M, R> ActorConnection<M, R> {
    pub(in crate::actor) fn set_status(&self, status: ActorStatus) {
        self.take_status(status);
        self.wakers.wake();
    }

    fn take_status(&self, status: ActorStatus) {
        let session = self.state().set_status(status);
        // Without the lock: dropping a session sends a message.
        drop(session);
        self.changed.notify_all();
    }

    pub(in crate::actor) fn count_call<T, E>(&self, outcome: &Result<T, E>) {
        let tally = if outcome.is_ok() { &self.answered } else { &self.failed };
        tally.add(1);
    }

    pub(in crate::actor) fn state(&self) -> MutexGuard<'_, State<R>> {
        lock(&self.state)
    }

    /// Makes waiting threads check again, after a change outside the connection.
    pub(in crate::actor) fn notify(&self) {
        // A thread that checked before the change is asleep by the time that this gets the lock.
        drop(self.state());
        self.changed.notify_all();
    }

    pub(in crate::actor) fn down(&self, reason: DownReason) -> CallError {
        CallError::Down { actor: self.name.clone(), reason }
    }

    pub(in crate::actor) fn io(&self, message: impl fmt::Display) -> CallError {
        CallError::Io { actor: self.name.clone(), message: message.to_string() }
    }

    /// Counts a cast that has entered the mailbox.
    pub(in crate::actor) fn count_cast(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns how many casts a call must not overtake; `None` if all have been handled, so that it
    /// may be direct.
    pub(in crate::actor) fn unhandled(&self) -> Option<u64> {
        let sent = self.sent.load(Ordering::SeqCst);
        (sent > self.handled.load(Ordering::SeqCst)).then_some(sent)
    }

    /// Called when a call through the mailbox was answered: the `sent` casts before it have been
    /// handled.
    pub(in crate::actor) fn set_handled(&self, sent: u64) {
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
