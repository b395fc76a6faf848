//! Handles that travel.

use offspring::Queue;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Request {
    number: u64,
    reply: Queue<u64>,
}

#[offspring::worker]
fn serve(requests: Queue<Request>) {
    for request in &requests {
        request.reply.put(request.number * 2).expect("the client waits");
    }
}

#[offspring::test(timeout = "20s")]
fn handles_travel_inside_items() {
    let requests = Queue::unbounded().unwrap();
    let server = serve::spawn(requests.clone()).unwrap();
    let reply = Queue::unbounded().unwrap();
    for number in 0..200 {
        requests.put(Request { number, reply: reply.clone() }).unwrap();
        assert_eq!(reply.get().unwrap(), number * 2);
    }
    requests.close().unwrap();
    server.join().unwrap();
}

#[offspring::test(timeout = "20s")]
fn a_handle_that_comes_home_is_the_queue_itself() {
    let (queues, inner) = (Queue::unbounded().unwrap(), Queue::<u64>::unbounded().unwrap());
    queues.put(inner.clone()).unwrap();
    let home = queues.get().unwrap();
    home.put(4).unwrap();
    assert_eq!(inner.get().unwrap(), 4);
}

#[offspring::worker]
fn forward(queue: Queue<u64>, depth: u32) {
    queue.put(u64::from(depth)).expect("somebody reads");
    if depth > 0 {
        forward::spawn(queue, depth - 1).unwrap().join().unwrap();
    }
}

#[offspring::test(timeout = "20s")]
fn a_child_hands_the_queue_on_to_its_own_child() {
    let queue = Queue::unbounded().unwrap();
    forward::spawn(queue.clone(), 3).unwrap().join().unwrap();
    assert!(queue.iter().eq([3, 2, 1, 0]));
}

#[offspring::test(timeout = "20s")]
fn a_handle_of_another_item_type_is_refused() {
    // What a program cannot write: the token of one type read as another's.
    #[derive(Serialize)]
    struct Outer<'a>(&'a Queue<u64>);
    #[derive(Deserialize, Debug)]
    struct Wrong(#[allow(dead_code)] Queue<String>);
    impl Serialize for Wrong {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
    let numbers = Queue::<u64>::unbounded().unwrap();
    let (tx, rx) = offspring::channel::<Lie>().unwrap();
    struct Lie(Option<Queue<u64>>, Option<Wrong>);
    impl Serialize for Lie {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            Outer(self.0.as_ref().unwrap()).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Lie {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Wrong::deserialize(deserializer).map(|wrong| Lie(None, Some(wrong)))
        }
    }
    tx.send(Lie(Some(numbers), None)).unwrap();
    let error = rx.recv().map(|lie| lie.1).unwrap_err();
    let offspring::channel::RecvError::Decode(cause) = error else { panic!("{error:?}") };
    assert!(cause.to_string().contains("another type"), "{cause}");
}

#[offspring::test(timeout = "20s")]
fn a_queue_is_debug() {
    let queue = Queue::<u64>::unbounded().unwrap();
    let text = format!("{queue:?}");
    assert!(text.contains("u64") && text.contains("owner: true"), "{text}");
}
