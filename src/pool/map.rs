//! A pool's map: inputs are taken as outputs are, and a bounded number lies between.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::error::{EncodeError, TaskError, TaskTimeoutError};
use crate::ipc::hub;
use crate::ipc::wire::{self, EncodedValue, Envelope};
use crate::pool::batch::{Batch, Cancelled, Chunk, Kind, Outcomes, Sink, needs_parcel};
use crate::pool::handle::Pool;
use crate::pool::shared::{Refused, When};
use crate::pool::task;
use crate::process::ProcessWorker;
use crate::sys::{self, lock};

/// Where the outcomes of a map go.
#[derive(Debug, Default)]
struct Gather {
    chunks: Mutex<Chunks>,
    arrived: Condvar,
    cancelled: Cancelled,
}

#[derive(Debug, Default)]
struct Chunks {
    here: BTreeMap<u64, Chunk>,
    awaited: Awaited,
}

/// What the one who takes outputs sleeps for: waking him for another one, or nobody, costs as much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Awaited {
    #[default]
    Nothing,
    Any,
    First(u64),
}

impl Sink for Gather {
    fn deliver(&self, chunk: Chunk) {
        let mut chunks = lock(&self.chunks);
        let first = chunk.first;
        chunks.here.insert(first, chunk);
        if [Awaited::Any, Awaited::First(first)].contains(&chunks.awaited) {
            chunks.awaited = Awaited::Nothing;
            drop(chunks);
            self.arrived.notify_all();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

impl Gather {
    /// The chunk that begins here; or any, if the order does not matter. `None` if there is none at the deadline.
    fn wait(&self, first: Option<u64>, deadline: Option<Instant>) -> Option<Chunk> {
        let mut chunks = lock(&self.chunks);
        loop {
            let found = match first {
                Some(first) => chunks.here.remove(&first),
                None => chunks.here.pop_first().map(|(_, chunk)| chunk),
            };
            let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if found.is_some() || late {
                chunks.awaited = Awaited::Nothing;
                return found;
            }
            chunks.awaited = first.map_or(Awaited::Any, Awaited::First);
            chunks = sys::wait(&self.arrived, chunks, deadline);
        }
    }

    fn is_here(&self, first: Option<u64>) -> bool {
        let chunks = &lock(&self.chunks).here;
        first.map_or(!chunks.is_empty(), |first| chunks.contains_key(&first))
    }
}

/// No output came in time.
#[derive(Debug)]
struct Late;

/// Inputs that wait for each worker, at least: so one long task does not stop those behind it at once.
const WAITING: u64 = 16;
/// Tasks that are made before the pool gets them.
const BATCH: u64 = 1024;

/// Both kinds of map.
struct Stream<'p, I, F, W> {
    pool: &'p Pool,
    kind: Kind,
    /// Why no input can become a task.
    unknown: Option<EncodeError>,
    inputs: Option<I>,
    make: F,
    gather: Arc<Gather>,
    in_order: bool,
    window: Option<u64>,
    /// Inputs taken, and outcomes taken.
    given: u64,
    taken: u64,
    current: Option<Outcomes>,
    /// Of the inputs: passed on when what came before it has been.
    panic: Option<Box<dyn Any + Send>>,
    worker: PhantomData<fn() -> W>,
}

impl<'p, I, F, W> Stream<'p, I, F, W>
where
    I: Iterator,
    F: FnMut(I::Item) -> W,
    W: ProcessWorker,
{
    fn new(pool: &'p Pool, inputs: I, make: F, in_order: bool) -> Self {
        let (kind, unknown) = match pool.kind::<W>() {
            Ok(kind) => (kind, None),
            Err(error) => (
                Kind {
                    number: 0,
                    name: W::worker_name(),
                    timeout: None,
                    retries: 0,
                },
                Some(EncodeError::new::<W>(error.to_string())),
            ),
        };
        Stream {
            pool,
            kind,
            unknown,
            inputs: Some(inputs),
            make,
            gather: Arc::new(Gather::default()),
            in_order,
            window: None,
            given: 0,
            taken: 0,
            current: None,
            panic: None,
            worker: PhantomData,
        }
    }

    fn next(&mut self) -> Option<Result<W::Output, TaskError>> {
        self.next_until(None)
            .expect("a wait without a deadline ended at its deadline")
    }

    fn next_timeout(&mut self, timeout: Duration) -> Option<Result<W::Output, TaskTimeoutError>> {
        // A deadline that the clock cannot express is none.
        match self.next_until(Instant::now().checked_add(timeout)) {
            Ok(next) => next.map(|output| output.map_err(TaskTimeoutError::from)),
            Err(Late) => Some(Err(TaskTimeoutError::Timeout {
                task: self.kind.name,
                after: timeout,
            })),
        }
    }

    fn next_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Result<W::Output, TaskError>>, Late> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(left) = current.next() {
                    return Ok(Some(task::decode(self.kind.name, left, current)));
                }
                self.current = None;
            }
            self.fill();
            if self.taken == self.given {
                match self.panic.take() {
                    Some(panic) => resume_unwind(panic),
                    None => return Ok(None),
                }
            }
            let chunk = self.gather.wait(self.expected(), deadline).ok_or(Late)?;
            self.taken += chunk.len();
            self.current = Some(chunk.into_outcomes());
        }
    }

    fn expected(&self) -> Option<u64> {
        self.in_order.then_some(self.taken)
    }

    /// Takes inputs while there is room for them, but not longer than it takes until there is an output.
    fn fill(&mut self) {
        let target = self
            .pool
            .shared
            .look(|state| state.target(self.kind.number));
        let workers = self.pool.workers() as u64;
        let window = self.window.unwrap_or(workers * (2 * target).max(WAITING));
        loop {
            let room = window.saturating_sub(self.given - self.taken);
            // Many small refills would cost more than they gain.
            if self.inputs.is_none() || room < (window / 8).max(1) {
                return;
            }
            self.make_batch(room.min(target).min(BATCH));
            if self.gather.is_here(self.expected()) {
                return;
            }
        }
    }

    fn make_batch(&mut self, count: u64) {
        let Some(mut inputs) = self.inputs.take() else {
            return;
        };
        let mut batch = Growing::default();
        let all = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..count {
                let Some(input) = inputs.next() else {
                    return false;
                };
                let worker = (self.make)(input);
                self.add(&worker, &mut batch);
            }
            true
        }));
        // What was made before a panic goes its way.
        self.hand_over(&mut batch);
        match all {
            Ok(true) => self.inputs = Some(inputs),
            Ok(false) => {}
            Err(panic) => self.panic = Some(panic),
        }
    }

    fn add(&mut self, worker: &W, batch: &mut Growing) {
        if let Some(error) = &self.unknown {
            return self.fail_next(error.clone());
        }
        let start = batch.bytes.len();
        let mut along = match wire::encode_into(worker, &mut batch.bytes) {
            Ok(along) => along,
            Err(error) => {
                hub::announce();
                self.hand_over(batch);
                return self.fail_next(error);
            }
        };
        let length = batch.bytes.len() - start;
        if along.is_empty() && length <= crate::ipc::ring::ENTRY_MAX {
            batch.ends.push(batch.bytes.len() as u32);
            return;
        }
        let encoded = EncodedValue {
            bytes: batch.bytes.split_off(start),
            handles: along.take_handles(),
        };
        debug_assert!(needs_parcel(&encoded));
        hub::announce();
        self.hand_over(batch);
        match Envelope::new(encoded) {
            Ok(packet) => self.submit(Batch::of_parcel(
                self.kind,
                self.gather.clone(),
                self.given,
                packet,
            )),
            Err(error) => self.fail_next(EncodeError::new::<W>(error.to_string())),
        }
    }

    fn hand_over(&mut self, batch: &mut Growing) {
        if !batch.ends.is_empty() {
            let Growing { bytes, ends } = std::mem::take(batch);
            self.submit(Batch::of_bytes(
                self.kind,
                self.gather.clone(),
                self.given,
                bytes,
                ends,
            ));
        }
    }

    fn submit(&mut self, batch: Batch) {
        let (first, count, task) = (self.given, u64::from(batch.len()), self.kind.name);
        self.given += count;
        if let Err(refused) = self.pool.shared.submit(batch, When::Unbounded) {
            let error = match refused {
                Refused::Full | Refused::Closed => TaskError::Stopped { task },
                Refused::Broken(cause) => TaskError::Broken { task, cause },
            };
            for index in first..first + count {
                self.gather.deliver(Chunk::failed(index, error.clone()));
            }
        }
    }

    fn fail_next(&mut self, source: EncodeError) {
        let task = self.kind.name;
        self.gather.deliver(Chunk::failed(
            self.given,
            TaskError::Unsendable { task, source },
        ));
        self.given += 1;
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let between =
            (self.given - self.taken) as usize + self.current.as_ref().map_or(0, Outcomes::len);
        let (least, most) = self
            .inputs
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint);
        (
            least.saturating_add(between),
            most.and_then(|most| most.checked_add(between)),
        )
    }
}

impl<I, F, W> Stream<'_, I, F, W> {
    fn withdraw(&mut self, kill: bool) {
        if self.taken < self.given {
            self.gather.cancelled.set();
            let sink: Arc<dyn Sink> = self.gather.clone();
            self.pool.shared.withdraw(&sink, kill);
        }
    }
}

#[derive(Default)]
struct Growing {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

macro_rules! map_type {
    ($(#[$attribute:meta])* $name:ident, in order: $in_order:literal) => {
        $(#[$attribute])*
        #[must_use = "a map takes inputs only as its outputs are taken"]
        pub struct $name<'p, I, F, W>
        where
            W: ProcessWorker,
        {
            stream: Stream<'p, I, F, W>,
        }

        impl<'p, I, F, W> $name<'p, I, F, W>
        where
            I: Iterator,
            F: FnMut(I::Item) -> W,
            W: ProcessWorker,
        {
            pub(super) fn new(pool: &'p Pool, inputs: I, make: F) -> Self {
                Self { stream: Stream::new(pool, inputs, make, $in_order) }
            }

            /// How many inputs may be taken whose outputs are not. Default: 16 for each worker, or more where tasks are so
            /// short that this is done in a few milliseconds.
            pub fn window(mut self, inputs: usize) -> Self {
                self.stream.window = Some(inputs.max(1) as u64);
                self
            }

            /// How long each task may run. Default: what [`PoolBuilder::task_timeout`](crate::PoolBuilder::task_timeout) says.
            pub fn task_timeout(mut self, limit: Duration) -> Self {
                self.stream.kind.timeout = Some(limit);
                self
            }

            /// How often a task is begun again whose process ended in it. Default: what
            /// [`PoolBuilder::retries`](crate::PoolBuilder::retries) says.
            pub fn retries(mut self, retries: u32) -> Self {
                self.stream.kind.retries = retries;
                self
            }

            /// As `next`, but waits at most this long for an output (and as long as the inputs take): `None` at the end. After a
            /// timeout nothing is lost, and the next call goes on.
            ///
            /// # Errors
            ///
            /// [`TaskTimeoutError::Timeout`], or what `next` gives as [`TaskTimeoutError::Failed`].
            pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<W::Output, TaskTimeoutError>> {
                self.stream.next_timeout(timeout)
            }

            /// Ends it: what was not begun is not, and what runs is ended by killing its process. (Dropping it lets what runs
            /// end by itself.)
            pub fn cancel(mut self) {
                self.stream.withdraw(true);
            }
        }

        impl<I, F, W> Iterator for $name<'_, I, F, W>
        where
            I: Iterator,
            F: FnMut(I::Item) -> W,
            W: ProcessWorker,
        {
            type Item = Result<W::Output, TaskError>;

            fn next(&mut self) -> Option<Self::Item> {
                self.stream.next()
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.stream.size_hint()
            }
        }

        impl<I, F, W> ExactSizeIterator for $name<'_, I, F, W>
        where
            I: ExactSizeIterator,
            F: FnMut(I::Item) -> W,
            W: ProcessWorker,
        {
        }

        impl<I, F, W> Drop for $name<'_, I, F, W>
        where
            W: ProcessWorker,
        {
            fn drop(&mut self) {
                self.stream.withdraw(false);
            }
        }

        impl<I, F, W> fmt::Debug for $name<'_, I, F, W>
        where
            W: ProcessWorker,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("task", &self.stream.kind.name)
                    .field("given", &self.stream.given)
                    .field("taken", &self.stream.taken)
                    .finish_non_exhaustive()
            }
        }
    };
}

map_type! {
    /// The outputs of [`Pool::map`](crate::Pool::map), in the order of the inputs.
    ///
    /// Dropping it takes no more inputs; tasks that were not begun are not, and those that run end by themselves, unheard.
    /// A task that fails is an `Err` at its place, and the iteration goes on behind it. A panic of the inputs is passed on
    /// when the outputs before it have been.
    ///
    /// ```
    /// use std::time::Duration;
    /// use offspring::Pool;
    ///
    /// #[offspring::worker]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::new(2)?;
    ///     let mut squares = pool.map(1.., square::new).window(8).task_timeout(Duration::from_secs(10));
    ///     assert_eq!(squares.next().unwrap()?, 1);
    ///     assert_eq!(squares.next_timeout(Duration::from_secs(10)).unwrap()?, 4);
    ///     drop(squares); // there would be more for ever
    ///     Ok(())
    /// }
    /// ```
    Map, in order: true
}

map_type! {
    /// The outputs of [`Pool::map_unordered`](crate::Pool::map_unordered), as they come.
    ///
    /// Dropping it takes no more inputs; tasks that were not begun are not, and those that run end by themselves, unheard.
    /// A task that fails is an `Err`, and the iteration goes on. A panic of the inputs is passed on when the outputs before
    /// it have been.
    ///
    /// ```
    /// use offspring::Pool;
    ///
    /// #[offspring::worker]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::new(2)?;
    ///     let mut sum = 0;
    ///     for square in pool.map_unordered(1..=3, square::new) {
    ///         match square {
    ///             Ok(square) => sum += square, // whichever comes first
    ///             Err(error) => eprintln!("left out: {error}"),
    ///         }
    ///     }
    ///     assert_eq!(sum, 14);
    ///     Ok(())
    /// }
    /// ```
    MapUnordered, in order: false
}
