//! Queues: producers and consumers are killed.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use offspring::{JoinableQueue, Process, Queue, Sender};
use serde::{Deserialize, Serialize};

use super::{History, read};
use crate::support::{Random, Victim, patient, storm_kills};

/// Items of all sizes: mostly small, some that do not fit a ring.
#[derive(Serialize, Deserialize)]
pub(crate) struct Item {
    id: u64,
    body: Vec<u8>,
}

impl Item {
    pub(crate) fn new(id: u64) -> Item {
        let size = match id % 200 {
            0 => 100_000,
            n if n % 20 == 0 => 5_000,
            n => n as usize,
        };
        Item { id, body: vec![id as u8; size] }
    }

    fn check(&self) {
        assert!(self.body.iter().all(|&byte| byte == self.id as u8), "an item was torn");
    }
}

#[offspring::worker]
pub(crate) fn put(queue: Queue<Item>, history: PathBuf, number: u64) {
    let mut history = History::open(&history);
    for n in 0.. {
        let id = number << 32 | n;
        history.note(b'p', id);
        queue.put(Item::new(id)).expect("the owner lives");
        history.note(b'o', id);
    }
}

#[offspring::worker]
pub(crate) fn get(queue: Queue<Item>, history: PathBuf) {
    let mut history = History::open(&history);
    for item in &queue {
        history.note(b'g', item.id);
        item.check();
    }
}

#[offspring::worker]
pub(crate) fn put_jobs(jobs: JoinableQueue<Item>, history: PathBuf, number: u64) {
    let mut history = History::open(&history);
    for n in 0.. {
        let id = number << 32 | n;
        history.note(b'p', id);
        jobs.put(Item::new(id)).expect("the owner lives");
        history.note(b'o', id);
    }
}

#[offspring::worker]
pub(crate) fn work(jobs: JoinableQueue<Item>, history: PathBuf) {
    let mut history = History::open(&history);
    for job in &jobs {
        history.note(b'g', job.id);
        job.check();
        job.task_done();
    }
}

/// Creates both queues, and lives until it is killed.
#[offspring::worker]
fn own(handles: Sender<(Queue<Item>, JoinableQueue<Item>)>) {
    let queues = (Queue::bounded(64).unwrap(), JoinableQueue::bounded(64).unwrap());
    handles.send(queues).expect("the test reads");
    loop {
        std::thread::park();
    }
}

/// What became of each item.
#[derive(Default)]
pub(crate) struct Fate {
    invoked: bool,
    pub(crate) put: bool,
    /// The histories of those that got it.
    got: Vec<usize>,
}

pub(crate) fn fates(histories: &[PathBuf]) -> HashMap<u64, Fate> {
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    for (number, path) in histories.iter().enumerate() {
        for (what, id) in read(path) {
            let fate = fates.entry(id).or_default();
            match what {
                b'p' => fate.invoked = true,
                b'o' => fate.put = true,
                _ => fate.got.push(number),
            }
        }
    }
    fates
}

/// A producer or a consumer, which writes the last history that was opened before its start.
pub(crate) struct Party {
    is_producer: bool,
    history: usize,
    pub(crate) process: Process<()>,
}

/// Keeps two producers and two consumers running, and kills one after the other.
pub(crate) struct Storm {
    directory: tempfile::TempDir,
    random: Random,
    pub(crate) histories: Vec<PathBuf>,
    pub(crate) running: Vec<Party>,
    /// The histories of consumers that were killed.
    killed_consumers: HashSet<usize>,
    stops: u64,
}

impl Storm {
    pub(crate) fn new() -> Storm {
        Storm {
            directory: tempfile::tempdir().unwrap(),
            random: Random::of_storm(),
            histories: Vec::new(),
            running: Vec::new(),
            killed_consumers: HashSet::new(),
            stops: 0,
        }
    }

    /// Starts a producer or a consumer, which gets the path of its history.
    pub(crate) fn start(
        &mut self,
        is_producer: bool,
        spawn: impl FnOnce(PathBuf) -> Process<()>,
    ) -> Party {
        let history = self.histories.len();
        let path = self.directory.path().join(history.to_string());
        History::open(&path);
        self.histories.push(path.clone());
        Party { is_producer, history, process: spawn(path) }
    }

    pub(crate) fn kill(&mut self, party: Party) {
        party.process.kill();
        let _ = party.process.join();
        if !party.is_producer {
            self.killed_consumers.insert(party.history);
        }
    }

    /// Suspends the owner of the queue too, unless it is this process.
    fn rage(
        &mut self,
        owner: Option<&Process<()>>,
        mut spawn: impl FnMut(bool, PathBuf, u64) -> Process<()>,
    ) {
        for n in 0..storm_kills() + 4 {
            let producer = match self.running.iter().filter(|party| party.is_producer).count() {
                0 => true,
                1 if self.running.len() < 3 => n % 2 == 0,
                1 => true,
                _ => false,
            };
            let party = self.start(producer, |history| spawn(producer, history, n));
            self.running.push(party);
            if self.running.len() < 4 {
                continue;
            }
            // Whoever needs one that is suspended waits, and must not hang.
            let stopped = match (owner, self.random.below(5) as usize) {
                (Some(owner), 0) => Some(owner),
                (_, number) => self.running.get(number).map(|party| &party.process),
            };
            if let Some(process) = stopped {
                let victim = Victim::of(process.pid()).expect("it was not joined");
                victim.stop_for_a_while(&mut self.random);
                self.stops += 1;
            }
            self.random.sleep(20_000);
            let victim = self.running.swap_remove(self.random.below(4) as usize);
            let process = &victim.process;
            assert!(process.is_alive(), "{process:?} ended before it was killed");
            self.kill(victim);
        }
        self.stop_producers();
    }

    pub(crate) fn stop_producers(&mut self) {
        let running = std::mem::take(&mut self.running);
        for party in running {
            if party.is_producer {
                self.kill(party);
            } else {
                self.running.push(party);
            }
        }
    }

    fn finish(&mut self) {
        for party in self.running.drain(..) {
            party
                .process
                .join_timeout(Duration::from_secs(60))
                .expect("a consumer ends with its closed queue");
        }
    }

    fn report(&self, items: usize, what: &str) {
        println!(
            "{} kills, {} stops, {items} items, {what} {} killed consumers",
            storm_kills(),
            self.stops,
            self.killed_consumers.len()
        );
    }

    /// Nothing is lost but what was in the hands of a killed consumer, and nothing comes twice.
    pub(crate) fn check_queue(&mut self, queue: &Queue<Item>) {
        queue.close().unwrap();
        self.finish();
        let mut lost = Vec::new();
        let fates = fates(&self.histories);
        for (&id, fate) in &fates {
            assert!(fate.invoked, "{id:x} was never put");
            assert!(fate.got.len() <= 1, "{id:x} was got by {:?}", fate.got);
            if fate.put && fate.got.is_empty() {
                lost.push(id);
            }
        }
        self.report(fates.len(), &format!("{} in the hands of", lost.len()));
        // A consumer that is killed between `get` and its note has been handed the item: one each
        // at most.
        assert!(lost.len() <= self.killed_consumers.len(), "lost: {lost:x?}");
    }

    /// Everything is done, and only what a killed consumer had is done twice.
    pub(crate) fn check_jobs(&mut self, jobs: &JoinableQueue<Item>) {
        jobs.join_timeout(Duration::from_secs(60))
            .expect("the consumers that are left finish everything");
        jobs.close().unwrap();
        self.finish();
        let mut again = 0;
        let fates = fates(&self.histories);
        for (&id, fate) in &fates {
            assert!(fate.invoked, "{id:x} was never put");
            assert!(!fate.put || !fate.got.is_empty(), "{id:x} was lost");
            again += fate.got.len().saturating_sub(1);
            let alive = fate.got.iter().filter(|&got| !self.killed_consumers.contains(got));
            assert!(alive.count() <= 1, "{id:x} was delivered again, and nobody had died with it");
        }
        self.report(fates.len(), &format!("{again} delivered again after"));
        assert!(again <= self.killed_consumers.len(), "{again} items were delivered again");
    }
}

fn storm_of_items(owner: Option<&Process<()>>, queue: &Queue<Item>) {
    let mut storm = Storm::new();
    storm.rage(owner, |producer, history, number| {
        if producer {
            patient().spawn(put::new(queue.clone(), history, number)).unwrap()
        } else {
            patient().spawn(get::new(queue.clone(), history)).unwrap()
        }
    });
    storm.check_queue(queue);
}

fn storm_of_jobs(owner: Option<&Process<()>>, jobs: &JoinableQueue<Item>) {
    let mut storm = Storm::new();
    storm.rage(owner, |producer, history, number| {
        if producer {
            patient().spawn(put_jobs::new(jobs.clone(), history, number)).unwrap()
        } else {
            patient().spawn(work::new(jobs.clone(), history)).unwrap()
        }
    });
    storm.check_jobs(jobs);
}

#[offspring::test(timeout = "3600s")]
fn a_queue_loses_nothing_in_a_storm_of_kills() {
    storm_of_items(None, &Queue::bounded(64).unwrap());
}

#[offspring::test(timeout = "3600s")]
fn a_joinable_queue_finishes_everything_in_a_storm_of_kills() {
    storm_of_jobs(None, &JoinableQueue::bounded(64).unwrap());
}

#[offspring::test(timeout = "3600s")]
fn queues_whose_owner_is_suspended_lose_nothing_in_a_storm_of_kills() {
    let (handles, received) = offspring::channel().unwrap();
    let owner = patient().spawn(own::new(handles)).unwrap();
    let (queue, jobs) = received.recv().unwrap();
    storm_of_items(Some(&owner), &queue);
    storm_of_jobs(Some(&owner), &jobs);
    owner.kill();
    owner.join().unwrap_err();
}
