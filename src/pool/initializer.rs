//! What a worker does before its first task, and what it keeps for all of them.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::error::{EncodeError, PoolError};
use crate::ipc::hub;
use crate::ipc::wire::{self, EncodedValue, Envelope};
use crate::pool::batch::needs_parcel;
use crate::pool::link::{Drained, Outcome};
use crate::pool::state::Live;
use crate::process::{self, Mishap, ProcessWorker};
use crate::sys::lock;

/// What an initializer of a [`Pool`](crate::Pool) may return: nothing, or a `Result` whose error says why the worker
/// cannot be used.
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
    /// Whether the worker is ready.
    ///
    /// # Errors
    ///
    /// What the initializer said, as text.
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
    /// Of the thread that performs tasks.
    static STATE: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::new(HashMap::new());
}

/// Keeps a value in this worker of a pool, for the tasks that come: one of each type. Called by an initializer, or by
/// any task. Gives the one that was there before.
///
/// It belongs to the thread that runs the tasks; when the worker is replaced, its initializer makes a new one.
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
    let before = STATE.with_borrow_mut(|states| states.insert(TypeId::of::<S>(), Box::new(state)));
    before
        .and_then(|before| before.downcast().ok())
        .map(|before| *before)
}

/// Calls `act` with the value that [`set_worker_state`] keeps; `None` if there is none of this type, or `act` of another
/// call has it.
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
    // Taken out meanwhile: so `act` may use states of other types.
    let mut state = STATE
        .with_borrow_mut(|states| states.remove(&TypeId::of::<S>()))?
        .downcast::<S>()
        .ok()?;
    let result = act(&mut state);
    STATE.with_borrow_mut(|states| {
        states.entry(TypeId::of::<S>()).or_insert(state);
    });
    Some(result)
}

/// An initializer, encoded once for all workers.
pub(super) struct Initializer {
    number: u32,
    value: Value,
    decode: fn(process::Value<'_>) -> Result<(), String>,
}

enum Value {
    Bytes(Vec<u8>),
    Parcel(Mutex<Envelope>),
}

impl Initializer {
    pub(super) fn new<W: ProcessWorker<Output: InitializerOutput>>(
        number: u32,
        worker: &W,
    ) -> Result<Initializer, PoolError> {
        let encoded = wire::encode_copy(worker);
        hub::announce();
        let encoded = encoded.map_err(PoolError::Encode)?;
        let value = if needs_parcel(&encoded) {
            Value::Parcel(Mutex::new(parcel::<W>(encoded)?))
        } else {
            Value::Bytes(encoded.bytes)
        };
        let decode = |value: process::Value<'_>| match value.decode::<W::Output>() {
            Ok(output) => output.into_result(),
            Err(error) => Err(error.to_string()),
        };
        Ok(Initializer {
            number,
            value,
            decode,
        })
    }

    /// Runs it in a worker, and waits for its end.
    pub(super) fn run(&self, live: &Live) -> Result<(), PoolError> {
        self.attempt(live)
            .map_err(|message| PoolError::Initializer {
                worker: live.process.name().to_owned(),
                pid: live.process.pid(),
                message,
            })
    }

    fn attempt(&self, live: &Live) -> Result<(), String> {
        let front: &Arc<_> = &live.front;
        match &self.value {
            Value::Bytes(bytes) => drop(front.push(self.number, std::iter::once(&bytes[..]))),
            Value::Parcel(packet) => {
                let packet = lock(packet)
                    .try_clone()
                    .ok_or("no memory or descriptors for its value")?;
                // A process that has ended already says so below.
                let _ = front.push_parcel(self.number, packet);
            }
        }
        front.ring();
        let mut drained = Drained::default();
        loop {
            front.wait(false, None);
            let ended = front.has_ended();
            front
                .drain(&mut drained)
                .map_err(|_| "it wrote what no worker writes")?;
            let mut result = None;
            let told = drained.for_each(|outcome| match outcome {
                Outcome::Output(bytes) => {
                    result = Some((self.decode)(process::Value::Bytes(bytes)))
                }
                Outcome::Parcel(packet) => {
                    result = Some((self.decode)(process::Value::Parcel(packet)))
                }
                Outcome::Mishap(mishap) => result = Some(Err(said(mishap))),
                Outcome::Begun => {}
            });
            told.map_err(|_| "it wrote what no worker writes")?;
            match result {
                Some(result) => return result,
                None if ended => {
                    return Err(live
                        .process
                        .exit_reason()
                        .map_or_else(String::new, |reason| format!("it {reason}")));
                }
                None => {}
            }
        }
    }
}

fn parcel<W>(encoded: EncodedValue) -> Result<Envelope, PoolError> {
    let packet = Envelope::new(encoded).map_err(|source| PoolError::Io {
        act: "make memory for the initializer",
        source,
    })?;
    if packet.try_clone().is_none() {
        let message = "it holds something that exists once, and each worker needs its own";
        return Err(PoolError::Encode(EncodeError::new::<W>(message)));
    }
    Ok(packet)
}

fn said(mishap: Mishap) -> String {
    match mishap {
        Mishap::Panicked(report) => format!("it panicked at {report}"),
        Mishap::BadValue(message) | Mishap::BadOutput(message) => message,
    }
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initializer")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
