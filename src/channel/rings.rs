//! The rings of all senders of one channel, and which of them the receiver polls.
//!
//! The receiver polls the *active* rings in turn. A ring that was found empty many times falls
//! *quiet*: the receiver asks its sender to ring for its next message, and that doorbell makes the
//! ring active again. So the cost of a message does not depend on how many senders are idle. For a
//! sender that falls quiet between two messages, the receiver spends at most twice what the cheaper
//! of polling and ringing would cost.
//!
//! | ring | its sleep flag is set | who finds its next message |
//! | --- | --- | --- |
//! | active | while the receiver sleeps | a receiver that polls |
//! | quiet | always, until its sender claims it | a receiver that reads its doorbells |
//!
//! No message goes unseen:
//!
//! - A ring falls quiet after a check that came *after* its flag was set. That check finds whatever
//!   was written before, and whatever is written later comes with a doorbell.
//! - Such a check never clears a flag: another thread may sleep, and rely on the flag.
//! - A receiver that is busy reads its doorbells every [`HEAR_EVERY`] messages. One that polls
//!   reads them in between. One that sleeps is woken by them.
//! - A doorbell is not sent if the socket is full ([`wire::ring`]). So a receiver that has read
//!   many messages from the socket, or one that it does not understand, checks all quiet rings.
//! - A sender may die after it claimed its flag and before it rings, and another of its threads may
//!   have sent a message by then. So a receiver that has quiet rings checks all of them about once
//!   in [`IDLE`], and at the end of the channel.
//! - This process may have too few addresses to map the ring of a new sender that has already sent
//!   something. It then keeps the ring unmapped. It tries again before it sleeps, where a failure
//!   becomes the error of the call, and from time to time while other senders are busy.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use super::inbound::{IDLE, InboundRing, RawContent, RawMessage, UnmappedRing};
use super::layout::Mark;
use crate::ipc::doorbell;
use crate::sys;

/// With at most this many active rings, the receiver polls them all, and none falls quiet.
const FEW: usize = 4;

/// How many messages a receiver takes before it reads its doorbells: one check of the socket takes
/// as long as two messages.
const HEAR_EVERY: usize = 64;

/// The number of messages from the socket after which the receiver checks all quiet rings. A socket
/// holds several times as many, so if the socket was full, the check comes after that.
const HEARD_MAX: usize = 32;

/// The shortest time between two returns of idle memory.
const CHORES_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Rings {
    active: Vec<InboundRing>,
    quiet: BTreeMap<u64, InboundRing>,
    /// Rings that this process had too few addresses to map. Each has a message.
    unmapped: VecDeque<UnmappedRing>,
    /// When they were last tried.
    tried: Duration,
    /// The number of the last ring that was added.
    last: u64,
    /// The index of the active ring to poll next.
    turn: usize,
    /// How many messages were taken since the doorbells were last read.
    unheard: usize,
    /// How many messages were read from the socket since all quiet rings were last checked.
    heard: usize,
    /// When idle memory is to be returned. `None` while no memory of a heap is in use.
    due: Option<Instant>,
    /// When all rings were last checked, and how many of them were left then.
    checked: Duration,
    left: usize,
}

/// The rings that have messages, by number, each with the position after its last message.
#[cfg(feature = "tracing")]
#[derive(Debug, Default)]
pub(crate) struct Backlog(BTreeMap<u64, u64>);

#[cfg(feature = "tracing")]
impl Rings {
    pub(super) fn backlog(&self) -> Backlog {
        let waiting = self.all().filter(|ring| ring.has_next());
        Backlog(waiting.map(|ring| (ring.number, ring.written_to())).collect())
    }

    /// Returns whether the messages of the backlog were taken. A ring that is gone had none left.
    pub(super) fn has_passed(&self, backlog: &Backlog) -> bool {
        self.all().all(|ring| {
            backlog.0.get(&ring.number).is_none_or(|&position| ring.is_taken_to(position))
        })
    }
}

impl Rings {
    pub(super) fn new() -> Rings {
        Rings {
            active: Vec::new(),
            quiet: BTreeMap::new(),
            unmapped: VecDeque::new(),
            tried: Duration::ZERO,
            last: 0,
            turn: 0,
            unheard: 0,
            heard: 0,
            due: None,
            checked: sys::rough_time(),
            left: 0,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &InboundRing> {
        self.active.iter().chain(self.quiet.values())
    }

    pub(super) fn len(&self) -> usize {
        self.active.len() + self.quiet.len() + self.unmapped.len()
    }

    /// Returns what another process needs to receive from all of these senders.
    pub(super) fn share(&self) -> impl Iterator<Item = io::Result<UnmappedRing>> {
        self.all().map(InboundRing::share).chain(self.unmapped.iter().map(UnmappedRing::share))
    }

    pub(super) fn has_quiet(&self) -> bool {
        !self.quiet.is_empty()
    }

    /// Maps a ring and adds it. Keeps it unmapped if this process has too few addresses, and drops
    /// it if its memory is not a ring.
    pub(super) fn map(&mut self, ring: UnmappedRing) {
        match ring.memory() {
            Ok(memory) => self.add(InboundRing::new(memory, ring)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(_) => self.unmapped.push_back(ring),
        }
    }

    /// Maps the rings for which there were too few addresses. Returns an error if there still are.
    fn map_the_rest(&mut self) -> io::Result<()> {
        self.tried = sys::rough_time();
        while let Some(ring) = self.unmapped.pop_front() {
            match ring.memory() {
                Ok(memory) => self.add(InboundRing::new(memory, ring)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => {
                    self.unmapped.push_back(ring);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, mut ring: InboundRing) {
        self.last += 1;
        ring.number = self.last;
        // Armed like the others, because `disarm` counts a clear flag as a doorbell.
        doorbell::arm_each([ring.flag()]);
        self.active.push(ring);
    }

    /// Adds the ring of a new sender. Drops those of senders that are gone, so that rings do not
    /// accumulate while senders come and go. Checking all of them takes a system call for each, so
    /// with many senders this waits until their number has doubled since the last check.
    pub(super) fn join(&mut self, ring: UnmappedRing) {
        if self.len() <= FEW || self.len() >= 2 * self.left {
            self.check_all();
        }
        self.map(ring);
    }

    /// Checks all rings, and drops those of senders that are gone. A sender that is killed leaves
    /// no mark in its ring, so the state of its socket decides.
    pub(super) fn check_all(&mut self) {
        self.checked = sys::rough_time();
        self.active.extend(std::mem::take(&mut self.quiet).into_values());
        self.active.iter_mut().for_each(InboundRing::check_for_end);
        self.active.retain(|ring| !ring.is_finished());
        self.left = self.active.len();
    }

    /// Counts a message.
    pub(super) fn hear(&mut self) {
        self.heard += 1;
        if self.heard >= HEARD_MAX {
            self.rouse_all();
        }
    }

    /// Makes the quiet rings that have a message active.
    pub(super) fn rouse_all(&mut self) {
        self.heard = 0;
        let waiting = self.quiet.values().filter(|ring| ring.has_next());
        let waiting: Vec<u64> = waiting.map(|ring| ring.number).collect();
        waiting.into_iter().for_each(|number| self.rouse(number));
    }

    /// A sender has rung.
    pub(super) fn rouse(&mut self, number: u64) {
        if let Some(mut ring) = self.quiet.remove(&number) {
            ring.misses = 0;
            self.active.push(ring);
        }
    }

    /// Takes the next message.
    pub(super) fn next(&mut self) -> Option<RawMessage> {
        let next = self.next_active();
        if next.is_some() || self.unmapped.is_empty() {
            return next;
        }
        // There is a message, in a ring that this process cannot map. An error is better than a
        // long sleep.
        match self.map_the_rest() {
            Ok(()) => self.next_active(),
            Err(error) => {
                let (mark, content) = (Mark::default(), RawContent::Refused(error));
                Some(RawMessage { ring: 0, mark, content })
            }
        }
    }

    /// Takes the next message, from each active ring in turn. A message that the system refuses
    /// does not hold up the other senders: it is returned only if they have no message.
    fn next_active(&mut self) -> Option<RawMessage> {
        let mut refused = None;
        loop {
            let all = self.active.len();
            for _ in 0..all {
                if self.turn >= self.active.len() {
                    self.turn = 0;
                }
                let ring = &mut self.active[self.turn];
                let Some(message) = ring.next() else {
                    self.pass_over();
                    continue;
                };
                ring.misses = 0;
                self.turn += 1;
                if message.is_left() && refused.is_none() {
                    refused = Some(message);
                    continue;
                }
                self.unheard += 1;
                if matches!(message.content, RawContent::Long(_)) {
                    self.due.get_or_insert_with(|| Instant::now() + IDLE);
                }
                return Some(message);
            }
            // The ring that took another's place in the list may not have been polled.
            if self.active.len() == all {
                return refused;
            }
        }
    }

    /// Moves on from a ring that has no message.
    fn pass_over(&mut self) {
        let are_few = self.active.len() <= FEW;
        let ring = &mut self.active[self.turn];
        if ring.is_finished() {
            self.active.swap_remove(self.turn);
        } else if !are_few && ring.falls_quiet() {
            let ring = self.active.swap_remove(self.turn);
            self.quiet.insert(ring.number, ring);
        } else {
            self.turn += 1;
        }
    }

    pub(super) fn has_next(&self) -> bool {
        !self.unmapped.is_empty() || self.active.iter().any(InboundRing::has_next)
    }

    /// Returns whether the doorbells have not been read for many messages, or memory may be idle.
    pub(super) fn has_chores(&self) -> bool {
        self.due.is_some() || self.must_hear() || !self.unmapped.is_empty()
    }

    fn must_hear(&self) -> bool {
        self.has_quiet() && self.unheard >= HEAR_EVERY.max(self.active.len())
    }

    /// Returns whether the caller is to read the doorbells now.
    pub(super) fn is_to_hear(&mut self) -> bool {
        let must_hear = self.must_hear();
        if must_hear {
            self.unheard = 0;
        }
        must_hear
    }

    /// Returns idle memory to the system, and checks all rings, each only from time to time.
    /// Returns the time when more memory will be idle, if any is in use.
    pub(super) fn do_chores(&mut self) -> Option<Instant> {
        // Senders that are busy in the meantime must not keep the unmapped ones waiting.
        if !self.unmapped.is_empty() && sys::rough_time().saturating_sub(self.tried) >= CHORES_EVERY
        {
            let _ = self.map_the_rest();
        }
        if self.due.is_none() && self.quiet.is_empty() {
            return None;
        }
        if sys::rough_time().saturating_sub(self.checked) >= IDLE {
            self.check_all();
        }
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            let rings = self.active.iter_mut().chain(self.quiet.values_mut());
            let idle = rings.filter_map(|ring| {
                ring.return_idle_memory(now);
                ring.idle_at()
            });
            self.due = idle.min().map(|idle| idle.max(now + CHORES_EVERY));
        }
        self.due
    }

    /// Sets the flags of the active rings. The flags of the quiet rings are set already.
    pub(super) fn arm(&self) {
        doorbell::arm_each(self.active.iter().map(InboundRing::flag));
    }

    /// Clears the flags of the active rings. Returns how many were claimed.
    pub(super) fn disarm(&self) -> usize {
        self.active.iter().filter(|ring| doorbell::disarm(ring.flag().0)).count()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "tracing")]
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::{Receiver, Sender, ToReceiver, channel};
    use super::*;
    use crate::ipc::wire;
    use crate::sys::lock;

    const SENDERS: u64 = 12;
    const LONG: Duration = Duration::from_secs(30);

    /// A channel with many rings, as if from many processes. Each has sent its number, and all but
    /// a few have fallen quiet.
    fn quiet() -> (Vec<Sender<u64>>, Receiver<u64>) {
        let (first, receiver) = channel().unwrap();
        let senders: Vec<_> = (0..SENDERS).map(|_| first.separate()).collect();
        for (sender, n) in senders.iter().zip(0..) {
            sender.send(n).unwrap();
            assert_eq!(receiver.recv().unwrap(), n);
        }
        fall_quiet(&receiver);
        (senders, receiver)
    }

    fn fall_quiet(receiver: &Receiver<u64>) {
        let inbox = receiver.inbox().unwrap();
        let mut rings = lock(&inbox.rings);
        while rings.active.len() > FEW {
            assert!(rings.next().is_none());
        }
    }

    fn looks_at(receiver: &Receiver<u64>) -> usize {
        lock(&receiver.inbox().unwrap().rings).active.len()
    }

    #[test]
    fn a_quiet_sender_is_heard_and_the_others_stay_quiet() {
        let (senders, receiver) = quiet();
        for round in 0..3 {
            for (sender, n) in senders.iter().zip(round..) {
                sender.send(n).unwrap();
                assert_eq!(receiver.recv_timeout(LONG).unwrap(), n);
            }
            fall_quiet(&receiver);
            for n in 0..1000 {
                senders[3].send(n).unwrap();
                assert_eq!(receiver.recv_timeout(LONG).unwrap(), n);
                assert!(
                    looks_at(&receiver) <= FEW + 1,
                    "a sender that has nothing to say is looked at"
                );
            }
        }
    }

    #[test]
    fn a_busy_sender_does_not_keep_quiet_ones_from_being_heard() {
        let (senders, receiver) = quiet();
        (0..5000).for_each(|_| senders[0].send(100).unwrap());
        (1..SENDERS).for_each(|n| senders[n as usize].send(n).unwrap());
        let first: Vec<u64> = receiver.iter().take(6 * HEAR_EVERY).collect();
        let others = first.iter().filter(|&&n| n != 100).count() as u64;
        assert_eq!(others, SENDERS - 1, "{first:?}");
    }

    #[test]
    fn a_quiet_sender_whose_doorbell_found_the_socket_full_is_heard() {
        let (senders, receiver) = quiet();
        let to_receiver = senders[0].shared.to_receiver();
        (0..5000).for_each(|_| wire::ring(&to_receiver, &ToReceiver::Bell(0)).unwrap());
        senders.iter().for_each(|sender| sender.send(7).unwrap());
        (0..SENDERS).for_each(|_| assert_eq!(receiver.recv_timeout(LONG).unwrap(), 7));
    }

    #[test]
    fn what_a_quiet_sender_has_sent_is_received_though_it_dies_before_it_rings() {
        let (senders, receiver) = quiet();
        let inbox = receiver.inbox().unwrap();
        let quiet: Vec<u64> = lock(&inbox.rings).quiet.keys().copied().collect();
        for ring in lock(&inbox.rings).quiet.values() {
            // Another thread of the sender has claimed the flag, and is about to ring.
            assert!(doorbell::claim(ring.flag().0));
        }
        senders.iter().for_each(|sender| sender.send(7).unwrap());
        drop(senders);
        drop(inbox);
        assert!(quiet.len() as u64 >= SENDERS - FEW as u64);
        assert_eq!(receiver.iter().count() as u64, SENDERS);
    }

    #[test]
    fn rings_do_not_accumulate_while_senders_come_and_go() {
        let (senders, receiver) = quiet();
        for n in 0..200 {
            let sender = senders[0].separate();
            sender.send(n).unwrap();
            assert_eq!(receiver.recv_timeout(LONG).unwrap(), n);
            drop(sender);
            fall_quiet(&receiver);
            let count = lock(&receiver.inbox().unwrap().rings).len() as u64;
            assert!(count <= 2 * (SENDERS + 2), "there are {count} rings");
        }
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn a_backlog_is_received_though_the_channel_is_never_empty() {
        let (senders, receiver) = quiet();
        // One that has been heard and one that has fallen quiet, each with something unread.
        for (sender, n) in [(&senders[0], 100), (&senders[SENDERS as usize - 1], 101)] {
            (0..50).for_each(|_| sender.send(n).unwrap());
        }
        // Its ring is not known before the doorbells are read.
        let newcomer = senders[0].separate();
        newcomer.send(102).unwrap();
        let backlog = receiver.backlog();
        let mut left = HashMap::from([(100, 50), (101, 50), (102, 1)]);
        while !receiver.has_received(&backlog) {
            senders[1].send(7).unwrap();
            let n = receiver.recv_timeout(LONG).unwrap();
            left.entry(n).and_modify(|left| *left -= 1);
        }
        assert!(left.values().all(|&left| left == 0), "{left:?}");
        assert!(receiver.has_received(&receiver.backlog()) == receiver.try_recv().is_err());
    }

    /// Senders that pause often, and receivers that sleep often: each message is received.
    #[test]
    fn no_message_of_senders_that_fall_quiet_is_missed() {
        const EACH: u64 = 400;
        let (senders, receiver) = quiet();
        let received = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for sender in senders {
                scope.spawn(move || {
                    for n in 0..EACH {
                        sender.send(n).unwrap();
                        // Sometimes long enough for the receiver to fall asleep.
                        (0..n % 7).for_each(|_| std::thread::yield_now());
                        if n % 50 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while receiver.recv_timeout(LONG).is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(received.into_inner() as u64, SENDERS * EACH);
    }
}
