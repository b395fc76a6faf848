//! An actor's view of itself: its address, its predecessors, and the ways to end itself.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::actor::actor::Actor;
use crate::actor::address::ActorRef;
use crate::actor::protocol::{Blob, Ending, Request};
use crate::actor::timers::{Timer, Timers};
use crate::channel::Sender;
use crate::error::{DecodeError, DownReason, SendError, is_starved};
use crate::ipc::wire::Retry;
use crate::sys::lock;

/// An actor's view of itself. [`Actor::start`] receives it, and may keep a clone in the state.
///
/// Clones share one context. Dropping one does nothing. The context works from any thread of the
/// actor's process.
///
/// ```
/// use offspring::actor::{Context, DownReason};
///
/// struct Job {
///     left: u32,
///     context: Context<Job>,
/// }
///
/// #[offspring::actor]
/// impl Job {
///     fn start(steps: u32, context: &Context<Self>) -> Self {
///         Job { left: steps, context: context.clone() }
///     }
///
///     /// Whether it was the last one.
///     pub fn step(&mut self) -> bool {
///         self.left -= 1;
///         if self.left == 0 {
///             self.context.stop(); // after this message
///         }
///         self.left == 0
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let job = Job::spawn(2)?;
///     let monitor = job.monitor()?;
///     assert!(!job.step()?);
///     assert!(job.step()?); // the last one
///     assert_eq!(monitor.wait().reason, DownReason::Normal);
///     Ok(())
/// }
/// ```
pub struct Context<A: Actor> {
    pub(crate) inner: Arc<ContextInner>,
    pub(crate) address: ActorRef<A>,
    pub(crate) timers: Arc<Timers<A::Message>>,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(inner: ContextInner, address: ActorRef<A>) -> Context<A> {
        Context { inner: Arc::new(inner), address, timers: Arc::new(Timers::new()) }
    }

    /// Returns the actor's own address, to pass to others.
    ///
    /// The actor may cast to itself; a call to itself returns
    /// [`CallError::Cycle`](crate::actor::CallError::Cycle).
    #[must_use]
    pub fn address(&self) -> &ActorRef<A> {
        &self.address
    }

    /// Returns the actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.address.name()
    }

    /// Returns the number of this incarnation: 0 for the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// Returns how the previous incarnation ended; `None` in the first.
    #[must_use]
    pub fn previous(&self) -> Option<&DownReason> {
        self.inner.previous.as_ref()
    }

    /// Returns the last [`checkpoint`](Actor::checkpoint) of the earlier incarnations; `None` if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is of another type.
    pub fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, DecodeError> {
        self.inner.checkpoint.as_ref().map(Blob::decode).transpose()
    }

    /// Sends the actor a message after this time, and returns at once: OTP's `send_after`.
    ///
    /// The message is handled like a cast, as soon as the actor is free, ahead of what its mailbox
    /// holds. It does not go through the mailbox, so it comes even if that is full, or if the
    /// process that started the actor is suspended. If the actor's process is suspended, the
    /// message comes when that continues.
    ///
    /// Timers end with the process: messages that have not been handled when the actor stops or
    /// dies are dropped, and the next incarnation sets its own timers, in its
    /// [`start`](Actor::start). Timers can be set there, before the actor is up, and later on any
    /// thread. The clock is that of [`Instant`](std::time::Instant), which stands still while the
    /// machine sleeps.
    ///
    /// The first timer starts a thread. If that is not possible, the actor
    /// [fails](Context::fail).
    pub fn cast_after(&self, time: Duration, message: A::Message) -> Timer {
        self.timer(self.timers.once(time, message))
    }

    /// Sends the actor a message after each interval, until it is canceled: OTP's `send_interval`.
    /// The first one comes after one interval, which is at least 1 ms.
    ///
    /// `make` is called for each message, on the thread that handles it. In all other respects, it
    /// is like [`cast_after`](Context::cast_after).
    ///
    /// **Missed intervals are not made up for.** An actor that was busy or suspended for several
    /// intervals gets one message, and the next at the next multiple of the interval. So intervals
    /// do not drift, and no two messages of one interval ever wait.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use offspring::actor::Context;
    /// use offspring::{Sender, channel};
    ///
    /// struct Clock {
    ///     ticks: u64,
    ///     listener: Sender<u64>,
    /// }
    ///
    /// #[offspring::actor]
    /// impl Clock {
    ///     fn start(listener: Sender<u64>, context: &Context<Self>) -> Self {
    ///         context.cast_every(Duration::from_millis(10), || ClockMessage::Tick {});
    ///         Clock { ticks: 0, listener }
    ///     }
    ///
    ///     #[cast]
    ///     pub fn tick(&mut self) {
    ///         self.ticks += 1;
    ///         let _ = self.listener.send(self.ticks);
    ///     }
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let (listener, ticks) = channel()?;
    ///     let _clock = Clock::spawn(listener)?;
    ///     assert_eq!(ticks.iter().take(3).collect::<Vec<_>>(), [1, 2, 3]);
    ///     Ok(())
    /// }
    /// ```
    pub fn cast_every(
        &self,
        interval: Duration,
        make: impl Fn() -> A::Message + Send + Sync + 'static,
    ) -> Timer {
        self.timer(self.timers.every(interval, Arc::new(make)))
    }

    /// Fails the actor if its timers have no thread.
    fn timer(&self, (timer, started): (Timer, io::Result<()>)) -> Timer {
        if let Err(error) = started {
            self.fail(format_args!("could not start the thread of its timers: {error}"));
        }
        timer
    }

    /// Stops the actor after the message that it is handling, with [`DownReason::Normal`].
    ///
    /// A supervisor restarts it only if it is permanent. Only the first call of `stop` or
    /// [`fail`](Context::fail) has an effect.
    pub fn stop(&self) {
        self.inner.end(Ending::Normal);
    }

    /// Like [`stop`](Context::stop), but with [`DownReason::Failed`], which counts as a failure.
    pub fn fail(&self, error: impl fmt::Display) {
        self.inner.end(Ending::Failed(error.to_string()));
    }
}

#[derive(Debug)]
pub(crate) struct ContextInner {
    pub(crate) generation: u64,
    previous: Option<DownReason>,
    checkpoint: Option<Blob>,
    ending: Mutex<Option<Ending>>,
    /// Whether the main thread has something to check between two messages: an ending, or a panic
    /// of another thread.
    must_check: AtomicBool,
    /// A sender to this process itself.
    pub(crate) requests: Sender<Request>,
}

impl ContextInner {
    pub(crate) fn new(
        generation: u64,
        previous: Option<DownReason>,
        checkpoint: Option<Blob>,
        requests: Sender<Request>,
    ) -> ContextInner {
        ContextInner {
            generation,
            previous,
            checkpoint,
            ending: Mutex::new(None),
            must_check: AtomicBool::new(false),
            requests,
        }
    }

    /// Ends the actor after the message that it is handling.
    pub(crate) fn end(&self, ending: Ending) {
        self.set_ending(ending);
        self.wake();
    }

    /// Sets the ending, unless one is set. For the main thread, which needs no wake-up.
    pub(crate) fn set_ending(&self, ending: Ending) {
        lock(&self.ending).get_or_insert(ending);
        self.set_must_check();
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        lock(&self.ending).clone()
    }

    /// Makes the main thread check. Call this after the thing to check is set: the store releases
    /// it.
    pub(crate) fn set_must_check(&self) {
        self.must_check.store(true, Ordering::Release);
    }

    pub(crate) fn must_check(&self) -> bool {
        self.must_check.load(Ordering::Acquire)
    }

    /// Wakes the main thread, so that it checks. The first call needs descriptors. If none are
    /// left, it waits for them, because an ending must not get lost.
    pub(crate) fn wake(&self) {
        let mut retry = Retry::default();
        loop {
            match self.requests.send(Request::Wake) {
                Err(SendError::Io(_, error)) if is_starved(&error) => retry.pause(&error),
                // Any other error means that the receiver is gone, and with it the main thread's
                // loop.
                _ => return,
            }
        }
    }
}

impl<A: Actor> Clone for Context<A> {
    fn clone(&self) -> Context<A> {
        Context {
            inner: self.inner.clone(),
            address: self.address.clone(),
            timers: self.timers.clone(),
        }
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("address", &self.address)
            .field("generation", &self.inner.generation)
            .finish_non_exhaustive()
    }
}
