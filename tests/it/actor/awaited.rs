//! Calls of tasks.

use std::task::{Context, Poll, Waker};
use std::time::Instant;

use offspring::Queue;
use offspring::actor::{ActorBuilder, ActorRef, CallError, DownReason, spawn};
use offspring::supervisor::{ChildSpec, Supervisor};

use super::{Counter, LONG, Message, Reply, SHORT, Setup};

fn block_on<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(task)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[offspring::test(timeout = "30s")]
fn calls_of_many_tasks_get_their_own_replies() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let call = counter.call_async(Message::Text(n.to_string()));
                tokio::spawn(async move { (n, call.await) })
            })
            .collect();
        for task in tasks {
            let (n, reply) = task.await.unwrap();
            assert_eq!(reply.unwrap().text(), n.to_string());
        }
    });
}

#[offspring::worker]
fn call_both_ways(counter: ActorRef<Counter>, calls: u64) {
    std::thread::scope(|scope| {
        let blocking = (0..2).map(|_| counter.clone());
        for counter in blocking {
            scope.spawn(move || {
                for n in 0..calls {
                    assert_eq!(
                        counter.call(Message::Text(n.to_string())).expect("it lives").text(),
                        n.to_string()
                    );
                }
            });
        }
        block_on(async {
            for n in 0..calls {
                let (a, b) = tokio::join!(
                    counter.call_async(Message::Text(format!("a {n}"))),
                    counter.call_async(Message::Text(format!("b {n}")))
                );
                assert_eq!(
                    (a.expect("it lives").text(), b.expect("it lives").text()),
                    (format!("a {n}"), format!("b {n}"))
                );
                if n % 10 == 0 {
                    counter.cast(Message::Add(1)).expect("it lives");
                }
            }
        });
    });
}

#[offspring::test(timeout = "60s")]
fn tasks_and_threads_share_the_way_back() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let clients: Vec<_> =
        (0..2).map(|_| call_both_ways::spawn(counter.address(), 200).unwrap()).collect();
    clients.iter().for_each(|client| client.join().unwrap());
    assert_eq!(block_on(counter.call_async(Message::Get)).unwrap(), Reply::Number(40));
}

#[offspring::test(timeout = "30s")]
fn calls_that_wait_cost_no_threads_and_end_with_the_actor() {
    let counter = ActorBuilder::new().mailbox(8).spawn::<Counter>(Setup::default()).unwrap();
    let (holds, free) = (Queue::unbounded().unwrap(), Queue::<()>::unbounded().unwrap());
    counter.cast(Message::Hold(holds.clone(), free.clone())).unwrap();
    holds.get().unwrap();
    let patient = counter.with_timeout(LONG);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let calls: Vec<_> =
            (0..200).map(|_| tokio::spawn(patient.call_async(Message::Get))).collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let before = threads();
        assert!(before < 30, "{before} threads for 200 calls");
        counter.kill();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(error.down_reason(), Some(DownReason::Died(_))), "{error}");
        }
    });
}

#[offspring::test(timeout = "20s")]
fn a_call_of_a_task_has_a_timeout_on_any_executor() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let since = Instant::now();
    let error =
        block_on(counter.with_timeout(SHORT).call_async(Message::Hold(holds, free.clone())))
            .unwrap_err();
    // The actor is still busy, since it is freed only now.
    assert!(error.is_timeout() && since.elapsed() >= SHORT, "{error}");
    free.close().unwrap();
    // The late reply does not answer the next call.
    assert_eq!(
        block_on(counter.call_async(Message::Text("next".to_owned()))).unwrap().text(),
        "next"
    );
}

#[offspring::test(timeout = "20s")]
fn a_dropped_call_does_not_disturb_the_next() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    counter.call(Message::Get).unwrap();
    for n in 0..50 {
        let mut call = Box::pin(counter.call_async(Message::Text("lost".to_owned())));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..n % 3 {
            if let Poll::Ready(reply) = call.as_mut().poll(&mut context) {
                assert_eq!(reply.unwrap().text(), "lost");
                break;
            }
        }
        drop(call);
        assert_eq!(counter.call(Message::Text(n.to_string())).unwrap().text(), n.to_string());
    }
}

#[offspring::test(timeout = "20s")]
fn a_call_of_a_task_waits_for_a_restart() {
    let supervisor = Supervisor::builder()
        .intensity(9)
        .child(ChildSpec::actor::<Counter>("counter", Setup::default()))
        .start()
        .unwrap();
    let counter: ActorRef<Counter> = supervisor.actor("counter").unwrap();
    for _ in 0..3 {
        let error = block_on(counter.call_async(Message::Abort)).unwrap_err();
        assert!(matches!(error, CallError::Restarted { .. }), "{error}");
        assert_eq!(block_on(counter.call_async(Message::Get)).unwrap(), Reply::Number(0));
    }
    supervisor.stop();
    assert!(matches!(block_on(counter.call_async(Message::Get)), Err(CallError::Down { .. })));
}

#[offspring::worker]
fn calls_in_a_task(counter: ActorRef<Counter>, holds: Queue<()>, free: Queue<()>) -> String {
    block_on(counter.with_timeout(LONG * 10).call_async(Message::Hold(holds, free)))
        .map_or_else(|error| error.to_string(), |_| String::new())
}

#[offspring::test(timeout = "20s")]
fn a_task_of_another_process_learns_of_the_end_at_once() {
    let counter = spawn::<Counter>(Setup::default()).unwrap();
    let (holds, free) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let client = calls_in_a_task::spawn(counter.address(), holds.clone(), free.clone()).unwrap();
    holds.get().unwrap();
    counter.kill();
    // Not the timeout of its call, which ends after this test.
    assert!(client.join().unwrap().contains("SIGKILL"));
}
