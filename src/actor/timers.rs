//! The timers of an actor: messages that it sends itself later.
//!
//! They stay in the actor's process and go straight to its state. If a timer's message went through
//! the mailbox, it would have to wait for the host, might find the mailbox full, and might arrive
//! at an incarnation that did not set the timer. A thread, which the first timer starts, waits for
//! the next timer that is due.
//!
//! The thread takes the actor's state first, and only then the timer. So a handler that cancels or
//! restarts a timer does not get its message afterwards.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::sys::{self, lock};

/// A longer time is cut to this one, because the clock cannot express every longer one.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Makes the message of an interval timer, each time that it is due.
pub(crate) type MakeMessage<M> = Arc<dyn Fn() -> M + Send + Sync>;

/// Handles what is due. Returns `false` if the actor has ended.
type Deliver = Arc<dyn Fn() -> bool + Send + Sync>;

/// A timer of an actor, from [`Context::cast_after`](crate::actor::Context::cast_after) or
/// [`cast_every`](crate::actor::Context::cast_every).
///
/// Dropping it does **not** cancel the timer: only [`cancel`](Timer::cancel) and the end of the
/// actor's process do.
///
/// ```
/// use std::time::Duration;
///
/// use offspring::actor::{Context, DownReason, Timer};
///
/// /// Ends when nobody has asked for it for a while.
/// struct Session {
///     context: Context<Session>,
///     end: Timer,
/// }
///
/// impl Session {
///     const IDLE: Duration = Duration::from_secs(1);
/// }
///
/// #[offspring::actor]
/// impl Session {
///     fn start(context: &Context<Self>) -> Self {
///         let end = context.cast_after(Session::IDLE, SessionMessage::Expire {});
///         Session { context: context.clone(), end }
///     }
///
///     pub fn touch(&mut self) {
///         self.end.cancel();
///         self.end = self.context.cast_after(Session::IDLE, SessionMessage::Expire {});
///     }
///
///     #[cast]
///     pub fn expire(&mut self) {
///         self.context.stop();
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let session = Session::spawn()?;
///     let monitor = session.monitor()?;
///     session.touch()?;
///     assert_eq!(monitor.wait().reason, DownReason::Normal);
///     Ok(())
/// }
/// ```
pub struct Timer {
    id: u64,
    timers: Arc<dyn CancelTimer>,
}

impl Timer {
    /// Cancels the timer, and drops its message. Returns `false` if the timer was over before: it
    /// was canceled, or its only message was handled or is being handled now.
    ///
    /// In a handler of the actor, no message of the timer is handled after this returns. On another
    /// thread, a message may still be in the middle of being handled.
    pub fn cancel(&self) -> bool {
        self.timers.cancel(self.id)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The timers of an actor, for a handle that does not know its type.
trait CancelTimer: Send + Sync {
    fn cancel(&self, id: u64) -> bool;
}

/// All timers of one incarnation.
pub(crate) struct Timers<M> {
    state: Mutex<State<M>>,
    changed: Condvar,
}

struct State<M> {
    next_id: u64,
    queue: BTreeMap<(Instant, u64), Due<M>>,
    /// When each timer in the queue is due.
    due: HashMap<u64, Instant>,
    has_thread: bool,
    /// Set once the actor's state is built.
    deliver: Option<Deliver>,
    closed: bool,
}

/// What a timer that is due brings.
pub(crate) enum Due<M> {
    Once(M),
    Every(Duration, MakeMessage<M>),
}

impl<M> Due<M> {
    /// Returns the message. For an interval, this runs user code.
    pub(crate) fn into_message(self) -> M {
        match self {
            Due::Once(message) => message,
            Due::Every(_, make) => make(),
        }
    }
}

impl<M> State<M> {
    fn insert(&mut self, id: u64, at: Instant, due: Due<M>) {
        self.queue.insert((at, id), due);
        self.due.insert(id, at);
    }

    fn remove(&mut self, id: u64) -> Option<Due<M>> {
        let at = self.due.remove(&id)?;
        self.queue.remove(&(at, id))
    }
}

impl<M: Send + 'static> Timers<M> {
    pub(crate) fn new() -> Timers<M> {
        Timers {
            state: Mutex::new(State {
                next_id: 0,
                queue: BTreeMap::new(),
                due: HashMap::new(),
                has_thread: false,
                deliver: None,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Adds a timer. Returns it, and whether the timers' thread is running.
    pub(crate) fn once(self: &Arc<Self>, after: Duration, message: M) -> (Timer, io::Result<()>) {
        self.add(after, Due::Once(message))
    }

    /// Like [`once`](Timers::once).
    pub(crate) fn every(
        self: &Arc<Self>,
        interval: Duration,
        make: MakeMessage<M>,
    ) -> (Timer, io::Result<()>) {
        let interval = interval.clamp(SHORTEST_INTERVAL, LONGEST);
        self.add(interval, Due::Every(interval, make))
    }

    fn add(self: &Arc<Self>, after: Duration, due: Due<M>) -> (Timer, io::Result<()>) {
        let at = Instant::now() + after.min(LONGEST);
        let mut state = lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        let timer = Timer { id, timers: self.clone() };
        if state.closed {
            // The message is dropped without the lock, because that runs user code.
            drop(state);
            return (timer, Ok(()));
        }
        state.insert(id, at, due);
        let starts = !std::mem::replace(&mut state.has_thread, true);
        drop(state);
        self.changed.notify_all();
        if !starts {
            return (timer, Ok(()));
        }
        let timers = self.clone();
        // Not a service thread, because those block signals: this one runs the actor's handlers.
        let thread = std::thread::Builder::new().name("offspring-timers".to_owned());
        (timer, thread.spawn(move || timers.run()).map(drop))
    }

    /// Called when the actor's state is built: from now on, `deliver` is called when a timer is
    /// due.
    pub(crate) fn open(&self, deliver: Deliver) {
        lock(&self.state).deliver = Some(deliver);
        self.changed.notify_all();
    }

    /// Called when the actor has ended: drops all messages, and ends the thread.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.due.clear();
        let messages = std::mem::take(&mut state.queue);
        let deliver = state.deliver.take();
        drop(state);
        self.changed.notify_all();
        // Dropped without the lock, because that runs user code.
        drop((messages, deliver));
    }

    fn run(&self) {
        let mut state = lock(&self.state);
        while !state.closed {
            let next = state.queue.first_key_value().map(|((at, _), _)| *at);
            state = match (state.deliver.clone(), next) {
                (Some(deliver), Some(at)) if at <= Instant::now() => {
                    drop(state);
                    if !deliver() {
                        return;
                    }
                    lock(&self.state)
                }
                (Some(_), at) => sys::wait(&self.changed, state, at),
                (None, _) => sys::wait(&self.changed, state, None),
            };
        }
    }

    /// Takes the first timer that is due. Returns `None` if there is none, because it was canceled
    /// in the meantime.
    ///
    /// An interval is queued again at once, so that the handler of its message can cancel it.
    pub(crate) fn take_due(&self, now: Instant) -> Option<Due<M>> {
        let mut state = lock(&self.state);
        let (at, id) = *state.queue.first_key_value().filter(|((at, _), _)| *at <= now)?.0;
        let due = state.remove(id)?;
        if let Due::Every(interval, make) = &due {
            state.insert(id, next(at, *interval, now), Due::Every(*interval, make.clone()));
        }
        Some(due)
    }
}

impl<M: Send + 'static> CancelTimer for Timers<M> {
    fn cancel(&self, id: u64) -> bool {
        // The lock is released before the message is dropped.
        let canceled = lock(&self.state).remove(id);
        canceled.is_some()
    }
}

/// Returns when an interval that was due at `at` is due next: at the first multiple after now.
/// Missed intervals are not made up for.
fn next(at: Instant, interval: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(at).as_nanos();
    let missed = late / interval.as_nanos();
    let past = interval.as_nanos() * (missed + 1) - late;
    // At most one interval, which fits.
    now + Duration::from_nanos(u64::try_from(past).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_interval_is_due_next_at_a_multiple_in_the_future() {
        let start = Instant::now();
        let at = |n: u32| start + MS * n;
        assert_eq!(next(at(10), MS * 10, at(10)), at(20));
        assert_eq!(next(at(10), MS * 10, at(13)), at(20));
        assert_eq!(next(at(10), MS * 10, at(20)), at(30), "20 was missed");
        assert_eq!(next(at(10), MS * 10, at(47)), at(50));
        assert_eq!(next(at(10), LONGEST, at(10)), at(10) + LONGEST);
    }

    #[test]
    fn timers_come_in_the_order_of_their_times_unless_they_are_canceled() {
        let timers = Arc::new(Timers::<u32>::new());
        let (sender, handled) = mpsc::channel();
        // Before the state is built.
        let late = timers.once(MS * 30, 3).0;
        let canceled = timers.once(MS * 5, 2).0;
        timers.once(MS, 1).1.unwrap();
        timers.once(Duration::MAX, 9).1.unwrap();
        assert!(canceled.cancel() && !canceled.cancel());
        let (weak, start) = (Arc::downgrade(&timers), Instant::now());
        timers.open(Arc::new(move || {
            let Some(timers) = weak.upgrade() else { return false };
            let due = timers.take_due(Instant::now()).map(Due::into_message);
            due.is_none_or(|message| sender.send((message, start.elapsed())).is_ok())
        }));
        assert_eq!(handled.recv().unwrap().0, 1);
        let (message, after) = handled.recv().unwrap();
        assert!(message == 3 && after >= MS * 25, "{message} after {after:?}");
        assert!(!late.cancel(), "it is over");
        timers.close();
        assert!(!timers.once(MS, 4).0.cancel(), "nothing is taken after the end");
        // The thread drops its sender when it ends.
        assert!(handled.recv().is_err());
    }
}
