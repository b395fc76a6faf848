//! **Multiprocessing for Rust: typed worker processes, queues and pipes, out of one binary.**
//!
//! ```
//! use offspring::{Builder, JoinableQueue, ProcessWorker, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Worker)]
//! struct Consumer {
//!     jobs: JoinableQueue<u64>,
//! }
//!
//! impl ProcessWorker for Consumer {
//!     type Output = ();
//!     fn run(self) {
//!         for job in &self.jobs {
//!             println!("consumed {}", *job);
//!             job.task_done();
//!         }
//!     }
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let jobs = JoinableQueue::bounded(8)?;
//!     let _consumer = Builder::new().daemon(true).spawn(Consumer { jobs: jobs.clone() })?;
//!     for n in 1..=4 {
//!         jobs.put(n)?;
//!     }
//!     jobs.join()?; // all four are done
//!     Ok(())
//! }
//! ```
//!
//! # The model
//!
//! - A **worker** is a value that runs in a process of its own: a type with [`ProcessWorker`], or a function with
//!   [`#[offspring::worker]`](macro@worker). The same program is started again; it finds the worker by its
//!   registered name, receives the value, runs it, and sends back what it returns.
//! - A **[`Process`]** is a running child: [`join`](Process::join) gives the output, or says how the process ended.
//! - A **[`Queue`]** or **[`JoinableQueue`]** is shared by any number of processes. It lives in the process that made
//!   it; handles travel in worker fields, items and messages. Nothing in it is lost when a process that uses it dies.
//! - A **[`Pool`]** runs tasks, which are worker values as well, on processes that it replaces when they die.
//! - A **[`channel`]** has many senders and one receiver, a **[`pipe`]** two ends that both send and receive.
//! - **[`wait_any`]**, or a [`Selector`], waits for the first of many processes, receivers and connections.
//! - **Locks, permits, events and barriers** between processes are in [`sync`], memory that they share in [`shared`]: what
//!   a process held when it was killed goes to the next.
//! - An **[actor]** keeps a state in a process, and handles calls and casts from all others one at a time; a
//!   [`Supervisor`] starts it again when it dies.
//! - **Children never outlive their parent**, however it ends. At its normal end daemons are stopped and the others
//!   are waited for.
//!
//! # Starting children
//!
//! A child is this program started again, so `main` must reach [`init`] before anything else: put
//! [`#[offspring::main]`](macro@main) on it (above `#[tokio::main]`, if you have one). In tests, use
//! [`#[offspring::test]`](macro@test) in place of `#[test]`. A program without `init` gets
//! [`SpawnError::NotInitialized`] from its first spawn, never a fork bomb.
//!
//! ```
//! use std::time::Duration;
//!
//! #[offspring::worker]
//! fn clock(ticks: u32, interval: Duration) -> u32 {
//!     for _ in 0..ticks {
//!         std::thread::sleep(interval);
//!     }
//!     ticks
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let interval = Duration::from_millis(1);
//!     assert_eq!(clock(2, interval), 2); // here
//!     assert_eq!(clock::spawn(2, interval)?.join()?, 2); // in a child
//!     Ok(())
//! }
//! ```
//!
//! # When a child dies
//!
//! [`Process::join`] tells it with an [`ExitReason`]: a panic comes with its message, place and backtrace. Every
//! blocking call wakes when the process that it waits for dies, and has a `_timeout` form. What a dead process had
//! taken from a [`JoinableQueue`] and not finished goes to another.
//!
//! A process is ended by [`stop`](Process::stop), which the worker can answer, [`terminate`](Process::terminate) (SIGTERM)
//! or [`kill`](Process::kill) (SIGKILL); and by the end of its parent, unless it was [detached](Process::detach). Ctrl-C at
//! a terminal reaches parent and children at once: children do nothing, so that the parent decides, and end with it if it
//! ends. A worker that wants SIGINT sets a handler of its own; programs that a worker starts see it as usual.
//!
//! # Tasks
//!
//! With the feature `async` what one can wait for can be awaited too, on any executor: `Process::join_async`,
//! `Receiver::recv_async`. No wait costs a thread, and a future can be dropped at any time without loss.
//!
//! # Logs
//!
//! What children log with the `log` crate is handed to the program's own logger, with the key-values `process` and `pid`, at
//! the program's level and through its filters: see [`Builder::logs`]. Nothing is lost with a process that dies.
//!
//! # When not to use a process
//!
//! A process costs milliseconds and megabytes, and values are copied to it. For parallel work on shared data, threads
//! (or rayon) are simpler and faster. Use processes where a crash, a leak, a `kill` or a limit must stay contained, or
//! for code that may not share a process with other code.
//!
//! # Platforms
//!
//! Linux 5.4 and later. What is specific to it stands in one module; other systems are refused at compile time for now.

// On docs.rs, so that what needs a feature says so.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod actor;
#[cfg(feature = "async")]
mod awaiting;
mod bell;
mod bytes;
mod channel;
mod codec;
mod descriptor;
mod error;
mod fail;
mod guard;
pub mod guide;
mod hub;
mod lane;
mod line;
mod logs;
mod pipe;
mod pool;
mod process;
mod queue;
mod region;
mod ring;
mod select;
pub mod shared;
mod shared_fd;
pub mod supervisor;
pub mod sync;
mod sys;
mod tree;
mod watch;
mod wire;

pub use actor::{Actor, ActorRef};
pub use channel::{Bytes, Receiver, ReceiverIter, Sender, channel};
pub use error::{
    CreateError, DeadLetterError, DecodeError, EncodeError, ExitReason, GetError, GetTimeoutError, HandleError, JoinError,
    JoinTimeoutError, KillCause, PanicReport, PoolError, PutAllError, PutError, PutTimeoutError, QueueJoinError, QueueJoinTimeoutError,
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, ShutdownError, SpawnError, SubmitError, TaskDoneError, TaskError,
    TaskTimeoutError, TryGetError, TryPutError, TryRecvError, WaitError,
};
/// Registers a type as a worker; see [`ProcessWorker`] for an example.
///
/// Registers it under its path; `#[offspring(name = "...")]` beside the derive gives another name. A type with
/// generic parameters is not registered by the derive: name each instance with [`register!`].
pub use offspring_macros::Worker;
/// Makes an actor of a type: the methods of its `impl` block become messages, and those of a typed handle.
///
/// Messages are the methods that are `pub` and take `self`; the handle's wait for the reply, and `#[cast]` ones do not.
/// `start` builds the state in the new process; its visibility is that of `CounterHandle`, `CounterMessage` and
/// `CounterReply`, which stand beside the type.
///
/// ```
/// struct Counter {
///     value: u64,
/// }
///
/// #[offspring::actor]
/// impl Counter {
///     fn start(value: u64) -> Self {
///         Counter { value }
///     }
///
///     /// The value now.
///     pub fn get(&self) -> u64 {
///         self.value
///     }
///
///     #[cast]
///     pub fn add(&mut self, n: u64) {
///         self.value += n;
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Counter::spawn(10)?;
///     counter.add(5)?; // goes on
///     assert_eq!(counter.get()?, 15); // waits for the reply
///     Ok(())
/// }
/// ```
///
/// A `start` may be fallible, and take a [`&Context<Self>`](crate::actor::Context) last. The hooks
/// [`stop`](crate::actor::Actor::stop) and [`checkpoint`](crate::actor::Actor::checkpoint) are written as methods of these names.
pub use offspring_macros::actor;
/// Runs [`init`] before the rest of `main`, and before the runtime of a `#[tokio::main]` below it.
///
/// ```
/// #[offspring::main]
/// fn main() {
///     // only the main program comes here
/// }
/// ```
pub use offspring_macros::main;
/// A `#[test]` that may start processes; `timeout = "10s"` makes it fail if it does not end in time.
///
/// Children are the test binary, started again at this very test, whose first line takes them to their worker. Works
/// under `cargo test` and nextest.
///
/// ```
/// #[offspring::worker]
/// fn double(n: u64) -> u64 {
///     n * 2
/// }
///
/// #[offspring::test(timeout = "10s")]
/// fn doubles() {
///     assert_eq!(double::spawn(4).unwrap().join().unwrap(), 8);
/// }
/// # #[offspring::main]
/// # fn main() {
/// #     assert_eq!(double::spawn(4).unwrap().join().unwrap(), 8);
/// # }
/// ```
pub use offspring_macros::test;
/// Makes a function a worker. It stays a function that can be called; beside it there is a type of its name:
/// `name::new(arguments)` is the worker's value, `name::spawn(arguments)` starts a process that runs it.
///
/// Arguments and output cross to another process, so they are owned and implement serde's traits.
///
/// ```
/// #[offspring::worker]
/// fn add(a: i32, b: i32) -> i32 {
///     a + b
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert_eq!(add(1, 2), 3);
///     assert_eq!(add::spawn(1, 2)?.join()?, 3);
///     assert_eq!(offspring::Builder::new().name("adder").spawn(add::new(1, 2))?.join()?, 3);
///     Ok(())
/// }
/// ```
pub use offspring_macros::worker;
pub use pipe::{Connection, pipe};
pub use pool::{
    InitializerOutput, Map, MapUnordered, Pool, PoolBuilder, PoolEvent, PoolEvents, PoolStats, Scope, Task, TaskOptions, WorkerStats,
    set_worker_state, with_worker_state,
};
pub use process::{
    Builder, ChildProcess, CurrentProcess, Forwarding, Output, ParentProcess, Process, ProcessWorker, Stdio, Worker, active_children,
    current, init, parent,
};
pub use queue::{
    DeadCause, DeadLetter, Delivery, JoinableBatches, JoinableIter, JoinableQueue, Queue, QueueBatches, QueueBuilder, QueueIter,
    QueueStatus,
};
pub use select::{AsCompleted, Selector, Waitable, as_completed, wait_any, wait_any_timeout};
pub use tree::{ProcessInfo, ProcessState, ProcessTree, tree};

pub use process::Backend;

/// For tests of programs that use this crate.
pub mod testing {
    pub use crate::process::testing::assert_no_children;
}

/// What only Unix systems know: of a process, and descriptors in values.
pub mod unix {
    pub use crate::process::unix::{BuilderExt, Resource, UNLIMITED};
    pub use crate::shared_fd::SharedFd;
}
pub use wire::{message_limit, set_message_limit};

pub use supervisor::Supervisor;

/// Not public API: what the macros reach.
#[doc(hidden)]
pub mod __private {
    pub use crate::actor::foreign_reply;
    #[cfg(feature = "failpoints")]
    pub use crate::fail::{MISTAKES, POINTS};
    pub use crate::process::{Registration, enter_test, with_deadline};
    pub use inventory;
    pub use serde;
}

/// README's blocks are compiled, and those that run are run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
