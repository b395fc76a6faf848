//! The thread of a hub: when it serves, receives and sleeps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use crate::diagnostics;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::hub::ToHub;
use crate::ipc::hub::object::{Serviced, SharedObject};
use crate::ipc::hub::retry;
use crate::ipc::hub::service::{Hub, Incoming};
use crate::ipc::hub::sessions::{HubChannel, Role, ServedSession, WatchedProcess};
use crate::ipc::ring::Corrupt;
use crate::ipc::spin::{self, Spin};
use crate::ipc::wire::{self, CheckedReceiver, Failure};
use crate::sys::{Poller, lock};

/// How often a busy hub polls for messages, by a system call that nearly always finds none.
const RECEIVE_EVERY: Duration = Duration::from_micros(100);

/// How long a channel is left alone when this process has no descriptors for its message.
const DEFERRED_FOR: Duration = Duration::from_millis(20);

/// Messages that are received from one channel before the others have their turn.
const RECEIVE_MAX: usize = 64;

/// The hub's thread, and all that only it touches.
///
/// It never waits for a client. What it sends is counted (see [`ClientLink`]), what it receives is
/// already there, and a client that violates the protocol loses its session. It decodes no user
/// values, and runs no user code.
pub(in crate::ipc::hub) struct HubThread {
    pub(in crate::ipc::hub) hub: &'static Hub,
    pub(in crate::ipc::hub) channels: HashMap<u64, HubChannel>,
    pub(in crate::ipc::hub) sessions: HashMap<u64, ServedSession>,
    /// Sessions that are over, whose processes may still run; see [`sessions`](super::sessions).
    pub(in crate::ipc::hub) over: HashMap<u64, ServedSession>,
    pub(in crate::ipc::hub) processes: HashMap<u64, WatchedProcess>,
    /// Channels to which something is left to do, each from when on.
    deferred: Vec<(Instant, u64)>,
}

impl HubThread {
    pub(in crate::ipc::hub) fn new(hub: &'static Hub) -> HubThread {
        HubThread {
            hub,
            channels: HashMap::new(),
            sessions: HashMap::new(),
            over: HashMap::new(),
            processes: HashMap::new(),
            deferred: Vec::new(),
        }
    }

    /// Serves all sessions, and sleeps when there is nothing to do.
    ///
    /// Going to sleep is the sleeper's half of the [doorbell](crate::ipc::doorbell) protocol, for
    /// all sessions at once: set `asleep` and every session's flag, fence, serve once more, sleep.
    /// A client that writes after that last pass finds its flag set and rings; a thread of this
    /// process that leaves a channel in `incoming`, or schedules work, finds `asleep` set and wakes
    /// the poller. A doorbell does not name what it is for: every pass asks every attachment.
    pub(in crate::ipc::hub) fn run(mut self) {
        // A bug that one client triggers must not end the hub for all others.
        while let Err(error) = wire::catch_panic("hub", || self.serve_forever()) {
            diagnostics::error("offspring::hub", format_args!("{error}"));
        }
    }

    fn serve_forever(&mut self) {
        let mut received = Instant::now();
        let spinner = Spin::of_long_polls();
        loop {
            // Before the sessions: a client that has just received a handle may be waiting for its
            // hub.
            self.adopt_incoming();
            self.resume_deferred();
            retry::run_due();
            // Clients in the middle of an exchange write again soon, so poll before sleeping.
            let mut pass = || (self.serve_all() == Serviced::Busy).then_some(());
            if pass().or_else(|| spinner.run(None, &mut pass)).is_some() {
                // The writers need a processor too. On two processors, a hub that polls again at
                // once finds an entry or two each time, which costs both sides cache misses.
                spin::snooze();
                let now = Instant::now();
                if now.saturating_duration_since(received) >= RECEIVE_EVERY {
                    received = now;
                    let ready = self.hub.poller.wait(Some(now));
                    self.receive(ready);
                }
                continue;
            }
            // From here on, the order matters; see above.
            self.hub.asleep.store(true, Ordering::SeqCst);
            for session in self.sessions.values() {
                session.peer.page.arm_hub();
            }
            fence(Ordering::SeqCst);
            // What was written before the flags were set is served here. It may be work that leads
            // to more, so only an idle pass leads to sleep.
            let serviced = self.serve_all();
            // `incoming` is checked after the fence, like the regions: see `announce`.
            let until = match serviced {
                Serviced::Again(at) if lock(&self.hub.incoming).is_empty() => Some(at),
                Serviced::Idle if lock(&self.hub.incoming).is_empty() => None,
                _ => Some(Instant::now()),
            };
            let deferred = self.deferred.first().map(|&(until, _)| until);
            let ready = self
                .hub
                .poller
                .wait(until.into_iter().chain(deferred).chain(retry::next_due()).min());
            // Awake: writers need not ring. A doorbell that is already on its way is received
            // below, or in a later pass, and costs at most one superfluous wake-up.
            self.hub.asleep.store(false, Ordering::SeqCst);
            for session in self.sessions.values() {
                session.peer.page.disarm_hub();
            }
            self.receive(ready);
        }
    }

    /// Receives from the channels that are ready.
    fn receive(&mut self, ready: Vec<u64>) {
        for id in ready.into_iter().filter(|&id| id != Poller::WAKE) {
            // A bug that one client triggers must not end the hub for all others.
            if let Err(error) = wire::catch_panic("hub", || self.attend(id)) {
                diagnostics::error("offspring::hub", format_args!("{error}"));
            }
        }
    }

    /// Leaves a channel alone for a while, because this process has no descriptors for its message.
    ///
    /// Until then the channel is not in the poller, which would report it again and again.
    /// [`Poller::pause`] would not do: a paused channel whose other end is closed is still reported
    /// (HUP), and the hub would do nothing else.
    fn defer(&mut self, id: u64) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut channel.starved, true) {
            diagnostics::warn(
                "offspring::hub",
                format_args!(
                    "a client has to wait: this process is out of file descriptors, so raise its limit (`ulimit -n`)"
                ),
            );
        }
        self.hub.poller.remove(channel.receiver.socket());
        channel.deferred = true;
        self.call_again(id);
    }

    /// Has what could not be done for this channel tried again later.
    pub(in crate::ipc::hub) fn call_again(&mut self, id: u64) {
        self.deferred.push((Instant::now() + DEFERRED_FOR, id));
    }

    fn resume_deferred(&mut self) {
        let now = Instant::now();
        while self.deferred.first().is_some_and(|&(until, _)| until <= now) {
            let (_, id) = self.deferred.remove(0);
            self.tell(id);
            let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.deferred)
            else {
                continue;
            };
            if self.hub.poller.add(channel.receiver.socket(), id).is_ok() {
                channel.deferred = false;
                self.read_last(id);
            } else {
                // The system has no room for it in the poller now.
                self.call_again(id);
            }
        }
    }

    /// Looks after what is ready under this id.
    fn attend(&mut self, id: u64) {
        if self.processes.contains_key(&id) {
            self.process_ended(id);
        } else {
            self.receive_from(id);
        }
    }

    pub(in crate::ipc::hub) fn receive_from(&mut self, id: u64) {
        for _ in 0..RECEIVE_MAX {
            let Some(channel) = self.channels.get_mut(&id) else {
                return;
            };
            match channel.receiver.recv(&Deadline::now()) {
                Ok(message) => {
                    channel.starved = false;
                    self.take_message(id, message);
                }
                Err(WaitEnd::Timeout(_)) if self.has_ended(id) => return self.channel_closed(id),
                Err(WaitEnd::Timeout(_) | WaitEnd::Failed(Failure::Full)) => return,
                Err(WaitEnd::Failed(Failure::Starved)) => return self.defer(id),
                Err(WaitEnd::Failed(Failure::Gone)) => return self.channel_closed(id),
                Err(WaitEnd::Failed(Failure::Io(error))) => {
                    return self.expel(id, &error.to_string());
                }
            }
        }
    }

    /// Has every attachment do what its client asks for.
    fn serve_all(&mut self) -> Serviced {
        let mut all = Serviced::Idle;
        let mut corrupt = Vec::new();
        for (&id, session) in &mut self.sessions {
            // Here too, a bug that one client triggers must not end the hub for all others.
            match wire::catch_panic("service", || session.service()) {
                Ok(Ok(serviced)) => all = all.and(serviced),
                Ok(Err(Corrupt)) => {
                    corrupt.push((id, "it wrote something invalid into shared memory"))
                }
                Err(_) => corrupt.push((id, "serving it panicked")),
            }
        }
        // After the loop, which borrows the sessions.
        for (id, why) in corrupt {
            self.expel(id, why);
        }
        all
    }

    fn adopt_incoming(&mut self) {
        let incoming = std::mem::take(&mut *lock(&self.hub.incoming));
        for incoming in incoming {
            match incoming {
                Incoming::InFlight(receiver, object) => self.adopt_reference(receiver, object),
                Incoming::Owner(id, pidfd, session) => self.watched_owner(id, pidfd, session),
                Incoming::SessionEnded => self.forget_owners(),
            }
        }
    }

    pub(in crate::ipc::hub) fn adopt_reference(
        &mut self,
        receiver: CheckedReceiver<ToHub>,
        object: Arc<dyn SharedObject>,
    ) {
        if self.adopt(receiver, Role::InFlight(object.clone())).is_none() {
            object.count_in_flight(-1);
        }
    }

    /// Adds a channel to receive from, and returns its id.
    pub(in crate::ipc::hub) fn adopt(
        &mut self,
        receiver: CheckedReceiver<ToHub>,
        role: Role,
    ) -> Option<u64> {
        let id = self.hub.next_id();
        if let Err(error) = self.hub.poller.add(receiver.socket(), id) {
            diagnostics::error("offspring::hub", format_args!("failed to add a channel: {error}"));
            return None;
        }
        let (starved, deferred) = (false, false);
        self.channels.insert(id, HubChannel { receiver, role, starved, deferred });
        Some(id)
    }
}
