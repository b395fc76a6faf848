//! Processes that work until they are ended, and counters that they advance meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use offspring::shared::SharedSlice;
use offspring::{Process, ProcessBuilder, ProcessWorker};
use serde::{Deserialize, Serialize};

/// How much to do.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) short: bool,
    /// How long a measurement takes.
    pub(crate) window: Option<Duration>,
    /// Where the chart goes.
    pub(crate) chart: Option<String>,
}

impl Plan {
    /// The numbers of processes of a part.
    pub(crate) fn counts(&self, all: &[usize]) -> Vec<usize> {
        if self.short { vec![all[0].min(1), 3] } else { all.to_vec() }
    }

    /// A number of things in one process.
    pub(crate) fn many(&self, full: usize) -> usize {
        if self.short { 10 } else { full }
    }

    /// How long a measurement takes.
    pub(crate) fn window(&self) -> Duration {
        self.window.unwrap_or(Duration::from_millis(if self.short { 100 } else { 1000 }))
    }

    /// How often it is repeated.
    pub(crate) fn rounds(&self) -> usize {
        if self.short { 1 } else { 3 }
    }

    /// How long processes run before they are measured.
    pub(crate) fn warm_up(&self) -> Duration {
        self.window() / 3
    }
}

/// Counters in shared memory. A process advances its own, so nothing that is measured passes
/// through what is measured.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Meter {
    counts: SharedSlice<u64>,
    mine: usize,
}

/// Numbers between two counters: none shares a cache line with another.
const STRIDE: usize = 16;

impl Meter {
    pub(crate) fn new(counters: usize) -> Meter {
        Meter { counts: SharedSlice::zeroed(counters.max(1) * STRIDE).unwrap(), mine: 0 }
    }

    pub(crate) fn of(&self, counter: usize) -> Meter {
        Meter { mine: counter * STRIDE, ..self.clone() }
    }

    fn number(&self) -> &AtomicU64 {
        &self.counts.atomics()[self.mine]
    }

    #[inline]
    pub(crate) fn tick(&self) {
        let number = self.number();
        number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn wait_for(&self, total: u64) {
        while self.counts.iter().sum::<u64>() < total {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn read(&self) -> Vec<u64> {
        self.counts.to_vec().into_iter().step_by(STRIDE).collect()
    }

    /// How much each counter advances in a second, and the microseconds of processor time that this
    /// process takes for each step. On a busy machine the latter still compare.
    pub(crate) fn rates(&self, window: Duration) -> (Vec<f64>, f64) {
        let (before, time, since) = (self.read(), processor_time(), Instant::now());
        std::thread::sleep(window);
        let (after, seconds) = (self.read(), since.elapsed().as_secs_f64());
        let time = (processor_time() - time).as_secs_f64() * 1e6;
        let more: Vec<f64> =
            after.iter().zip(before).map(|(after, before)| (after - before) as f64).collect();
        let each = time / more.iter().sum::<f64>();
        (more.iter().map(|more| more / seconds).collect(), each)
    }
}

pub(crate) fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processes that are killed when they are no longer needed.
#[derive(Default)]
pub(crate) struct Crew(Vec<Process<()>>);

impl Crew {
    pub(crate) fn add<W: ProcessWorker<Output = ()>>(&mut self, worker: W) {
        self.0.push(ProcessBuilder::new().daemon(true).spawn(worker).unwrap());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn processes(&self) -> &[Process<()>] {
        &self.0
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.0.iter().for_each(Process::kill);
        self.0.iter().for_each(|process| drop(process.join()));
    }
}

/// Sleeps until the process is killed.
pub(crate) fn sleep() -> ! {
    loop {
        std::thread::park();
    }
}
