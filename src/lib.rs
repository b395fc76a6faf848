//! **Multiprocessing for Rust: run typed workers in other processes, share queues, locks and memory
//! with them, and lose no job when one is killed.**
//!
//! ```
//! #[offspring::worker]
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     assert_eq!(square::spawn(12)?.join()?, 144);
//!     Ok(())
//! }
//! ```
//!
//! Add `offspring`, and `serde` with the `derive` feature, to your `Cargo.toml`. If you know
//! Python's `multiprocessing`, start with the [guide for its users](guide::python).
//!
//! # Which of these do I want?
//!
//! | You want to | Use |
//! | --- | --- |
//! | run one function or type in a child process | [`#[offspring::worker]`](macro@worker), [`ProcessWorker`], [`Process`] |
//! | run several, of which the first failure ends the others | [`ProcessGroup`] |
//! | run many small tasks in parallel, each of which may crash | [`Pool`] |
//! | hand jobs to workers and know when all are done | [`JoinableQueue`] |
//! | pass items between any number of processes | [`Queue`] |
//! | stream messages from many processes to one, or talk both ways | [`channel`](channel()), [`pipe`] |
//! | keep state in a process and call it from others | [`#[offspring::actor]`](macro@actor), [`Supervisor`] to restart it |
//! | guard a shared value, or wait for an event | [`sync`] |
//! | share memory without copying | [`shared`] |
//! | wait for the first of many of these | [`wait_any`], [`Selector`], [`as_completed`] |
//! | run code that you do not trust | feature `sandbox`: a worker in a [sandbox](guide::sandbox) |
//! | see what is running | [`tree`](tree()) |
//!
//! Queues use Python's verbs (`put`, `get`), channels those of Rust (`send`, `recv`).
//!
//! # The model
//!
//! - A **worker** is a value that runs in a process of its own: a type that implements
//!   [`ProcessWorker`], or a function with [`#[offspring::worker]`](macro@worker). `spawn` starts
//!   this program again. The child finds the worker by its registered name, receives the value,
//!   runs it, and sends back what it returns.
//! - A **[`Process`]** is a running child. [`join`](Process::join) returns its output, or an error
//!   that says how it ended. Children end with their parent, however that ends, unless they are
//!   [detached](Process::detach).
//! - **Handles travel.** Queues, channels, locks, shared memory and addresses of actors can be
//!   fields of workers, items and messages, and mean the same thing in every process.
//! - **A shared object lives in the process that created it.** What another process holds of it is
//!   a lease: when that process dies, its jobs go to others, its locks are released and poisoned,
//!   its barriers break. When the owner ends, handles return `Disconnected`.
//! - **Calls wake when a peer dies.** A call that blocks on another process returns an error when
//!   that process ends. A queue can tell that no consumer or producer is left if the program keeps
//!   [one-way handles](queue::Producer#the-end).
//!
//! # Workers
//!
//! `init` must run before anything else in `main`: put [`#[offspring::main]`](macro@main) on it
//! (above `#[tokio::main]`, if there is one). In tests, use [`#[offspring::test]`](macro@test)
//! instead of `#[test]`. Where `main` is not yours, as in plain tests and in criterion's benches,
//! [`init_before_main!`] does it. In a program without it each spawn returns
//! [`SpawnError::NotInitialized`]; it never becomes a fork bomb.
//!
//! A worker that needs configuration, or has state, is a type:
//!
//! ```
//! use offspring::queue::JoinableConsumer;
//! use offspring::{JoinableQueue, ProcessBuilder, ProcessWorker, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Worker)]
//! struct Consumer {
//!     jobs: JoinableConsumer<u64>,
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
//!     let (jobs, consumer) = JoinableQueue::bounded(8)?.split();
//!     let consumer = Consumer { jobs: consumer };
//!     let _consumer = ProcessBuilder::new().daemon(true).name("consumer").spawn(consumer)?;
//!     for n in 1..=4 {
//!         jobs.put(n)?;
//!     }
//!     jobs.join()?; // returns when every job has been marked done
//!     Ok(())
//! }
//! ```
//!
//! [`ProcessBuilder`] has what `std::process::Command` has, and more: names, daemons, [stdin,
//! stdout and stderr](Stdio), limits and users ([`unix::ProcessBuilderExt`]), with the feature
//! `sandbox` [workers that can use their fields and nothing else](guide::sandbox), and [workers on
//! threads](process::Backend::Inline) for debuggers. Records that children log with the `log` crate
//! reach the program's logger, with the child's name and pid ([`ProcessBuilder::logs`]). With the
//! feature `tracing`, so do spans and events of the `tracing` crate: see
//! [servers](guide::servers#observing).
//!
//! # Sharing
//!
//! ```
//! use offspring::{Queue, Sender};
//! use offspring::sync::Mutex;
//!
//! #[offspring::worker]
//! fn measure(words: Queue<String>, longest: Mutex<usize>, done: Sender<String>) {
//!     for word in &words {
//!         let mut longest = longest.lock().unwrap();
//!         *longest = word.len().max(*longest);
//!         done.send(word).unwrap();
//!     }
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (words, longest) = (Queue::bounded(8)?, Mutex::new(0)?);
//!     let (done, finished) = offspring::channel()?;
//!     let children = [1, 2].map(|_| measure::spawn(words.clone(), longest.clone(), done.clone()));
//!     for word in ["one", "three", "seven"] {
//!         words.put(word.to_owned())?;
//!     }
//!     words.close(); // ends the loops of the children
//!     drop(done); // ends the iterator below
//!     assert_eq!(finished.iter().count(), 3);
//!     for child in children {
//!         child?.join()?;
//!     }
//!     assert_eq!(*longest.lock().unwrap(), 5);
//!     Ok(())
//! }
//! ```
//!
//! # When a child dies
//!
//! [`Process::join`] returns an error with an [`ExitReason`]. A panic is reported with its message,
//! location and backtrace.
//!
//! ```
//! use offspring::{ExitReason, JoinableQueue};
//!
//! #[offspring::worker]
//! fn divide(jobs: JoinableQueue<u32>) {
//!     let job = jobs.get().unwrap();
//!     println!("{}", 12 / *job);
//!     job.task_done();
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let jobs = JoinableQueue::unbounded()?;
//!     jobs.put(0)?;
//!     let error = divide::spawn(jobs.clone())?.join().unwrap_err();
//!     let Some(ExitReason::Panicked(panic)) = error.reason() else { panic!("{error}") };
//!     assert_eq!(panic.message, "attempt to divide by zero");
//!
//!     // The job was not done, so it is in the queue again.
//!     let job = jobs.get()?;
//!     assert_eq!((*job, job.attempt()), (0, 2));
//!     job.task_done();
//!     Ok(())
//! }
//! ```
//!
//! What a kill can cost: a consumer of a plain [`Queue`] may take one item with it, the one that it
//! was about to return from `get`. A [`JoinableQueue`] and a [`Pool`] lose nothing: a job that was
//! not marked done is delivered again, and the task that a dead worker was running fails with an
//! error.
//!
//! ## Ending things
//!
//! One table of verbs holds for every type:
//!
//! | verb | meaning |
//! | --- | --- |
//! | `close` | no more input; what is inside can still be taken |
//! | `stop` | asks for an orderly end and waits for it; the owner's `stop` kills what outlives its grace period |
//! | `request_stop` | asks for an orderly end and returns at once |
//! | `terminate` | sends SIGTERM and returns at once |
//! | `kill` | sends SIGKILL; a [`Pool`] and an [`ActorOwner`](actor::ActorOwner) also wait until the process has ended |
//! | `cancel` | withdraws one task, map or timer and returns at once; a task that is running loses its process |
//! | `shutdown` | closes, waits until accepted work is done, and kills what outlives its grace period |
//! | `join` | waits for the end, and returns the result |
//!
//! When the program ends normally, daemons are stopped and other children are waited for. Ctrl-C at
//! a terminal reaches parent and children at once: children ignore it, so that the parent decides,
//! and end when the parent ends.
//!
//! # Pools
//!
//! A [`Pool`] runs tasks, which are worker values too, on processes that it replaces when they die.
//! A task that panics, crashes, takes too long or is cancelled costs exactly itself.
//!
//! ```
//! use offspring::Pool;
//! use offspring::pool::TaskError;
//!
//! #[offspring::worker]
//! fn divide(a: u32, b: u32) -> u32 {
//!     match b {
//!         13 => std::process::abort(),
//!         b => a / b,
//!     }
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pool = Pool::new(2)?;
//!     let quotients: Vec<_> = pool.map([1, 0, 13, 4], |b| divide::new(12, b)).collect();
//!     assert!(matches!(quotients[0], Ok(12)));
//!     assert!(matches!(quotients[1], Err(TaskError::Panicked { .. })));
//!     assert!(matches!(quotients[2], Err(TaskError::Died { .. })));
//!     assert!(matches!(quotients[3], Ok(3)));
//!     Ok(())
//! }
//! ```
//!
//! # Actors
//!
//! An [actor](mod@actor) keeps state in a process of its own and handles the calls and casts of
//! other processes one at a time. A [`Supervisor`] starts it again when it dies; its address stays
//! the same.
//!
//! ```
//! use offspring::Supervisor;
//! use offspring::supervisor::ChildSpec;
//!
//! struct Counter {
//!     value: u64,
//! }
//!
//! #[offspring::actor]
//! impl Counter {
//!     fn start(value: u64) -> Self {
//!         Counter { value }
//!     }
//!
//!     pub fn add(&mut self, n: u64) -> u64 {
//!         self.value = self.value.checked_add(n).expect("the counter overflowed");
//!         self.value
//!     }
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let spec = ChildSpec::actor::<Counter>("counter", (10,));
//!     let supervisor = Supervisor::builder().child(spec).start()?;
//!     let counter = supervisor.actor::<Counter>("counter").expect("the child exists");
//!     let counter = CounterHandle::from(counter);
//!     assert_eq!(counter.add(5)?, 15);
//!
//!     assert!(counter.add(u64::MAX).is_err()); // it panicked, and its caller gets the error
//!     assert_eq!(counter.add(1)?, 11); // restarted with a fresh state, at the same address
//!     supervisor.stop();
//!     Ok(())
//! }
//! ```
//!
//! # Errors
//!
//! Each operation has an error of its own, whose variants say what can go wrong with it. Its text
//! has one line, and includes the cause. A function that does several things returns
//! [`offspring::Result`](Result): [`Error`] takes each of them.
//!
//! # What can be sent, and what it costs
//!
//! Everything that serde can write and read again, as JSON would, and all handles of this crate;
//! files and sockets as [`unix::SharedFd`]. What cannot be read again is an error of its sender. A
//! receiving end exists once: it moves, and comes back if it was not sent. Encoding is a copy.
//! Values of more than [`message_limit`] bytes, or with more than 32 handles, are refused.
//!
//! | | on two cores, roughly |
//! | --- | --- |
//! | starting a process | a few milliseconds, a few megabytes |
//! | an item through a queue | 0.2 µs of processor time when many are under way, 20 to 90 µs when each waits for the one before |
//! | a large message on a channel | two copies of its bytes |
//! | shared memory, an atomic, a free lock | the same as between threads |
//!
//! # Async
//!
//! With the feature `async`, [`Process`] and [`Task`] can be awaited on any executor, and pools,
//! queues, channels and actor calls have `submit_async`, `recv_async`, `get_async`, `call_async`
//! and others beside the blocking forms. None of them occupies a thread while it waits. Locks have
//! no such form. With the feature `stream`, `stream` and `sink` of queues and channels, and
//! `into_stream` of maps and events, return implementations of `futures_core::Stream` and
//! `futures_sink::Sink`.
//!
//! A future that is dropped has taken nothing, put nothing and submitted nothing. So each of them
//! can be a branch of a `select!` or have a timeout.
//!
//! ```
//! use std::time::Duration;
//!
//! use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
//! use offspring::queue::{Consumer, Producer};
//! use offspring::{Pool, Queue};
//!
//! #[offspring::worker]
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! #[offspring::worker]
//! fn double(numbers: Consumer<u64>, doubled: Producer<u64>) {
//!     numbers.iter().for_each(|n| doubled.put(2 * n).expect("the main program gets"));
//! }
//!
//! #[offspring::main] // above `#[tokio::main]`: a child starts no runtime
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // A pool whose submitters wait while it holds 100 unfinished tasks.
//!     let pool = Pool::builder().workers(2).max_unfinished(100).build()?;
//!     let mut task = pool.submit_async(square::new(12)).await?;
//!     match tokio::time::timeout(Duration::from_secs(10), &mut task).await {
//!         Ok(output) => assert_eq!(output?, 144),
//!         Err(_) => task.cancel(),
//!     }
//!
//!     // Queues to and from a child, with back-pressure.
//!     let (to_child, numbers) = Queue::bounded(8)?.split();
//!     let (doubled, from_child) = Queue::bounded(8)?.split();
//!     let process = double::spawn(numbers, doubled)?;
//!     let (sink, from_child) = (to_child.sink(), from_child.stream());
//!     drop(to_child); // the sink is the only producer, and goes with the last number
//!     let (sent, sum) = tokio::join!(
//!         stream::iter(1..=100).map(Ok).forward(sink),
//!         from_child.try_fold(0, async |sum, n| Ok(sum + n)),
//!     );
//!     sent?;
//!     assert_eq!(sum?, 10_100);
//!     process.join_async().await?;
//!     Ok(())
//! }
//! ```
//!
//! # When (not) to use a process
//!
//! A process costs milliseconds and megabytes, and values are copied into it. For parallel work on
//! shared data, threads (or rayon) are simpler and faster. Use processes where a crash, a leak, a
//! `kill` or a limit must stay contained, for code that cannot share a process with other code, and
//! for work that you must be able to end at any time, which no thread allows.
//!
//! [Gotchas](guide::gotchas) lists what surprises people, and what is not solved;
//! [security](guide::security) what a worker that crashes, or that an attacker controls, can do.
//!
//! # Platforms
//!
//! Linux 5.4 and later. Everything specific to it is in one module; on other systems the build
//! stops with an error.

// On docs.rs, items that need a feature are marked.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod actor;
pub mod channel;
mod error;
pub mod guide;
#[cfg(test)]
mod hostile;
mod ipc;
mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod pool;
pub mod process;
pub mod queue;
pub mod select;
pub mod shared;
pub mod supervisor;
pub mod sync;
mod sys;
mod trace;
pub mod tree;

// What every layer uses, under short names.
pub(crate) use ipc::{diagnostics, tally};
pub(crate) use sys::failpoints;

#[doc(inline)]
pub use actor::{Actor, ActorBuilder, ActorRef};
#[doc(inline)]
pub use channel::{Connection, Receiver, Sender, channel, pipe};
pub use error::{
    CreateError, DecodeError, EncodeError, Error, ExitReason, HandleError, JoinError, Result,
    SpawnError,
};
pub use ipc::waitable::Waitable;
pub use ipc::wire::{message_limit, set_message_limit};
/// Registers a type as a worker. What it runs is defined by its [`ProcessWorker`] implementation.
///
/// The type is registered under its path; `#[offspring(name = "...")]` next to the derive sets
/// another name. The derive cannot register a type with generic parameters: name each instance with
/// [`register!`].
///
/// ```
/// use offspring::{ProcessWorker, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Length {
///     text: String,
/// }
///
/// impl ProcessWorker for Length {
///     type Output = usize;
///     fn run(self) -> usize {
///         self.text.len()
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert_eq!(Length { text: "tree".to_owned() }.spawn()?.join()?, 4);
///     Ok(())
/// }
/// ```
pub use offspring_macros::Worker;
/// Turns a type into an actor: the methods of its `impl` block become messages, and methods of a
/// typed handle.
///
/// Every `pub` method that takes `self` is a message. The handle's method waits for the reply,
/// unless the method is marked `#[cast]`. `start` builds the state in the new process. For a type
/// `Counter` the macro generates `CounterHandle`, `CounterMessage` and `CounterReply` next to it,
/// with the visibility of `start`.
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
///     /// The current value.
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
///     counter.add(5)?; // returns at once
///     assert_eq!(counter.get()?, 15); // waits for the reply
///     Ok(())
/// }
/// ```
///
/// `start` may return a `Result`, and may take a [`&Context<Self>`](crate::actor::Context) as its
/// last argument. The hooks [`stop`](crate::actor::Actor::stop) and
/// [`checkpoint`](crate::actor::Actor::checkpoint) are written as methods with these names.
pub use offspring_macros::actor;
/// Calls [`init`] before the rest of `main`, and before the runtime of a `#[tokio::main]` below it
/// starts.
///
/// ```
/// #[offspring::main]
/// fn main() {
///     // only the main program gets here; a child runs its worker instead
/// }
/// ```
pub use offspring_macros::main;
/// A `#[test]` that can start processes. With `timeout = "10s"` it fails if it takes longer.
///
/// A child is the test binary, started again at this test, whose first line runs the worker. Works
/// under `cargo test` and nextest. For plain `#[test]`s there is
/// [`init_before_main!`](crate::init_before_main).
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
/// Turns a function into a worker. It can still be called; next to it, the macro generates a type
/// of the same name: `name::new(arguments)` creates the worker, and `name::spawn(arguments)` starts
/// a process that runs it.
///
/// Arguments and output are sent between processes, so they must be owned and implement serde's
/// traits.
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
///     assert_eq!(offspring::ProcessBuilder::new().name("adder").spawn(add::new(1, 2))?.join()?, 3);
///     Ok(())
/// }
/// ```
pub use offspring_macros::worker;
#[doc(inline)]
pub use pool::{Pool, PoolBuilder, Task};
#[doc(inline)]
pub use process::{
    Process, ProcessBuilder, ProcessGroup, ProcessWorker, Stdio, Worker, active_children, current,
    init, parent,
};
#[doc(inline)]
pub use queue::{Delivery, JoinableQueue, Queue, QueueBuilder};
#[doc(inline)]
pub use select::{Selector, as_completed, wait_any, wait_any_timeout};
#[doc(inline)]
pub use supervisor::{Supervisor, SupervisorBuilder};
#[doc(inline)]
pub use tree::survey::tree;

/// Assertions for tests of programs that use this crate.
pub mod testing {
    pub use crate::process::testing::assert_no_children;
}

/// Options of processes, and descriptors in values, that exist on Unix only.
pub mod unix {
    pub use crate::ipc::shared_fd::SharedFd;
    pub use crate::process::unix::{ProcessBuilderExt, Resource, UNLIMITED};
}

/// Not public API: used by the code that the macros generate.
#[doc(hidden)]
pub mod __private {
    pub use crate::actor::foreign_reply;
    #[cfg(feature = "failpoints")]
    pub use crate::failpoints::{MUTATIONS, POINTS};
    pub use crate::process::crossing::{Cross, Crossing, Otherwise, Probe};
    pub use crate::process::{Registration, TestPath, before_main, enter_test, with_deadline};
    pub use crate::sys::{Constructor, constructors_after};
    pub use inventory;
    pub use serde;
}

/// Compiles the README's code blocks, and runs those that can run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
