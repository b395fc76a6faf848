//! Starting a worker on a thread of this process.
//!
//! The worker's value and its output are encoded, sent through a channel and decoded as for a
//! process, so a value that cannot cross to a process fails here too.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::error::SpawnError;
use crate::process::handle::StartedChild;
use crate::process::identity::Identity;
use crate::process::inline_context::{self, InlineContext, StopRequest};
use crate::process::panic_report;
use crate::process::parent::reaper;
use crate::process::parent::record::ChildRecord;
use crate::process::run::{RunOutcome, RunWorker};
use crate::process::stdio::ParentPipes;
use crate::process::value::IncomingValue;

/// The stack size of a process's main thread.
const STACK: usize = 8 << 20;

/// Reports to `spawn` that the worker runs, or why it does not.
type Started = mpsc::SyncSender<Result<(), String>>;

pub(super) fn spawn(
    identity: Identity,
    worker: &'static str,
    run: RunWorker,
    value: IncomingValue,
    timeout: Duration,
) -> Result<StartedChild, SpawnError> {
    let stop = Arc::new(StopRequest::default());
    let (name, pid) = (identity.name.clone(), std::process::id());
    let record = Arc::new(ChildRecord::inline(&identity, worker, stop.clone()));
    let (started, start) = mpsc::sync_channel(1);
    let context = InlineContext { identity: Arc::new(identity), stop, panic: None };
    let own = record.clone();
    thread::Builder::new()
        .name(name.clone())
        .stack_size(STACK)
        .spawn(move || run_on_thread(context, run, value, &own, &started))
        .map_err(SpawnError::io("start a thread"))?;
    match start.recv_timeout(timeout) {
        Ok(Ok(())) => Ok((record, ParentPipes::default())),
        Ok(Err(message)) => Err(SpawnError::Decode { name, pid, message }),
        // A thread cannot be killed: it keeps running, without a handle.
        Err(RecvTimeoutError::Timeout) => {
            Err(SpawnError::io("run the worker on a thread")(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("its value was not decoded within {timeout:?}"),
            )))
        }
        Err(RecvTimeoutError::Disconnected) => Err(SpawnError::io("run the worker on a thread")(
            io::Error::other("its thread has ended"),
        )),
    }
}

fn run_on_thread(
    context: InlineContext,
    run: RunWorker,
    value: IncomingValue,
    record: &Arc<ChildRecord>,
    started: &Started,
) {
    inline_context::enter(context);
    let outcome = run(value, &|| {
        // Before `spawn` returns, so that its caller finds the worker among the active children.
        reaper::adopt(record.clone());
        let _ = started.send(Ok(()));
    });
    let last_panic = inline_context::leave();
    let outcome = match outcome {
        // The worker never ran, and has no handle.
        Err(message) => {
            let _ = started.send(Err(message));
            return;
        }
        Ok(outcome) => outcome,
    };
    let panic = match &outcome {
        // The last panic on this thread may be another one, which the worker caught.
        RunOutcome::Panicked(message) => {
            last_panic.filter(|report| report.message == panic_report::cut_message(message.clone()))
        }
        _ => None,
    };
    // In this order, so that once a join returns, the worker is not among the active children.
    reaper::release(record.id);
    record.end_inline(outcome, panic);
}
