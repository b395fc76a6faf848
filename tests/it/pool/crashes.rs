//! A task that ends its process, in every way and at every stage, costs exactly that task.

use std::process::Command;
use std::time::Duration;

use offspring::pool::TaskError;
use offspring::{ExitReason, Pool, ProcessWorker, Worker};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a stage goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fault {
    None,
    Error,
    Panic,
    Exit,
    FastExit,
    Segfault,
    Abort,
}

const FAULTS: [Fault; 6] =
    [Fault::Error, Fault::Panic, Fault::Exit, Fault::FastExit, Fault::Segfault, Fault::Abort];

impl Fault {
    /// Goes wrong; whether by an error.
    pub(super) fn strike(self) -> bool {
        match self {
            Fault::None => {}
            Fault::Error => return true,
            Fault::Panic => panic!("struck"),
            Fault::Exit => std::process::exit(42),
            Fault::FastExit => kill_self("fast"),
            Fault::Segfault => kill_self("SEGV"),
            Fault::Abort => std::process::abort(),
        }
        false
    }

    fn ends_process(self) -> bool {
        !matches!(self, Fault::None | Fault::Error | Fault::Panic)
    }
}

/// Without unsafe code: the shell sends the signal.
fn kill_self(how: &str) -> ! {
    let pid = std::process::id();
    let signal = if how == "fast" { "KILL" } else { how };
    // Repeats the signal until it works. The first SIGSEGV only removes Rust's handler for stack
    // overflows, and on another thread, which may be late: a second signal that arrives before the
    // first one was handled is lost.
    loop {
        let _ = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
    }
}

/// Is in every encoded [`Mine`]. This crate decodes made-up values to get to know a type, and no
/// value that would end the process may be among them.
const MARK: u32 = 0xdead;

/// A value that fails to decode or to encode only in a pool's worker, or only in the parent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mine {
    pub(super) fault: Fault,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    EncodeValue,
    DecodeValue,
    Run,
    EncodeOutput,
    DecodeOutput,
}

fn in_worker() -> bool {
    offspring::current().name().starts_with("pool-")
}

impl Serialize for Mine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let due = if in_worker() { Stage::EncodeOutput } else { Stage::EncodeValue };
        if self.stage == due && self.fault.strike() {
            return Err(serde::ser::Error::custom("struck"));
        }
        (MARK, self.fault, self.stage).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Mine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mark, fault, stage): (u32, _, _) = Deserialize::deserialize(deserializer)?;
        if mark != MARK {
            return Err(serde::de::Error::custom("made up"));
        }
        let due = if in_worker() { Stage::DecodeValue } else { Stage::DecodeOutput };
        if stage == due && Fault::strike(fault) {
            return Err(serde::de::Error::custom("struck"));
        }
        Ok(Mine { fault, stage })
    }
}

#[derive(Serialize, Deserialize, Worker)]
pub(super) struct Carry(pub(super) Mine);

impl ProcessWorker for Carry {
    type Output = Result<Mine, String>;
    fn run(self) -> Self::Output {
        if self.0.stage == Stage::Run && self.0.fault.strike() {
            return Err("struck".to_owned());
        }
        Ok(self.0)
    }
}

#[offspring::worker]
pub(super) fn double(n: u64) -> u64 {
    n * 2
}

/// The faults that this process survives at a stage.
fn faults(stage: Stage) -> Vec<Fault> {
    let here = matches!(stage, Stage::EncodeValue | Stage::DecodeOutput);
    FAULTS.into_iter().filter(|fault| !here || !fault.ends_process()).collect()
}

fn expect(stage: Stage, fault: Fault, result: Result<Result<Mine, String>, TaskError>) {
    let case = format!("{stage:?} {fault:?}: {result:?}");
    match (stage, fault, result) {
        (Stage::Run, Fault::Error, Ok(Err(message))) => assert_eq!(message, "struck", "{case}"),
        (_, Fault::None, Ok(Ok(_))) => {}
        (Stage::EncodeValue, _, Err(TaskError::Unsendable { .. })) => {}
        (Stage::DecodeValue, Fault::Error | Fault::Panic, Err(TaskError::Value { .. })) => {}
        (Stage::Run, Fault::Panic, Err(TaskError::Panicked { report, .. })) => {
            assert_eq!(report.message, "struck", "{case}")
        }
        (Stage::EncodeOutput, Fault::Error | Fault::Panic, Err(TaskError::Output { .. })) => {}
        (Stage::DecodeOutput, Fault::Error | Fault::Panic, Err(TaskError::Decode { .. })) => {}
        (_, Fault::Exit, Err(TaskError::Died { reason, .. })) => {
            assert_eq!(reason, ExitReason::Exited(42), "{case}")
        }
        (_, Fault::FastExit, Err(TaskError::Died { reason, .. })) => {
            assert!(is_signal(&reason, 9), "{case}")
        }
        (_, Fault::Segfault, Err(TaskError::Died { reason, .. })) => {
            assert!(is_signal(&reason, 11), "{case}")
        }
        (_, Fault::Abort, Err(TaskError::Died { reason, .. })) => {
            assert!(is_signal(&reason, 6), "{case}")
        }
        _ => panic!("{case}"),
    }
}

pub(super) fn is_signal(reason: &ExitReason, number: i32) -> bool {
    matches!(reason, ExitReason::Signaled { signal, .. } if *signal == number)
}

const STAGES: [Stage; 5] =
    [Stage::EncodeValue, Stage::DecodeValue, Stage::Run, Stage::EncodeOutput, Stage::DecodeOutput];

#[offspring::test(timeout = "120s")]
fn every_fault_at_every_stage_costs_its_own_task() {
    let pool = Pool::new(2).unwrap();
    for stage in STAGES {
        for fault in faults(stage) {
            expect(stage, fault, pool.run(Carry(Mine { fault, stage })));
            assert_eq!(pool.run(double::new(4)).unwrap(), 8, "after {stage:?} {fault:?}");
        }
    }
}

#[offspring::test(timeout = "120s")]
fn faults_among_many_cost_only_themselves() {
    let pool = Pool::new(2).unwrap();
    let faulty = |n: usize| (n % 40 == 17).then(|| STAGES[(n / 40) % 5]);
    let value = |n: usize| match faulty(n) {
        Some(stage) => Mine { fault: faults(stage)[(n / 200) % faults(stage).len()], stage },
        None => Mine { fault: Fault::None, stage: Stage::Run },
    };
    let outputs: Vec<_> = pool.map(0..1200, |n| Carry(value(n))).collect();
    assert_eq!(outputs.len(), 1200);
    for (n, output) in outputs.into_iter().enumerate() {
        let Mine { fault, stage } = value(n);
        expect(stage, fault, output);
    }
}

#[offspring::test(timeout = "120s")]
fn a_bad_value_comes_back_from_submit() {
    let pool = Pool::new(1).unwrap();
    for fault in [Fault::Error, Fault::Panic] {
        let stage = Stage::EncodeValue;
        let error = pool.submit(Carry(Mine { fault, stage })).unwrap_err();
        assert_eq!(error.into_inner().0.fault, fault);
    }
    assert_eq!(pool.run(double::new(4)).unwrap(), 8);
}

#[offspring::worker]
fn sleep_for(time: Duration) -> u64 {
    std::thread::sleep(time);
    1
}

fn kill(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
}

#[offspring::test(timeout = "60s")]
fn a_killed_worker_is_told_at_once() {
    let pool = Pool::new(2).unwrap();
    let other = pool.submit(sleep_for::new(Duration::from_millis(500))).unwrap();
    // Longer than this test may take.
    let task = pool.submit(sleep_for::new(Duration::from_secs(100))).unwrap();
    crate::support::eventually("it runs", || task.pid().is_some());
    let pid = task.pid().unwrap();
    kill(pid, "KILL");
    match task.join() {
        Err(TaskError::Died { pid: told, reason, .. }) => {
            assert_eq!(told, pid);
            assert!(is_signal(&reason, 9), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(other.join().unwrap(), 1);
    crate::support::eventually("it is replaced", || pool.pids().len() == 2);
    assert!(!pool.pids().contains(&pid));
}

#[offspring::test(timeout = "60s")]
fn workers_killed_while_idle_cost_nothing() {
    let pool = Pool::new(2).unwrap();
    for round in 0..20 {
        pool.pids().into_iter().for_each(|pid| kill(pid, "KILL"));
        let doubles: Vec<u64> = pool.map(0..50, double::new).map(Result::unwrap).collect();
        assert_eq!(doubles, (0..50).map(|n| n * 2).collect::<Vec<_>>(), "round {round}");
        crate::support::eventually("they are back", || pool.pids().len() == 2);
    }
}

#[offspring::test(timeout = "60s")]
fn a_task_that_always_ends_its_process_is_set_aside() {
    #[offspring::worker]
    fn poison() {
        std::process::abort();
    }
    let pool = Pool::builder().workers(2).retries(2).build().unwrap();
    let others: Vec<_> = (0..100).map(|n| pool.submit(double::new(n)).unwrap()).collect();
    match pool.run(poison::new()) {
        Err(TaskError::SetAside { crashes, task, reason, .. }) => {
            assert_eq!(crashes, 3);
            assert!(task.contains("poison"));
            assert!(is_signal(&reason, 6));
        }
        other => panic!("{other:?}"),
    }
    for (n, task) in (0u64..).zip(others) {
        assert_eq!(task.join().unwrap(), n * 2);
    }
}

#[offspring::test(timeout = "60s")]
fn a_retried_task_may_succeed() {
    #[offspring::worker]
    fn second_time(mark: std::path::PathBuf) -> u64 {
        if std::fs::write(&mark, "first").is_ok()
            && std::fs::read_to_string(mark.with_extension("seen")).is_err()
        {
            std::fs::write(mark.with_extension("seen"), "seen").unwrap();
            std::process::abort();
        }
        5
    }
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::builder().workers(1).retries(1).build().unwrap();
    assert_eq!(pool.run(second_time::new(directory.path().join("mark"))).unwrap(), 5);
}

#[offspring::test(timeout = "60s")]
fn a_panic_before_an_abort_is_not_taken_for_its_cause() {
    #[offspring::worker]
    fn panics() {
        panic!("an earlier one");
    }
    #[offspring::worker]
    fn aborts() {
        std::process::abort();
    }
    let pool = Pool::new(1).unwrap();
    assert!(matches!(pool.run(panics::new()), Err(TaskError::Panicked { .. })));
    match pool.run(aborts::new()) {
        Err(TaskError::Died { reason, .. }) => assert!(is_signal(&reason, 6), "{reason:?}"),
        other => panic!("{other:?}"),
    }
}

#[offspring::test(timeout = "60s")]
fn workers_that_kill_each_other_do_not_stop_the_map() {
    #[offspring::worker]
    fn kill_one(pids: Vec<u32>, n: usize) -> usize {
        // For a moment no worker may run: the last one was killed, and the next is being started.
        if n % 10 == 3 && !pids.is_empty() {
            kill(pids[n % pids.len()], "KILL");
        }
        n
    }
    for workers in [1, 2, 5] {
        let pool = Pool::new(workers).unwrap();
        let outputs: Vec<_> = pool.map(0..60, |n| kill_one::new(pool.pids(), n)).collect();
        assert_eq!(outputs.len(), 60);
        for (n, output) in outputs.into_iter().enumerate() {
            match output {
                Ok(output) => assert_eq!(output, n),
                Err(error) => assert!(matches!(error, TaskError::Died { .. }), "{error}"),
            }
        }
        assert_eq!(pool.run(double::new(4)).unwrap(), 8);
    }
}
