//! Which workers this program has: found by name, since an address means nothing in another process.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::SpawnError;
use crate::ipc::wire;
use crate::process::builder::ProcessBuilder;
use crate::process::child::serve::{self, Finished};
use crate::process::handle::Process;
use crate::process::task::{self, Perform};
use crate::process::value::Arrived;

/// A type that is registered as a worker. Derive it; see [`ProcessWorker`].
///
/// `#[derive(Worker)]` registers a type that has no generic parameters, under its path. A generic type
/// derives it too, and registers each instance that is spawned: `offspring::register!(Sum<f32>);`.
///
/// ```
/// use offspring::{ProcessWorker, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// #[offspring(name = "greeter")] // default: the path of the type
/// struct Greet {
///     whom: String,
/// }
///
/// impl ProcessWorker for Greet {
///     type Output = String;
///     fn run(self) -> String {
///         format!("hello {}", self.whom)
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert_eq!(Greet { whom: "bob".to_owned() }.spawn()?.join()?, "hello bob");
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not registered as a worker",
    label = "not a registered worker",
    note = "add `#[derive(serde::Serialize, serde::Deserialize, offspring::Worker)]` to the type, or make a function a worker with `#[offspring::worker]`"
)]
pub trait Worker: Sized + 'static {
    #[doc(hidden)]
    fn worker_name() -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The path of the actor type, if the worker runs an actor.
    #[doc(hidden)]
    fn actor_name() -> Option<&'static str> {
        None
    }
}

/// What runs in a process of its own: the analog of overriding `run` in Python's `Process`.
///
/// The value itself is sent to the new process: its fields are the arguments, and may hold handles
/// (queues, senders, connections). `run` is called there, and what it returns comes back from
/// [`Process::join`].
///
/// ```
/// use offspring::{ProcessWorker, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Square {
///     n: u64,
/// }
///
/// impl ProcessWorker for Square {
///     type Output = u64;
///     fn run(self) -> u64 {
///         self.n * self.n
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let process = Square { n: 12 }.spawn()?;
///     assert_eq!(process.join()?, 144);
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it runs",
    label = "no `ProcessWorker`",
    note = "write `impl offspring::ProcessWorker for {Self} {{ type Output = ..; fn run(self) -> Self::Output {{ .. }} }}`"
)]
pub trait ProcessWorker: Worker + Serialize + DeserializeOwned {
    /// What `run` returns; it is sent back to the process that joins. An error in it crosses as well, so it is a type with
    /// serde's traits, or a text: `Result<u64, String>`, not `io::Result<u64>`.
    type Output: Serialize + DeserializeOwned + 'static;

    /// Runs in the new process, on its main thread (under a test harness, on the thread of the test).
    ///
    /// When it returns, its output is sent back and the process exits with code 0, whatever threads it
    /// started. A panic ends the process with code 101, and is told to the parent with message and place.
    fn run(self) -> Self::Output;

    /// Starts a process that runs this worker, with the defaults of [`ProcessBuilder`].
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; nothing is left behind then.
    fn spawn(self) -> Result<Process<Self::Output>, SpawnError> {
        ProcessBuilder::new().spawn(self)
    }
}

/// Receives a worker's value, reports that it did, and runs it.
pub(crate) type Run = fn(Arrived, &dyn Fn()) -> Result<Finished, String>;

/// Not public API: what `register!` submits.
#[derive(Debug)]
pub struct Registration {
    name: fn() -> &'static str,
    actor: fn() -> Option<&'static str>,
    type_id: fn() -> TypeId,
    layout: (usize, usize),
    run: Run,
    perform: Perform,
    file: &'static str,
    line: u32,
}

inventory::collect!(Registration);

impl Registration {
    /// The entry of one worker type.
    #[must_use]
    pub const fn of<W: ProcessWorker>(file: &'static str, line: u32) -> Registration {
        Registration {
            name: W::worker_name,
            actor: W::actor_name,
            type_id: TypeId::of::<W>,
            layout: (size_of::<W>(), align_of::<W>()),
            run: serve::run::<W>,
            perform: task::perform::<W>,
            file,
            line,
        }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// Registers worker types: needed for each instance of a generic type that is spawned.
///
/// Stands where an item may stand. Registering a type twice is harmless.
///
/// ```
/// use offspring::{ProcessWorker, Worker};
/// use serde::{Deserialize, Serialize, de::DeserializeOwned};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Sum<T> {
///     numbers: Vec<T>,
/// }
///
/// impl<T> ProcessWorker for Sum<T>
/// where
///     T: std::iter::Sum + Serialize + DeserializeOwned + 'static,
/// {
///     type Output = T;
///     fn run(self) -> T {
///         self.numbers.into_iter().sum()
///     }
/// }
///
/// offspring::register!(Sum<f32>, Sum<u64>);
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert_eq!(Sum { numbers: vec![1u64, 2, 3] }.spawn()?.join()?, 6);
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! register {
    ($($worker:ty),+ $(,)?) => {
        $($crate::__private::inventory::submit! {
            $crate::__private::Registration::of::<$worker>(::core::file!(), ::core::line!())
        })+
    };
}

struct Registry {
    by_name: HashMap<&'static str, &'static Registration>,
    /// In the order of their names, which is the same in all processes of the program: a worker's place here is its
    /// number.
    numbered: Vec<(&'static str, &'static Registration)>,
    duplicate: Option<(&'static str, String, String)>,
    fingerprint: u64,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let mut by_name: HashMap<&'static str, &'static Registration> = HashMap::new();
        let mut duplicate = None;
        let mut fingerprint = wire::fingerprint(concat!(
            env!("CARGO_PKG_NAME"),
            " ",
            env!("CARGO_PKG_VERSION")
        ));
        for registration in inventory::iter::<Registration> {
            let name = (registration.name)();
            match by_name.insert(name, registration) {
                None => {
                    // The order of registration is the linker's, so the entries are summed.
                    let entry = format!("{name} {:?}", registration.layout);
                    fingerprint = fingerprint.wrapping_add(wire::fingerprint(&entry));
                }
                Some(earlier) if (earlier.type_id)() != (registration.type_id)() => {
                    duplicate = Some((name, earlier.place(), registration.place()));
                }
                Some(_) => {}
            }
        }
        let mut numbered: Vec<(&'static str, &'static Registration)> = by_name
            .iter()
            .map(|(name, worker)| (*name, *worker))
            .collect();
        numbered.sort_unstable_by_key(|&(name, _)| name);
        Registry {
            by_name,
            numbered,
            duplicate,
            fingerprint,
        }
    })
}

/// A number that differs between programs with different workers.
pub(crate) fn fingerprint() -> u64 {
    registry().fingerprint
}

/// Makes sure that a child will find this worker.
pub(crate) fn check<W: ProcessWorker>() -> Result<&'static str, SpawnError> {
    let registry = registry();
    if let Some((name, first, second)) = &registry.duplicate {
        return Err(SpawnError::DuplicateWorker {
            name,
            first: first.clone(),
            second: second.clone(),
        });
    }
    let name = W::worker_name();
    if registry.by_name.contains_key(name) {
        Ok(name)
    } else {
        Err(SpawnError::NotRegistered { worker: name })
    }
}

/// The actor type that the worker of this name runs, if it runs one.
pub(crate) fn actor_of(name: &str) -> Option<&'static str> {
    let registration = registry().by_name.get(name)?;
    (registration.actor)()
}

/// How to run the worker of this name.
pub(crate) fn find(name: &str) -> Option<Run> {
    // Once in a process, so nothing is gained by the map.
    let mut all = inventory::iter::<Registration>.into_iter();
    all.find(|registration| (registration.name)() == name)
        .map(|registration| registration.run)
}

/// The number of a worker in this program, for [`find_number`] in another process of it.
pub(crate) fn number<W: ProcessWorker>() -> Result<u32, SpawnError> {
    let name = check::<W>()?;
    let number = registry()
        .numbered
        .binary_search_by_key(&name, |&(name, _)| name);
    number
        .map(|number| number as u32)
        .map_err(|_| SpawnError::NotRegistered { worker: name })
}

/// How to perform the worker of this number as a task.
pub(crate) fn find_number(number: u32) -> Option<Perform> {
    let (_, registration) = registry().numbered.get(number as usize)?;
    Some(registration.perform)
}
