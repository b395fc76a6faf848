//! One client process and one incarnation: a way there, a way back, and who waits for which answer.
//!
//! Threads that wait share the way back. One of them, the leader, receives; it hands the answers of others
//! over, and when it has its own, another one leads. There is no thread of its own, so an answer wakes the one that
//! waits for it and nobody else, as over a pipe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::board::{Board, Led, Outcome};
use crate::actor::letters::{Answer, CallNumber, Header, Request, own_number};
use crate::channel::{Receiver, Sender, channel};
#[cfg(feature = "async")]
use crate::error::TryRecvError;
use crate::error::{RecvError, RecvTimeoutError, SendTimeoutError};
use crate::limit::Limit;
use crate::sys::{self, lock};
#[cfg(feature = "async")]
use crate::watch::Target;
use crate::watch::Waiters;

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
            board: Mutex::new(Board::new()),
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
        let (call, others) = self.board().register();
        let session = self.number;
        (Header { session, call }, others)
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&self, call: CallNumber) {
        self.board().forget(call);
    }
}

impl<M, R: DeserializeOwned> Session<M, R> {
    /// Waits for the answer to a registered call.
    pub(super) fn wait(&self, call: CallNumber, limit: &Limit) -> Outcome<R> {
        let mut board = self.board();
        loop {
            if let Some(outcome) = board.take(call) {
                return outcome;
            }
            if board.leads {
                let deadline = limit.deadline();
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    board.forget(call);
                    return Outcome::Timeout;
                }
                board = sys::wait(&self.changed, board, deadline);
                continue;
            }
            let led = self.lead(board, call, |answers| match answers.recv_until(limit.deadline()) {
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Failed(error)) => Some(Err(error)),
                Ok(answer) => Some(Ok(answer)),
            });
            board = match led {
                Led::Own(outcome) => return outcome,
                Led::Other => self.board(),
                Led::Nothing => {
                    self.forget(call);
                    return Outcome::Timeout;
                }
            };
        }
    }

    /// Receives once, for all; nobody else does meanwhile.
    fn lead(
        &self,
        mut board: MutexGuard<'_, Board<R>>,
        own: CallNumber,
        receive: impl FnOnce(&Receiver<Answer<R>>) -> Option<Result<Answer<R>, RecvError>>,
    ) -> Led<R> {
        board.leads = true;
        drop(board);
        let received = receive(&self.answers);
        let mut board = self.board();
        board.leads = false;
        let led = received.map_or(Led::Nothing, |received| board.settle(own, received));
        let others = !board.is_empty();
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
    pub(super) fn try_wait(&self, call: CallNumber) -> Option<Outcome<R>> {
        loop {
            let mut board = self.board();
            if let Some(outcome) = board.take(call) {
                return Some(outcome);
            }
            if board.leads {
                return None;
            }
            let led = self.lead(board, call, |answers| match answers.try_recv() {
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
