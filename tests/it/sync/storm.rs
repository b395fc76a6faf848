//! A storm of kills: processes take and release everything at once, are suspended for a while, and
//! die at random instants. The others find every lock free or poisoned, every permit back, and
//! every notification at one who waits.
//!
//! `OFFSPRING_STORM_KILLS` is the number of kills of each storm (default 40),
//! `OFFSPRING_STORM_SEED` repeats one.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use offspring::shared::{AtomicBool, AtomicU64};
use offspring::sync::{
    Barrier, BarrierError, BarrierTimeoutError, Condvar, Encoded, Event, LockError, Mutex,
    ReentrantMutex, RwLock, Semaphore,
};
use offspring::{Process, ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

use crate::support::{Random, Victim, patient, storm_kills};

/// Whatever takes longer hangs.
const LONG: Duration = Duration::from_secs(60);
const PERMITS: u32 = 2;

/// Everything that can be held.
#[derive(Clone, Serialize, Deserialize, Worker)]
struct Stage {
    pair: Mutex<[u64; 2]>,
    /// The process that holds `pair`, or died with it.
    pair_holder: AtomicU64,
    list: Mutex<Vec<u64>, Encoded>,
    table: RwLock<[u64; 2]>,
    deep: ReentrantMutex<[u64; 2]>,
    permits: Semaphore,
    stock: Mutex<u64>,
    changed: Condvar,
    gate: Event,
    /// The number of pairs that were seen half changed, which only a poisoned lock may show.
    torn: AtomicU64,
    seed: u64,
}

/// The pair, changed in two steps, with time to die between them.
fn change(pair: &mut [u64; 2], random: &mut Random) {
    pair[0] += 1;
    for _ in 0..random.below(200) {
        std::hint::spin_loop();
    }
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    pair[1] += 1;
}

impl Stage {
    fn new() -> Stage {
        Stage {
            pair: Mutex::new([0; 2]).unwrap(),
            pair_holder: AtomicU64::new(0).unwrap(),
            list: Mutex::encoded(vec![0]).unwrap(),
            table: RwLock::new([0; 2]).unwrap(),
            deep: ReentrantMutex::new([0; 2]).unwrap(),
            permits: Semaphore::new(PERMITS).unwrap(),
            stock: Mutex::new(0).unwrap(),
            changed: Condvar::new().unwrap(),
            gate: Event::new().unwrap(),
            torn: AtomicU64::new(0).unwrap(),
            seed: 1,
        }
    }

    fn use_pair(&self, random: &mut Random) {
        match self.pair.lock_timeout(LONG) {
            Ok(mut pair) => {
                let me = u64::from(std::process::id());
                assert_eq!(self.pair_holder.swap(me, Ordering::Relaxed), 0, "two holders");
                assert_eq!(pair[0], pair[1], "torn, and not poisoned");
                change(&mut pair, random);
                assert_eq!(self.pair_holder.swap(0, Ordering::Relaxed), me, "two holders");
            }
            Err(error) => {
                let mut pair = error.into_guard().expect("the lock of a dead process is free");
                self.pair_holder.store(0, Ordering::Relaxed);
                self.torn.fetch_add(u64::from(pair[0] != pair[1]), Ordering::Relaxed);
                pair[1] = pair[0];
                self.pair.clear_poison();
            }
        }
    }

    fn use_list(&self, random: &mut Random) {
        let mut list = match self.list.lock_timeout(LONG) {
            Ok(list) => list,
            Err(error) => {
                self.list.clear_poison();
                error.into_guard().expect("the lock of a dead process is free")
            }
        };
        // The old value or the new one, even if the lock is poisoned.
        assert!(list.iter().all(|&n| n == list[0]), "torn: {list:?}");
        let next = list[0] + 1;
        *list = vec![next; 1 + random.below(300) as usize];
    }

    fn use_table(&self, random: &mut Random) {
        if random.below(3) > 0 {
            match self.table.read_timeout(LONG) {
                Ok(table) => assert_eq!(table[0], table[1], "torn, and not poisoned"),
                Err(error) => drop(error.into_guard().expect("a dead process keeps no reader out")),
            }
            return;
        }
        match self.table.write_timeout(LONG) {
            Ok(mut table) => {
                assert_eq!(table[0], table[1], "torn, and not poisoned");
                change(&mut table, random);
            }
            Err(error) => {
                let mut table = error.into_guard().expect("a dead process keeps no writer out");
                table[1] = table[0];
                self.table.clear_poison();
            }
        }
    }

    fn use_deep(&self, random: &mut Random) {
        match self.deep.lock_timeout(LONG) {
            Ok(outer) => {
                let inner = self.deep.lock().expect("this thread has it");
                let mut pair = inner.get();
                assert_eq!(pair[0], pair[1], "torn, and not poisoned");
                change(&mut pair, random);
                inner.set([pair[0], 0]);
                inner.set(pair);
                drop(outer);
            }
            Err(error) => {
                let guard = error.into_guard().expect("the lock of a dead process is free");
                guard.set([guard.get()[0]; 2]);
                self.deep.clear_poison();
            }
        }
    }

    fn use_permits(&self, random: &mut Random) {
        let permit = self.permits.acquire_timeout(LONG).expect("the permits of the dead return");
        for _ in 0..random.below(200) {
            std::hint::spin_loop();
        }
        drop(permit);
    }

    fn use_something(&self, random: &mut Random) {
        match random.below(6) {
            0 => self.use_pair(random),
            1 => self.use_list(random),
            2 => self.use_table(random),
            3 => self.use_deep(random),
            4 => self.use_permits(random),
            _ if random.below(2) == 0 => self.gate.set(),
            _ => self.gate.clear(),
        }
    }

    /// Takes from the stock for ever. A timeout would hide a lost notification.
    fn consume(&self) {
        loop {
            let stock = self.stock.lock().or_else(LockError::into_guard).expect("the owner lives");
            let waited = self.changed.wait_while(stock, |stock| *stock == 0);
            let mut stock = waited.or_else(LockError::into_guard).expect("the owner lives");
            // If the lock is poisoned, the condition was not checked.
            *stock = stock.saturating_sub(1);
            self.stock.clear_poison();
        }
    }

    /// Adds to the stock, and waits until it is taken.
    fn feed(&self) {
        let lock = || {
            let stock = self.stock.lock_timeout(LONG);
            stock.or_else(|error| error.into_guard()).expect("the lock of a dead process is free")
        };
        for _ in 0..3 {
            *lock() += 1;
            self.changed.notify_one();
        }
        let deadline = Instant::now() + LONG;
        while *lock() > 0 {
            assert!(Instant::now() < deadline, "a notification was lost: {:?}", self.changed);
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl ProcessWorker for Stage {
    type Output = ();

    fn run(self) {
        let mut random = Random::new(self.seed);
        std::thread::scope(|scope| {
            scope.spawn(|| self.consume());
            loop {
                self.use_something(&mut random);
            }
        });
    }
}

#[offspring::test(timeout = "3600s")]
fn locks_survive_a_storm_of_storm_kills() {
    let mut random = Random::of_storm();
    let stage = Stage::new();
    let spawn = |random: &mut Random| -> Process<()> {
        let mut stage = stage.clone();
        stage.seed = random.below(u64::MAX) | 1;
        patient().spawn(stage).unwrap()
    };
    let mut running: Vec<_> = (0..3).map(|_| spawn(&mut random)).collect();
    let mut longest = [Duration::ZERO; 6];
    let mut stops = 0;
    for _ in 0..storm_kills() {
        if let Some(process) = running.get(random.below(6) as usize) {
            Victim::of(process.pid()).expect("it was not joined").stop_for_a_while(&mut random);
            stops += 1;
        }
        random.sleep(3000);
        let victim = running.swap_remove(random.below(3) as usize);
        assert!(victim.is_alive(), "{:?}", victim.join());
        victim.kill();
        for (kind, longest) in longest.iter_mut().enumerate() {
            let start = Instant::now();
            match kind {
                0 => stage.use_pair(&mut random),
                1 => stage.use_list(&mut random),
                2 => stage.use_table(&mut random),
                3 => stage.use_deep(&mut random),
                4 => stage.use_permits(&mut random),
                _ => stage.feed(),
            }
            *longest = start.elapsed().max(*longest);
        }
        victim.join().unwrap_err();
        running.push(spawn(&mut random));
    }
    for process in running {
        process.kill();
        process.join().unwrap_err();
    }
    let all =
        (0..PERMITS).map(|_| stage.permits.acquire_timeout(LONG).expect("all permits are back"));
    drop(all.collect::<Vec<_>>());
    assert_eq!(stage.permits.available(), PERMITS);
    for _ in 0..10 {
        stage.use_pair(&mut random);
        stage.use_list(&mut random);
        stage.use_table(&mut random);
        stage.use_deep(&mut random);
    }
    let rounds = stage.pair.lock().unwrap()[0];
    let torn = stage.torn.load(Ordering::Relaxed);
    println!(
        "{} kills, {stops} stops, {rounds} changes of the pair, {torn} torn; longest wait for each after a kill: {longest:?}",
        storm_kills()
    );
}

#[offspring::worker]
fn meet(barrier: Barrier, stop: AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match barrier.wait() {
            Ok(_) | Err(BarrierError::Broken) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[offspring::test(timeout = "3600s")]
fn a_barrier_never_hangs_in_a_storm_of_storm_kills() {
    let mut random = Random::of_storm();
    let (barrier, stop) = (Barrier::new(3).unwrap(), AtomicBool::new(false).unwrap());
    let spawn = || patient().spawn(meet::new(barrier.clone(), stop.clone())).unwrap();
    let mut running = vec![spawn(), spawn()];
    let mut passed = 0u64;
    for _ in 0..storm_kills() {
        if let Some(process) = running.get(random.below(4) as usize) {
            Victim::of(process.pid()).expect("it was not joined").stop_for_a_while(&mut random);
        }
        let until = Instant::now() + Duration::from_micros(random.below(3000));
        while Instant::now() < until {
            barrier.wait_timeout(LONG).expect("nobody dies now");
            passed += 1;
        }
        let victim = running.swap_remove(random.below(2) as usize);
        assert!(victim.is_alive(), "{:?}", victim.join());
        victim.kill();
        loop {
            match barrier.wait_timeout(LONG) {
                Ok(_) => passed += 1,
                Err(BarrierTimeoutError::Broken) => break,
                Err(error) => panic!("{error}: {barrier:?}"),
            }
        }
        victim.join().unwrap_err();
        running.push(spawn());
        barrier.reset();
    }
    stop.store(true, Ordering::Relaxed);
    barrier.abort();
    for process in running {
        process.join_timeout(LONG).unwrap();
    }
    println!("{} kills, {passed} rounds", storm_kills());
}
