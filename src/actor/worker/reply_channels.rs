//! Where an incarnation sends its replies.
//!
//! A direct call is answered through the session of the ring that it came from ([`RingSessions`],
//! used only by the main thread). A call from the mailbox names its session by number
//! ([`ReplyChannels`], used by both threads). The mailbox thread may handle such a call before the
//! main thread has read the request that opens its session, because the two take different ways.
//! The reply is kept until then.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::protocol::{CallHeader, CallMark, MailboxReply};
use crate::channel::{Mark, SendFailure, Sender};
use crate::diagnostics;
use crate::error::is_starved;
use crate::ipc::deadline::{Deadline, WaitEnd, Waited};
use crate::ipc::wire::{Retry, Shape};
use crate::sys::lock;

/// A client that does not take a reply within this time gets no more: its session is closed.
const REPLY_PATIENCE: Duration = Duration::from_secs(1);
/// How long replies are kept for a session that has not been opened yet.
const OPENING: Duration = Duration::from_secs(5);

/// The sessions by the rings that their calls come from.
pub(in crate::actor) struct RingSessions<R>(BTreeMap<u64, RingSession<R>>);

struct RingSession<R> {
    session: u64,
    replies: Sender<MailboxReply<R>>,
}

impl<R: Serialize + DeserializeOwned> RingSessions<R> {
    pub(in crate::actor) fn new() -> RingSessions<R> {
        RingSessions(BTreeMap::new())
    }

    /// Opens a session. `rings` are those that may still send, in ascending order. The sessions of
    /// all others are closed.
    pub(in crate::actor) fn open(
        &mut self,
        ring: u64,
        session: u64,
        replies: Sender<MailboxReply<R>>,
        rings: &[u64],
        channels: &ReplyChannels<R>,
    ) {
        self.0.retain(|ring, open| {
            let lives = rings.binary_search(ring).is_ok();
            if !lives {
                channels.close(open.session);
            }
            lives
        });
        // A ring has only one session.
        if let Some(before) = self.0.remove(&ring) {
            channels.close(before.session);
        }
        if channels.open(session, replies.clone()).is_ok() {
            self.0.insert(ring, RingSession { session, replies });
        }
    }

    pub(in crate::actor) fn close(&mut self, session: u64, channels: &ReplyChannels<R>) {
        self.0.retain(|_, open| open.session != session);
        channels.close(session);
    }

    /// Answers a direct call. Does nothing if the client has closed its session.
    pub(in crate::actor) fn reply(
        &mut self,
        ring: u64,
        slot: usize,
        reply: Result<R, String>,
        channels: &ReplyChannels<R>,
    ) {
        let Some(open) = self.0.get(&ring) else {
            return;
        };
        let mark = |special| CallMark { slot, special }.mark();
        let refuse = |text: &str| send_patiently(&open.replies, mark(true), (text, Shape::Own));
        let sent = match &reply {
            Ok(reply) => {
                match send_patiently(&open.replies, mark(false), (reply, Shape::of::<R>())) {
                    Err(WaitEnd::Failed(SendFailure::Encode(error))) => refuse(&error.to_string()),
                    sent => sent,
                }
            }
            Err(text) => refuse(text),
        };
        if let Err(end) = sent {
            diagnostics::debug(
                "offspring::actor",
                format_args!("closing the session of a client that takes no replies: {end:?}"),
            );
            let session = open.session;
            self.close(session, channels);
        }
    }
}

/// Sends a reply. The first reply to a client needs descriptors for its ring. If this process has
/// none left, this waits for them too.
fn send_patiently<R, V: Serialize + ?Sized>(
    replies: &Sender<MailboxReply<R>>,
    mark: Mark,
    reply: (&V, Shape),
) -> Waited<(), SendFailure, Deadline> {
    let limit = Deadline::after(REPLY_PATIENCE);
    let mut retry = Retry::default();
    loop {
        match replies.send_marked(mark, reply, &limit) {
            Err(WaitEnd::Failed(SendFailure::Io(error)))
                if is_starved(&error) && !limit.is_over() =>
            {
                retry.pause(&error)
            }
            sent => return sent,
        }
    }
}

/// The sessions by their numbers.
pub(in crate::actor) struct ReplyChannels<R>(Mutex<BTreeMap<u64, ReplyChannel<R>>>);

enum ReplyChannel<R> {
    Open(Sender<MailboxReply<R>>),
    /// The replies for a session that has not been opened yet, and when the first of them came.
    Expected(Instant, Vec<MailboxReply<R>>),
}

impl<R: Serialize + DeserializeOwned> ReplyChannels<R> {
    pub(in crate::actor) fn new() -> ReplyChannels<R> {
        ReplyChannels(Mutex::default())
    }

    /// Opens a session, and sends the replies that were kept for it. If the client does not take
    /// them, closes the session again and returns an error.
    fn open(
        &self,
        session: u64,
        replies: Sender<MailboxReply<R>>,
    ) -> Waited<(), SendFailure, Deadline> {
        // The session is open before the kept replies are sent, which happens outside the lock. So
        // a later reply of the mailbox thread may overtake them. No client notices that, because
        // replies carry the numbers of their calls.
        let before = lock(&self.0).insert(session, ReplyChannel::Open(replies.clone()));
        match before {
            Some(ReplyChannel::Expected(_, kept)) => {
                kept.iter().try_for_each(|reply| self.send(&replies, reply))
            }
            _ => Ok(()),
        }
    }

    fn close(&self, session: u64) {
        lock(&self.0).remove(&session);
    }

    /// Answers a call that came through the mailbox. Returns an error if its session must be
    /// closed.
    ///
    /// Never waits for the session to be opened: the main thread, which would open it, may be
    /// waiting for the actor's state, which the caller holds.
    pub(in crate::actor) fn reply(
        &self,
        header: CallHeader,
        reply: Result<R, String>,
    ) -> Waited<(), SendFailure, Deadline> {
        let reply = MailboxReply { header, reply };
        let mut channels = lock(&self.0);
        if let Some(ReplyChannel::Open(replies)) = channels.get(&header.session) {
            let replies = replies.clone();
            drop(channels);
            return self.send(&replies, &reply);
        }
        let now = Instant::now();
        channels.retain(|_, channel| {
            !matches!(channel, ReplyChannel::Expected(since, _) if now - *since > OPENING)
        });
        match channels.entry(header.session) {
            Entry::Vacant(entry) => drop(entry.insert(ReplyChannel::Expected(now, vec![reply]))),
            Entry::Occupied(mut entry) => {
                if let ReplyChannel::Expected(_, kept) = entry.get_mut() {
                    kept.push(reply);
                }
            }
        }
        Ok(())
    }

    fn send(
        &self,
        replies: &Sender<MailboxReply<R>>,
        reply: &MailboxReply<R>,
    ) -> Waited<(), SendFailure, Deadline> {
        let (header, shape) = (reply.header, Shape::of::<MailboxReply<R>>());
        let sent = match send_patiently(replies, Mark::default(), (reply, shape)) {
            Err(WaitEnd::Failed(SendFailure::Encode(error))) => {
                let reply = Err(error.to_string());
                let refusal = MailboxReply::<R> { header, reply };
                send_patiently(replies, Mark::default(), (&refusal, shape))
            }
            sent => sent,
        };
        sent.inspect_err(|end| {
            diagnostics::debug(
                "offspring::actor",
                format_args!("closing the session of a client that takes no replies: {end:?}"),
            );
            self.close(header.session);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::protocol::CallNumber;
    use crate::channel::channel;
    use crate::ipc::deadline::Forever;

    #[test]
    fn a_reply_that_is_early_waits_for_its_session() {
        let channels = ReplyChannels::<u64>::new();
        let mut rings = RingSessions::new();
        let (sender, replies) = channel::<MailboxReply<u64>>().unwrap();
        let header = |call| CallHeader { session: 7, call: CallNumber(call) };
        channels.reply(header(1), Ok(10)).unwrap();
        channels.reply(header(2), Ok(20)).unwrap();
        rings.open(0, 7, sender, &[0], &channels);
        channels.reply(header(3), Ok(30)).unwrap();
        let got: Vec<_> = replies
            .iter()
            .take(3)
            .map(|reply| (reply.header.call.0, reply.reply.unwrap()))
            .collect();
        assert_eq!(got, [(1, 10), (2, 20), (3, 30)]);
    }

    #[test]
    fn direct_calls_are_answered_where_they_came_from() {
        let channels = ReplyChannels::<u64>::new();
        let mut rings = RingSessions::new();
        let [(one, ones), (other, others)] =
            [(); 2].map(|()| channel::<MailboxReply<u64>>().unwrap());
        rings.open(4, 7, one, &[4], &channels);
        rings.open(5, 8, other, &[4, 5], &channels);
        rings.reply(4, 3, Ok(40), &channels);
        rings.reply(5, 0, Err("no".to_owned()), &channels);
        let arrived = ones.recv_raw(&Forever).unwrap();
        let mark = |slot, special| Some(CallMark { slot, special });
        assert_eq!(CallMark::of(arrived.mark), mark(3, false));
        assert_eq!(arrived.decode::<u64>().unwrap(), 40);
        let arrived = others.recv_raw(&Forever).unwrap();
        assert_eq!(CallMark::of(arrived.mark), mark(0, true));
        assert_eq!(arrived.decode::<String>().unwrap(), "no");
        // A closed session gets no replies, and a session ends with its ring.
        rings.close(7, &channels);
        rings.reply(4, 3, Ok(41), &channels);
        let (third, _replies) = channel().unwrap();
        // A ring has only one session: the first one that it opens ends when it opens a second.
        rings.open(5, 10, third.clone(), &[4, 5], &channels);
        assert_eq!(lock(&channels.0).keys().copied().collect::<Vec<_>>(), [10]);
        rings.open(6, 9, third, &[6], &channels);
        assert!(ones.try_recv().is_err() && others.try_recv().is_err());
        assert_eq!(lock(&channels.0).keys().copied().collect::<Vec<_>>(), [9]);
    }
}
