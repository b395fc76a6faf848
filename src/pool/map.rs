//! A pool's map: it takes inputs as its outputs are taken, with a bounded number of tasks in
//! between.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
#[cfg(feature = "stream")]
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{EncodeError, TaskError, TaskTimeoutError};
use crate::ipc::deadline::{Deadline, Forever, TimeLimit};
use crate::ipc::hub;
#[cfg(feature = "stream")]
use crate::ipc::reactor::{WakerSet, WakerSlot};
use crate::ipc::wire::{self, EncodedValue, Envelope, Shape};
use crate::pool::batch::{INLINE_MAX, Sink, TaskBatch, TaskSpec};
use crate::pool::handle::Pool;
use crate::pool::results::Results;
use crate::pool::state::PoolEnd;
use crate::process::ProcessWorker;
use crate::sys::{self, lock};
use crate::trace::{self, Captured, ReleaseDue};

/// The sink of a map's results.
#[derive(Debug, Default)]
struct MapSink {
    arrived: Mutex<ArrivedResults>,
    changed: Condvar,
    is_cancelled: AtomicBool,
    #[cfg(feature = "stream")]
    wakers: Arc<WakerSet>,
}

#[derive(Debug, Default)]
struct ArrivedResults {
    /// Keyed by the number of their first task.
    results: BTreeMap<u64, Results>,
    awaited: Awaited,
}

/// What the consumer is blocked on. `deliver` notifies only if that has arrived: a notification
/// costs a system call whether it is needed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Awaited {
    #[default]
    Nothing,
    Any,
    First(u64),
}

impl ArrivedResults {
    /// Takes the results that begin with task `first`; if that is `None`, any results.
    fn take(&mut self, first: Option<u64>) -> Option<Results> {
        match first {
            Some(first) => self.results.remove(&first),
            None => self.results.pop_first().map(|(_, results)| results),
        }
    }
}

impl Sink for MapSink {
    fn deliver(&self, results: Results) {
        let mut arrived = lock(&self.arrived);
        let first = results.first;
        arrived.results.insert(first, results);
        if [Awaited::Any, Awaited::First(first)].contains(&arrived.awaited) {
            arrived.awaited = Awaited::Nothing;
            drop(arrived);
            self.changed.notify_all();
            #[cfg(feature = "stream")]
            self.wakers.wake();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }
}

impl MapSink {
    /// Waits for the results that begin with task `first`; if that is `None`, for any results.
    fn wait<L: TimeLimit>(&self, first: Option<u64>, limit: &L) -> Result<Results, L::Elapsed> {
        let mut arrived = lock(&self.arrived);
        loop {
            arrived.awaited = Awaited::Nothing;
            if let Some(results) = arrived.take(first) {
                return Ok(results);
            }
            limit.check()?;
            arrived.awaited = first.map_or(Awaited::Any, Awaited::First);
            arrived = sys::wait(&self.changed, arrived, limit.deadline());
        }
    }

    /// Like [`wait`](Self::wait), for a task that is polled, to which `slot` belongs.
    #[cfg(feature = "stream")]
    fn poll(
        &self,
        first: Option<u64>,
        slot: &mut Option<WakerSlot>,
        context: &Context<'_>,
    ) -> Poll<Results> {
        let slot = slot.get_or_insert_with(|| {
            self.wakers.register().expect("the end of a task is a state in this process")
        });
        // Set before the lock is taken, because the waker's code must not run under it; and so
        // before the check, too.
        slot.set(context.waker());
        let mut arrived = lock(&self.arrived);
        let found = arrived.take(first);
        arrived.awaited = match (&found, first) {
            (Some(_), _) => Awaited::Nothing,
            (None, first) => first.map_or(Awaited::Any, Awaited::First),
        };
        found.map_or(Poll::Pending, Poll::Ready)
    }

    fn has_arrived(&self, first: Option<u64>) -> bool {
        let results = &lock(&self.arrived).results;
        first.map_or(!results.is_empty(), |first| results.contains_key(&first))
    }
}

/// The default window has at least this many inputs for each worker, so that one long task does not
/// stop the tasks after it at once.
const WINDOW_MIN: u64 = 16;
/// The longest batch.
const BATCH_MAX: u64 = 1024;

/// The part that both kinds of map share.
pub(super) struct MapState<'p, I, F, W> {
    pool: &'p Pool,
    spec: TaskSpec,
    /// If no input can become a task, the reason.
    unknown: Option<EncodeError>,
    inputs: Option<I>,
    make: F,
    sink: Arc<MapSink>,
    in_order: bool,
    window: Option<u64>,
    /// How many inputs were taken, and how many results.
    given: u64,
    taken: u64,
    /// Results that were taken from the sink and not all returned.
    current: Option<Results>,
    /// A panic of the inputs. It resumes once the outputs of earlier inputs have been returned.
    panic: Option<Box<dyn Any + Send>>,
    worker: PhantomData<fn() -> W>,
    /// The span that the map was made in.
    context: Option<Arc<Captured>>,
    _release: ReleaseDue,
}

impl<'p, I, F, W> MapState<'p, I, F, W>
where
    I: Iterator,
    F: FnMut(I::Item) -> W,
    W: ProcessWorker,
{
    fn new(pool: &'p Pool, inputs: I, make: F, in_order: bool) -> Self {
        let (spec, unknown) = match pool.spec::<W>() {
            Ok(spec) => (spec, None),
            Err(error) => {
                let spec =
                    TaskSpec { number: 0, name: W::worker_name(), timeout: None, retries: 0 };
                (spec, Some(EncodeError::new::<W>(error.to_string())))
            }
        };
        MapState {
            pool,
            spec,
            unknown,
            inputs: Some(inputs),
            make,
            sink: Arc::default(),
            in_order,
            window: None,
            given: 0,
            taken: 0,
            current: None,
            panic: None,
            worker: PhantomData,
            context: trace::capture().map(Arc::new),
            _release: ReleaseDue,
        }
    }

    fn next<L: TimeLimit>(
        &mut self,
        limit: &L,
    ) -> Result<Option<Result<W::Output, TaskError>>, L::Elapsed> {
        loop {
            if let Some(next) = self.next_now() {
                return Ok(next);
            }
            let results = self.sink.wait(self.expected(), limit)?;
            self.accept(results);
        }
    }

    #[cfg(feature = "stream")]
    pub(super) fn poll_next(
        &mut self,
        slot: &mut Option<WakerSlot>,
        context: &Context<'_>,
    ) -> Poll<Option<Result<W::Output, TaskError>>> {
        loop {
            if let Some(next) = self.next_now() {
                return Poll::Ready(next);
            }
            let results = std::task::ready!(self.sink.poll(self.expected(), slot, context));
            self.accept(results);
        }
    }

    /// Takes inputs, and returns the next output if it has arrived. Returns `Some(None)` at the
    /// end.
    fn next_now(&mut self) -> Option<Option<Result<W::Output, TaskError>>> {
        if let Some(results) = &mut self.current {
            if let Some(result) = results.next(self.spec.name) {
                return Some(Some(result));
            }
            self.current = None;
        }
        self.fill();
        if self.taken < self.given {
            return None;
        }
        match self.panic.take() {
            Some(panic) => resume_unwind(panic),
            None => Some(None),
        }
    }

    fn accept(&mut self, results: Results) {
        self.taken += results.len() as u64;
        self.current = Some(results);
    }

    fn next_timeout(&mut self, timeout: Duration) -> Option<Result<W::Output, TaskTimeoutError>> {
        let deadline = Deadline::after(timeout);
        // The time that the inputs take counts, so the clock starts now.
        deadline.deadline();
        match self.next(&deadline) {
            Ok(next) => next.map(|output| output.map_err(TaskTimeoutError::from)),
            Err(_) => Some(Err(TaskTimeoutError::Timeout { task: self.spec.name, after: timeout })),
        }
    }

    fn expected(&self) -> Option<u64> {
        self.in_order.then_some(self.taken)
    }

    /// Takes inputs while the window has room, but only until an output has arrived.
    fn fill(&mut self) {
        let number = self.spec.number;
        let shared = &self.pool.shared;
        let (target, workers) = shared.read(|state| (state.target(number), state.workers() as u64));
        let window = self.window.unwrap_or(workers * (2 * target).max(WINDOW_MIN));
        loop {
            let room = window.saturating_sub(self.given - self.taken);
            // Not for a few inputs: many small refills would cost more than they gain.
            if self.inputs.is_none() || room < (window / 8).max(1) {
                return;
            }
            self.make_batch(room.min(target).min(BATCH_MAX));
            if self.sink.has_arrived(self.expected()) {
                return;
            }
        }
    }

    fn make_batch(&mut self, count: u64) {
        let Some(mut inputs) = self.inputs.take() else {
            return;
        };
        let mut batch = BatchBuilder::default();
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
        // Even after a panic: the tasks of earlier inputs run.
        self.submit_inline(&mut batch);
        match all {
            Ok(true) => self.inputs = Some(inputs),
            Ok(false) => {}
            Err(panic) => self.panic = Some(panic),
        }
    }

    fn add(&mut self, worker: &W, batch: &mut BatchBuilder) {
        if let Some(error) = &self.unknown {
            return self.fail_next(error.clone());
        }
        let start = batch.bytes.len();
        let mut side = match wire::encode_into(worker, Shape::of::<W>(), &mut batch.bytes) {
            Ok(side) => side,
            Err(error) => {
                hub::announce();
                self.submit_inline(batch);
                return self.fail_next(error);
            }
        };
        let length = batch.bytes.len() - start;
        if side.is_empty() && length <= INLINE_MAX {
            batch.bytes.extend(self.context.iter().flat_map(|context| context.origin()));
            batch.ends.push(batch.bytes.len() as u32);
            return;
        }
        // A parcel is a batch of its own. The tasks before it are submitted first, to keep the
        // numbers in order.
        let encoded =
            EncodedValue { bytes: batch.bytes.split_off(start), handles: side.take_handles() };
        hub::announce();
        self.submit_inline(batch);
        let (spec, sink, first) = (self.spec, self.sink.clone(), self.given);
        match Envelope::new(encoded) {
            Ok(envelope) => self.submit(TaskBatch::parcel(spec, sink, first, envelope)),
            Err(error) => self.fail_next(EncodeError::new::<W>(error.to_string())),
        }
    }

    fn submit_inline(&mut self, batch: &mut BatchBuilder) {
        if !batch.ends.is_empty() {
            let BatchBuilder { bytes, ends } = std::mem::take(batch);
            let sink = self.sink.clone();
            self.submit(TaskBatch::inline(self.spec, sink, self.given, bytes, ends));
        }
    }

    fn submit(&mut self, batch: TaskBatch) {
        let batch = batch.within(self.context.clone());
        let (first, count, task) = (self.given, u64::from(batch.len()), self.spec.name);
        self.given += count;
        if let Err(end) = self.pool.shared.submit_unbounded(batch) {
            let error = match end {
                PoolEnd::Closed => TaskError::Stopped { task },
                PoolEnd::Broken(cause) => TaskError::Broken { task, cause },
            };
            for number in first..first + count {
                self.sink.deliver(Results::failed(number, error.clone()));
            }
        }
    }

    fn fail_next(&mut self, cause: EncodeError) {
        let task = self.spec.name;
        let error = TaskError::Unsendable { task, cause };
        self.sink.deliver(Results::failed(self.given, error));
        self.given += 1;
    }

    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        let current = self.current.as_ref().map_or(0, Results::len);
        let between = (self.given - self.taken) as usize + current;
        let (least, most) = self.inputs.as_ref().map_or((0, Some(0)), Iterator::size_hint);
        (least.saturating_add(between), most.and_then(|most| most.checked_add(between)))
    }
}

impl<I, F, W> Drop for MapState<'_, I, F, W> {
    fn drop(&mut self) {
        self.cancel(false);
    }
}

impl<I, F, W> MapState<'_, I, F, W> {
    pub(super) fn debug(&self, f: &mut fmt::DebugStruct<'_, '_>) -> fmt::Result {
        f.field("task", &self.spec.name)
            .field("given", &self.given)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }

    pub(super) fn cancel(&mut self, kill: bool) {
        if self.taken < self.given {
            self.sink.is_cancelled.store(true, Ordering::SeqCst);
            let sink: Arc<dyn Sink> = self.sink.clone();
            self.pool.shared.cancel(&sink, kill);
        }
    }
}

/// Encoded worker values that become one batch.
#[derive(Default)]
struct BatchBuilder {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Pool {
    /// Runs a task for each input, and returns an iterator over their outputs in the order of the
    /// inputs.
    ///
    /// The map is lazy: it takes inputs as its outputs are taken, with a bounded number of tasks in
    /// between ([`Map::window`]), so the inputs may be endless. How many tasks travel together
    /// depends on how long they take. An input that blocks delays at most one output.
    ///
    /// ```
    /// #[offspring::worker]
    /// fn add(a: u64, b: u64) -> u64 {
    ///     a + b
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = offspring::Pool::new(2)?;
    ///     let sums = pool.map([(1, 2), (3, 4)], |(a, b)| add::new(a, b));
    ///     assert_eq!(sums.collect::<Result<Vec<_>, _>>()?, [3, 7]);
    ///     Ok(())
    /// }
    /// ```
    pub fn map<I, F, W>(&self, inputs: I, make: F) -> Map<'_, I::IntoIter, F, W>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> W,
        W: ProcessWorker,
    {
        Map { state: MapState::new(self, inputs.into_iter(), make, true) }
    }

    /// Like [`map`](Pool::map), but returns outputs as they arrive.
    pub fn map_unordered<I, F, W>(&self, inputs: I, make: F) -> MapUnordered<'_, I::IntoIter, F, W>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> W,
        W: ProcessWorker,
    {
        MapUnordered { state: MapState::new(self, inputs.into_iter(), make, false) }
    }

    /// Runs a task for each input, and blocks until all have ended. Their outputs are dropped.
    ///
    /// # Errors
    ///
    /// The first error of a task. Then no more tasks begin, and those that run end by themselves.
    ///
    /// ```
    /// #[offspring::worker]
    /// fn touch(path: std::path::PathBuf) {
    ///     std::fs::write(path, "").expect("the directory exists");
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let directory = tempfile::tempdir()?;
    ///     let paths = ["a", "b", "c"].map(|name| directory.path().join(name));
    ///     offspring::Pool::new(2)?.for_each(paths, touch::new)?;
    ///     assert!(directory.path().join("c").exists());
    ///     Ok(())
    /// }
    /// ```
    pub fn for_each<I, F, W>(&self, inputs: I, make: F) -> Result<(), TaskError>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> W,
        W: ProcessWorker,
    {
        self.map_unordered(inputs, make).try_for_each(|output| output.map(drop))
    }
}

macro_rules! map_type {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[must_use = "iterators are lazy: a map takes inputs as its outputs are taken"]
        pub struct $name<'p, I, F, W> {
            pub(super) state: MapState<'p, I, F, W>,
        }

        impl<I, F, W> $name<'_, I, F, W>
        where
            I: Iterator,
            F: FnMut(I::Item) -> W,
            W: ProcessWorker,
        {
            /// Sets how many inputs, at least 1, the map may take ahead of its outputs. Default: 16
            /// for each worker, or more if the tasks are so short that a worker runs more of them
            /// in a few milliseconds.
            pub fn window(mut self, inputs: usize) -> Self {
                self.state.window = Some(inputs.max(1) as u64);
                self
            }

            /// Sets how long each task may run. Default: that of
            /// [`PoolBuilder::task_timeout`](crate::PoolBuilder::task_timeout).
            pub fn task_timeout(mut self, limit: Duration) -> Self {
                self.state.spec.timeout = Some(limit);
                self
            }

            /// Sets how many times a task is run again if its process ends while it runs. Default:
            /// that of [`PoolBuilder::retries`](crate::PoolBuilder::retries).
            pub fn retries(mut self, retries: u32) -> Self {
                self.state.spec.retries = retries;
                self
            }

            /// Like `next`, but blocks for at most `timeout` until there is an output. The inputs
            /// are not interrupted: if they take longer than that, so does the call. Returns `None`
            /// at the end. A timeout loses nothing: the next call returns the output that this one
            /// waited for.
            ///
            /// # Errors
            ///
            /// [`TaskTimeoutError::Timeout`], or the error of the task.
            pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<W::Output, TaskTimeoutError>> {
                self.state.next_timeout(timeout)
            }

            /// Ends the map: tasks that have not begun never will, and the processes of those that
            /// are running are killed. (Dropping the map lets those end by themselves.)
            pub fn cancel(mut self) {
                self.state.cancel(true);
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
                let Ok(next) = self.state.next(&Forever);
                next
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.state.size_hint()
            }
        }

        impl<I, F, W> ExactSizeIterator for $name<'_, I, F, W>
        where
            I: ExactSizeIterator,
            F: FnMut(I::Item) -> W,
            W: ProcessWorker,
        {
        }

        impl<I, F, W> FusedIterator for $name<'_, I, F, W>
        where
            I: Iterator,
            F: FnMut(I::Item) -> W,
            W: ProcessWorker,
        {
        }

        impl<I, F, W> fmt::Debug for $name<'_, I, F, W> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.state.debug(&mut f.debug_struct(stringify!($name)))
            }
        }
    };
}

map_type! {
    /// The outputs of [`Pool::map`](crate::Pool::map), in the order of the inputs.
    ///
    /// Dropping it takes no more inputs. Tasks that have not begun never will; those that run end
    /// by themselves, and their outputs are discarded.
    ///
    /// A task that fails is an `Err` in its place, and the iteration continues. A panic of the
    /// inputs resumes in `next`, after the outputs of earlier inputs.
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
    ///     drop(squares); // there is no end to them
    ///     Ok(())
    /// }
    /// ```
    Map
}

map_type! {
    /// The outputs of [`Pool::map_unordered`](crate::Pool::map_unordered), as they arrive.
    ///
    /// Dropping it takes no more inputs. Tasks that have not begun never will; those that run end
    /// by themselves, and their outputs are discarded.
    ///
    /// A task that fails is an `Err`, and the iteration continues. A panic of the inputs resumes in
    /// `next`, after all outputs.
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
    MapUnordered
}
