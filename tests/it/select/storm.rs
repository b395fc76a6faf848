//! Processes that send, and are suspended and killed at random, while one thread waits for all of
//! them. `OFFSPRING_STORM_KILLS` is the number of their lives (default 40).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use offspring::channel::TryRecvError;
use offspring::{
    Connection, ExitReason, JoinError, Process, Receiver, Selector, Sender, channel, pipe,
};

use super::{LONG, random};
use crate::support::{Random, Victim, patient, storm_kills};

const AT_ONCE: usize = 12;

/// Counts up, with pauses of all lengths; ends by itself, or waits for what never comes.
#[offspring::worker]
fn chatter(numbers: Sender<u64>, never: Connection<(), ()>, seed: u64) -> u64 {
    let count = seed % 50;
    for n in 0..count {
        numbers.send(n).expect("the test receives");
        match seed.rotate_left(n as u32) % 8 {
            0 => std::thread::sleep(Duration::from_micros(seed % 3000)),
            1 => std::thread::yield_now(),
            _ => {}
        }
    }
    if seed % 3 == 0 {
        let _ = never.recv();
    }
    count
}

struct Life {
    process: Process<u64>,
    numbers: Receiver<u64>,
    /// Keeps the child waiting.
    _never: Connection<(), ()>,
    next: u64,
    /// To be killed then.
    end: Instant,
    ended: bool,
    drained: bool,
}

#[derive(Clone, Copy)]
enum Part {
    Process,
    Numbers,
}

struct Storm {
    selector: Selector,
    lives: HashMap<u64, Life>,
    keys: HashMap<usize, (u64, Part)>,
    started: u64,
}

impl Storm {
    fn start(&mut self) {
        let (sender, numbers) = channel().unwrap();
        let (ours, theirs) = pipe().unwrap();
        let process = patient().spawn(chatter::new(sender, theirs, random())).unwrap();
        if random() % 2 == 0 {
            // It may have ended by itself. If it is alive still, it was it that was found.
            if let Some(victim) = Victim::of(process.pid()).filter(|_| process.is_alive()) {
                victim.stop_for_a_while(&mut Random::new(random()));
            }
        }
        let id = self.started;
        self.started += 1;
        self.keys.insert(self.selector.add(&process).unwrap(), (id, Part::Process));
        self.keys.insert(self.selector.add(&numbers).unwrap(), (id, Part::Numbers));
        let life = Life {
            process,
            numbers,
            _never: ours,
            next: 0,
            end: Instant::now() + Duration::from_micros(random() % 30_000),
            ended: false,
            drained: false,
        };
        self.lives.insert(id, life);
    }

    /// Kills those whose time has come; when the next one's comes.
    fn kill(&self) -> Duration {
        let now = Instant::now();
        let alive = self.lives.values().filter(|life| !life.ended);
        let mut next = LONG;
        for life in alive {
            match life.end.checked_duration_since(now) {
                None => life.process.kill(),
                Some(left) => next = next.min(left),
            }
        }
        next
    }

    fn told(&mut self, key: usize) {
        let (id, part) = self.keys[&key];
        let life = self.lives.get_mut(&id).expect("what is removed is not told");
        let over = match part {
            Part::Process => {
                assert!(!life.ended, "its end was told twice");
                life.ended = true;
                match life.process.join() {
                    Ok(count) => assert!(life.next <= count),
                    Err(JoinError::Ended { reason, .. }) => {
                        assert!(matches!(reason, ExitReason::Killed { .. }), "{reason:?}")
                    }
                    Err(other) => panic!("{other}"),
                }
                true
            }
            Part::Numbers => match life.numbers.try_recv() {
                Ok(n) => {
                    assert_eq!(n, life.next, "a message was lost, or came twice");
                    life.next += 1;
                    false
                }
                Err(TryRecvError::Empty) => false,
                Err(_) => {
                    life.drained = true;
                    true
                }
            },
        };
        if over {
            self.selector.remove(key);
            self.keys.remove(&key);
        }
        if life.ended && life.drained {
            if let Ok(count) = life.process.join() {
                assert_eq!(life.next, count, "it returned, so all that it sent is here");
            }
            self.lives.remove(&id);
        }
    }
}

#[offspring::test(timeout = "3600s")]
fn whoever_dies_is_told_and_so_is_what_he_sent() {
    let mut storm = Storm {
        selector: Selector::new(),
        lives: HashMap::new(),
        keys: HashMap::new(),
        started: 0,
    };
    let lives = storm_kills();
    loop {
        while storm.started < lives && storm.lives.len() < AT_ONCE {
            storm.start();
        }
        if storm.lives.is_empty() {
            break;
        }
        let patience = storm.kill();
        let before = Instant::now();
        match storm.selector.ready_timeout(patience) {
            Some(key) => storm.told(key),
            None => {
                assert!(before.elapsed() < LONG, "{} lives, and nothing happens", storm.lives.len())
            }
        }
    }
    assert!(storm.selector.is_empty() && storm.keys.is_empty());
}
