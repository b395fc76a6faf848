//! Values as large as a value may be.

use offspring::channel::SendError;
use offspring::queue::PutError;
use offspring::{Connection, JoinableQueue, Queue, message_limit};

type Facts = (usize, u8);

fn facts(value: &[u8]) -> Facts {
    (value.len(), value.last().copied().unwrap_or_default())
}

fn value(length: usize) -> Vec<u8> {
    let mut value = vec![1; length];
    value[length - 1] = 7;
    value
}

#[offspring::worker]
fn weigh(values: Queue<Vec<u8>>, found: Queue<Facts>) {
    for value in &values {
        found.put(facts(&value)).expect("the test reads");
    }
}

#[offspring::worker]
fn weigh_sent(connection: Connection<Facts, Vec<u8>>) {
    while let Ok(value) = connection.recv() {
        connection.send(facts(&value)).expect("the test receives");
    }
}

#[offspring::worker]
fn make(length: usize) -> Vec<u8> {
    value(length)
}

#[offspring::test(timeout = "120s")]
#[ignore = "takes 7 GiB of memory; run it alone"]
fn values_of_all_but_two_gibibytes_cross_and_larger_ones_come_back() {
    // The length of the bytes themselves takes a few more.
    let (most, too_much) = (message_limit() - 16, message_limit());
    let (values, found) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let process = weigh::spawn(values.clone(), found.clone()).unwrap();
    for length in [(1 << 30) + 5, most] {
        values.put(value(length)).unwrap();
        assert_eq!(found.get().unwrap(), (length, 7));
    }
    let Err(PutError::Encode(back, error)) = values.put(value(too_much)) else {
        panic!("it is too long")
    };
    assert!(
        back.len() == too_much && error.to_string().contains("bytes that are allowed"),
        "{error}"
    );
    values.close().unwrap();
    process.join().unwrap();

    let jobs = JoinableQueue::unbounded().unwrap();
    jobs.put(back[..most].to_vec()).unwrap();
    drop(back);
    // Given back, and got again.
    drop(jobs.get().unwrap());
    let job = jobs.get().unwrap();
    assert_eq!((facts(&job), job.attempt()), ((most, 1), 2));
    job.task_done();
    jobs.join().unwrap();

    let (near, far) = offspring::pipe().unwrap();
    let process = weigh_sent::spawn(far).unwrap();
    near.send(value(most)).unwrap();
    assert_eq!(near.recv().unwrap(), (most, 7));
    assert!(
        matches!(near.send(value(too_much)), Err(SendError::Encode(back, _)) if back.len() == too_much)
    );
    drop(near);
    process.join().unwrap();

    assert_eq!(facts(&make::spawn(most).unwrap().join().unwrap()), (most, 7));
    let error = make::spawn(too_much).unwrap().join().unwrap_err();
    assert!(error.to_string().contains("bytes that are allowed"), "{error}");
}
