//! The processes of a pool with options of their own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offspring::pool::{PoolError, PoolEvent, TaskError};
use offspring::unix::ProcessBuilderExt;
use offspring::{Pool, SpawnError, Stdio};

use crate::support;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Seen {
    slot: usize,
    variable: String,
    name: String,
    pid: u32,
}

#[offspring::worker]
fn look() -> Seen {
    let current = offspring::current();
    Seen {
        slot: current.slot().expect("it is in a pool"),
        variable: std::env::var("SLOT").expect("the pool has set it"),
        name: current.name().to_owned(),
        pid: current.pid(),
    }
}

#[offspring::test(timeout = "60s")]
fn each_slot_has_its_options_and_a_replacement_has_them_too() {
    let starts = Arc::new(Mutex::new(Vec::new()));
    let seen_by_pool = starts.clone();
    let pool = Pool::builder()
        .workers(2)
        .spares(1)
        .process(move |slot, builder| {
            seen_by_pool.lock().unwrap().push(slot);
            // The pool's own name wins.
            builder.env("SLOT", slot.to_string()).name("another").daemon(true)
        })
        .build()
        .unwrap();
    let first: BTreeSet<usize> = starts.lock().unwrap().iter().copied().collect();
    assert_eq!(first, BTreeSet::from([0, 1, 2]));
    for _ in 0..4 {
        let seen = pool.run(look::new()).unwrap();
        assert_eq!(seen.variable, seen.slot.to_string());
        assert_eq!(seen.name, format!("pool-{}", seen.slot));
        support::signal(seen.pid, "KILL");
        support::eventually("it is replaced", || {
            let pids = pool.pids();
            pids.len() == 3 && !pids.contains(&seen.pid)
        });
    }
    assert!(starts.lock().unwrap().iter().all(|&slot| slot < 3));
    assert_eq!(starts.lock().unwrap().len(), 7);
}

#[offspring::test(timeout = "60s")]
fn idle_workers_that_others_kill_do_not_break_the_pool() {
    let pool = Pool::builder()
        .workers(1)
        .process(|slot, builder| builder.env("SLOT", slot.to_string()).shielded(false))
        .build()
        .unwrap();
    // More often than the pool tolerates failures, and without a task in between. None of these is a
    // signal that the workers ignore if this process does.
    for signal in ["TERM", "ALRM", "PROF", "KILL", "VTALRM", "TERM", "ALRM", "KILL"] {
        let mut pid = 0;
        support::eventually("a worker is there", || {
            pid = pool.pids().first().copied().unwrap_or_default();
            pid != 0
        });
        support::signal(pid, signal);
        support::eventually("it is replaced", || !pool.pids().contains(&pid));
    }
    assert_eq!(pool.run(look::new()).unwrap().slot, 0);
}

#[offspring::worker]
fn processors() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

/// A processor that this process may use.
fn a_processor() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    allowed.trim().split([',', '-']).next().unwrap().parse().unwrap()
}

#[offspring::test(timeout = "60s")]
fn workers_run_on_the_processors_of_their_slot() {
    let cpu = a_processor();
    let pool = Pool::builder().workers(1).process(move |_, builder| builder.cpus([cpu]));
    assert_eq!(pool.build().unwrap().run(processors::new()).unwrap(), 1);
    let refused = |cpus: Vec<usize>| {
        let pool = Pool::builder().process(move |_, builder| builder.cpus(cpus.clone()));
        pool.build().unwrap_err()
    };
    for (cpus, text) in [(vec![], "cpus is empty"), (vec![0, 1024], "cpus contains 1024")] {
        let error = refused(cpus);
        let PoolError::Spawn { cause: SpawnError::InvalidOption { .. }, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(format!("{error:?}").contains(text), "{error:?}");
    }
    let error = refused(vec![1023]);
    assert!(format!("{error:?}").contains("bind the new process to its processors"), "{error:?}");
}

#[offspring::test(timeout = "60s")]
fn a_pipe_that_nobody_can_read_is_refused() {
    for (which, text) in [(0, "stdin cannot"), (1, "stdout cannot"), (2, "stderr cannot")] {
        let pool = Pool::builder().workers(1).process(move |_, builder| match which {
            0 => builder.stdin(Stdio::piped()),
            1 => builder.stdout(Stdio::piped()),
            _ => builder.stderr(Stdio::piped()),
        });
        let error = pool.build().unwrap_err();
        assert!(format!("{error:?}").contains(text), "{error:?}");
    }
}

#[offspring::test(timeout = "60s")]
fn a_closure_that_panics_is_a_failed_start() {
    let error = Pool::builder().workers(1).process(|_, _| panic!("no such GPU")).build();
    assert!(format!("{:?}", error.unwrap_err()).contains("no such GPU"));
    // Later it counts as a failure, of which the pool bears some.
    let calls = AtomicUsize::new(0);
    let pool = Pool::builder()
        .workers(1)
        .restart_backoff(Duration::ZERO)
        .process(move |slot, builder| match calls.fetch_add(1, Ordering::Relaxed) {
            1 | 2 => panic!("not now"),
            _ => builder.env("SLOT", slot.to_string()),
        })
        .build()
        .unwrap();
    let first = pool.run(look::new()).unwrap();
    support::signal(first.pid, "KILL");
    support::eventually("the end is seen", || !pool.pids().contains(&first.pid));
    assert_ne!(pool.run(look::new()).unwrap().pid, first.pid);
}

#[offspring::test(timeout = "60s")]
fn a_start_may_take_as_long_as_is_set() {
    let directory = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = directory.path().join(name);
        support::write_script(&path, text);
        path
    };
    let stuck = script("stuck", "exec sleep 1000");
    let error = Pool::builder()
        .workers(1)
        .start_timeout(Duration::from_millis(50))
        .process(move |_, builder| builder.program(&stuck))
        .build()
        .unwrap_err();
    let PoolError::Spawn { cause: SpawnError::Timeout { .. }, .. } = error else {
        panic!("{error:?}");
    };
    // A start that waits for its turn is not under way: many slow ones are within a limit that
    // none of them would keep if it began with the first.
    let slow = script("slow", "sleep 0.2\nexec /proc/$PPID/exe \"$@\"");
    let pool = Pool::builder()
        .workers(20)
        .process(move |slot, builder| builder.program(&slow).env("SLOT", slot.to_string()))
        .build()
        .unwrap();
    assert_eq!(pool.pids().len(), 20);
    assert!(pool.run(look::new()).unwrap().slot < 20);
}

#[offspring::worker]
fn say_and_abort() {
    eprintln!("the disk is full\nso it aborts");
    std::process::abort();
}

#[offspring::worker]
fn say_and_hang() {
    eprintln!("waiting for the disk");
    loop {
        std::thread::park();
    }
}

#[offspring::worker]
fn say_and_leave() {
    eprintln!("no licence");
    std::process::exit(4);
}

#[offspring::test(timeout = "60s")]
fn the_last_words_of_a_worker_are_in_the_error_and_in_the_event() {
    let builder = || {
        let pool = Pool::builder().workers(1).task_timeout(Duration::from_secs(2));
        pool.process(|_, builder| builder.stderr(Stdio::prefixed()))
    };
    let pool = builder().build().unwrap();
    let mut events = pool.events();
    let error = pool.run(say_and_abort::new()).unwrap_err();
    assert!(matches!(error, TaskError::Died { .. }), "{error}");
    assert_eq!(error.stderr(), Some("the disk is full\nso it aborts\n"));
    assert!(error.to_string().ends_with("; its stderr ends with: so it aborts"), "{error}");
    let told = events.find_map(|event| match event {
        PoolEvent::WorkerEnded { stderr, .. } => Some(stderr),
        _ => None,
    });
    assert_eq!(told.as_deref(), error.stderr());
    let error = pool.run(say_and_hang::new()).unwrap_err();
    assert!(error.is_time_limit(), "{error}");
    assert_eq!(error.stderr(), Some("waiting for the disk\n"));

    let error = builder().initializer(say_and_leave::new()).build().unwrap_err();
    assert!(matches!(error, PoolError::Initializer { .. }), "{error}");
    assert_eq!(error.stderr(), Some("no licence\n"));
    assert!(error.to_string().ends_with("; its stderr ends with: no licence"), "{error}");

    // A stderr that goes elsewhere is not read.
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.run(say_and_abort::new()).unwrap_err().stderr(), None);
}
