//! **Multiprocessing for Rust: typed worker processes, queues, pools and supervised actors, out of
//! one binary; nothing hangs and nothing is lost when one of them is killed.**
//!
//! # A first program
//!
//! A producer here, a consumer in a process of its own:
//!
//! ```
//! use offspring::{ProcessBuilder, JoinableQueue, ProcessWorker, Worker};
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
//!     let _consumer = ProcessBuilder::new().daemon(true).spawn(Consumer { jobs: jobs.clone() })?;
//!     for n in 1..=4 {
//!         jobs.put(n)?;
//!     }
//!     jobs.join()?; // all four are done
//!     Ok(())
//! }
//! ```
//!
//! In `Cargo.toml` stand `offspring`, and `serde` with its feature `derive`. If you know Python's
//! `multiprocessing`, begin with the [guide for those who come from there](guide::python).
//!
//! # The model
//!
//! - A **worker** is a value that runs in a process of its own: a type with [`ProcessWorker`], or a
//!   function with [`#[offspring::worker]`](macro@worker). The same program is started again; it
//!   finds the worker by its registered name, receives the value, runs it, and sends back what it
//!   returns.
//! - A **[`Process`]** is a running child: [`join`](Process::join) gives the output, or says how
//!   the process ended. Children never outlive their parent, however that ends.
//! - **Handles travel.** Queues, channels, locks, shared memory and addresses of actors are put
//!   into worker fields, items and messages; they mean the same thing in each process.
//! - **A shared thing lives in the process that made it**, and what another process holds of it is
//!   lent: when that process dies, items go to others, locks are free again, barriers break.
//! - **No call waits for the dead.** Each one that blocks wakes when what it waits for dies, and
//!   has a `_timeout` form.
//!
//! # Starting a child
//!
//! A child is this program started again, so `main` must reach [`init`] before anything else: put
//! [`#[offspring::main]`](macro@main) on it (above `#[tokio::main]`, if you have one). In tests,
//! use [`#[offspring::test]`](macro@test) in place of `#[test]`. A program without it gets
//! [`SpawnError::NotInitialized`] from its first spawn, never a fork bomb.
//!
//! ```
//! use std::time::Duration;
//! use offspring::ProcessBuilder;
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
//!     let child = ProcessBuilder::new().name("clock").env("TZ", "UTC").spawn(clock::new(2, interval))?;
//!     assert_eq!(child.join()?, 2);
//!     Ok(())
//! }
//! ```
//!
//! [`ProcessBuilder`] has what `std::process::Command` has, and more: names, daemons, [stdin,
//! stdout and stderr](Stdio), limits and users ([`unix::ProcessBuilderExt`]), and [workers on
//! threads](process::Backend::Inline) for debuggers. What children log with the `log` crate arrives
//! at the program's logger, with the child's name and pid, through the program's filters
//! ([`ProcessBuilder::logs`]). [`tree`] shows what runs.
//!
//! # Sharing
//!
//! | | between | what it is for |
//! | --- | --- | --- |
//! | [`Queue`], [`JoinableQueue`] | any number of processes | items, each for one of them; the second counts what is not done, and survives its consumers |
//! | [`channel`] | many senders, one receiver | messages in order, large ones too |
//! | [`pipe`] | two ends | messages both ways |
//! | [`sync`] | any number | locks around values, semaphores, events, barriers |
//! | [`shared`] | any number | memory and atomics without a copy |
//!
//! [`wait_any`], or a [`Selector`], waits for the first of many processes, receivers, connections
//! and queues.
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
//!     words.close()?; // so that the loops end
//!     drop(done); // so that this one does
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
//! [`Process::join`] tells it with an [`ExitReason`]; a panic comes with its message, place and
//! backtrace.
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
//!     // The job was not done, so it is there again.
//!     let job = jobs.get()?;
//!     assert_eq!((*job, job.attempt()), (0, 2));
//!     job.task_done();
//!     Ok(())
//! }
//! ```
//!
//! A process is ended by [`stop`](Process::stop), which the worker can answer,
//! [`terminate`](Process::terminate) (SIGTERM) or [`kill`](Process::kill) (SIGKILL); and by the end
//! of its parent, unless it was [detached](Process::detach). At the normal end of the program
//! daemons are stopped and the others are waited for. Ctrl-C at a terminal reaches parent and
//! children at once: children do nothing, so that the parent decides, and end with it if it ends.
//!
//! # Pools
//!
//! A [`Pool`] runs tasks, which are worker values as well, on processes that it replaces when they
//! die. A task that panics, crashes, takes too long or is cancelled costs exactly itself.
//!
//! ```
//! use offspring::pool::TaskError;
//! use offspring::Pool;
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
//! An [actor](mod@actor) keeps a state in a process, and handles the calls and casts of all others
//! one at a time. A [`Supervisor`] starts it again when it dies; its address stays the same.
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
//!         self.value = self.value.checked_add(n).expect("there is room");
//!         self.value
//!     }
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let spec = ChildSpec::actor::<Counter>("counter", (10,));
//!     let supervisor = Supervisor::builder().child(spec).start()?;
//!     let counter = supervisor.actor::<Counter>("counter").expect("it is a child");
//!     let counter = CounterHandle::from(counter);
//!     assert_eq!(counter.add(5)?, 15);
//!
//!     assert!(counter.add(u64::MAX).is_err()); // it panicked: whoever called learns of it
//!     assert_eq!(counter.add(1)?, 11); // and it begins anew, at the same address
//!     supervisor.stop();
//!     Ok(())
//! }
//! ```
//!
//! # What may cross, and what it costs
//!
//! Whatever serde can encode, and all handles of this crate. In place: files and sockets as
//! [`unix::SharedFd`]. Receiving ends exist once: they move, and come back if they are not sent.
//!
//! | | on two cores, roughly |
//! | --- | --- |
//! | start of a process | a few milliseconds, a few megabytes |
//! | an item through a queue | 0.2 µs of processor time if many are under way, 20 to 90 µs if each waits for the one before |
//! | a large message of a channel | two copies of its bytes |
//! | shared memory, an atomic, a free lock | as between threads |
//!
//! Encoding is a copy, without names of fields: both ends are the same program. Values of more than
//! [`message_limit`] are refused.
//!
//! With the feature `async` what one can wait for can be awaited too, on any executor:
//! `Process::join_async`, `Receiver::recv_async`, `Queue::get_async`, `ActorRef::call_async`, and a
//! [`Task`] as it is. No wait costs a thread, and a future can be dropped at any time without loss.
//!
//! # When (not) to use a process
//!
//! A process costs milliseconds and megabytes, and values are copied to it. For parallel work on
//! shared data, threads (or rayon) are simpler and faster. Use processes where a crash, a leak, a
//! `kill` or a limit must stay contained, for code that may not share a process with other code (a
//! library with one global state, another user, other limits), and for what must be ended at any
//! time, which no thread can be.
//!
//! What surprises people is on [a page of its own](guide::gotchas).
//!
//! # Platforms
//!
//! Linux 5.4 and later. What is specific to it stands in one module; other systems are refused at
//! compile time for now.

// On docs.rs, so that what needs a feature says so.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod actor;
pub mod channel;
mod error;
mod failpoints;
pub mod guide;
mod ipc;
mod logs;
pub mod pool;
pub mod process;
pub mod queue;
pub mod select;
pub mod shared;
pub mod supervisor;
pub mod sync;
mod sys;
pub mod tree;

#[doc(inline)]
pub use actor::{Actor, ActorBuilder, ActorRef};
pub use channel::{Connection, Receiver, Sender, channel, pipe};
pub use error::{
    CreateError, DecodeError, EncodeError, ExitReason, HandleError, JoinError, SpawnError,
};
pub use ipc::waitable::Waitable;
/// Registers a type as a worker; what it runs says [`ProcessWorker`].
///
/// Registers it under its path; `#[offspring(name = "...")]` beside the derive gives another name.
/// A type with generic parameters is not registered by the derive: name each instance with
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
/// Makes an actor of a type: the methods of its `impl` block become messages, and those of a typed
/// handle.
///
/// Messages are the methods that are `pub` and take `self`; the handle's wait for the reply, and
/// `#[cast]` ones do not. `start` builds the state in the new process; its visibility is that of
/// `CounterHandle`, `CounterMessage` and `CounterReply`, which stand beside the type.
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
/// [`stop`](crate::actor::Actor::stop) and [`checkpoint`](crate::actor::Actor::checkpoint) are
/// written as methods of these names.
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
/// A `#[test]` that may start processes; `timeout = "10s"` makes it fail if it does not end in
/// time.
///
/// Children are the test binary, started again at this very test, whose first line takes them to
/// their worker. Works under `cargo test` and nextest.
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
/// Makes a function a worker. It stays a function that can be called; beside it there is a type of
/// its name: `name::new(arguments)` is the worker's value, `name::spawn(arguments)` starts a
/// process that runs it.
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
///     assert_eq!(offspring::ProcessBuilder::new().name("adder").spawn(add::new(1, 2))?.join()?, 3);
///     Ok(())
/// }
/// ```
pub use offspring_macros::worker;
#[doc(inline)]
pub use pool::{Pool, PoolBuilder, Task};
#[doc(inline)]
pub use process::{
    Process, ProcessBuilder, ProcessWorker, Stdio, Worker, active_children, current, init, parent,
};
#[doc(inline)]
pub use queue::{Delivery, JoinableQueue, Queue, QueueBuilder};
pub use select::{Selector, as_completed, wait_any, wait_any_timeout};
pub use tree::survey::tree;

/// For tests of programs that use this crate.
pub mod testing {
    pub use crate::process::testing::assert_no_children;
}

/// What only Unix systems know: of a process, and descriptors in values.
pub mod unix {
    pub use crate::ipc::shared_fd::SharedFd;
    pub use crate::process::unix::{ProcessBuilderExt, Resource, UNLIMITED};
}
pub use ipc::wire::{message_limit, set_message_limit};

#[doc(inline)]
pub use supervisor::{Supervisor, SupervisorBuilder};

/// Not public API: what the macros reach.
#[doc(hidden)]
pub mod __private {
    pub use crate::actor::foreign_reply;
    #[cfg(feature = "failpoints")]
    pub use crate::failpoints::{MUTATIONS, POINTS};
    pub use crate::process::{Registration, enter_test, with_deadline};
    pub use inventory;
    pub use serde;
}

/// README's blocks are compiled, and those that run are run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
