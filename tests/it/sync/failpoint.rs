//! Processes that are stopped at the worst instant. Only with the feature `failpoints`.

use std::time::Duration;

use offspring::sync::{Event, Mutex, Semaphore, TimeoutError};
use offspring::{Process, ProcessBuilder};

use super::is_contended;
use crate::process::stage::state_of;
use crate::support::eventually;

const LONG: Duration = Duration::from_secs(20);

fn stops_at(point: &str) -> ProcessBuilder {
    ProcessBuilder::new().env("OFFSPRING_FAILPOINT", format!("{point}:1:stop"))
}

fn is_stopped<T>(process: &Process<T>) -> bool {
    state_of(process.pid()).as_deref() == Some("T")
}

fn resume<T>(process: &Process<T>) {
    // SAFETY: a child that is not reaped meanwhile.
    unsafe { libc::kill(process.pid() as i32, libc::SIGCONT) };
}

/// Returns whether the first thread of the process sleeps, in a call that blocks.
fn sleeps<T>(process: &Process<T>) -> bool {
    state_of(process.pid()).as_deref() == Some("S")
}

#[offspring::worker]
fn lock(mutex: Mutex<u64>, about: Event, done: Event) {
    about.set();
    *mutex.lock().unwrap() += 1;
    done.set();
}

#[offspring::test(timeout = "60s")]
fn a_stopped_process_that_was_woken_for_a_lock_does_not_keep_it_from_others() {
    let mutex = Mutex::new(0).unwrap();
    let [about, done, about_stopped, done_stopped] = [(); 4].map(|()| Event::new().unwrap());
    let guard = mutex.lock().unwrap();
    let worker = lock::new(mutex.clone(), about_stopped, done_stopped.clone());
    let stopped = stops_at("lock.woken").spawn(worker).unwrap();
    eventually("it waits", || is_contended(&mutex) && sleeps(&stopped));
    let waits = lock::spawn(mutex.clone(), about.clone(), done.clone()).unwrap();
    about.wait_timeout(LONG).unwrap();
    eventually("it waits as well", || sleeps(&waits));
    drop(guard);
    eventually("the first has got the wake-up", || is_stopped(&stopped));
    done.wait_timeout(LONG).unwrap();
    assert!(!done_stopped.is_set());
    resume(&stopped);
    stopped.join().unwrap();
    waits.join().unwrap();
}

#[offspring::worker]
fn acquire(permits: Semaphore, about: Event, done: Event) {
    about.set();
    permits.acquire().unwrap().forget();
    done.set();
}

#[offspring::test(timeout = "60s")]
fn a_stopped_process_that_was_woken_for_a_permit_does_not_keep_it_from_others() {
    let permits = Semaphore::new(1).unwrap();
    let [about, done, about_stopped, done_stopped] = [(); 4].map(|()| Event::new().unwrap());
    let permit = permits.acquire().unwrap();
    let waiting = |count| format!("{permits:?}").contains(&format!("waiting: {count}"));
    let worker = acquire::new(permits.clone(), about_stopped, done_stopped.clone());
    let stopped = stops_at("turn.woken").spawn(worker).unwrap();
    eventually("it waits", || waiting(1) && sleeps(&stopped));
    let waits = acquire::spawn(permits.clone(), about, done.clone()).unwrap();
    eventually("it waits as well", || waiting(2) && sleeps(&waits));
    drop(permit);
    eventually("the first has got the wake-up", || is_stopped(&stopped));
    done.wait_timeout(LONG).unwrap();
    assert!(!done_stopped.is_set());
    stopped.kill();
    stopped.join().unwrap_err();
    waits.join().unwrap();
}

#[offspring::worker]
fn hold(permits: Semaphore, held: Event) {
    std::mem::forget(permits.acquire().unwrap());
    held.set();
    std::thread::sleep(LONG);
}

#[offspring::test(timeout = "60s")]
fn what_many_dead_held_returns_after_a_stopped_process_held_the_latch() {
    const HOLDERS: u32 = 5;
    let permits = Semaphore::new(HOLDERS).unwrap();
    let holders: Vec<_> = (0..HOLDERS)
        .map(|_| {
            let held = Event::new().unwrap();
            let holder = hold::spawn(permits.clone(), held.clone()).unwrap();
            held.wait_timeout(LONG).unwrap();
            holder
        })
        .collect();
    let [about, done] = [(); 2].map(|()| Event::new().unwrap());
    let worker = acquire::new(permits.clone(), about, done);
    let stopped = stops_at("latch.taken").spawn(worker).unwrap();
    eventually("it holds the latch", || is_stopped(&stopped));
    for holder in holders {
        holder.kill();
        holder.join().unwrap_err();
    }
    let timed = permits.acquire_timeout(Duration::from_millis(50));
    assert!(matches!(timed, Err(TimeoutError::Timeout)));
    resume(&stopped);
    stopped.join().unwrap();
    let rest = permits.acquire_many_timeout(HOLDERS - 1, LONG).unwrap();
    assert_eq!(permits.available(), 0);
    drop(rest);
}
