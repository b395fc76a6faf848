//! Where an incarnation's answers go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::actor::protocol::{Answer, Direct, Header};
use crate::channel::{Mark, SendEnd, Sender};
use crate::error::is_starved;
use crate::ipc::deadline::Deadline;
use crate::ipc::wire::Retry;
use crate::sys::lock;

/// A client that does not take its answers for this long gets no more.
const PATIENCE: Duration = Duration::from_secs(1);
/// A call through the mailbox may come in before its session was opened on the other way. So long its answer is kept.
const OPENING: Duration = Duration::from_secs(5);

/// The sessions by the rings that their calls come from: of the main thread, which alone hears those.
pub(in crate::actor) struct Doors<R>(BTreeMap<u64, Door<R>>);

struct Door<R> {
    session: u64,
    answers: Sender<Answer<R>>,
}

impl<R: Serialize> Doors<R> {
    pub(in crate::actor) fn new() -> Doors<R> {
        Doors(BTreeMap::new())
    }

    /// Opens a session; `sources` are those that may still send, in order, and the sessions of others are at an end.
    pub(in crate::actor) fn open(
        &mut self,
        source: u64,
        session: u64,
        answers: Sender<Answer<R>>,
        sources: &[u64],
        clients: &Clients<R>,
    ) {
        self.0.retain(|of, door| {
            let lives = sources.binary_search(of).is_ok();
            if !lives {
                clients.close(door.session);
            }
            lives
        });
        // A ring has one session.
        if let Some(before) = self.0.remove(&source) {
            clients.close(before.session);
        }
        if clients.open(session, answers.clone()).is_ok() {
            self.0.insert(source, Door { session, answers });
        }
    }

    pub(in crate::actor) fn close(&mut self, session: u64, clients: &Clients<R>) {
        self.0.retain(|_, door| door.session != session);
        clients.close(session);
    }

    /// Answers a direct call. A client that has closed its session waits for nothing.
    pub(in crate::actor) fn answer(
        &mut self,
        source: u64,
        place: usize,
        reply: Result<R, String>,
        clients: &Clients<R>,
    ) {
        let Some(door) = self.0.get(&source) else {
            return;
        };
        let (answer, refusal) = (
            Direct {
                place,
                special: false,
            },
            Direct {
                place,
                special: true,
            },
        );
        let sent = match &reply {
            Ok(reply) => match deliver(&door.answers, answer.mark(), reply) {
                Err(SendEnd::Encode(error)) => {
                    deliver(&door.answers, refusal.mark(), &error.to_string())
                }
                sent => sent,
            },
            Err(text) => deliver(&door.answers, refusal.mark(), text),
        };
        if let Err(end) = sent {
            log::debug!(target: "offspring::actor", "a client takes no answers any more: {end:?}");
            let session = door.session;
            self.close(session, clients);
        }
    }
}

/// Sends an answer. The first one to a client needs descriptors for its ring: without any left it waits for them, too.
fn deliver<R, V: Serialize>(
    answers: &Sender<Answer<R>>,
    mark: Mark,
    answer: &V,
) -> Result<(), SendEnd> {
    let limit = Deadline::after(PATIENCE);
    let mut retry = Retry::default();
    loop {
        match answers.send_marked(mark, answer, &limit) {
            Err(SendEnd::Io(error)) if is_starved(&error) && Instant::now() < limit.instant() => {
                retry.pause(&error)
            }
            sent => return sent,
        }
    }
}

/// The sessions by their numbers, which are in letters.
pub(in crate::actor) struct Clients<R>(Mutex<BTreeMap<u64, Client<R>>>);

enum Client<R> {
    Open(Sender<Answer<R>>),
    /// Answers that wait for it to be opened, since then.
    Early(Instant, Vec<Answer<R>>),
}

impl<R: Serialize> Clients<R> {
    pub(in crate::actor) fn new() -> Clients<R> {
        Clients(Mutex::default())
    }

    /// An error if it is closed again, since the client does not take what waited for it.
    fn open(&self, session: u64, answers: Sender<Answer<R>>) -> Result<(), SendEnd> {
        let before = lock(&self.0).insert(session, Client::Open(answers.clone()));
        match before {
            Some(Client::Early(_, early)) => early
                .iter()
                .try_for_each(|answer| self.send(session, &answers, answer)),
            _ => Ok(()),
        }
    }

    fn close(&self, session: u64) {
        lock(&self.0).remove(&session);
    }

    /// Answers a call that came through the mailbox. Waits for no opening: who reads it may wait for the turn of who answers.
    /// An error if the session is to be closed.
    pub(in crate::actor) fn answer(
        &self,
        header: Header,
        reply: Result<R, String>,
    ) -> Result<(), SendEnd> {
        let answer = Answer {
            call: header.call,
            reply,
        };
        let mut clients = lock(&self.0);
        if let Some(Client::Open(answers)) = clients.get(&header.session) {
            let answers = answers.clone();
            drop(clients);
            return self.send(header.session, &answers, &answer);
        }
        let now = Instant::now();
        clients.retain(
            |_, client| !matches!(client, Client::Early(since, _) if now - *since > OPENING),
        );
        match clients.entry(header.session) {
            Entry::Vacant(place) => drop(place.insert(Client::Early(now, vec![answer]))),
            Entry::Occupied(mut place) => {
                if let Client::Early(_, early) = place.get_mut() {
                    early.push(answer);
                }
            }
        }
        Ok(())
    }

    fn send(
        &self,
        session: u64,
        answers: &Sender<Answer<R>>,
        answer: &Answer<R>,
    ) -> Result<(), SendEnd> {
        let sent = match deliver(answers, Mark::default(), answer) {
            Err(SendEnd::Encode(error)) => {
                let (call, reply) = (answer.call, Err(error.to_string()));
                deliver(answers, Mark::default(), &Answer::<R> { call, reply })
            }
            sent => sent,
        };
        sent.inspect_err(|end| {
            log::debug!(target: "offspring::actor", "a client takes no answers any more: {end:?}");
            self.close(session);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::protocol::CallNumber;
    use crate::channel::channel;

    #[test]
    fn an_answer_that_is_early_waits_for_its_session() {
        let clients = Clients::<u64>::new();
        let mut doors = Doors::new();
        let (sender, answers) = channel::<Answer<u64>>().unwrap();
        let header = |call| Header {
            session: 7,
            call: CallNumber(call),
        };
        clients.answer(header(1), Ok(10)).unwrap();
        clients.answer(header(2), Ok(20)).unwrap();
        doors.open(0, 7, sender, &[0], &clients);
        clients.answer(header(3), Ok(30)).unwrap();
        let got: Vec<_> = answers
            .iter()
            .take(3)
            .map(|answer| (answer.call.0, answer.reply.unwrap()))
            .collect();
        assert_eq!(got, [(1, 10), (2, 20), (3, 30)]);
    }

    #[test]
    fn direct_calls_are_answered_where_they_came_from() {
        let clients = Clients::<u64>::new();
        let mut doors = Doors::new();
        let [(one, ones), (other, others)] = [(); 2].map(|()| channel::<Answer<u64>>().unwrap());
        doors.open(4, 7, one, &[4], &clients);
        doors.open(5, 8, other, &[4, 5], &clients);
        doors.answer(4, 3, Ok(40), &clients);
        doors.answer(5, 0, Err("no".to_owned()), &clients);
        let arrived = ones.take(None).unwrap();
        let place = |place, special| Some(Direct { place, special });
        assert_eq!(Direct::of(arrived.mark), place(3, false));
        assert_eq!(arrived.decode::<u64>().unwrap(), 40);
        let arrived = others.take(None).unwrap();
        assert_eq!(Direct::of(arrived.mark), place(0, true));
        assert_eq!(arrived.decode::<String>().unwrap(), "no");
        // What is closed is not answered, and a ring that has ended takes its session along.
        doors.close(7, &clients);
        doors.answer(4, 3, Ok(41), &clients);
        let (third, _answers) = channel().unwrap();
        // A ring has one session: the first one that it opens ends with the second.
        doors.open(5, 10, third.clone(), &[4, 5], &clients);
        assert_eq!(lock(&clients.0).keys().copied().collect::<Vec<_>>(), [10]);
        doors.open(6, 9, third, &[6], &clients);
        assert!(ones.try_recv().is_err() && others.try_recv().is_err());
        assert_eq!(lock(&clients.0).keys().copied().collect::<Vec<_>>(), [9]);
    }
}
