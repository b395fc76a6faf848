//! Tasks in, outputs out.

use std::time::Duration;

use offspring::Pool;
use offspring::pool::TaskError;

#[offspring::worker]
fn square(n: u64) -> u64 {
    n * n
}

#[offspring::worker]
fn fail_at(n: u64, bad: u64) -> u64 {
    assert!(n != bad, "this is the bad one");
    n
}

#[offspring::test(timeout = "60s")]
fn outputs_come_in_the_order_of_the_inputs() {
    let pool = Pool::new(2).unwrap();
    for count in [0, 1, 2, 7, 1000, 100_000] {
        let squares: Vec<u64> = pool.map(0..count, square::new).map(Result::unwrap).collect();
        assert_eq!(squares, (0..count).map(|n| n * n).collect::<Vec<_>>());
    }
}

#[offspring::test(timeout = "60s")]
fn unordered_outputs_are_the_same() {
    let pool = Pool::new(3).unwrap();
    let mut squares: Vec<u64> =
        pool.map_unordered(0..20_000, square::new).map(Result::unwrap).collect();
    squares.sort_unstable();
    assert_eq!(squares, (0..20_000).map(|n| n * n).collect::<Vec<_>>());
}

#[offspring::test(timeout = "60s")]
fn submitted_tasks_give_their_outputs() {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..5000).map(|n| pool.submit(square::new(n)).unwrap()).collect();
    for (n, task) in (0u64..).zip(tasks) {
        assert_eq!(task.join().unwrap(), n * n);
    }
    assert_eq!(pool.run(square::new(9)).unwrap(), 81);
}

#[offspring::test(timeout = "60s")]
fn a_panic_is_told_with_its_place_and_the_worker_stays() {
    let pool = Pool::new(1).unwrap();
    let before = pool.pids();
    let outputs: Vec<_> = pool.map(0..10, |n| fail_at::new(n, 4)).collect();
    for (n, output) in (0u64..).zip(outputs) {
        match output {
            Ok(output) => assert!(n != 4 && output == n),
            Err(TaskError::Panicked { report, pid, worker, .. }) => {
                assert_eq!(n, 4);
                assert!(report.message.contains("this is the bad one"), "{report:?}");
                assert!(report.location.unwrap().contains("basics.rs"));
                assert_eq!((pid, &*worker), (before[0], "pool-0"));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(pool.pids(), before);
}

#[offspring::test(timeout = "60s")]
fn a_timeout_of_a_join_leaves_the_task() {
    #[offspring::worker]
    fn nap(time: Duration) -> u8 {
        std::thread::sleep(time);
        7
    }
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(nap::new(Duration::from_millis(300))).unwrap();
    assert!(task.join_timeout(Duration::from_millis(10)).unwrap_err().is_timeout());
    assert_eq!(task.pid(), Some(pool.pids()[0]));
    assert_eq!(task.join_timeout(Duration::from_secs(30)).unwrap(), 7);
    assert!(matches!(task.join(), Err(TaskError::Taken { .. })));
}
