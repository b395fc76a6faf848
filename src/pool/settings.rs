//! The options of a pool, checked.

use std::fmt;
use std::time::Duration;

use crate::error::PoolError;
use crate::pool::initializer::Initializer;
use crate::pool::state::Limits;
use crate::process::ProcessBuilder;

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) workers: usize,
    pub(super) name: String,
    pub(super) configure: Option<ProcessOptions>,
    pub(super) start_timeout: Option<Duration>,
    pub(super) initializer: Option<Initializer>,
    pub(super) initializer_timeout: Option<Duration>,
    pub(super) limits: Limits,
    pub(super) task_timeout: Option<Duration>,
    pub(super) retries: u32,
    pub(super) backoff: Duration,
}

/// The closure that sets the options of a worker's process.
pub(super) struct ProcessOptions(
    pub(super) Box<dyn Fn(usize, ProcessBuilder) -> ProcessBuilder + Send + Sync>,
);

impl fmt::Debug for ProcessOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessOptions")
    }
}

/// A higher number of workers is a mistake.
const WORKERS_MAX: usize = 4096;
const NAME_MAX: usize = 100;

impl Settings {
    pub(super) fn check(&self) -> Result<(), PoolError> {
        check_workers(self.workers)?;
        let Limits { spares, max_tasks, max_unfinished, .. } = self.limits;
        if spares > WORKERS_MAX {
            return invalid("spares", format!("is {spares}: use at most {WORKERS_MAX}"));
        }
        let length = self.name.len();
        if !(1..=NAME_MAX).contains(&length) {
            return invalid("name", format!("has {length} bytes: use 1 to {NAME_MAX}"));
        }
        if self.name.contains('\0') {
            return invalid("name", format!("{:?} contains a NUL byte", self.name));
        }
        if max_tasks == Some(0) {
            return invalid("max_tasks_per_worker", "is 0: use at least 1".to_owned());
        }
        if max_unfinished == Some(0) {
            return invalid("max_unfinished", "is 0: use at least 1".to_owned());
        }
        Ok(())
    }
}

pub(super) fn check_workers(workers: usize) -> Result<(), PoolError> {
    if (1..=WORKERS_MAX).contains(&workers) {
        return Ok(());
    }
    invalid("workers", format!("is {workers}: use 1 to {WORKERS_MAX}"))
}

fn invalid(option: &'static str, problem: String) -> Result<(), PoolError> {
    Err(PoolError::InvalidOption { option, problem })
}
