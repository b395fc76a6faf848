//! The thread of a hub: when it serves, receives and sleeps.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::diagnostics;
use crate::ipc::account::{Account, Charge};
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::hub::ToHub;
use crate::ipc::hub::object::{SharedObject, Tick, resolve};
use crate::ipc::hub::retry;
use crate::ipc::hub::service::{Hub, Incoming};
use crate::ipc::hub::sessions::{ChannelKind, HubChannel, ServedSession, WatchedProcess};
use crate::ipc::spin::{self, Spin};
use crate::ipc::wire::{self, CheckedReceiver, Failure};
use crate::sys::{Poller, lock};

/// How often a busy hub polls for messages, with a system call that nearly always finds none. A
/// client that writes nothing for a whole such period rests.
const BUSY_PERIOD: Duration = Duration::from_micros(100);
/// How often a hub that has nothing to do polls for messages, before it sleeps.
const IDLE_PERIOD: Duration = Duration::from_micros(10);

/// How long a channel is left alone when this process has no descriptors for its message, or keeps
/// too many for its client.
const DEFERRED_FOR: Duration = Duration::from_millis(20);

/// How many messages are received from one channel before the others have their turn.
const RECEIVE_MAX: usize = 64;

/// The hub's thread, and all that only it touches.
///
/// It never waits for a client. What it sends is counted (see [`ClientLink`]), what it receives has
/// already arrived, and a client that violates the protocol loses its session. It decodes no user
/// values, and runs no user code.
pub(in crate::ipc::hub) struct HubThread {
    pub(in crate::ipc::hub) hub: &'static Hub,
    pub(in crate::ipc::hub) channels: HashMap<u64, HubChannel>,
    pub(in crate::ipc::hub) sessions: HashMap<u64, ServedSession>,
    /// Sessions that are over, whose processes may still run; see [`sessions`](super::sessions).
    pub(in crate::ipc::hub) over: HashMap<u64, ServedSession>,
    pub(in crate::ipc::hub) processes: HashMap<u64, WatchedProcess>,
    /// What this process keeps for each client process, by its number.
    pub(in crate::ipc::hub) accounts: HashMap<i32, Weak<Account>>,
    /// The objects with clients that are polled.
    pub(in crate::ipc::hub) active: Vec<Arc<dyn SharedObject>>,
    /// Objects to serve at a certain time, even if no client rings. The second part of the key
    /// makes it unique.
    timers: BTreeMap<(Instant, u64), Weak<dyn SharedObject>>,
    next_timer: u64,
    tick: Tick,
    /// When messages were last polled for.
    received: Instant,
    /// Channels with something left to do, and the time from which to do it.
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
            accounts: HashMap::new(),
            active: Vec::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            tick: 1,
            received: Instant::now(),
            deferred: Vec::new(),
        }
    }

    /// Serves the clients that are active, and sleeps when none is.
    ///
    /// An *active* object has clients that are *polled*: each pass reads their regions. A client
    /// that has not written for a while *rests*: the hub sets its sleep flag, reads its region once
    /// more, and spends nothing on it until it rings. Its doorbell names the attachment. So a pass
    /// reads the regions of the clients that wrote lately, and nothing else.
    ///
    /// Before the hub sleeps, all clients rest. Then it sets `asleep`, fences, and checks what the
    /// threads of this process may have left for it. If a thread leaves something after that check,
    /// it finds `asleep` set, and wakes the poller.
    pub(in crate::ipc::hub) fn run(mut self) {
        // A bug that one client triggers must not end the hub for all others.
        while let Err(error) = wire::catch_panic("hub", || self.serve_forever()) {
            diagnostics::error("offspring::hub", format_args!("{error}"));
        }
    }

    fn serve_forever(&mut self) {
        let spinner = Spin::of_long_polls();
        let mut rest_before = 0;
        loop {
            // Before the objects: a client that has just received a handle may be waiting for its
            // hub.
            self.adopt_incoming();
            self.resume_deferred();
            retry::run_due();
            self.start_due();
            // Clients in the middle of an exchange write again soon, so poll before sleeping.
            let busy = self.serve_active(std::mem::take(&mut rest_before)) || {
                let idle = self.active.is_empty();
                let mut pass = || self.pass().then_some(());
                !idle && spinner.run(None, &mut pass).is_some()
            };
            if busy {
                // The writers need a processor too. If the hub polled again at once on two
                // processors, it would find an entry or two each time, which costs both sides cache
                // misses.
                spin::snooze();
                if self.receive_after(BUSY_PERIOD) {
                    self.tick += 1;
                    // The next pass rests the clients that wrote nothing in the whole of this
                    // period. A pass of its own would read each outbox twice for one yield. So a
                    // producer that is faster than its consumer would never wait for room, and what
                    // it puts would pile up in the store, in memory that no cache holds.
                    rest_before = self.tick - 1;
                }
                continue;
            }
            if self.serve_active(Tick::MAX) {
                continue;
            }
            self.hub.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let called = (!lock(&self.hub.incoming).is_empty()).then(Instant::now);
            let due = self.timers.keys().next().map(|&(at, _)| at);
            let deferred = self.deferred.first().map(|&(until, _)| until);
            let until = [called, due, deferred, retry::next_due()].into_iter().flatten().min();
            let ready = self.hub.poller.wait(until);
            self.hub.asleep.store(false, Ordering::SeqCst);
            self.receive(ready);
        }
    }

    /// One pass of a hub that has nothing to do at the moment. Returns whether it found something.
    fn pass(&mut self) -> bool {
        let before = self.active.len();
        self.serve_active(0) || (self.receive_after(IDLE_PERIOD) && self.active.len() > before)
    }

    /// Receives the messages that have come, unless the hub did so within this period. Returns
    /// `true` if it did so now.
    fn receive_after(&mut self, period: Duration) -> bool {
        let now = Instant::now();
        let due = now.saturating_duration_since(self.received) >= period;
        if due {
            self.received = now;
            let ready = self.hub.poller.wait(Some(now));
            self.receive(ready);
        }
        due
    }

    /// Makes active the objects whose time has come.
    fn start_due(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            let object = first.remove().upgrade().filter(|object| object.activate());
            self.active.extend(object);
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
    /// In the meantime the channel is not in the poller, which would report it again and again.
    /// [`Poller::pause`] would not suffice: the poller still reports a paused channel whose other
    /// end is closed (HUP), and the hub would do nothing else.
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
        self.set_aside(id);
    }

    fn set_aside(&mut self, id: u64) {
        if let Some(channel) = self.channels.get_mut(&id) {
            self.hub.poller.remove(channel.receiver.socket());
            channel.deferred = true;
        }
        self.call_again(id);
    }

    /// Returns whether the client of this channel has to wait, because this process keeps as many
    /// descriptors for it as it may. What an ended process left is read in any case, because
    /// nothing can be added to it.
    fn is_held_back(&mut self, id: u64) -> bool {
        let Some(channel) = self.channels.get_mut(&id) else { return false };
        let is_full = matches!(&channel.kind, ChannelKind::Session(account) if account.is_full());
        if !is_full {
            return false;
        }
        if !std::mem::replace(&mut channel.was_full, true) {
            diagnostics::warn(
                "offspring::hub",
                format_args!(
                    "a client has to wait: half of this process's descriptors are kept for its items and handles, so take those, or raise the limit (`ulimit -n`)"
                ),
            );
        }
        !self.has_ended(id)
    }

    /// Tries again later to do what could not be done for this channel.
    pub(in crate::ipc::hub) fn call_again(&mut self, id: u64) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if !std::mem::replace(&mut channel.called_again, true) {
            self.deferred.push((Instant::now() + DEFERRED_FOR, id));
        }
    }

    fn resume_deferred(&mut self) {
        let now = Instant::now();
        while self.deferred.first().is_some_and(|&(until, _)| until <= now) {
            let (_, id) = self.deferred.remove(0);
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.called_again = false;
            }
            self.tell(id);
            if !self.channels.get(&id).is_some_and(|channel| channel.deferred) {
                continue;
            }
            self.look_at(id);
            if self.is_held_back(id) {
                self.call_again(id);
                continue;
            }
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            if self.hub.poller.add(channel.receiver.socket(), id).is_ok() {
                channel.deferred = false;
                self.read_last(id);
            } else {
                // The system has no room for it in the poller now.
                self.call_again(id);
            }
        }
    }

    /// Reads the regions of a client whose doorbell may be among the messages that are left unread.
    /// So a client that has to wait still gets items, perhaps the very items that it has to wait
    /// for.
    fn look_at(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for attachment in session.attachments.values_mut() {
            if attachment.look() {
                self.active.push(attachment.object());
            }
        }
    }

    /// Handles what is ready under this id.
    fn attend(&mut self, id: u64) {
        if self.processes.contains_key(&id) {
            self.process_ended(id);
        } else {
            self.receive_from(id);
        }
    }

    pub(in crate::ipc::hub) fn receive_from(&mut self, id: u64) {
        for received in 0..RECEIVE_MAX {
            if self.is_held_back(id) {
                return self.set_aside(id);
            }
            let Some(channel) = self.channels.get_mut(&id) else {
                return;
            };
            let message = channel.receiver.recv(&Deadline::now());
            if received == 0 && matches!(message, Err(WaitEnd::Timeout(_))) {
                // It is ready, but has no message. The poller would report it again and again.
                channel.receiver.clear_peek_offset();
            }
            match message {
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

    /// Serves the active objects. Returns whether there was anything to do.
    fn serve_active(&mut self, rest_before: Tick) -> bool {
        let mut busy = false;
        let mut corrupt = Vec::new();
        let mut active = std::mem::take(&mut self.active);
        active.retain(|object| {
            // Here too, a bug that one client triggers must not end the hub for all others.
            let served = wire::catch_panic("service", || object.serve(self.tick, rest_before));
            let Ok(served) = served else {
                let polled = object.deactivate().into_iter();
                corrupt.extend(polled.map(|client| (client, "serving it panicked")));
                return false;
            };
            busy |= served.busy;
            let wrong = served.corrupt.into_iter();
            corrupt.extend(
                wrong.map(|client| (client, "it wrote something invalid into shared memory")),
            );
            if let Some(at) = served.again {
                self.next_timer += 1;
                self.timers.insert((at, self.next_timer), Arc::downgrade(object));
            }
            served.is_active
        });
        self.active = active;
        // After the loop, which borrows the objects.
        for (client, why) in corrupt {
            self.expel(client.channel, why);
        }
        busy
    }

    fn adopt_incoming(&mut self) {
        let incoming = std::mem::take(&mut *lock(&self.hub.incoming));
        for incoming in incoming {
            match incoming {
                Incoming::InFlight(receiver, object) => {
                    self.adopt_reference(receiver, object, None);
                }
                Incoming::Owner(id, pidfd, session) => self.watched_owner(id, pidfd, session),
                Incoming::SessionEnded => self.forget_owners(),
                Incoming::Active(key) => self.active.extend(resolve(key)),
            }
        }
    }

    pub(in crate::ipc::hub) fn adopt_reference(
        &mut self,
        receiver: CheckedReceiver<ToHub>,
        object: Arc<dyn SharedObject>,
        charge: Option<Charge>,
    ) {
        if self.adopt(receiver, ChannelKind::InFlight(object.clone()), charge).is_none() {
            object.count_in_flight(-1);
        }
    }

    /// Adds a channel to receive from, and returns its id.
    pub(in crate::ipc::hub) fn adopt(
        &mut self,
        receiver: CheckedReceiver<ToHub>,
        kind: ChannelKind,
        charge: Option<Charge>,
    ) -> Option<u64> {
        let id = self.hub.next_id();
        if let Err(error) = self.hub.poller.add(receiver.socket(), id) {
            diagnostics::error("offspring::hub", format_args!("failed to add a channel: {error}"));
            return None;
        }
        self.channels.insert(id, HubChannel::new(receiver, kind, charge));
        Some(id)
    }
}
