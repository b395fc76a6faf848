//! Ends of processes.

use std::time::Duration;

use offspring::{ExitReason, JoinError};

use super::{on_tokio, sleeper};

#[offspring::worker]
fn double(n: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(n % 7));
    2 * n
}

#[offspring::test(timeout = "60s")]
fn a_hundred_processes_are_awaited_at_once() {
    let sum = on_tokio(async {
        let processes: Vec<_> = (0..100).map(|n| double::spawn(n).unwrap()).collect();
        let mut sum = 0;
        for process in &processes {
            sum += process.join_async().await.unwrap();
        }
        // It can be joined again.
        assert_eq!(processes[9].join_async().await.unwrap(), 18);
        sum
    });
    assert_eq!(sum, 9900);
}

#[offspring::test(timeout = "20s")]
fn a_process_and_a_reference_to_it_can_be_awaited() {
    let process = double::spawn(4).unwrap();
    let outputs = on_tokio(async {
        let first = (&process).await.unwrap();
        [first, process.await.unwrap()]
    });
    assert_eq!(outputs, [8, 8]);
}

#[offspring::test(timeout = "20s")]
fn another_executor_does_as_well() {
    let process = double::spawn(4).unwrap();
    assert_eq!(pollster::block_on(process.join_async()).unwrap(), 8);
}

#[offspring::test(timeout = "20s")]
fn a_process_that_is_killed_while_it_is_awaited_gives_its_error() {
    let process = sleeper::spawn().unwrap();
    let error = on_tokio(async {
        let (joined, ()) = tokio::join!(process.join_async(), async {
            // Polled after the other future, which waits by now.
            process.kill();
        });
        joined.unwrap_err()
    });
    assert!(
        matches!(error, JoinError::Ended { reason: ExitReason::Killed { .. }, .. }),
        "{error:?}"
    );
}
