//! One client process and one incarnation: a way there, a way back, and who waits for which answer.
//!
//! Threads that wait share the way back. One of them, the leader, receives; it hands the answers of others
//! over, and when it has its own, another one leads. There is no thread of its own, so an answer wakes the one that
//! waits for it and nobody else, as over a pipe.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::letters::{Answer, Header, Request, own_number};
use crate::channel::{Receiver, Sender, channel};
use crate::error::{DecodeError, RecvError, RecvTimeoutError, SendTimeoutError};
use crate::sys::{self, lock};

/// What a call came to.
pub(super) enum Outcome<R> {
    Reply(R),
    /// The actor could not.
    Refused(String),
    Undecodable(DecodeError),
    Timeout,
    /// The incarnation is gone.
    Gone,
}

pub(super) struct Session<M, R> {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) door: Sender<Request<M, R>>,
    answers: Receiver<Answer<R>>,
    board: Mutex<Board<R>>,
    changed: Condvar,
}

struct Board<R> {
    next_call: u64,
    leads: bool,
    gone: bool,
    /// `None` while it waits.
    calls: HashMap<u64, Option<Outcome<R>>>,
}

impl<M: Serialize, R: Serialize + DeserializeOwned> Session<M, R> {
    /// Says to the incarnation where its answers go. `None` if it is gone, or does not take it in time.
    pub(super) fn open(generation: u64, door: Sender<Request<M, R>>, deadline: Instant) -> Result<Session<M, R>, OpenEnd> {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let number = own_number().wrapping_add(SESSIONS.fetch_add(1, Ordering::Relaxed));
        let (to_us, answers) = channel().map_err(|error| OpenEnd::Io(error.to_string()))?;
        let open = Request::Open {
            session: number,
            answers: to_us,
        };
        match door.send_timeout(open, deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => return Err(OpenEnd::Timeout),
            Err(SendTimeoutError::Failed(crate::error::SendError::Disconnected(_))) => return Err(OpenEnd::Gone),
            Err(error) => return Err(OpenEnd::Io(error.to_string())),
        }
        Ok(Session {
            generation,
            number,
            door,
            answers,
            board: Mutex::new(Board {
                next_call: 0,
                leads: false,
                gone: false,
                calls: HashMap::new(),
            }),
            changed: Condvar::new(),
        })
    }
}

/// Why there is no session.
pub(super) enum OpenEnd {
    Timeout,
    Gone,
    Io(String),
}

impl<M, R> Session<M, R> {
    fn board(&self) -> MutexGuard<'_, Board<R>> {
        lock(&self.board)
    }

    /// A new call, and how many others there are.
    pub(super) fn register(&self) -> (Header, usize) {
        let mut board = self.board();
        let call = board.next_call;
        board.next_call += 1;
        let others = board.calls.len();
        board.calls.insert(call, None);
        let session = self.number;
        (Header { session, call }, others)
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&self, header: Header) {
        self.board().calls.remove(&header.call);
    }
}

impl<M, R: DeserializeOwned> Session<M, R> {
    /// Waits for the answer to a registered call.
    pub(super) fn wait(&self, header: Header, deadline: Instant) -> Outcome<R> {
        let mut board = self.board();
        loop {
            if let Some(outcome) = board.calls.get_mut(&header.call).and_then(Option::take) {
                board.calls.remove(&header.call);
                return outcome;
            }
            if board.gone {
                board.calls.remove(&header.call);
                return Outcome::Gone;
            }
            if board.leads {
                if deadline <= Instant::now() {
                    board.calls.remove(&header.call);
                    return Outcome::Timeout;
                }
                board = sys::wait(&self.changed, board, Some(deadline));
                continue;
            }
            board.leads = true;
            drop(board);
            let received = self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            board = self.board();
            board.leads = false;
            let end = self.settle(&mut board, header, received);
            if board.calls.len() > 1 || end.is_none() {
                self.changed.notify_all();
            }
            if let Some(outcome) = end {
                board.calls.remove(&header.call);
                return outcome;
            }
        }
    }

    /// What was received goes to whom it belongs; the outcome of `own`, if it is that.
    fn settle(&self, board: &mut Board<R>, own: Header, received: Result<Answer<R>, RecvTimeoutError>) -> Option<Outcome<R>> {
        let (header, outcome) = match received {
            Ok(Answer { header, reply: Ok(reply) }) => (header, Outcome::Reply(reply)),
            Ok(Answer {
                header,
                reply: Err(message),
            }) => (header, Outcome::Refused(message)),
            Err(RecvTimeoutError::Timeout) => return Some(Outcome::Timeout),
            Err(RecvTimeoutError::Failed(RecvError::Decode(error))) => (Header::heard()?, Outcome::Undecodable(error)),
            Err(RecvTimeoutError::Failed(_)) => {
                board.gone = true;
                return None;
            }
        };
        if header == own {
            return Some(outcome);
        }
        // An answer that nobody waits for came too late.
        if let Some(call) = board.calls.get_mut(&header.call) {
            *call = Some(outcome);
        }
        None
    }
}

impl<M, R> Drop for Session<M, R> {
    fn drop(&mut self) {
        let close: Request<(), ()> = Request::Close { session: self.number };
        // An actor that does not listen now keeps the way to us until it answers the next time.
        let _ = self.door.clone().retype().send_timeout(close, Duration::ZERO);
    }
}

impl<M, R> std::fmt::Debug for Session<M, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("generation", &self.generation)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
