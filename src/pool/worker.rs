//! The main loop of a pool's worker process: it runs tasks from its link, one after the other.

use serde::{Deserialize, Serialize};

use crate::pool::link::WorkerEnd;
use crate::process::{
    self, ProcessWorker, Registration, TaskFailure, TaskInput, TaskOutcome, Worker,
};
use crate::trace;

/// An output buffer that grew larger than this is not kept.
const BUFFER_MAX: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PoolWorker {
    pub(super) link: WorkerEnd,
}

impl Worker for PoolWorker {
    fn worker_name() -> &'static str {
        "offspring::Pool"
    }
}

inventory::submit! { Registration::of::<PoolWorker>(file!(), line!()) }

impl ProcessWorker for PoolWorker {
    type Output = ();

    fn run(self) {
        let Some(mut executor) = self.link.open() else {
            return;
        };
        process::catch_panics();
        let mut output = Vec::new();
        while let Some(mut task) = executor.next() {
            output.clear();
            let (number, parcel) = (task.number, task.parcel.take());
            let value = parcel.map_or(TaskInput::Bytes(task.value()), TaskInput::Parcel);
            let performed = {
                let _attached = trace::attach(task.origin);
                match process::find_number(number) {
                    Some(perform) => perform(value, &mut output),
                    None => TaskOutcome::failed(TaskFailure::BadValue(format!(
                        "no worker has the number {number}"
                    ))),
                }
            };
            match performed {
                TaskOutcome::Returned(side) => executor.reply(&output, side),
                TaskOutcome::Failed(failure) => executor.reply_failure(&failure),
            }
            if output.capacity() > BUFFER_MAX {
                output = Vec::new();
            }
        }
    }
}
