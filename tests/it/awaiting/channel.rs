//! Messages.

use std::time::Duration;

use offspring::channel::RecvError;
use offspring::{Connection, Receiver, Sender, channel, pipe};

use super::on_tokio;

#[offspring::worker]
fn switchboard(senders: Receiver<Sender<u64>>, numbers: Receiver<u64>) {
    let senders: Vec<_> = senders.iter().collect();
    for n in &numbers {
        senders[n as usize % senders.len()].send(n).expect("the test receives");
    }
}

/// A thousand tasks, each with a receiver of its own; the messages come in an order that has
/// nothing to do with theirs.
#[offspring::worker]
fn a_thousand_tasks() {
    let pid = std::process::id().to_string();
    // Where the limit is high enough, or cannot be raised, the test itself says so.
    let _ = std::process::Command::new("prlimit").args(["--pid", &pid, "--nofile=16384:"]).status();
    let (carry, senders) = channel().unwrap();
    let (orders, numbers) = channel().unwrap();
    let process = switchboard::spawn(senders, numbers).unwrap();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let all = tasks.run_until(async {
        let tasks: Vec<_> = (0..1000)
            .map(|_| {
                let (sender, receiver) = channel::<u64>().unwrap();
                carry.send(sender).unwrap();
                tokio::task::spawn_local(async move {
                    let mut got = Vec::new();
                    loop {
                        match receiver.recv_async().await {
                            Ok(n) => got.push(n),
                            Err(RecvError::Disconnected) => return got,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        drop(carry);
        // All wait now.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        let before = threads();
        for n in 0..5000 {
            orders.send((n * 7919) % 5000).unwrap();
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(threads(), before, "a wait must cost no thread");
        // The end comes once all was received, also by kill -9.
        drop(orders);
        process.join_async().await.unwrap();
        let mut all = Vec::new();
        for (index, task) in tasks.into_iter().enumerate() {
            let got = task.await.unwrap();
            assert!(got.iter().all(|n| n % 1000 == index as u64));
            all.extend(got);
        }
        all
    });
    let mut all = runtime.block_on(all);
    all.sort();
    assert!(all.into_iter().eq(0..5000));
}

#[offspring::test(timeout = "60s")]
fn a_thousand_tasks_await_on_one_thread() {
    a_thousand_tasks::spawn().unwrap().join().unwrap();
}

#[offspring::worker]
fn echo(connection: Connection<u64, u64>) {
    while let Ok(n) = connection.recv() {
        connection.send(n).expect("the test receives");
    }
}

#[offspring::test(timeout = "20s")]
fn a_connection_ends_when_its_peer_is_killed() {
    let (ours, theirs) = pipe().unwrap();
    let process = echo::spawn(theirs).unwrap();
    on_tokio(async {
        for n in 0..1000 {
            ours.send(n).unwrap();
            assert_eq!(ours.recv_async().await.unwrap(), n);
        }
        let (received, ()) = tokio::join!(ours.recv_async(), async {
            // Polled after the other future, which waits by now.
            process.kill();
        });
        assert!(matches!(received, Err(RecvError::Disconnected)));
    });
}

#[offspring::test(timeout = "20s")]
fn two_tasks_and_a_thread_share_a_receiver() {
    let (sender, receiver) = channel().unwrap();
    let process = count::spawn(sender, 5000).unwrap();
    let total = std::thread::scope(|scope| {
        let thread = scope.spawn(|| receiver.iter().count());
        let task = async || {
            let mut count = 0;
            while receiver.recv_async().await.is_ok() {
                count += 1;
            }
            count
        };
        let tasks = on_tokio(async { tokio::join!(task(), task()) });
        thread.join().unwrap() + tasks.0 + tasks.1
    });
    assert_eq!(total, 5000);
    process.join().unwrap();
}

#[offspring::worker]
fn count(numbers: Sender<u64>, upto: u64) {
    for n in 0..upto {
        numbers.send(n).expect("the test receives");
        if n % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[offspring::test(timeout = "20s")]
fn another_executor_does_as_well() {
    let (sender, receiver) = channel().unwrap();
    let process = count::spawn(sender, 500).unwrap();
    pollster::block_on(async {
        for n in 0..500 {
            assert_eq!(receiver.recv_async().await.unwrap(), n);
        }
        assert!(matches!(receiver.recv_async().await, Err(RecvError::Disconnected)));
        process.join_async().await.unwrap();
    });
}
