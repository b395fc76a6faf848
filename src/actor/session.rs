//! One client process and one incarnation: a way there, a way back, and who waits for which answer.
//!
//! Threads that wait share the way back. One of them, the leader, receives; it hands the answers of others
//! over, and when it has its own, another one leads. There is no thread of its own, so an answer wakes the one that
//! waits for it and nobody else, as over a pipe.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::letters::{Answer, Header, Request, own_number};
use crate::channel::{Receiver, Sender, channel};
#[cfg(feature = "async")]
use crate::error::TryRecvError;
use crate::error::{DecodeError, RecvError, RecvTimeoutError, SendTimeoutError};
use crate::sys::{self, lock};
#[cfg(feature = "async")]
use crate::watch::Target;
use crate::watch::Waiters;

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
    /// Tasks that wait, for what threads receive for them.
    told: Arc<Waiters>,
}

struct Board<R> {
    next_call: u64,
    leads: bool,
    gone: bool,
    /// `None` while it waits.
    calls: BTreeMap<u64, Option<Outcome<R>>>,
}

impl<R> Board<R> {
    /// What a call came to, if that is known; then it is no more.
    fn take(&mut self, header: Header) -> Option<Outcome<R>> {
        let outcome = self.calls.get_mut(&header.call).and_then(Option::take);
        let outcome = outcome.or_else(|| self.gone.then_some(Outcome::Gone))?;
        self.calls.remove(&header.call);
        Some(outcome)
    }
}

/// What one who received for all got.
enum Led<R> {
    Own(Outcome<R>),
    Other,
    Nothing,
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
                calls: BTreeMap::new(),
            }),
            changed: Condvar::new(),
            told: Arc::default(),
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
            if let Some(outcome) = board.take(header) {
                return outcome;
            }
            if board.leads {
                if deadline <= Instant::now() {
                    board.calls.remove(&header.call);
                    return Outcome::Timeout;
                }
                board = sys::wait(&self.changed, board, Some(deadline));
                continue;
            }
            let led = self.lead(board, header, |answers| match answers.recv_until(Some(deadline)) {
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Failed(error)) => Some(Err(error)),
                Ok(answer) => Some(Ok(answer)),
            });
            board = match led {
                Led::Own(outcome) => return outcome,
                Led::Other => self.board(),
                Led::Nothing => {
                    self.forget(header);
                    return Outcome::Timeout;
                }
            };
        }
    }

    /// Receives once, for all; nobody else does meanwhile.
    fn lead(
        &self,
        mut board: MutexGuard<'_, Board<R>>,
        own: Header,
        receive: impl FnOnce(&Receiver<Answer<R>>) -> Option<Result<Answer<R>, RecvError>>,
    ) -> Led<R> {
        board.leads = true;
        drop(board);
        let received = receive(&self.answers);
        let mut board = self.board();
        board.leads = false;
        let led = received.map_or(Led::Nothing, |received| settle(&mut board, own, received));
        if matches!(led, Led::Own(_)) {
            board.calls.remove(&own.call);
        }
        let others = !board.calls.is_empty();
        drop(board);
        if others {
            self.changed.notify_all();
            self.told.wake();
        }
        led
    }
}

#[cfg(feature = "async")]
impl<M, R: DeserializeOwned> Session<M, R> {
    /// As [`wait`](Session::wait), without waiting. Who gets `None` is told by [`told`](Session::told) of what a thread receives for it, and
    /// by [`target`](Session::target) of what nobody has received.
    pub(super) fn try_wait(&self, header: Header) -> Option<Outcome<R>> {
        loop {
            let mut board = self.board();
            if let Some(outcome) = board.take(header) {
                return Some(outcome);
            }
            if board.leads {
                return None;
            }
            let led = self.lead(board, header, |answers| match answers.try_recv() {
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Failed(error)) => Some(Err(error)),
                Ok(answer) => Some(Ok(answer)),
            });
            match led {
                Led::Own(outcome) => return Some(outcome),
                Led::Other => {}
                Led::Nothing => return None,
            }
        }
    }

    pub(super) fn told(&self) -> &Arc<Waiters> {
        &self.told
    }

    pub(super) fn target(&self) -> Option<Arc<dyn Target>> {
        self.answers.target()
    }
}

/// What was received goes to whom it belongs.
fn settle<R>(board: &mut Board<R>, own: Header, received: Result<Answer<R>, RecvError>) -> Led<R> {
    let (header, outcome) = match received {
        Ok(Answer { header, reply: Ok(reply) }) => (header, Outcome::Reply(reply)),
        Ok(Answer {
            header,
            reply: Err(message),
        }) => (header, Outcome::Refused(message)),
        Err(RecvError::Decode(error)) => match Header::heard() {
            Some(header) => (header, Outcome::Undecodable(error)),
            None => return Led::Other,
        },
        Err(_) => {
            board.gone = true;
            return Led::Other;
        }
    };
    if header == own {
        return Led::Own(outcome);
    }
    // An answer that nobody waits for came too late.
    if let Some(call) = board.calls.get_mut(&header.call) {
        *call = Some(outcome);
    }
    Led::Other
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
