//! The numbers that a recorder gets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use offspring::supervisor::ChildSpec;
use offspring::{JoinableQueue, Pool, Queue, Receiver, Supervisor, channel};

use crate::support::eventually;

/// Keeps the last value of each metric, and the names of those that were described.
#[derive(Clone, Default)]
struct Memory {
    values: Arc<Mutex<BTreeMap<String, f64>>>,
    described: Arc<Mutex<Vec<String>>>,
}

struct Value {
    key: String,
    memory: Memory,
}

impl CounterFn for Value {
    fn increment(&self, _: u64) {
        panic!("counts are absolute");
    }

    fn absolute(&self, value: u64) {
        let mut values = self.memory.values.lock().unwrap();
        let before = values.insert(self.key.clone(), value as f64).unwrap_or_default();
        assert!(before <= value as f64, "{} fell", self.key);
    }
}

impl GaugeFn for Value {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.memory.values.lock().unwrap().insert(self.key.clone(), value);
    }
}

impl Memory {
    /// `name{label}` and `name{label,label}`.
    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let key = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::new(Value { key, memory: self.clone() })
    }

    fn described(&self, name: &KeyName) {
        self.described.lock().unwrap().push(name.as_str().to_owned());
    }

    /// Publishes, and returns the value of a metric.
    fn get(&self, key: &str) -> f64 {
        offspring::metrics::publish();
        self.values.lock().unwrap().get(key).copied().unwrap_or(-1.0)
    }
}

impl Recorder for Memory {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described(&key);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described(&key);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[offspring::worker]
fn work(n: u64, go: Receiver<u64>) -> u64 {
    match n {
        1 => panic!("on purpose"),
        2 => std::process::abort(),
        _ => go.recv().unwrap(),
    }
}

#[offspring::worker]
fn take(jobs: JoinableQueue<u64>, items: Queue<u64>, upto: u64) {
    for _ in 0..upto {
        items.get().unwrap();
        jobs.get().unwrap().task_done();
    }
}

#[offspring::worker]
fn fail(go: Queue<u64>) {
    let _ = go.get();
    std::process::exit(3);
}

struct Counter1(u64);

#[offspring::actor]
impl Counter1 {
    fn start(value: u64) -> Self {
        Counter1(value)
    }

    pub fn add(&mut self, n: u64) -> u64 {
        self.0 = self.0.checked_add(n).expect("there is room");
        self.0
    }
}

/// In a process of its own, because a process has one recorder.
#[offspring::worker]
fn observe() {
    let memory = Memory::default();
    metrics::set_global_recorder(memory.clone()).unwrap_or_else(|_| panic!("there is none yet"));
    pools(&memory);
    queues(&memory);
    actors(&memory);
    supervisors(&memory);
    // Each metric is described, once.
    let mut described = memory.described.lock().unwrap().clone();
    described.sort_unstable();
    let values = memory.values.lock().unwrap();
    let mut published: Vec<&str> =
        values.keys().map(|key| key.split('{').next().unwrap()).collect();
    published.dedup();
    assert_eq!(described, published);
}

fn pools(memory: &Memory) {
    let pool = Pool::builder().workers(1).name("render").build().unwrap();
    let mut gone = Vec::new();
    let mut submit = |n| {
        let (go, wait) = channel().unwrap();
        gone.push(go);
        pool.submit(work::new(n, wait)).unwrap()
    };
    for n in [1, 2] {
        assert!(submit(n).join().is_err());
    }
    let (running, cancelled, last) = (submit(3), submit(4), submit(5));
    eventually("it runs", || running.pid().is_some());
    cancelled.cancel();
    assert!(cancelled.join().is_err());
    assert_eq!(memory.get("offspring_pool_submitted_total{pool=render}"), 5.0);
    assert_eq!(memory.get("offspring_pool_queued{pool=render}"), 1.0);
    assert_eq!(memory.get("offspring_pool_running{pool=render}"), 1.0);
    assert_eq!(memory.get("offspring_pool_workers{pool=render}"), 1.0);
    gone[2].send(7).unwrap();
    gone[4].send(7).unwrap();
    assert_eq!(running.join().unwrap() + last.join().unwrap(), 14);
    for (outcome, count) in
        [("returned", 2.0), ("panicked", 1.0), ("died", 1.0), ("cancelled", 1.0), ("stopped", 0.0)]
    {
        let key = format!("offspring_pool_finished_total{{pool=render,outcome={outcome}}}");
        assert_eq!(memory.get(&key), count, "{outcome}");
    }
    assert_eq!(memory.get("offspring_pool_restarts_total{pool=render}"), 1.0);
    drop(pool);
    assert_eq!(memory.get("offspring_pool_workers{pool=render}"), 0.0);
    // Another one of that name continues the counts.
    let pool = Pool::builder().workers(1).name("render").build().unwrap();
    assert_eq!(pool.map([1, 1], |n| work::new(n, channel().unwrap().1)).count(), 2);
    assert_eq!(memory.get("offspring_pool_submitted_total{pool=render}"), 7.0);
}

fn queues(memory: &Memory) {
    let items = Queue::builder().name("items").build().unwrap();
    let jobs = JoinableQueue::builder().name("jobs").max_deliveries(1).build().unwrap();
    items.put_all(0..10).unwrap();
    jobs.put_all(0..10).unwrap();
    take::spawn(jobs.clone(), items.clone(), 4).unwrap().join().unwrap();
    assert_eq!(items.get().unwrap(), 4);
    drop(jobs.get().unwrap()); // not done, and not delivered again
    for queue in ["items", "jobs"] {
        let get = |metric: &str| memory.get(&format!("offspring_queue_{metric}{{queue={queue}}}"));
        // What the process took is known when its end is.
        eventually("all is counted", || get("got_total") == 5.0);
        assert_eq!((get("put_total"), get("length")), (10.0, 5.0), "{queue}");
    }
    assert_eq!(memory.get("offspring_queue_dead_letters{queue=jobs}"), 1.0);
    drop((items, jobs));
    // Its handle in the process that took is released when its end is known.
    eventually("it is gone", || memory.get("offspring_queue_length{queue=items}") == 0.0);
}

fn actors(memory: &Memory) {
    let counter = Counter1::spawn(u64::MAX - 3).unwrap();
    for _ in 0..3 {
        counter.add(1).unwrap();
    }
    assert!(counter.add(1).is_err());
    let get = |outcome| {
        memory.get(&format!("offspring_actor_calls_total{{actor=Counter1,outcome={outcome}}}"))
    };
    assert_eq!((get("answered"), get("failed")), (3.0, 1.0));
    assert_eq!(memory.get("offspring_actor_mailbox{actor=Counter1}"), 0.0);
}

fn supervisors(memory: &Memory) {
    let go = Queue::unbounded().unwrap();
    let given = go.clone();
    let child = ChildSpec::worker_with("worker", move |_| fail::new(given.clone()));
    let supervisor = Supervisor::builder().intensity(10).child(child).start().unwrap();
    go.put_all([1, 2]).unwrap();
    let key = "offspring_supervisor_restarts_total{child=worker}";
    eventually("it was restarted twice", || memory.get(key) == 2.0);
    supervisor.stop();
}

#[offspring::test(timeout = "60s")]
fn a_recorder_gets_the_numbers_of_pools_queues_actors_and_supervisors() {
    observe::spawn().unwrap().join().unwrap();
}
