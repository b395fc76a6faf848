//! One client process and one incarnation: a way there, a way back, and who waits for which answer.
//!
//! Threads that wait share the way back. One of them, the leader, receives; it hands the answers of others
//! over, and when it has its own, another one leads. There is no thread of its own, so an answer wakes the one that
//! waits for it and nobody else, as over a pipe.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::client::pending::{Board, CallId, CallOutcome, Led, Received};
use crate::actor::protocol::{
    Answer, CallNumber, Chain, Direct, Erased, Header, Letter, Request, own_number,
};
use crate::channel::{Arrived, Receiver, SendEnd, Sender, channel};
use crate::error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError};
use crate::ipc::deadline::Deadline;
#[cfg(feature = "async")]
use crate::ipc::reactor::EventSource;
use crate::ipc::reactor::WakerSet;
use crate::ipc::wire::{Failure, Retry};
use crate::sys::{self, lock};

pub(in crate::actor) struct Session<R> {
    pub(in crate::actor) generation: u64,
    number: u64,
    pub(in crate::actor) door: Sender<Request>,
    answers: Receiver<Answer<R>>,
    board: Mutex<Board<R>>,
    /// As the board says it, for each call to look at without the lock.
    left: AtomicUsize,
    changed: Condvar,
    /// Tasks that wait, for what threads receive for them.
    told: Arc<WakerSet>,
}

impl<R: Serialize + DeserializeOwned> Session<R> {
    /// Says to the incarnation where its answers go. `None` if it is gone, or does not take it in time.
    pub(in crate::actor) fn open(
        generation: u64,
        door: &Sender<Erased>,
        deadline: Instant,
    ) -> Result<Session<R>, OpenEnd> {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let number = own_number().wrapping_add(SESSIONS.fetch_add(1, Ordering::Relaxed));
        let (to_us, answers) =
            channel::<Answer<R>>().map_err(|error| OpenEnd::Io(error.to_string()))?;
        // The incarnation knows the session by the ring that its calls come from.
        let door = door.separate().retype::<Request>();
        let open = Request::Open {
            session: number,
            answers: to_us.retype(),
        };
        match door.send_timeout(open, deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => return Err(OpenEnd::Timeout),
            Err(SendTimeoutError::Failed(SendError::Disconnected(_))) => return Err(OpenEnd::Gone),
            Err(error) => return Err(OpenEnd::Io(error.to_string())),
        }
        Ok(Session {
            generation,
            number,
            door,
            answers,
            board: Mutex::new(Board::new()),
            left: AtomicUsize::new(0),
            changed: Condvar::new(),
            told: Arc::default(),
        })
    }
}

/// Why there is no session.
pub(in crate::actor) enum OpenEnd {
    Timeout,
    Gone,
    Io(String),
}

impl<R> Session<R> {
    fn board(&self) -> MutexGuard<'_, Board<R>> {
        lock(&self.board)
    }

    /// A new call.
    pub(in crate::actor) fn register(&self, direct: bool) -> CallId {
        self.board().register(direct)
    }

    /// The call did not get on its way.
    pub(in crate::actor) fn cancel(&self, call: CallId) {
        self.board().cancel(call);
    }

    /// Nobody waits any more for this call, which is on its way.
    pub(in crate::actor) fn leave(&self, call: CallId) {
        let mut board = self.board();
        let unwanted = board.leave(call);
        self.left.store(board.left(), Ordering::Relaxed);
        drop(board);
        drop(unwanted);
    }

    /// A call that goes through the mailbox.
    pub(in crate::actor) fn letter<M>(
        &self,
        call: CallNumber,
        chain: Chain,
        message: M,
    ) -> Letter<M> {
        let session = self.number;
        Letter::Call {
            header: Header { session, call },
            generation: self.generation,
            chain,
            message,
        }
    }

    /// Sends a direct call.
    pub(in crate::actor) fn send<V: Serialize>(
        &self,
        direct: Direct,
        message: &V,
        limit: &Deadline,
    ) -> Result<(), SendEnd> {
        self.door.send_marked(direct.mark(), message, limit)
    }
}

impl<R: DeserializeOwned> Session<R> {
    /// Waits for the answer to a call that is on its way.
    pub(in crate::actor) fn wait(&self, call: CallId, limit: &Deadline) -> CallOutcome<R> {
        let mut retry = Retry::default();
        loop {
            if let Some(outcome) = self.follow(call, limit) {
                return outcome;
            }
            let received = received(self.answers.take(limit.deadline()));
            match self.settle(Some(call), received) {
                Led::Own(outcome) => return outcome,
                Led::Other(_) => {}
                Led::Starved if Instant::now() < limit.instant() => {
                    retry.pause(&Failure::Starved.into_io())
                }
                Led::Nothing | Led::Starved => {
                    self.leave(call);
                    return CallOutcome::Timeout;
                }
            }
        }
    }

    /// Whether calls still get answers here. The actor closes a session whose client takes none, and one with calls that were
    /// left may not have taken them: those are taken now.
    pub(in crate::actor) fn is_sound(&self) -> bool {
        while self.left.load(Ordering::Relaxed) > 0 {
            let board = self.board();
            if board.is_gone() {
                return false;
            }
            if board.leads {
                break;
            }
            if let Led::Nothing | Led::Starved = self.receive_now(board, None) {
                break;
            }
        }
        true
    }

    /// Receives what is there, for all.
    fn receive_now(&self, mut board: MutexGuard<'_, Board<R>>, own: Option<CallId>) -> Led<R> {
        board.leads = true;
        drop(board);
        self.settle(own, received(self.answers.take(Some(Instant::now()))))
    }

    /// Waits until another thread has received the answer, or there is none that receives; then this one leads.
    fn follow(&self, call: CallId, limit: &Deadline) -> Option<CallOutcome<R>> {
        let mut board = self.board();
        loop {
            let outcome = board.take(call);
            if outcome.is_some() {
                return outcome;
            }
            if !board.leads {
                board.leads = true;
                return None;
            }
            let deadline = limit.deadline();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                drop(board);
                self.leave(call);
                return Some(CallOutcome::Timeout);
            }
            board = sys::wait(&self.changed, board, deadline);
        }
    }

    /// What who led received goes to whom it belongs, and another one may lead.
    fn settle(&self, own: Option<CallId>, received: Received<R>) -> Led<R> {
        let mut board = self.board();
        board.leads = false;
        let led = board.settle(own, received);
        self.left.store(board.left(), Ordering::Relaxed);
        let own_waits = own.is_some() && !matches!(led, Led::Own(_));
        let others = board.waiting() > usize::from(own_waits);
        drop(board);
        if others {
            self.changed.notify_all();
            self.told.wake();
        }
        led
    }
}

/// Which call was answered, and how.
fn received<R: DeserializeOwned>(taken: Result<Arrived, RecvTimeoutError>) -> Received<R> {
    let arrived = match taken {
        Ok(arrived) => arrived,
        Err(RecvTimeoutError::Timeout) => return Received::Timeout,
        Err(RecvTimeoutError::Failed(error)) if error.is_starved() => return Received::Starved,
        Err(RecvTimeoutError::Failed(_)) => return Received::Gone,
    };
    let direct = Direct::of(arrived.mark);
    // Of another one before.
    let _ = CallNumber::heard();
    let decoded = match direct {
        None => arrived.decode::<Answer<R>>().map(|Answer { call, reply }| {
            (
                CallId::Letter(call),
                reply.map_or_else(CallOutcome::Refused, CallOutcome::Reply),
            )
        }),
        Some(Direct {
            place,
            special: false,
        }) => arrived
            .decode()
            .map(|reply| (CallId::Direct(place), CallOutcome::Reply(reply))),
        Some(Direct {
            place,
            special: true,
        }) => arrived
            .decode()
            .map(|text| (CallId::Direct(place), CallOutcome::Refused(text))),
    };
    match decoded {
        Ok((call, outcome)) => Received::Answer(call, outcome),
        Err(error) if error.is_starved() => Received::Starved,
        Err(error) => {
            let call = direct.map(|direct| CallId::Direct(direct.place));
            let Some(call) = call.or_else(|| CallNumber::heard().map(CallId::Letter)) else {
                return Received::Stray;
            };
            let outcome = match error {
                RecvError::Decode(error) => CallOutcome::Undecodable(error),
                error => CallOutcome::Refused(error.to_string()),
            };
            Received::Answer(call, outcome)
        }
    }
}

#[cfg(feature = "async")]
impl<R: DeserializeOwned> Session<R> {
    /// As [`wait`](Session::wait), without waiting. Who gets `None` is told by [`told`](Session::told) of what a thread receives for it, and
    /// by [`target`](Session::target) of what nobody has received.
    pub(in crate::actor) fn try_wait(&self, call: CallId) -> Option<CallOutcome<R>> {
        loop {
            let mut board = self.board();
            if let Some(outcome) = board.take(call) {
                return Some(outcome);
            }
            if board.leads {
                return None;
            }
            match self.receive_now(board, Some(call)) {
                Led::Own(outcome) => return Some(outcome),
                Led::Other(_) => {}
                Led::Nothing | Led::Starved => return None,
            }
        }
    }

    pub(in crate::actor) fn told(&self) -> &Arc<WakerSet> {
        &self.told
    }

    pub(in crate::actor) fn target(&self) -> Option<Arc<dyn EventSource>> {
        self.answers.event_source()
    }
}

impl<R> Drop for Session<R> {
    fn drop(&mut self) {
        let close = Request::Close {
            session: self.number,
        };
        // An actor that does not listen now keeps the way to us until it hears that the ring has ended.
        let _ = self.door.send_timeout(close, Duration::ZERO);
    }
}

impl<R> std::fmt::Debug for Session<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("generation", &self.generation)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
