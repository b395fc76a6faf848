//! Two hundred processes, a thousand receivers and some queues at one selector at once.

use std::collections::HashMap;

use offspring::channel::TryRecvError;
use offspring::queue::TryGetError;
use offspring::{Process, Queue, Receiver, Selector, Sender, channel};

use super::many::{PROCESSES, RECEIVERS, kill, raise_the_limit_of_descriptors, sleepers};
use super::{LONG, random};

const QUEUES: usize = 10;
const PLACES: u64 = (RECEIVERS + QUEUES) as u64;

/// Sends each number to the receiver or queue whose index it is.
#[offspring::worker]
fn operator(senders: Receiver<Sender<u64>>, queues: Vec<Queue<u64>>, numbers: Receiver<u64>) {
    let senders: Vec<_> = senders.iter().collect();
    for n in &numbers {
        let place = (n % PLACES) as usize;
        match senders.get(place) {
            Some(sender) => sender.send(n).expect("the test receives"),
            None => queues[place - RECEIVERS].put(n).expect("the test gets"),
        }
    }
}

enum Source {
    Process(Process<()>),
    Receiver(u64, Receiver<u64>),
    Queue(u64, Queue<u64>),
}

/// The result of taking from a source that was ready.
enum News {
    Number(u64),
    Nothing,
    End,
}

impl Source {
    fn look(&self) -> News {
        let (place, number) = match self {
            Source::Process(process) => {
                assert!(!process.is_alive());
                return News::End;
            }
            Source::Receiver(place, receiver) => match receiver.try_recv() {
                Err(TryRecvError::Empty) => return News::Nothing,
                Err(_) => return News::End,
                Ok(n) => (place, n),
            },
            Source::Queue(place, queue) => match queue.try_get() {
                Err(TryGetError::Empty) => return News::Nothing,
                Err(error) => {
                    assert!(matches!(error, TryGetError::Abandoned), "{error}");
                    return News::End;
                }
                Ok(n) => (place, n),
            },
        };
        assert_eq!(number % PLACES, *place);
        News::Number(number)
    }
}

#[offspring::worker]
fn crowd() {
    raise_the_limit_of_descriptors();
    let selector = Selector::new();
    let mut sources = HashMap::new();
    let queues: Vec<_> = (0..QUEUES).map(|_| Queue::unbounded().unwrap()).collect();
    let (carry, senders) = channel().unwrap();
    let (orders, numbers) = channel().unwrap();
    let operator = operator::spawn(senders, queues.clone(), numbers).unwrap();
    for place in 0..RECEIVERS as u64 {
        let (sender, receiver) = channel().unwrap();
        carry.send(sender).unwrap();
        sources.insert(selector.add(&receiver).unwrap(), Source::Receiver(place, receiver));
    }
    drop(carry);
    for (place, queue) in (RECEIVERS as u64..).zip(queues) {
        sources.insert(selector.add(&queue).unwrap(), Source::Queue(place, queue));
    }
    let processes = sleepers();
    let mut pids: Vec<u32> = processes.iter().map(Process::pid).collect();
    for process in processes {
        sources.insert(selector.add(&process).unwrap(), Source::Process(process));
    }
    for _ in 0..10 {
        // Some die while others get numbers; a queue is among them now and then.
        kill(&pids.split_off(pids.len() - PROCESSES / 10));
        let mut left = PROCESSES / 10;
        let mut expected: Vec<u64> = (0..100).map(|n| random() % PLACES + PLACES * n).collect();
        expected.push(PLACES * 100 + RECEIVERS as u64 + random() % QUEUES as u64);
        expected.iter().for_each(|&n| orders.send(n).unwrap());
        while left > 0 || !expected.is_empty() {
            let key = selector.ready_timeout(LONG).expect("a message or an end");
            match sources[&key].look() {
                News::Number(n) => {
                    let index =
                        expected.iter().position(|&other| other == n).expect("each comes once");
                    expected.swap_remove(index);
                }
                News::Nothing => {}
                News::End => {
                    selector.remove(key);
                    assert!(matches!(sources.remove(&key), Some(Source::Process(_))));
                    left -= 1;
                }
            }
        }
    }
    assert_eq!(sources.len(), RECEIVERS + QUEUES);
    assert_eq!(selector.try_ready(), None);
    operator.kill();
    // Its end is the end of all that only it could fill.
    while let Some(key) = selector.ready_timeout(LONG) {
        assert!(matches!(sources[&key].look(), News::End));
        selector.remove(key);
        sources.remove(&key);
    }
    assert!(sources.is_empty());
}

#[offspring::test(timeout = "120s")]
fn of_two_hundred_processes_a_thousand_receivers_and_some_queues_each_is_told() {
    crowd::spawn().unwrap().join().unwrap();
}
