//! Processes of a program that runs on an async runtime.

use offspring::{JoinError, Process};

use super::stage::{answer, sleeper};

/// Joins on a thread that may block.
async fn join<T: serde::de::DeserializeOwned + Send + 'static>(
    process: Process<T>,
) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(move || process.join()).await.unwrap()
}

#[offspring::test(timeout = "20s")]
#[tokio::main(flavor = "current_thread")]
async fn a_runtime_of_one_thread_goes_on_while_children_run() {
    let children = [answer::spawn().unwrap(), answer::spawn().unwrap()];
    let lasting = sleeper::spawn().unwrap();
    let [first, second] = children.map(|child| tokio::spawn(join(child)));
    let mut turns = 0;
    // The runtime's only thread has time for others meanwhile.
    while !(first.is_finished() && second.is_finished()) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        turns += 1;
    }
    assert_eq!((first.await.unwrap().unwrap(), second.await.unwrap().unwrap()), (42, 42));
    assert!(turns > 0 && lasting.is_alive());
    lasting.kill();
    assert!(join(lasting).await.is_err());
}

#[offspring::worker]
fn on_a_runtime_of_its_own(n: u32) -> u32 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let children =
            (0..n).map(|_| tokio::spawn(async { join(answer::spawn().unwrap()).await.unwrap() }));
        let mut sum = 0;
        for child in children.collect::<Vec<_>>() {
            sum += child.await.unwrap();
        }
        sum
    })
}

#[offspring::test(timeout = "20s")]
#[tokio::main]
async fn workers_have_runtimes_and_start_children_from_their_tasks() {
    let process = tokio::spawn(async { on_a_runtime_of_its_own::spawn(4).unwrap() }).await.unwrap();
    assert_eq!(join(process).await.unwrap(), 4 * 42);
}
