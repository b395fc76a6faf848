//! A system without memory for packets: `sendmsg` fails with `ENOBUFS`. A filter of system calls
//! brings that about, for one thread.

use std::thread;
use std::time::Duration;

use offspring::{Pool, Queue, Receiver, Sender, channel};

use crate::support::spawn_asleep;

/// Whatever takes longer hangs.
const LONG: Duration = Duration::from_secs(30);

/// From now on, no packet of the calling thread finds memory. Threads that it starts inherit that,
/// but the system's memory does not stay short for ever: so the thread that tries again is started
/// before.
fn take_away_buffers() {
    let (sender, _receiver) = channel().unwrap();
    sender.send(Queue::<u8>::unbounded().unwrap()).unwrap();
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let returns = |k| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_sendmsg as u32),
        returns(libc::SECCOMP_RET_ERRNO | libc::ENOBUFS as u32),
        returns(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter is valid, and the system copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

fn starved<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let starved = || {
        take_away_buffers();
        work()
    };
    thread::scope(|scope| scope.spawn(starved).join().unwrap())
}

/// Answers a question on a thread that cannot ring.
#[offspring::worker]
fn answer(questions: Receiver<u64>, answers: Sender<u64>) {
    // From now on, both channels have a ring.
    answers.send(questions.recv().unwrap()).unwrap();
    thread::scope(|scope| {
        let answering = spawn_asleep(scope, || {
            let question = questions.recv().unwrap();
            starved(|| answers.send(question + 1)).unwrap();
        });
        answering.join().unwrap();
        // Its end would wake the receiver.
        questions.recv().unwrap();
    });
}

#[offspring::test(timeout = "60s")]
fn a_message_whose_doorbell_is_refused_is_received() {
    let (to_worker, questions) = channel().unwrap();
    let (answers, from_worker) = channel().unwrap();
    let process = answer::spawn(questions, answers).unwrap();
    to_worker.send(0).unwrap();
    assert_eq!(from_worker.recv_timeout(LONG).unwrap(), 0);
    starved(|| to_worker.send(6)).unwrap();
    assert_eq!(from_worker.recv_timeout(LONG).unwrap(), 7);
    to_worker.send(0).unwrap();
    process.join_timeout(LONG).unwrap();
}

/// Fills a channel, which makes the sender wait for room, and then receives on a thread that cannot
/// ring.
#[offspring::worker]
fn fill(numbers: Sender<Vec<u8>>, is_full: Sender<()>) {
    while numbers.try_send(vec![1; 10_000]).is_ok() {}
    thread::scope(|scope| {
        let waits = spawn_asleep(scope, || numbers.send(vec![2; 10_000]));
        is_full.send(()).unwrap();
        waits.join().unwrap().unwrap();
    });
}

#[offspring::test(timeout = "60s")]
fn a_sender_whose_doorbell_is_refused_finds_the_room() {
    let (numbers, received) = channel().unwrap();
    let (is_full, full) = channel().unwrap();
    let process = fill::spawn(numbers, is_full).unwrap();
    full.recv_timeout(LONG).unwrap();
    starved(|| while received.try_recv().is_ok() {});
    process.join_timeout(LONG).unwrap();
}

#[offspring::worker]
fn put(items: Queue<Vec<u8>>) {
    items.put(vec![0]).unwrap();
    starved(|| {
        items.put(vec![1]).unwrap();
        // It needs a packet of its own, which is refused.
        let refused = items.put(vec![2; 100_000]).unwrap_err();
        assert_eq!(refused.into_inner().len(), 100_000);
    });
    items.put(vec![3]).unwrap();
}

#[offspring::test(timeout = "60s")]
fn an_item_whose_packets_are_refused_arrives_or_comes_back() {
    let items = Queue::unbounded().unwrap();
    let process = put::spawn(items.clone()).unwrap();
    for expected in [0, 1, 3] {
        assert_eq!(items.get_timeout(LONG).unwrap(), [expected]);
    }
    process.join_timeout(LONG).unwrap();
}

#[offspring::worker]
fn task(number: u64, starves: bool) -> u64 {
    if starves {
        take_away_buffers();
    }
    number
}

#[offspring::test(timeout = "60s")]
fn tasks_whose_doorbells_are_refused_are_run() {
    let pool = Pool::new(1).unwrap();
    for number in 0..10 {
        // The worker's thread keeps the filter.
        let submitted = starved(|| pool.submit(task::new(number, number == 3)));
        assert_eq!(submitted.unwrap().join_timeout(LONG).unwrap(), number);
    }
}
