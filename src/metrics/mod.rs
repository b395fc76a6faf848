//! Numbers for the facade of the crate `metrics` (feature `metrics`).
//!
//! [`publish`] passes the numbers of this process's pools, queues, actors and supervisors to the
//! recorder that the program has installed. Call it before each scrape, or every few seconds on a
//! thread or task of its own. Between two calls, a number costs only the counting: no recorder is
//! called where items pass or tasks end.
//!
//! | metric | kind | labels | what |
//! | --- | --- | --- | --- |
//! | `offspring_pool_submitted_total` | counter | `pool` | tasks that the pool has accepted, those of maps included |
//! | `offspring_pool_finished_total` | counter | `pool`, `outcome` | tasks that have ended: `returned`, `panicked`, `died`, `time_limit`, `over_memory`, `cancelled`, `stopped`, or `failed` for all other errors |
//! | `offspring_pool_restarts_total` | counter | `pool` | processes that were started to replace one |
//! | `offspring_pool_queued` | gauge | `pool` | tasks that wait for a worker |
//! | `offspring_pool_running` | gauge | `pool` | tasks that are running, or were given to the worker that will run them next |
//! | `offspring_pool_workers` | gauge | `pool` | running processes |
//! | `offspring_queue_put_total` | counter | `queue` | items that were put, by any process |
//! | `offspring_queue_got_total` | counter | `queue` | items that were taken; one that is delivered again counts again |
//! | `offspring_queue_length` | gauge | `queue` | items that were put and not taken |
//! | `offspring_queue_dead_letters` | gauge | `queue` | [dead letters](crate::queue::DeadLetter) |
//! | `offspring_actor_calls_total` | counter | `actor`, `outcome` | calls of this process that were `answered`, or `failed` |
//! | `offspring_actor_mailbox` | gauge | `actor` | items in the mailbox of an actor that this process has started |
//! | `offspring_supervisor_restarts_total` | counter | `child` | restarts of a child by a supervisor of this process |
//!
//! The labels are names: [`PoolBuilder::name`](crate::PoolBuilder::name),
//! [`QueueBuilder::name`](crate::QueueBuilder::name), the id of a supervisor's child. Objects of one
//! name are published as one, with their sum. A queue without a name is not published. Actors
//! without a [name](crate::ActorBuilder::name) are published by their type: `Counter` for
//! `Counter-1`, `Counter-2` and so on.
//!
//! A process that made a pool or queue has its numbers, whichever processes use it. A child that
//! publishes needs a recorder of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once};

use crate::pool;
use crate::queue;
use crate::sys::lock;
use crate::tally::{self, TallyKey};

/// Passes all numbers to the program's recorder: see the [module](self). Without a recorder, this
/// does nothing. It waits for no other process, and takes a few microseconds for each pool and queue.
///
/// ```
/// use std::time::Duration;
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     // Here a program installs its recorder, such as that of `metrics-exporter-prometheus`.
///     std::thread::spawn(|| {
///         loop {
///             offspring::metrics::publish();
///             std::thread::sleep(Duration::from_secs(5));
///         }
///     });
///     let pool = Pool::builder().workers(2).name("squares").build()?;
///     assert_eq!(pool.run(square::new(12))?, 144);
///     Ok(())
/// }
/// ```
pub fn publish() {
    static DESCRIBED: Once = Once::new();
    DESCRIBED.call_once(describe);
    for (TallyKey { metric, name, outcome }, count) in tally::all() {
        let label = label_of(metric);
        let counter = match outcome {
            Some(outcome) => ::metrics::counter!(metric, label => name, "outcome" => outcome),
            None => ::metrics::counter!(metric, label => name),
        };
        counter.absolute(count);
    }
    for ((metric, name), value) in gauges() {
        ::metrics::gauge!(metric, label_of(metric) => name).set(value);
    }
}

type Gauges = BTreeMap<(&'static str, String), f64>;

/// Collects the gauges of all objects. For objects that are gone, they are 0.
fn gauges() -> Gauges {
    static PUBLISHED: Mutex<Gauges> = Mutex::new(BTreeMap::new());
    let mut gauges = Gauges::new();
    let mut add = |metric, name: &str, value: u64| {
        *gauges.entry((metric, name.to_owned())).or_default() += value as f64;
    };
    for load in pool::loads() {
        add("offspring_pool_queued", &load.name, load.queued);
        add("offspring_pool_running", &load.name, load.running);
        add("offspring_pool_workers", &load.name, load.workers);
    }
    for status in queue::statuses() {
        let Some(name) = status.name() else { continue };
        if status.is_mailbox() {
            add("offspring_actor_mailbox", tally::without_number(name), status.len() as u64);
        } else if status.is_users() {
            add("offspring_queue_length", name, status.len() as u64);
            add("offspring_queue_dead_letters", name, status.dead_letters() as u64);
        }
    }
    let mut published = lock(&PUBLISHED);
    for key in published.keys() {
        gauges.entry(key.clone()).or_default();
    }
    *published = gauges.clone();
    gauges
}

/// Returns what an object's name is called in the labels of a metric.
fn label_of(metric: &str) -> &'static str {
    match metric.split('_').nth(1) {
        Some("pool") => "pool",
        Some("queue") => "queue",
        Some("actor") => "actor",
        _ => "child",
    }
}

fn describe() {
    use ::metrics::{describe_counter, describe_gauge};

    describe_counter!("offspring_pool_submitted_total", "Tasks that a pool has accepted.");
    describe_counter!("offspring_pool_finished_total", "Tasks that have ended, by outcome.");
    describe_counter!("offspring_pool_restarts_total", "Processes started to replace one.");
    describe_gauge!("offspring_pool_queued", "Tasks that wait for a worker.");
    describe_gauge!("offspring_pool_running", "Tasks that run, or run next.");
    describe_gauge!("offspring_pool_workers", "Worker processes that run.");
    describe_counter!("offspring_queue_put_total", "Items that were put.");
    describe_counter!("offspring_queue_got_total", "Items that were taken.");
    describe_gauge!("offspring_queue_length", "Items that were put and not taken.");
    describe_gauge!("offspring_queue_dead_letters", "Items that no consumer could finish.");
    describe_counter!("offspring_actor_calls_total", "Calls of this process, by outcome.");
    describe_gauge!("offspring_actor_mailbox", "Items in the mailboxes of actors.");
    describe_counter!("offspring_supervisor_restarts_total", "Restarts of a child.");
}
