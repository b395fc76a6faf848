//! The host's record of an actor: its mailbox, its current incarnation, and the clients that follow
//! its status.
//!
//! A record outlives the incarnations. Each of those has a process, a channel for requests, and a
//! thread of the host that reads its reports until it ends (`launch.rs`). Whether another
//! incarnation follows is decided by the code that launched the last one (`on_end`): an owner never
//! restarts, a supervisor may. Clients of the dead incarnation wait until that decision is
//! published.
//!
//! # Order of status changes
//!
//! Three threads may publish at the same time: the one that launches (`Up`), the incarnation's host
//! thread (`Restarting`, when the supervisor takes long), and the owner or supervisor (`Down`). Two
//! rules keep every client's view in order:
//!
//! - `subscribers` is locked for a whole publication: the change of the state and all its updates.
//!   So every client gets the updates in the order of the changes, and a client that subscribes
//!   gets the current status first and no older one after it. This lock is held while updates are
//!   sent, which takes at most [`UPDATE_PATIENCE`] if clients do not read. `state` is not
//!   held then, so a thread that only reads the status never waits for a client.
//! - A publication that may be outdated checks under `state` whether it is still true
//!   ([`ActorRecord::publish_if`]). `Up` is true only while the incarnation runs, because its host
//!   thread may already have seen its end; `Restarting` is true only while nothing else was
//!   decided.
//!
//! Lock order: `subscribers`, then `state`.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::actor::protocol::{
    ActorExit, ActorKey, ActorStatus, Blob, Erased, Request, StatusUpdate,
};
use crate::channel::Sender;
use crate::diagnostics;
use crate::error::{CreateError, DownReason};
use crate::ipc::deadline::Deadline;
use crate::process::Process;
use crate::queue::{JoinableQueue, QueueKind};
use crate::sys::{self, lock};

/// Clients that do not take an update within this time get no more. They subscribe again when they
/// miss them.
pub(in crate::actor) const UPDATE_PATIENCE: Duration = Duration::from_millis(200);

/// The client number of listeners in this process.
const HERE: u64 = 0;

/// Called once for each incarnation that started, with its generation and how it ended.
pub(crate) type EndHook = Box<dyn FnOnce(&Arc<ActorRecord>, u64, DownReason) + Send>;

/// A subscriber in the host's own process.
pub(in crate::actor) trait StatusListener: std::any::Any + Send + Sync {
    /// Takes the update and wakes waiting threads, but no wakers.
    fn update(&self, update: StatusUpdate);

    /// Wakes the wakers that wait for an update. They may be user code, so the caller must hold no
    /// lock.
    fn wake(&self);
}

pub(crate) struct ActorRecord {
    pub(crate) key: ActorKey,
    pub(crate) name: String,
    pub(crate) mailbox: JoinableQueue<Erased>,
    state: Mutex<State>,
    changed: Condvar,
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct State {
    status: ActorStatus,
    /// How many times it was launched.
    launches: u64,
    running: Option<RunningActor>,
    previous: Option<DownReason>,
    checkpoint: Option<Blob>,
}

impl State {
    fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Returns whether it is still unpublished what follows this incarnation.
    fn is_undecided(&self, generation: u64) -> bool {
        match self.status {
            ActorStatus::Up { generation: up, .. } => up == generation,
            ActorStatus::Starting => self.launches == generation + 1,
            ActorStatus::Restarting { .. } | ActorStatus::Down { .. } => false,
        }
    }
}

/// The incarnation that is running.
#[derive(Clone, Debug)]
pub(in crate::actor) struct RunningActor {
    pub(in crate::actor) process: Arc<Process<ActorExit>>,
    pub(in crate::actor) requests: Sender<Request>,
    /// The heartbeat limit, if the incarnation missed it and was killed for that.
    hung: Option<Duration>,
}

impl RunningActor {
    pub(in crate::actor) fn new(
        process: Arc<Process<ActorExit>>,
        requests: Sender<Request>,
    ) -> RunningActor {
        RunningActor { process, requests, hung: None }
    }
}

/// What a new incarnation learns about those before it.
pub(in crate::actor) struct Predecessors {
    /// How many there were, which is the number of the new one.
    pub(in crate::actor) generation: u64,
    pub(in crate::actor) previous: Option<DownReason>,
    pub(in crate::actor) checkpoint: Option<Blob>,
}

enum Subscriber {
    Local(Weak<dyn StatusListener>),
    Remote { client: u64, updates: Sender<StatusUpdate> },
}

impl ActorRecord {
    pub(crate) fn new(key: ActorKey, name: &str, mailbox: usize) -> Result<Self, CreateError> {
        // An item comes back whenever an incarnation dies while it holds it. That is not the item's
        // fault, so deliveries are not limited.
        let mailbox = JoinableQueue::builder()
            .kind(QueueKind::Mailbox)
            .name(name)
            .capacity(mailbox)
            .max_deliveries(u32::MAX)
            .max_dead_letters(0)
            .build()?;
        // A process counts as a consumer once it has tried to get. So the queue is not abandoned
        // between two incarnations, and a cast waits for the restart.
        let _ = mailbox.try_get();
        Ok(ActorRecord {
            key,
            name: name.to_owned(),
            mailbox,
            state: Mutex::new(State {
                status: ActorStatus::Starting,
                launches: 0,
                running: None,
                previous: None,
                checkpoint: None,
            }),
            changed: Condvar::new(),
            subscribers: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn update(&self, client: u64, status: ActorStatus, mailbox: bool) -> StatusUpdate {
        // A client can put into the mailbox, and nothing else.
        let mailbox = mailbox.then(|| self.mailbox.producer());
        StatusUpdate { key: self.key, client, status, mailbox }
    }

    pub(in crate::actor) fn subscribe_local(&self, listener: &Arc<dyn StatusListener>) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(
            |subscriber| !matches!(subscriber, Subscriber::Local(old) if old.strong_count() == 0),
        );
        subscribers.push(Subscriber::Local(Arc::downgrade(listener)));
        let status = self.state().status.clone();
        listener.update(self.update(HERE, status, true));
        drop(subscribers);
        listener.wake();
    }

    pub(in crate::actor) fn subscribe_remote(
        &self,
        client: u64,
        updates: Sender<StatusUpdate>,
        mailbox: bool,
        patience: Duration,
    ) {
        let mut subscribers = lock(&self.subscribers);
        // Clients that have ended, too: the next change of the status may never come, and each of
        // them costs this process descriptors until then.
        subscribers.retain(|subscriber| match subscriber {
            Subscriber::Local(_) => true,
            Subscriber::Remote { client: old, updates } => *old != client && !updates.is_unheard(),
        });
        let status = self.state().status.clone();
        let is_final = matches!(status, ActorStatus::Down { .. });
        let update = self.update(client, status, mailbox);
        if updates.send_timeout(update, patience).is_ok() && !is_final {
            subscribers.push(Subscriber::Remote { client, updates });
        }
    }

    /// Changes the status, and sends it to all subscribers.
    pub(crate) fn publish(&self, status: ActorStatus) {
        self.publish_if(status, |_| true);
    }

    fn publish_if(&self, status: ActorStatus, holds: impl FnOnce(&State) -> bool) {
        let mut subscribers = lock(&self.subscribers);
        let mut state = self.state();
        if !holds(&state) {
            return;
        }
        state.status = status.clone();
        drop(state);
        self.changed.notify_all();
        let mut lost = 0;
        if matches!(status, ActorStatus::Down { .. }) {
            // Before clients learn of the end, so that a later cast finds the mailbox closed. The
            // items are dropped now, not with the record, because they may hold senders that other
            // processes wait on.
            lost = self.mailbox.close_and_discard().unwrap_or(0);
        }
        // For all clients together, so that many that read nothing do not add up.
        let limit = Deadline::after(UPDATE_PATIENCE);
        let mut updated = Vec::new();
        subscribers.retain(|subscriber| match subscriber {
            Subscriber::Local(listener) => {
                let listener = listener.upgrade();
                let is_alive = listener.is_some();
                updated.extend(listener.inspect(|listener| {
                    listener.update(self.update(HERE, status.clone(), false));
                }));
                is_alive
            }
            Subscriber::Remote { client, updates } => {
                updates.send_within(self.update(*client, status.clone(), false), &limit).is_ok()
            }
        });
        // That was the last update. The record stays for a while, and must not keep a descriptor
        // for each client of an actor that is no more.
        if matches!(status, ActorStatus::Down { .. }) {
            subscribers.clear();
        }
        // Wakers and the logger are user code, which must not run under the lock. A waker that runs
        // late finds the newest status, so the order of updates is kept.
        drop(subscribers);
        updated.iter().for_each(|listener| listener.wake());
        if lost > 0 {
            diagnostics::warn(
                "offspring::actor",
                format_args!(
                    "actor `{}` is down: {lost} messages in its mailbox are lost",
                    self.name
                ),
            );
        }
    }

    /// Publishes that another incarnation will follow, unless it is decided within `patience` what
    /// follows. The supervisor may be busy for long, and its clients should not believe that the
    /// actor hangs.
    pub(crate) fn publish_restarting_after(
        &self,
        generation: u64,
        reason: DownReason,
        patience: Duration,
    ) {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while state.is_undecided(generation) && Instant::now() < deadline {
            state = sys::wait(&self.changed, state, Some(deadline));
        }
        drop(state);
        self.publish_if(ActorStatus::Restarting { generation, reason }, |state| {
            state.is_undecided(generation)
        });
    }

    /// Publishes that the incarnation is up, unless it has already ended: its end may have been
    /// published before.
    pub(in crate::actor) fn publish_up(&self, generation: u64, requests: Sender<Erased>) {
        let status = ActorStatus::Up { generation, requests };
        self.publish_if(status, State::runs);
    }

    /// Returns the number of the incarnation that was launched last: 0 for the first.
    pub(crate) fn generation(&self) -> u64 {
        self.state().launches.saturating_sub(1)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let state = self.state();
        state.running.as_ref().map(|running| running.process.pid())
    }

    /// Returns whether it is down for good.
    pub(in crate::actor) fn is_down(&self) -> bool {
        matches!(self.state().status, ActorStatus::Down { .. })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state().runs()
    }

    /// Returns how the last incarnation ended.
    pub(crate) fn previous(&self) -> Option<DownReason> {
        self.state().previous.clone()
    }

    /// Asks the incarnation to stop; with `drain`, after the messages that are in its mailbox now.
    /// Waits until `deadline` for room in its channel. An actor that leaves no room will not stop
    /// in time either, and the caller kills it after waiting for its end.
    pub(crate) fn request_stop(&self, drain: bool, deadline: Option<Instant>) {
        // Not under the lock: sending may wait.
        let requests = {
            let state = self.state();
            state.running.as_ref().map(|running| running.requests.clone())
        };
        if let Some(requests) = requests {
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            // An incarnation that is gone need not be asked.
            let _ = requests.send_timeout(Request::Stop { drain }, left);
        }
    }

    /// Like [`request_stop`](ActorRecord::request_stop), for threads that must not wait.
    pub(crate) fn request_stop_briefly(&self) {
        self.request_stop_within(UPDATE_PATIENCE);
    }

    pub(in crate::actor) fn request_stop_within(&self, patience: Duration) {
        self.request_stop(true, Instant::now().checked_add(patience));
    }

    pub(crate) fn kill(&self) {
        if let Some(running) = &self.state().running {
            running.process.kill();
        }
    }

    /// Counts a launch.
    pub(in crate::actor) fn next_incarnation(&self) -> Predecessors {
        let mut state = self.state();
        state.launches += 1;
        Predecessors {
            generation: state.launches - 1,
            previous: state.previous.clone(),
            checkpoint: state.checkpoint.clone(),
        }
    }

    pub(in crate::actor) fn set_running(&self, running: Option<RunningActor>) {
        self.state().running = running;
    }

    pub(in crate::actor) fn set_checkpoint(&self, checkpoint: Blob) {
        self.state().checkpoint = Some(checkpoint);
    }

    /// Returns the heartbeat limit, if the incarnation missed it and was killed for that.
    pub(in crate::actor) fn hung(&self) -> Option<Duration> {
        let state = self.state();
        state.running.as_ref().and_then(|running| running.hung)
    }

    pub(in crate::actor) fn kill_hung(&self, limit: Duration) {
        if let Some(running) = &mut self.state().running {
            running.hung = Some(limit);
            running.process.kill_with_programs();
        }
    }

    /// Waits until no incarnation is running. Returns `false` if one still is at the deadline.
    pub(crate) fn wait_end(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state();
        while state.runs() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            state = sys::wait(&self.changed, state, deadline);
        }
        true
    }

    /// Waits until the actor is down for good: its mailbox is closed, its name is free, and clients
    /// in this process have the update.
    ///
    /// It is not enough that the last incarnation has ended, because its host thread publishes that
    /// later. Until then a cast would be accepted, and lost.
    pub(in crate::actor) fn wait_down(&self) {
        let mut state = self.state();
        while !matches!(state.status, ActorStatus::Down { .. }) {
            state = sys::wait(&self.changed, state, None);
        }
        drop(state);
        // A publication holds this lock from the change of the status until its last update is
        // sent.
        drop(lock(&self.subscribers));
    }

    /// Notes the end of an incarnation that was never up.
    pub(in crate::actor) fn set_previous(&self, reason: &DownReason) {
        self.state().previous = Some(reason.clone());
    }

    /// Notes the end of an incarnation, and lets its launcher decide what follows.
    pub(in crate::actor) fn end(
        self: &Arc<ActorRecord>,
        generation: u64,
        reason: DownReason,
        on_end: EndHook,
    ) {
        let mut state = self.state();
        state.running = None;
        state.previous = Some(reason.clone());
        drop(state);
        self.changed.notify_all();
        on_end(self, generation, reason);
    }
}

impl fmt::Debug for ActorRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorRecord")
            .field("key", &self.key)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{RecvTimeoutError, channel};

    #[test]
    fn who_follows_an_actor_that_is_down_costs_nothing() {
        let record = ActorRecord::new(ActorKey { host: 1, number: 2 }, "gone", 1).unwrap();
        let (updates, early) = channel().unwrap();
        record.subscribe_remote(1, updates, false, UPDATE_PATIENCE);
        record.publish(ActorStatus::Down { generation: 0, reason: DownReason::Normal });
        let (updates, late) = channel().unwrap();
        record.subscribe_remote(2, updates, false, UPDATE_PATIENCE);
        for heard in [early, late] {
            let mut last = None;
            let end = loop {
                match heard.recv_timeout(Duration::from_secs(10)) {
                    Ok(update) => last = Some(update.status),
                    Err(end) => break end,
                }
            };
            assert!(matches!(last, Some(ActorStatus::Down { .. })), "{last:?}");
            assert!(matches!(end, RecvTimeoutError::Disconnected), "its sender is kept: {end:?}");
        }
    }

    #[test]
    fn who_followed_an_actor_and_has_ended_costs_nothing() {
        let record = ActorRecord::new(ActorKey { host: 1, number: 2 }, "alive", 1).unwrap();
        for client in 1..10 {
            let (updates, ended) = channel().unwrap();
            record.subscribe_remote(client, updates, true, UPDATE_PATIENCE);
            drop(ended);
        }
        // The next one finds that they are gone, and is the only one left.
        let (updates, _alive) = channel().unwrap();
        record.subscribe_remote(10, updates, true, UPDATE_PATIENCE);
        assert_eq!(lock(&record.subscribers).len(), 1);
    }
}
