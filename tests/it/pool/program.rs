//! Faults in the program itself, where it encodes, decodes and maps: the pool causes no further
//! damage, and leaves nothing behind.

use std::panic::{AssertUnwindSafe, catch_unwind};

use offspring::pool::TaskError;
use offspring::{JoinError, Pool, Sender, channel};

use super::crashes::{Carry, Fault, Mine, Stage, double, is_signal};
use crate::support::{eventually, is_running};

const ENDS: [Fault; 4] = [Fault::Exit, Fault::FastExit, Fault::Segfault, Fault::Abort];

/// The fault strikes in a stage of a task that this process does, or (`None`) where a map makes its
/// tasks. Returns what the pool did if the fault did not strike.
#[offspring::worker]
fn program(stage: Option<Stage>, fault: Fault, pids: Sender<Vec<u32>>) -> String {
    let pool = Pool::new(2).unwrap();
    pids.send(pool.pids()).expect("the test receives");
    match stage {
        Some(stage) => format!("{:?}", pool.run(Carry(Mine { fault, stage }))),
        None => {
            let outputs: Vec<_> = pool.map(0..100, |n| struck_at(50, n, fault)).collect();
            format!("{outputs:?}")
        }
    }
}

fn struck_at(place: u64, n: u64, fault: Fault) -> double {
    if n == place {
        fault.strike();
    }
    double::new(n)
}

#[offspring::test(timeout = "120s")]
fn a_program_that_ends_in_the_middle_takes_its_workers_along() {
    for stage in [Some(Stage::EncodeValue), Some(Stage::DecodeOutput), None] {
        for fault in ENDS {
            let (sender, pids) = channel().unwrap();
            let ended = match program::spawn(stage, fault, sender).unwrap().join() {
                Err(ended) => ended,
                Ok(survived) => panic!("{stage:?} {fault:?} did not strike: {survived}"),
            };
            let JoinError::Ended { reason, .. } = &ended else {
                panic!("{stage:?} {fault:?}: {ended:?}")
            };
            let as_expected = match fault {
                Fault::Exit => *reason == offspring::ExitReason::Exited(42),
                Fault::FastExit => is_signal(reason, 9),
                Fault::Segfault => is_signal(reason, 11),
                _ => is_signal(reason, 6),
            };
            assert!(as_expected, "{stage:?} {fault:?}: {reason}");
            for pid in pids.recv().unwrap() {
                eventually("its workers are gone", || !is_running(pid));
            }
        }
    }
}

#[offspring::test(timeout = "60s")]
fn a_fault_where_tasks_are_made_costs_that_one() {
    let pool = Pool::new(2).unwrap();
    // An error there is a value that does not encode.
    let carry = |n| {
        let fault = if n == 5 { Fault::Error } else { Fault::None };
        Carry(Mine { fault, stage: Stage::EncodeValue })
    };
    let outputs: Vec<_> = pool.map(0..10, carry).collect();
    for (n, output) in outputs.into_iter().enumerate() {
        match output {
            Ok(_) => assert_ne!(n, 5),
            Err(error) => {
                assert!(n == 5 && matches!(error, TaskError::Unsendable { .. }), "{n}: {error}")
            }
        }
    }
    let mut outputs = Vec::new();
    let mut map = pool.map(0..10, |n| struck_at(5, n, Fault::Panic));
    let panic = catch_unwind(AssertUnwindSafe(|| outputs.extend(map.by_ref().map(Result::unwrap))));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "struck");
    assert_eq!(outputs, [0, 2, 4, 6, 8]);
    drop(map);
    assert_eq!(pool.run(double::new(4)).unwrap(), 8);
}

/// Bytes of memory that this process has in use.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// `OFFSPRING_MAP_INPUTS` is their number (default 300,000).
#[offspring::test(timeout = "600s")]
fn a_long_map_runs_in_flat_memory() {
    let inputs = std::env::var("OFFSPRING_MAP_INPUTS")
        .map_or(300_000, |inputs| inputs.parse().expect("OFFSPRING_MAP_INPUTS is a number"));
    let pool = Pool::new(2).unwrap();
    pool.map(0..50_000u64, double::new).for_each(|output| assert!(output.is_ok()));
    let memory =
        || resident() + pool.stats().workers.iter().filter_map(|worker| worker.memory).sum::<u64>();
    let (before, mut most, mut sum) = (memory(), 0, 0);
    for (n, output) in pool.map(0..inputs, double::new).enumerate() {
        sum += output.unwrap();
        if n % 10_000 == 0 {
            most = most.max(memory());
        }
    }
    assert_eq!(sum, inputs * (inputs - 1));
    println!("{inputs} inputs: {} KiB more at most", most.saturating_sub(before) >> 10);
    assert!(most < before + (16 << 20), "it grew from {before} to {most}");
}
