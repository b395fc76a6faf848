//! Messages sent by tasks.

use std::time::Duration;

use offspring::channel::SendError;
use offspring::{Connection, Receiver, channel, pipe};

use super::{moment, on_tokio, rounds};
use crate::support::suspend;

#[offspring::worker]
fn receive_slowly(numbers: Receiver<(u64, Vec<u8>)>) -> Vec<u64> {
    let slowly = |(n, filling): (u64, Vec<u8>)| {
        assert!(filling.iter().all(|&byte| byte == n as u8));
        std::thread::sleep(Duration::from_micros(n % 50));
        n
    };
    numbers.iter().map(slowly).collect()
}

/// As long as a few hundred fill the ring, and now and then a long one.
fn filling(n: u64) -> Vec<u8> {
    vec![n as u8; if n % 64 == 63 { 3 << 20 } else { (n % 8) as usize * 400 }]
}

#[offspring::test(timeout = "600s")]
fn a_future_that_is_dropped_has_sent_nothing() {
    let (sender, numbers) = channel().unwrap();
    let process = receive_slowly::spawn(numbers).unwrap();
    let sent = on_tokio(async {
        let mut sent = Vec::new();
        for n in 0..rounds() * 2 {
            tokio::select! {
                biased;
                outcome = sender.send_async((n, filling(n))) => {
                    outcome.unwrap();
                    sent.push(n);
                }
                () = moment(n) => {}
            }
        }
        sent
    });
    drop(sender);
    assert_eq!(process.join().unwrap(), sent);
}

#[offspring::worker]
fn echo(connection: Connection<Vec<u8>, Vec<u8>>) {
    while let Ok(message) = connection.recv() {
        if connection.send(message).is_err() {
            return;
        }
    }
}

#[offspring::test(timeout = "60s")]
fn while_one_task_waits_for_a_receiver_that_is_stopped_others_run() {
    let (ours, theirs) = pipe().unwrap();
    let process = echo::spawn(theirs).unwrap();
    on_tokio(async {
        ours.send_async(vec![0; 10]).await.unwrap();
        assert_eq!(ours.recv_async().await.unwrap(), vec![0; 10]);
        suspend(process.pid());
        // The ring is full after some, then it waits.
        let fill = async {
            let mut sent = 0u64;
            loop {
                match ours.send_async(vec![1; 10_000]).await {
                    Ok(()) => sent += 1,
                    Err(error) => return (sent, error),
                }
            }
        };
        let ((sent, error), ()) = tokio::join!(fill, async {
            // Polled after the other future, which has filled the ring and waits by now.
            process.kill();
        });
        assert!(sent > 5, "{sent}");
        assert!(matches!(error, SendError::Disconnected(message) if message.len() == 10_000));
    });
}

#[offspring::test(timeout = "60s")]
fn another_executor_does_as_well() {
    let (ours, theirs) = pipe().unwrap();
    let process = echo::spawn(theirs).unwrap();
    futures_executor::block_on(async {
        for length in [0, 1, 1000, 40_000, 5 << 20, 80 << 20] {
            ours.send_async(vec![7; length]).await.unwrap();
            assert_eq!(ours.recv_async().await.unwrap().len(), length);
        }
        drop(ours);
        process.join_async().await.unwrap();
    });
}
