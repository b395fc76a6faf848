//! Where an incarnation's answers go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::actor::letters::{Answer, Header};
use crate::channel::Sender;
use crate::error::{SendError, SendTimeoutError};
use crate::sys::lock;

/// A client that does not take its answers for this long gets no more.
const PATIENCE: Duration = Duration::from_secs(1);
/// A call through the mailbox may come in before its session was opened on the other way. So long its answer is kept.
const OPENING: Duration = Duration::from_secs(5);

/// The sessions by their numbers.
pub(super) struct Clients<R>(Mutex<BTreeMap<u64, Client<R>>>);

enum Client<R> {
    Open(Sender<Answer<R>>),
    /// Answers that wait for it to be opened, since then.
    Early(Instant, Vec<Answer<R>>),
}

impl<R: Serialize> Clients<R> {
    pub(super) fn new() -> Clients<R> {
        Clients(Mutex::default())
    }

    pub(super) fn open(&self, session: u64, answers: Sender<Answer<R>>) {
        let before = lock(&self.0).insert(session, Client::Open(answers.clone()));
        if let Some(Client::Early(_, early)) = before {
            early.into_iter().for_each(|answer| self.send(session, &answers, answer));
        }
    }

    pub(super) fn close(&self, session: u64) {
        lock(&self.0).remove(&session);
    }

    /// Answers a direct call. A client that has closed its session waits for nothing.
    pub(super) fn answer(&self, header: Header, reply: Result<R, String>) {
        let answers = match lock(&self.0).get(&header.session) {
            Some(Client::Open(answers)) => answers.clone(),
            _ => return,
        };
        let call = header.call;
        self.send(header.session, &answers, Answer { call, reply });
    }

    /// Answers a call that came through the mailbox. Waits for no opening: who reads it may wait for the turn of who answers.
    pub(super) fn answer_letter(&self, header: Header, reply: Result<R, String>) {
        let mut clients = lock(&self.0);
        if let Some(Client::Open(_)) = clients.get(&header.session) {
            drop(clients);
            return self.answer(header, reply);
        }
        let now = Instant::now();
        clients.retain(|_, client| !matches!(client, Client::Early(since, _) if now - *since > OPENING));
        let call = header.call;
        match clients.entry(header.session) {
            Entry::Vacant(place) => drop(place.insert(Client::Early(now, vec![Answer { call, reply }]))),
            Entry::Occupied(mut place) => {
                if let Client::Early(_, early) = place.get_mut() {
                    early.push(Answer { call, reply });
                }
            }
        }
    }

    fn send(&self, session: u64, answers: &Sender<Answer<R>>, answer: Answer<R>) {
        let call = answer.call;
        let end = match answers.send_timeout(answer, PATIENCE) {
            Err(SendTimeoutError::Failed(SendError::Encode(_, error))) => {
                let reply = Err(error.to_string());
                answers.send_timeout(Answer { call, reply }, PATIENCE)
            }
            end => end,
        };
        if let Err(error) = end {
            log::debug!(target: "offspring::actor", "a client takes no answers any more: {error}");
            self.close(session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::letters::CallNumber;
    use crate::channel::channel;

    #[test]
    fn an_answer_that_is_early_waits_for_its_session() {
        let clients = Clients::<u64>::new();
        let (sender, answers) = channel::<Answer<u64>>().unwrap();
        let header = |call| Header {
            session: 7,
            call: CallNumber(call),
        };
        clients.answer_letter(header(1), Ok(10));
        clients.answer_letter(header(2), Ok(20));
        clients.open(7, sender);
        clients.answer_letter(header(3), Ok(30));
        clients.answer(header(4), Ok(40));
        let got: Vec<_> = answers
            .iter()
            .take(4)
            .map(|answer| (answer.call.0, answer.reply.unwrap()))
            .collect();
        assert_eq!(got, [(1, 10), (2, 20), (3, 30), (4, 40)]);
        // Of a direct call the session was open before, so this one is closed.
        clients.close(7);
        clients.answer(header(5), Ok(50));
        assert!(answers.try_recv().is_err());
    }
}
