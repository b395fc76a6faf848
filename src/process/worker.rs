//! The traits of a worker, and its registration.

use std::any::TypeId;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::SpawnError;
use crate::process::builder::ProcessBuilder;
use crate::process::handle::Process;
use crate::process::registry::{self, Registration};
use crate::process::{run, task};

/// A type that is registered as a worker. Derive it; see [`ProcessWorker`].
///
/// `#[derive(Worker)]` registers a type without generic parameters under its path. A generic type
/// derives the trait too, but the program has to register each instance that it spawns:
/// `offspring::register!(Sum<f32>);`.
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

    /// Returns the path of the actor type, if the worker runs an actor.
    #[doc(hidden)]
    fn actor_name() -> Option<&'static str> {
        None
    }
}

/// Code that runs in a process of its own, like an overridden `run` of Python's `Process`.
///
/// The value itself is sent to the new process. Its fields are the arguments, and may contain
/// handles (queues, senders, connections). The process calls `run`, and [`Process::join`] returns
/// its output.
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
    message = "`{Self}` is not a worker",
    label = "not a worker",
    note = "for a function `square` with `#[offspring::worker]`: pass `square::new(3)` (to `Pool::map`: `square::new`), because `square(3)` calls it here, in this process",
    note = "for a closure, which cannot be sent to another process: make it such a function, and what it captures its arguments",
    note = "for a type of yours: derive `offspring::Worker`, and write `impl offspring::ProcessWorker for ..` with its `run`"
)]
pub trait ProcessWorker: Worker + Serialize + DeserializeOwned {
    /// The value that `run` returns and that is sent back to the process that joins. It is encoded
    /// with serde, and so is an error inside it: use `Result<u64, String>`, not `io::Result<u64>`.
    type Output: Serialize + DeserializeOwned + 'static;

    /// Runs in the new process, on its main thread (under a test harness: on the thread of the
    /// test).
    ///
    /// When it returns, its output is sent back and the process exits with code 0, even if threads
    /// that it started still run. A panic ends the process with code 101; the parent receives its
    /// message and location.
    fn run(self) -> Self::Output;

    /// Starts a process that runs this worker, with the defaults of [`ProcessBuilder`].
    ///
    /// # Errors
    ///
    /// Returns a [`SpawnError`]. After an error there is no process, no zombie and no file.
    fn spawn(self) -> Result<Process<Self::Output>, SpawnError> {
        ProcessBuilder::new().spawn(self)
    }
}

impl Registration {
    /// Returns the entry of one worker type.
    #[must_use]
    pub const fn of<W: ProcessWorker>(file: &'static str, line: u32) -> Registration {
        Registration {
            name: W::worker_name,
            actor: W::actor_name,
            type_id: TypeId::of::<W>,
            layout: (size_of::<W>(), align_of::<W>()),
            run: |value, started| run::run(value, started, W::run),
            perform: |value, output| task::perform(value, output, W::run),
            file,
            line,
        }
    }
}

/// Returns the number of a worker in this program.
pub(crate) fn number<W: ProcessWorker>() -> Result<u32, SpawnError> {
    registry::number(TypeId::of::<W>(), W::worker_name())
}

/// Registers worker types. A program needs it for each instance of a generic type that it spawns.
///
/// It can be used wherever an item can. Registering a type twice is harmless.
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
