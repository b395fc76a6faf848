//! Meeting points.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use offspring::CreateError;
use offspring::shared::{AtomicU32, SharedSlice};
use offspring::sync::{Barrier, BarrierError, BarrierTimeoutError, Event};

use crate::support::eventually;

const LONG: Duration = Duration::from_secs(20);

#[offspring::worker]
fn rounds(
    barrier: Barrier,
    places: SharedSlice<u32>,
    actions: AtomicU32,
    me: usize,
    count: u32,
) -> Vec<usize> {
    let mut indices = Vec::new();
    for round in 1..=count {
        places.set(me, round);
        let result = barrier
            .wait_then(|| {
                assert!(places.iter().all(|place| place == round), "somebody is not here yet");
                actions.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        assert_eq!(actions.load(Ordering::SeqCst), round, "the action came first, and once");
        indices.push(result.index());
        assert_eq!(result.is_leader(), result.index() + 1 == barrier.parties());
        barrier.wait().unwrap();
    }
    indices
}

#[offspring::test(timeout = "120s")]
fn parties_go_in_lockstep() {
    let count = 300;
    let (barrier, places, actions) =
        (Barrier::new(4).unwrap(), SharedSlice::zeroed(4).unwrap(), AtomicU32::new(0).unwrap());
    let children: Vec<_> = (0..2)
        .map(|me| {
            rounds::spawn(barrier.clone(), places.clone(), actions.clone(), me, count).unwrap()
        })
        .collect();
    let mut all: Vec<Vec<usize>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (2..4)
            .map(|me| {
                let (barrier, places, actions) = (barrier.clone(), places.clone(), actions.clone());
                scope.spawn(move || rounds(barrier, places, actions, me, count))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    all.extend(children.into_iter().map(|child| child.join().unwrap()));
    for round in 0..count as usize {
        let indices: BTreeSet<usize> = all.iter().map(|indices| indices[round]).collect();
        assert!(indices.into_iter().eq(0..4), "round {round}");
    }
    assert!(!barrier.is_broken(), "children that ended with all rounds done break nothing");
}

#[offspring::worker]
fn wait(barrier: Barrier) -> Result<usize, String> {
    barrier.wait().map(|result| result.index()).map_err(|error| error.to_string())
}

#[offspring::test(timeout = "60s")]
fn abort_and_reset_free_those_who_wait() {
    let barrier = Barrier::new(3).unwrap();
    for reset in [false, true] {
        let children = [(); 2].map(|()| wait::spawn(barrier.clone()).unwrap());
        eventually("they wait", || barrier.waiting() == 2);
        if reset {
            barrier.reset();
        } else {
            barrier.abort();
            assert!(matches!(barrier.wait(), Err(BarrierError::Broken)));
            assert!(barrier.is_broken());
        }
        for child in children {
            assert!(child.join().unwrap().unwrap_err().contains("broken"));
        }
        if !reset {
            barrier.reset();
        }
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    }
    // It works again.
    let children = [(); 2].map(|()| wait::spawn(barrier.clone()).unwrap());
    barrier.wait_timeout(LONG).unwrap();
    for child in children {
        child.join().unwrap().unwrap();
    }
}

#[test]
fn a_barrier_of_one_and_one_whose_time_is_over() {
    let barrier = Barrier::new(1).unwrap();
    assert!(barrier.wait().unwrap().is_leader());
    assert!(matches!(Barrier::new(0), Err(CreateError::ZeroParties)));
    let barrier = Barrier::new(2).unwrap();
    assert!(matches!(
        barrier.wait_timeout(Duration::from_millis(10)),
        Err(BarrierTimeoutError::Timeout)
    ));
    assert!(matches!(barrier.wait_timeout(LONG), Err(BarrierTimeoutError::Broken)));
    let barrier = Barrier::new(1).unwrap();
    catch_unwind(AssertUnwindSafe(|| barrier.wait_then(|| panic!("in the action")))).unwrap_err();
    assert!(barrier.is_broken());
}

#[offspring::worker]
fn come_or_not(barrier: Barrier, here: Event, waits: bool, panics: bool) {
    here.set();
    assert!(!panics, "not at all");
    if waits {
        let _ = barrier.wait();
    } else {
        std::thread::sleep(LONG);
    }
}

#[offspring::test(timeout = "60s")]
fn a_party_that_dies_breaks_it_whether_it_had_come_or_not() {
    for (waits, panics) in [(true, false), (false, false), (false, true)] {
        let (barrier, here) = (Barrier::new(3).unwrap(), Event::new().unwrap());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait());
            eventually("it waits", || barrier.waiting() == 1);
            let child = come_or_not::spawn(barrier.clone(), here.clone(), waits, panics).unwrap();
            here.wait_timeout(LONG).unwrap();
            if waits {
                eventually("the child waits", || barrier.waiting() == 2);
            }
            if !panics {
                child.kill();
            }
            assert!(matches!(waiter.join().unwrap(), Err(BarrierError::Broken)));
            child.join().unwrap_err();
        });
        barrier.reset();
        assert!(!barrier.is_broken());
    }
}
