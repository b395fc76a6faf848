//! A storm of kills: producers and consumers die at random instants while a queue works, and their
//! histories are checked afterwards. Each process appends what it does to its own file, with one
//! `write` for each record. No record crosses a page, so a kill cannot tear it.
//!
//! `OFFSPRING_STORM_KILLS` is the number of kills of each storm (default 40), and
//! `OFFSPRING_STORM_SEED` repeats a storm.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use offspring::{JoinableQueue, Process, ProcessBuilder, Queue};
use serde::{Deserialize, Serialize};

use crate::support::{Random, storm_kills};

/// The bytes of a record.
const RECORD: usize = 16;

/// What one process did.
struct History(File);

impl History {
    fn open(path: &Path) -> History {
        History(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .expect("the history's directory is there"),
        )
    }

    fn note(&mut self, what: u8, id: u64) {
        let mut record = [what; RECORD];
        record[8..].copy_from_slice(&id.to_le_bytes());
        self.0.write_all(&record).expect("there is room for the history");
    }
}

fn read(path: &Path) -> Vec<(u8, u64)> {
    let bytes = fs::read(path).expect("each process opened its history");
    assert_eq!(bytes.len() % RECORD, 0, "a record was torn");
    bytes
        .chunks(RECORD)
        .map(|record| (record[0], u64::from_le_bytes(record[8..].try_into().unwrap())))
        .collect()
}

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

/// What became of each item.
#[derive(Default)]
pub(crate) struct Fate {
    invoked: bool,
    pub(crate) put: bool,
    got: usize,
}

pub(crate) fn fates(histories: &[PathBuf]) -> HashMap<u64, Fate> {
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    for path in histories {
        for (what, id) in read(path) {
            let fate = fates.entry(id).or_default();
            match what {
                b'p' => fate.invoked = true,
                b'o' => fate.put = true,
                _ => fate.got += 1,
            }
        }
    }
    fates
}

/// Keeps two producers and two consumers running, and kills one after the other.
pub(crate) struct Storm {
    directory: tempfile::TempDir,
    random: Random,
    pub(crate) histories: Vec<PathBuf>,
    pub(crate) running: Vec<(bool, Process<()>)>,
    pub(crate) killed_consumers: usize,
}

impl Storm {
    pub(crate) fn new() -> Storm {
        Storm {
            directory: tempfile::tempdir().unwrap(),
            random: Random::of_storm(),
            histories: Vec::new(),
            running: Vec::new(),
            killed_consumers: 0,
        }
    }

    pub(crate) fn history(&mut self) -> PathBuf {
        let path = self.directory.path().join(self.histories.len().to_string());
        History::open(&path);
        self.histories.push(path.clone());
        path
    }

    fn rage(&mut self, mut spawn: impl FnMut(bool, PathBuf, u64) -> Process<()>) {
        for n in 0..storm_kills() + 4 {
            let producer = match self.running.iter().filter(|(producer, _)| *producer).count() {
                0 => true,
                1 if self.running.len() < 3 => n % 2 == 0,
                1 => true,
                _ => false,
            };
            let history = self.history();
            let process = spawn(producer, history, n);
            self.running.push((producer, process));
            if self.running.len() < 4 {
                continue;
            }
            std::thread::sleep(Duration::from_micros(self.random.below(20_000)));
            let victim = self.random.below(4) as usize;
            let (producer, process) = self.running.swap_remove(victim);
            assert!(process.is_alive(), "{process:?} ended before it was killed");
            if self.random.below(3) == 0 {
                // Stopped first: whoever waits for it meanwhile must not hang.
                std::process::Command::new("kill")
                    .args(["-STOP", &process.pid().to_string()])
                    .status()
                    .unwrap();
                std::thread::sleep(Duration::from_micros(self.random.below(5_000)));
            }
            process.kill();
            let _ = process.join();
            self.killed_consumers += usize::from(!producer);
        }
        self.stop_producers();
    }

    pub(crate) fn stop_producers(&mut self) {
        let running = std::mem::take(&mut self.running);
        let (producers, consumers): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|(producer, _)| *producer);
        self.running = consumers;
        for (_, process) in producers {
            process.kill();
            let _ = process.join();
        }
    }

    fn finish(&mut self) {
        for (_, process) in self.running.drain(..) {
            process
                .join_timeout(Duration::from_secs(60))
                .expect("a consumer ends with its closed queue");
        }
    }

    /// Nothing is lost but what was in the hands of a killed consumer, and nothing comes twice.
    pub(crate) fn check_queue(&mut self, queue: &Queue<Item>) {
        queue.close().unwrap();
        self.finish();
        let mut lost = Vec::new();
        let fates = fates(&self.histories);
        for (&id, fate) in &fates {
            assert!(fate.invoked, "{id:x} was never put");
            assert!(fate.got <= 1, "{id:x} was got {} times", fate.got);
            if fate.put && fate.got == 0 {
                lost.push(id);
            }
        }
        println!(
            "{} items, {} in the hands of {} killed consumers",
            fates.len(),
            lost.len(),
            self.killed_consumers
        );
        // A consumer that is killed between `get` and its note has been handed the item: one each
        // at most.
        assert!(lost.len() <= self.killed_consumers, "lost: {lost:x?}");
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
            assert!(!fate.put || fate.got >= 1, "{id:x} was lost");
            again += fate.got.saturating_sub(1);
        }
        println!(
            "{} items, {again} delivered again after {} killed consumers",
            fates.len(),
            self.killed_consumers
        );
        assert!(again <= self.killed_consumers, "{again} items were delivered again");
    }
}

#[offspring::test(timeout = "1200s")]
fn a_queue_loses_nothing_in_a_storm_of_kills() {
    let queue = Queue::bounded(64).unwrap();
    let mut storm = Storm::new();
    storm.rage(|producer, history, number| {
        if producer {
            ProcessBuilder::new().spawn(put::new(queue.clone(), history, number)).unwrap()
        } else {
            ProcessBuilder::new().spawn(get::new(queue.clone(), history)).unwrap()
        }
    });
    storm.check_queue(&queue);
}

#[offspring::test(timeout = "1200s")]
fn a_joinable_queue_finishes_everything_in_a_storm_of_kills() {
    let jobs = JoinableQueue::bounded(64).unwrap();
    let mut storm = Storm::new();
    storm.rage(|producer, history, number| {
        if producer {
            ProcessBuilder::new().spawn(put_jobs::new(jobs.clone(), history, number)).unwrap()
        } else {
            ProcessBuilder::new().spawn(work::new(jobs.clone(), history)).unwrap()
        }
    });
    storm.check_jobs(&jobs);
}
