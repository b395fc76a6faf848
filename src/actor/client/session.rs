//! A session: one client process and one incarnation. It has a ring to the incarnation, a channel
//! back, and the calls that wait for replies.
//!
//! # Leader and followers
//!
//! All callers of a process share the channel back, and no thread of its own reads it. One of the
//! callers, the leader, receives. It completes the calls of the others, and when its own has ended,
//! another caller leads. So a reply wakes only the thread that waits for it, as with a pipe, and a
//! lone caller receives its reply without a hand-over.
//!
//! This needs a certain order:
//!
//! - `has_leader` changes only under the lock of `calls`, and the leader receives without that
//!   lock. In one critical section, a caller checks first its own outcome and then whether there is
//!   a leader (`follow`, `try_reply`). So it cannot miss a reply that the old leader delivered, and
//!   one of the callers always leads: either this one, or one that will notify it.
//! - `deliver` resets `has_leader` in the same critical section in which it completes a call, and
//!   notifies after that. A follower that wakes finds either its outcome or the lead.
//! - All followers are notified, not one: the follower with the outcome must wake, and if only that
//!   one woke, none would take the lead.
//! - Tasks do not block, so a task leads only for a moment (`try_reply`). If there is nothing to
//!   receive, it gives up the lead and waits for two things: `wakers`, for what threads receive,
//!   and the channel's event source, for what no thread receives.
//!
//! # Abandoned calls
//!
//! A caller that gives up leaves its reply in the channel. If no thread read it, the actor would
//! find no room, and after a while close the session. So the next caller first receives the replies
//! of abandoned calls (`is_sound`). `abandoned` is a copy of their number, which each call reads
//! without the lock. A stale value is harmless: it delays the check to the next call.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::pending::{CallId, CallOutcome, PendingCalls, Progress, Received};
use crate::actor::protocol::{
    CallChain, CallHeader, CallMark, CallNumber, Erased, MailboxItem, MailboxReply, Request,
    own_process_number,
};
use crate::channel::{RawMessage, Receiver, SendFailure, Sender, channel};
use crate::error::{RecvError, SendTimeoutError};
use crate::ipc::deadline::{Deadline, WaitEnd, Waited};
#[cfg(feature = "async")]
use crate::ipc::reactor::EventSource;
use crate::ipc::reactor::WakerSet;
use crate::ipc::wire::{Failure, Retry, Shape};
use crate::sys::{self, lock};

pub(in crate::actor) struct CallSession<R> {
    pub(in crate::actor) generation: u64,
    number: u64,
    pub(in crate::actor) requests: Sender<Request>,
    replies: Receiver<MailboxReply<R>>,
    calls: Mutex<PendingCalls<R>>,
    abandoned: AtomicUsize,
    changed: Condvar,
    /// The wakers of tasks that wait for replies.
    wakers: Arc<WakerSet>,
}

/// Why there is no session.
pub(in crate::actor) enum OpenFailure {
    Timeout,
    Gone,
    Io(String),
}

impl<R: Serialize + DeserializeOwned> CallSession<R> {
    /// Opens a session with an incarnation: sends it the channel for its replies.
    pub(in crate::actor) fn open(
        generation: u64,
        requests: &Sender<Erased>,
        limit: &Deadline,
    ) -> Result<CallSession<R>, OpenFailure> {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let number = own_process_number().wrapping_add(SESSIONS.fetch_add(1, Ordering::Relaxed));
        let (to_us, replies) =
            channel::<MailboxReply<R>>().map_err(|error| OpenFailure::Io(error.to_string()))?;
        // It has a ring of its own, by which the incarnation recognizes the session's calls.
        let requests = requests.separate().cast::<Request>();
        let open = Request::Open { session: number, replies: to_us.cast() };
        match requests.send_within(open, limit) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => return Err(OpenFailure::Timeout),
            Err(SendTimeoutError::Disconnected(_)) => {
                return Err(OpenFailure::Gone);
            }
            Err(error) => return Err(OpenFailure::Io(error.to_string())),
        }
        Ok(CallSession {
            generation,
            number,
            requests,
            replies,
            calls: Mutex::new(PendingCalls::new()),
            abandoned: AtomicUsize::new(0),
            changed: Condvar::new(),
            wakers: Arc::default(),
        })
    }
}

impl<R> CallSession<R> {
    fn calls(&self) -> MutexGuard<'_, PendingCalls<R>> {
        lock(&self.calls)
    }

    pub(in crate::actor) fn register(&self, direct: bool) -> CallId {
        self.calls().register(direct)
    }

    /// Removes a call that was not sent.
    pub(in crate::actor) fn remove(&self, call: CallId) {
        self.calls().remove(call);
    }

    /// Gives up a call that was sent.
    pub(in crate::actor) fn abandon(&self, call: CallId) {
        let mut calls = self.calls();
        let unwanted = calls.abandon(call);
        self.abandoned.store(calls.abandoned(), Ordering::Relaxed);
        drop(calls);
        drop(unwanted);
    }

    /// Returns the item for a call that goes through the mailbox.
    pub(in crate::actor) fn mailbox_call<M>(
        &self,
        call: CallNumber,
        chain: CallChain,
        message: M,
    ) -> MailboxItem<M> {
        let session = self.number;
        MailboxItem::Call {
            header: CallHeader { session, call },
            generation: self.generation,
            chain,
            message,
        }
    }

    /// Sends a direct call.
    pub(in crate::actor) fn send<V: Serialize>(
        &self,
        mark: CallMark,
        message: (&V, Shape),
        limit: &Deadline,
    ) -> Waited<(), SendFailure, Deadline> {
        self.requests.send_marked(mark.mark(), message, limit)
    }
}

impl<R: DeserializeOwned> CallSession<R> {
    /// Waits for the reply to a call that was sent. Returns `None` at the deadline.
    pub(in crate::actor) fn wait(&self, call: CallId, limit: &Deadline) -> Option<CallOutcome<R>> {
        let mut retry = Retry::default();
        loop {
            match self.follow(call, limit) {
                Followed::Outcome(outcome) => return Some(outcome),
                Followed::Timeout => return None,
                Followed::Leads => {}
            }
            let received = decode(self.replies.recv_raw(limit));
            match self.deliver(Some(call), received) {
                Progress::Own(outcome) => return Some(outcome),
                Progress::Other(_) => {}
                Progress::Starved if !limit.is_over() => retry.pause(&Failure::Starved.into_io()),
                Progress::Nothing | Progress::Starved => return None,
            }
        }
    }

    /// Receives the replies that abandoned calls have left. Returns `false` if no more replies will
    /// come: the actor closes a session whose client does not take them.
    pub(in crate::actor) fn is_sound(&self) -> bool {
        while self.abandoned.load(Ordering::Relaxed) > 0 {
            let calls = self.calls();
            if calls.is_gone() {
                return false;
            }
            // The leader receives them.
            if calls.has_leader {
                break;
            }
            if let Progress::Nothing | Progress::Starved = self.receive_now(calls, None) {
                break;
            }
        }
        true
    }

    /// Leads for a moment: receives what has arrived, without waiting.
    fn receive_now(
        &self,
        mut calls: MutexGuard<'_, PendingCalls<R>>,
        own: Option<CallId>,
    ) -> Progress<R> {
        calls.has_leader = true;
        drop(calls);
        self.deliver(own, decode(self.replies.recv_raw(&Deadline::now())))
    }

    /// Waits until the leader has received the reply, or until there is no leader. In the second
    /// case, this thread leads.
    fn follow(&self, call: CallId, limit: &Deadline) -> Followed<R> {
        let mut calls = self.calls();
        loop {
            if let Some(outcome) = calls.take(call) {
                return Followed::Outcome(outcome);
            }
            if !calls.has_leader {
                calls.has_leader = true;
                return Followed::Leads;
            }
            if limit.is_over() {
                return Followed::Timeout;
            }
            calls = sys::wait(&self.changed, calls, limit.deadline());
        }
    }

    /// Hands what the leader received to the call that it belongs to, and ends the leader's lead.
    fn deliver(&self, own: Option<CallId>, received: Received<R>) -> Progress<R> {
        let mut calls = self.calls();
        calls.has_leader = false;
        let progress = calls.deliver(own, received);
        self.abandoned.store(calls.abandoned(), Ordering::Relaxed);
        let own_waits = own.is_some() && !matches!(progress, Progress::Own(_));
        let others = calls.waiting() > usize::from(own_waits);
        drop(calls);
        // Without others, this costs no system call.
        if others {
            self.changed.notify_all();
            self.wakers.wake();
        }
        progress
    }
}

enum Followed<R> {
    Outcome(CallOutcome<R>),
    Leads,
    Timeout,
}

/// Decodes a reply. Finds out which call it belongs to, even if the reply does not decode.
fn decode<R: DeserializeOwned>(taken: Waited<RawMessage, RecvError, Deadline>) -> Received<R> {
    let arrived = match taken {
        Ok(arrived) => arrived,
        Err(WaitEnd::Timeout(_)) => return Received::Timeout,
        Err(WaitEnd::Failed(error)) if error.is_starved() => return Received::Starved,
        Err(WaitEnd::Failed(_)) => return Received::Gone,
    };
    let (call, outcome) = match CallMark::of(arrived.mark) {
        Some(CallMark { slot, special }) => {
            let outcome = if special {
                arrived.decode().map(CallOutcome::Refused)
            } else {
                arrived.decode().map(CallOutcome::Reply)
            };
            (Some(CallId::Direct(slot)), outcome)
        }
        None => {
            let (decoded, header) = CallHeader::observe(|| arrived.decode::<MailboxReply<R>>());
            let outcome = decoded.map(|MailboxReply { reply, .. }| {
                reply.map_or_else(CallOutcome::Refused, CallOutcome::Reply)
            });
            (header.map(|header| CallId::Mailbox(header.call)), outcome)
        }
    };
    match (call, outcome) {
        (_, Err(error)) if error.is_starved() => Received::Starved,
        (None, _) => Received::Stray,
        (Some(call), Ok(outcome)) => Received::Reply(call, outcome),
        (Some(call), Err(RecvError::Decode(error))) => {
            Received::Reply(call, CallOutcome::Undecodable(error))
        }
        (Some(call), Err(error)) => Received::Reply(call, CallOutcome::Refused(error.to_string())),
    }
}

#[cfg(feature = "async")]
impl<R: DeserializeOwned> CallSession<R> {
    /// Like [`wait`](CallSession::wait), but returns `None` at once if the reply has not come. The
    /// caller must first leave its waker with both [`wakers`](CallSession::wakers) and
    /// [`event_source`](CallSession::event_source).
    pub(in crate::actor) fn try_reply(&self, call: CallId) -> Option<CallOutcome<R>> {
        loop {
            let mut calls = self.calls();
            if let Some(outcome) = calls.take(call) {
                return Some(outcome);
            }
            if calls.has_leader {
                return None;
            }
            match self.receive_now(calls, Some(call)) {
                Progress::Own(outcome) => return Some(outcome),
                Progress::Other(_) => {}
                Progress::Nothing | Progress::Starved => return None,
            }
        }
    }

    pub(in crate::actor) fn wakers(&self) -> &Arc<WakerSet> {
        &self.wakers
    }

    pub(in crate::actor) fn event_source(&self) -> Option<Arc<dyn EventSource>> {
        self.replies.event_source()
    }
}

impl<R> Drop for CallSession<R> {
    fn drop(&mut self) {
        let close = Request::Close { session: self.number };
        // If the actor has no room for this, it drops the session when it finds that the ring has
        // ended.
        let _ = self.requests.send_timeout(close, Duration::ZERO);
    }
}

impl<R> std::fmt::Debug for CallSession<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallSession")
            .field("generation", &self.generation)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
