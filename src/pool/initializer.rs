//! The initializer of a pool's workers, and the values that a worker keeps for its tasks.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{EncodeError, ExitReason, PoolError};
use crate::ipc::catch::catch_panic;
use crate::ipc::hub;
use crate::ipc::wire::{self, EncodedValue, Envelope, Shape};
use crate::pool::batch::needs_parcel;
use crate::pool::link::{ParentEnd, Replies, Reply};
use crate::process::{self, Process, ProcessWorker, TaskFailure};
use crate::sys::lock;

/// What an initializer of a [`Pool`](crate::Pool) may return: nothing, or a `Result` whose error is
/// the reason why the worker cannot be used.
///
/// ```
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn begin(dictionary: String) -> Result<(), String> {
///     let text = std::fs::read_to_string(&dictionary).map_err(|error| format!("{dictionary}: {error}"))?;
///     offspring::pool::set_worker_state(text);
///     Ok(())
/// }
///
/// #[offspring::main]
/// fn main() {
///     let error = Pool::builder().initializer(begin::new("/no/such/file".to_owned())).build().unwrap_err();
///     assert!(error.to_string().contains("/no/such/file: No such file"));
/// }
/// ```
pub trait InitializerOutput {
    /// Returns `Ok` if the worker is ready for tasks.
    ///
    /// # Errors
    ///
    /// Returns the text of the initializer's error.
    fn into_result(self) -> Result<(), String>;
}

impl InitializerOutput for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> InitializerOutput for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

thread_local! {
    /// The states of the thread that runs the tasks.
    static STATE: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::new(HashMap::new());
}

/// Keeps a value in this worker of a pool for later tasks, and returns the previous value of that
/// type. Called by an initializer, or by a task.
///
/// A worker keeps one value of each type, in the thread that runs the tasks. When the worker is
/// replaced, the initializer makes a new one.
///
/// ```
/// use offspring::pool::{set_worker_state, with_worker_state};
/// use offspring::Pool;
/// struct Dictionary(Vec<String>);
///
/// #[offspring::worker]
/// fn load(words: Vec<String>) {
///     set_worker_state(Dictionary(words));
/// }
///
/// #[offspring::worker]
/// fn knows(word: String) -> bool {
///     with_worker_state(|dictionary: &mut Dictionary| dictionary.0.contains(&word)).expect("the initializer has run")
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::builder().workers(2).initializer(load::new(vec!["tree".to_owned()])).build()?;
///     assert!(pool.run(knows::new("tree".to_owned()))?);
///     assert!(!pool.run(knows::new("bush".to_owned()))?);
///     Ok(())
/// }
/// ```
pub fn set_worker_state<S: 'static>(state: S) -> Option<S> {
    // A destructor at the end of the thread finds no states, and leaves none.
    let keep = |states: &RefCell<HashMap<_, _>>| {
        states.borrow_mut().insert(TypeId::of::<S>(), Box::new(state) as Box<dyn Any>)
    };
    let before = STATE.try_with(keep).ok().flatten();
    before.and_then(|before| before.downcast().ok()).map(|before| *before)
}

/// Calls `act` with the value of type `S` that [`set_worker_state`] keeps. Returns `None` if there
/// is no such value, or if an outer call is using it.
///
/// If `act` panics, the value is dropped: it may be inconsistent.
///
/// ```
/// use offspring::pool::{set_worker_state, with_worker_state};
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn begin() {
///     set_worker_state(0u64);
/// }
///
/// #[offspring::worker]
/// fn next() -> u64 {
///     with_worker_state(|count: &mut u64| {
///         *count += 1;
///         *count
///     })
///     .expect("`begin` has run")
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::builder().workers(1).initializer(begin::new()).build()?;
///     assert_eq!((pool.run(next::new())?, pool.run(next::new())?), (1, 2)); // the same process
///     Ok(())
/// }
/// ```
pub fn with_worker_state<S: 'static, R>(act: impl FnOnce(&mut S) -> R) -> Option<R> {
    // Taken out, not borrowed, so that `act` may use the states of other types.
    let taken = STATE.try_with(|states| states.borrow_mut().remove(&TypeId::of::<S>()));
    let mut state = taken.ok().flatten()?.downcast::<S>().ok()?;
    let result = act(&mut state);
    STATE.with_borrow_mut(|states| {
        states.entry(TypeId::of::<S>()).or_insert(state);
    });
    Some(result)
}

/// An initializer, encoded once for all workers.
pub(super) struct Initializer {
    number: u32,
    value: InitializerValue,
    decode: fn(process::TaskInput<'_>) -> Result<(), String>,
}

enum InitializerValue {
    Inline(Vec<u8>),
    Parcel(Mutex<Envelope>),
}

impl Initializer {
    pub(super) fn new<W: ProcessWorker<Output: InitializerOutput>>(
        number: u32,
        worker: &W,
    ) -> Result<Initializer, PoolError> {
        let encoded = wire::encode_copy(worker, Shape::of::<W>());
        hub::announce();
        let encoded = encoded.map_err(PoolError::Encode)?;
        let value = if needs_parcel(&encoded) {
            InitializerValue::Parcel(Mutex::new(parcel::<W>(encoded)?))
        } else {
            InitializerValue::Inline(encoded.bytes)
        };
        // This runs on a monitor's thread. The error's `Display` and `Drop` are user code.
        let decode = |value: process::TaskInput<'_>| match value.decode::<W::Output>() {
            Ok(output) => catch_panic("its error panicked", || output.into_result())
                .unwrap_or_else(|panic| Err(panic.to_string())),
            Err(error) => Err(error.to_string()),
        };
        Ok(Initializer { number, value, decode })
    }

    /// Runs it in a worker, and blocks for at most `timeout` until it has returned, or the process
    /// has ended.
    pub(super) fn run(
        &self,
        link: &ParentEnd,
        process: &Process<()>,
        timeout: Option<Duration>,
    ) -> Result<(), PoolError> {
        let sent = self.send(link).map_err(|message| (message, String::new()));
        sent.and_then(|()| self.wait(link, process, timeout)).map_err(|(message, stderr)| {
            let worker = process.name().to_owned();
            PoolError::Initializer { worker, pid: process.pid(), message, stderr }
        })
    }

    fn send(&self, link: &ParentEnd) -> Result<(), String> {
        match &self.value {
            InitializerValue::Inline(bytes) => {
                link.push(self.number, std::iter::once(&bytes[..]));
            }
            InitializerValue::Parcel(envelope) => {
                let envelope =
                    lock(envelope).try_clone().ok_or("no memory or descriptors for its value")?;
                link.push_parcel(self.number, envelope, &[])
                    .map_err(|error| format!("its value could not be sent: {error}"))?;
            }
        }
        link.ring();
        Ok(())
    }

    /// An error is a message, and the end of stderr if the process has ended.
    fn wait(
        &self,
        link: &ParentEnd,
        process: &Process<()>,
        timeout: Option<Duration>,
    ) -> Result<(), (String, String)> {
        let alone = |message: String| (message, String::new());
        let corrupt = |_| alone("its process wrote a corrupt reply".to_owned());
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let is_over = || deadline.is_some_and(|deadline| deadline <= Instant::now());
        let mut replies = Replies::default();
        loop {
            link.wait(false, deadline);
            // Checked before the replies are drained: if the end is seen here, no more replies
            // follow.
            let has_ended = link.has_ended();
            let kill_in_time = &mut || {
                if is_over() {
                    process.kill();
                }
            };
            link.drain(&mut replies, kill_in_time).map_err(corrupt)?;
            let mut result = None;
            let sound = replies.for_each(|reply| match reply {
                Reply::Output(bytes) => {
                    result = Some((self.decode)(process::TaskInput::Bytes(bytes)));
                }
                Reply::Parcel(envelope) => {
                    result = Some((self.decode)(process::TaskInput::Parcel(envelope)));
                }
                Reply::Failed(failure) => result = Some(Err(failure_text(failure))),
                Reply::Begun => {}
            });
            sound.map_err(corrupt)?;
            match result {
                Some(result) => return result.map_err(alone),
                None if has_ended => {
                    let (reason, stderr) = process.end();
                    let stderr = match reason {
                        // Its message is in the reason.
                        ExitReason::Panicked(_) => String::new(),
                        _ => stderr,
                    };
                    return Err((format!("it {reason}"), stderr));
                }
                None if is_over() => {
                    let timeout = timeout.unwrap_or_default();
                    return Err(alone(format!("it did not return within {timeout:?}")));
                }
                None => {}
            }
        }
    }
}

fn parcel<W>(encoded: EncodedValue) -> Result<Envelope, PoolError> {
    let envelope = Envelope::new(encoded)
        .map_err(|cause| PoolError::Io { act: "make memory for the initializer", cause })?;
    if envelope.try_clone().is_none() {
        let message = "it holds a handle that cannot be copied, and each worker needs its own";
        return Err(PoolError::Encode(EncodeError::new::<W>(message)));
    }
    Ok(envelope)
}

fn failure_text(failure: TaskFailure) -> String {
    match failure {
        TaskFailure::Panicked(report) => format!("it panicked at {report}"),
        TaskFailure::BadValue(message) | TaskFailure::BadOutput(message) => message,
    }
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initializer").field("number", &self.number).finish_non_exhaustive()
    }
}
