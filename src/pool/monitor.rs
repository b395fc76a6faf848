//! The thread of one slot: it starts the worker, delivers results, notices the worker's end, and
//! starts the next one.
//!
//! Only a monitor reads replies, so a monitor that has seen the end of its process and drained the
//! ring has seen everything that the process ever did. Only then does it decide what became of the
//! tasks in flight. It holds the pool's lock only during transitions, never while it waits or
//! delivers.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use crate::diagnostics;
use crate::error::{PoolError, TaskError};
use crate::ipc::catch::catch_panic;
use crate::ipc::ring::Corrupt;
use crate::pool::batch::TaskRange;
use crate::pool::events::PoolEvent;
use crate::pool::link::{self, Replies, Reply};
use crate::pool::running::RunningWorker;
use crate::pool::settings::Settings;
use crate::pool::shared::PoolShared;
use crate::pool::state::{NextStep, WorkerControl, WorkerExit};
use crate::pool::worker::PoolWorker;
use crate::process::unix::ProcessBuilderExt;
use crate::process::{Backend, ProcessBuilder, TaskFailure};
use crate::sys;
use crate::trace;

/// How often a monitor in poll mode checks for replies.
const POLL_EVERY: Duration = Duration::from_millis(1);
/// A monitor that drained at least this many replies at once polls next.
const MANY: u64 = 32;
/// The shortest time between two measurements of memory.
const MEASURE_EVERY: Duration = Duration::from_millis(10);
/// The longest pause after a failed start.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Changes the number of slots, and starts the monitors of new ones, which start the workers.
pub(super) fn resize(shared: &Arc<PoolShared>, workers: usize) -> Result<(), PoolError> {
    let new = shared.change(|state, now, effects| state.resize(workers, now, effects))?;
    for (started, &index) in new.iter().enumerate() {
        let monitor = WorkerMonitor { shared: shared.clone(), index };
        if let Err(cause) = start(monitor) {
            // The state counts the other slots as monitored. Without this, the pool would wait for
            // them.
            shared.change(|state, _, effects| state.abandon(&new[started..], effects));
            let act = "start a thread";
            return Err(PoolError::Io { act, cause });
        }
    }
    Ok(())
}

fn start(monitor: WorkerMonitor) -> io::Result<()> {
    sys::service_thread("offspring-pool", move || monitor.run())
}

struct WorkerMonitor {
    shared: Arc<PoolShared>,
    index: usize,
}

impl WorkerMonitor {
    fn run(&self) {
        loop {
            match self.start_worker() {
                Ok(Some(worker)) => {
                    // A panic here is a bug. It must cost only this worker: without a monitor, the
                    // pool would wait for the slot for ever.
                    if let Err(error) = catch_panic("a pool's thread", || self.serve(&worker)) {
                        self.end_unusable(&worker, &error);
                    }
                    self.worker_exited(&worker);
                }
                Ok(None) => {}
                Err(error) => {
                    self.shared.change(|state, _, effects| state.worker_failed(error, effects))
                }
            }
            match self.shared.change(|state, _, _| state.next_step(self.index)) {
                NextStep::Restart { failures } => self.pause(failures),
                NextStep::Leave => break,
            }
        }
        let is_last =
            self.shared.change(|state, _, effects| state.monitor_left(self.index, effects));
        if is_last {
            self.shared.events.end();
        }
    }

    /// Starts a process, runs its initializer, and makes it take tasks. Returns `None` if the pool
    /// was over before its turn to start came.
    fn start_worker(&self) -> Result<Option<RunningWorker>, PoolError> {
        let permit = self.shared.gate.enter();
        if self.shared.read(|state| state.is_over()) {
            return Ok(None);
        }
        let name = self.shared.read(|state| state.slot_name(self.index));
        let io_error = |act| move |cause| PoolError::Io { act, cause };
        let (parent_end, link) = link::task_link().map_err(io_error("make a link to a worker"))?;
        let process = self
            .process_builder(&name)?
            .spawn(PoolWorker { link })
            .map_err(|cause| PoolError::Spawn { worker: name.to_string(), cause })?;
        drop(permit);
        if process.backend() == Backend::Inline {
            warn_of_threads();
        }
        let worker = RunningWorker::new(parent_end, process).map_err(io_error("watch a worker"))?;
        if self.shared.change(|state, _, _| state.worker_spawned(self.index, &worker)) {
            self.shared.tallies.restarts.add(1);
        }
        if let Some(initializer) = &self.shared.settings.initializer {
            let timeout = self.shared.settings.initializer_timeout;
            initializer
                .run(worker.link(), worker.process(), timeout.filter(|_| worker.can_be_killed()))
                .inspect_err(|_| self.discard(&worker))?;
        }
        self.shared.change(|state, now, effects| state.worker_ready(self.index, now, effects));
        Ok(Some(worker))
    }

    fn process_builder(&self, name: &str) -> Result<ProcessBuilder, PoolError> {
        let Settings { configure, start_timeout, .. } = &self.shared.settings;
        let mut builder = ProcessBuilder::new().shielded(true);
        if let Some(limit) = start_timeout {
            builder = builder.start_timeout(*limit);
        }
        if let Some(configure) = configure {
            builder = catch_panic("it panicked", || (configure.0)(self.index, builder))
                .map_err(|cause| PoolError::Io { act: "configure a worker's process", cause })?;
        }
        // Set after the closure has run, because the pool relies on these.
        let builder = builder.name(name).daemon(false).detached(false);
        Ok(builder.slot(self.index).unattended())
    }

    /// Ends a worker whose initializer failed.
    fn discard(&self, worker: &RunningWorker) {
        worker.end();
        self.shared.change(|state, _, _| state.worker_discarded(self.index));
    }

    /// Delivers results until the worker has ended and all its replies have been taken.
    fn serve(&self, worker: &RunningWorker) {
        let (mut replies, mut poll_mode) = (Replies::default(), false);
        let (mut deadline, mut measured) = (Some(Instant::now()), Instant::now());
        loop {
            let next_poll = poll_mode.then(|| Instant::now() + POLL_EVERY);
            let until = [next_poll, deadline].into_iter().flatten().min();
            worker.link().wait(poll_mode, until);
            // Checked before the replies are drained: if the process had ended by then, no more
            // replies follow, and an empty ring is the end.
            let has_ended = worker.link().has_ended();
            let tend = |memory| {
                self.shared
                    .change(|state, now, effects| state.tend(self.index, memory, now, effects))
            };
            let drained = worker.link().drain(&mut replies, &mut || {
                tend(None);
            });
            let Ok(count) = drained.and_then(|()| self.complete(&mut replies, worker)) else {
                if !has_ended {
                    self.end_unusable(worker, &"its link is corrupt");
                }
                return;
            };
            if has_ended && replies.is_empty() {
                return;
            }
            poll_mode = count >= MANY;
            deadline = tend(self.measure(worker, &mut measured));
        }
    }

    /// Ends a worker that cannot be used: its process has overwritten the memory that it shares
    /// with this one, so that nothing in it can be trusted, or this process cannot handle its
    /// results.
    fn end_unusable(&self, worker: &RunningWorker, why: &dyn fmt::Display) {
        let name = worker.process().name();
        diagnostics::error(
            "offspring::pool",
            format_args!("the pool replaces worker `{name}`: {why}"),
        );
        worker.end();
    }

    /// Delivers the results in the drained replies. Returns how many there were.
    fn complete(&self, replies: &mut Replies, worker: &RunningWorker) -> Result<u64, Corrupt> {
        let (count, begun) = replies.count()?;
        if count == 0 && !begun {
            return Ok(0);
        }
        // The worker gets its next tasks before this thread decodes and delivers.
        let ended = self
            .shared
            .change(|state, now, effects| state.complete(self.index, count, begun, now, effects));
        self.deliver(ended, replies, worker)?;
        Ok(count)
    }

    fn deliver(
        &self,
        ended: Vec<TaskRange>,
        replies: &mut Replies,
        worker: &RunningWorker,
    ) -> Result<(), Corrupt> {
        let with_results = |range: TaskRange| {
            let results = range.empty_results();
            (range, results)
        };
        let mut ranges = ended.into_iter();
        let mut current = ranges.next().map(with_results);
        let (mut full, mut done, mut errors) = (Vec::new(), 0, Vec::new());
        let sound = replies.for_each(|reply| {
            // There are as many replies as tasks, unless the worker is corrupt.
            let Some((range, results)) = &mut current else {
                return;
            };
            match reply {
                Reply::Begun => return,
                Reply::Output(bytes) => results.push_output(bytes),
                Reply::Parcel(envelope) => results.push_parcel(envelope),
                Reply::Failed(failure) => {
                    let error = task_error(failure, range.name(), worker);
                    errors.push(error.clone());
                    results.push_error(error);
                }
            }
            if results.len() as u64 == range.len() {
                done += range.len();
                full.extend(current.take());
                current = ranges.next().map(with_results);
            }
        });
        // Counts and events before the results, as in `PoolShared::change`.
        let failed = errors.len() as u64;
        let totals = &self.shared.totals;
        totals.done.fetch_add(done - failed, Ordering::Relaxed);
        totals.failed.fetch_add(failed, Ordering::Relaxed);
        let tallies = &self.shared.tallies;
        tallies.returned.add(done - failed);
        for error in errors {
            tallies.of_error(&error).add(1);
            self.shared.events.publish(&PoolEvent::TaskFailed { error });
        }
        for (range, results) in full {
            range.batch.sink.deliver(results);
        }
        trace::release_due();
        sound
    }

    /// Returns how much memory the worker's process has, if there is a limit and it was not
    /// measured just now.
    fn measure(&self, worker: &RunningWorker, measured: &mut Instant) -> Option<u64> {
        self.shared.settings.limits.max_memory?;
        // The memory of a thread is that of the whole program.
        if !worker.can_be_killed() || measured.elapsed() < MEASURE_EVERY {
            return None;
        }
        *measured = Instant::now();
        // A process that has ended has none.
        Some(sys::resident_memory(worker.process().pid()).unwrap_or_default())
    }

    /// Called when the process has ended, and all its replies have been taken.
    fn worker_exited(&self, worker: &RunningWorker) {
        let pid = worker.process().pid();
        let (reason, stderr) = worker.process().end();
        let end = WorkerExit { pid, reason, stderr };
        self.shared.change(|state, now, effects| {
            state.worker_exited(self.index, end, now, effects);
        });
    }

    /// Waits before the next start, or until the pool ends.
    fn pause(&self, failures: u32) {
        let Some(exponent) = failures.checked_sub(1) else {
            return;
        };
        let pause = backoff(self.shared.settings.backoff, exponent);
        self.shared.wait(Some(Instant::now() + pause), |state| (!state.is_open()).then_some(()));
    }
}

fn warn_of_threads() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        diagnostics::warn(
            "offspring::pool",
            format_args!(
                "pools run their tasks on threads of this process (`Backend::Inline`): no task is \
                 killed, so limits of time and memory are ignored, and a crash ends the program"
            ),
        );
    });
}

/// Returns the pause after a failure that follows `doublings` others.
fn backoff(first: Duration, doublings: u32) -> Duration {
    first.saturating_mul(1 << doublings.min(10)).min(BACKOFF_MAX)
}

fn task_error(failure: TaskFailure, task: &'static str, worker: &RunningWorker) -> TaskError {
    let (worker, pid) = (worker.process().name().into(), worker.process().pid());
    match failure {
        TaskFailure::Panicked(report) => {
            TaskError::Panicked { task, worker, pid, report: Box::new(report) }
        }
        TaskFailure::BadValue(message) => TaskError::Value { task, worker, pid, message },
        TaskFailure::BadOutput(message) => TaskError::Output { task, worker, pid, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_a_second_whatever_the_first_one() {
        let milliseconds = Duration::from_millis;
        assert_eq!(backoff(milliseconds(10), 0), milliseconds(10));
        assert_eq!(backoff(milliseconds(10), 3), milliseconds(80));
        assert_eq!(backoff(milliseconds(10), u32::MAX), BACKOFF_MAX);
        assert_eq!(backoff(Duration::MAX, 5), BACKOFF_MAX);
        assert_eq!(backoff(Duration::ZERO, 5), Duration::ZERO);
    }
}
