//! Tasks of a pool, awaited.

use std::future::IntoFuture;
use std::time::Duration;

use offspring::Pool;
use offspring::pool::TaskError;

use super::on_tokio;

#[offspring::worker]
fn double(n: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(n % 3));
    2 * n
}

#[offspring::worker]
fn never() {
    loop {
        std::thread::park();
    }
}

#[offspring::worker]
fn crash() {
    std::process::abort();
}

#[offspring::test(timeout = "60s")]
fn hundreds_are_awaited_at_once() {
    let pool = Pool::new(2).unwrap();
    let sum = on_tokio(async {
        let tasks: Vec<_> = (0..300)
            .map(|n| tokio::spawn(pool.submit(double::new(n)).unwrap().into_future()))
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap().unwrap();
        }
        sum
    });
    assert_eq!(sum, 299 * 300);
}

#[offspring::test(timeout = "60s")]
fn another_executor_does_as_well() {
    let pool = Pool::new(2).unwrap();
    futures_executor::block_on(async {
        for n in 0..100 {
            assert_eq!(pool.submit(double::new(n)).unwrap().await.unwrap(), 2 * n);
        }
    });
}

#[offspring::test(timeout = "60s")]
fn one_that_ends_badly_says_so_to_who_awaits_it() {
    let pool = Pool::new(2).unwrap();
    on_tokio(async {
        let died = pool.submit(crash::new()).unwrap().await;
        assert!(matches!(died, Err(TaskError::Died { .. })), "{died:?}");
        let task = pool.submit(never::new()).unwrap();
        // A future that is dropped leaves the task.
        for _ in 0..3 {
            let early = tokio::time::timeout(Duration::from_millis(10), task.join_async()).await;
            assert!(early.is_err());
        }
        let (ended, also, ()) = tokio::join!(task.join_async(), task.join_async(), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            task.cancel();
        });
        let (first, second) = (ended.unwrap_err(), also.unwrap_err());
        assert!(matches!(first, TaskError::Cancelled { .. }), "{first:?}");
        assert!(matches!(second, TaskError::Taken { .. }), "{second:?}");
    });
}

#[offspring::test(timeout = "60s")]
fn the_end_of_the_pool_wakes_who_awaits() {
    let pool = Pool::new(1).unwrap();
    let tasks: Vec<_> = (0..3).map(|_| pool.submit(never::new()).unwrap()).collect();
    on_tokio(async {
        let awaiting: Vec<_> =
            tasks.into_iter().map(|task| tokio::spawn(task.into_future())).collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        pool.kill();
        for task in awaiting {
            let ended = task.await.unwrap();
            assert!(matches!(ended, Err(TaskError::Stopped { .. })), "{ended:?}");
        }
    });
}
