//! A pool whose worker has no descriptors for its next task.

use std::fs::File;
use std::time::Duration;

use offspring::sync::Event;
use offspring::{Pool, Sender, channel};

/// Takes all descriptors of its process, and returns them when the event is set.
#[offspring::worker]
fn hoard(release: Event) -> u32 {
    // The first wait needs some for itself.
    let _ = release.wait_timeout(Duration::from_millis(200));
    let (full, is_full) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        full.send(()).unwrap();
        release.wait().unwrap();
        drop(hoard);
    });
    is_full.recv().unwrap();
    std::process::id()
}

#[offspring::worker]
fn send_pid(to: Sender<u32>) {
    to.send(std::process::id()).unwrap();
}

#[offspring::test(timeout = "60s")]
fn a_worker_without_descriptors_for_its_next_task_waits_for_them() {
    let pool = Pool::new(1).unwrap();
    let (release, (sender, pids)) = (Event::new().unwrap(), channel().unwrap());
    let pid = pool.run(hoard::new(release.clone())).unwrap();
    let task = pool.submit(send_pid::new(sender)).unwrap();
    let early = task.join_timeout(Duration::from_millis(300));
    assert!(matches!(&early, Err(error) if error.is_timeout()), "{early:?}");
    release.set();
    task.join().unwrap();
    assert_eq!(pids.recv().unwrap(), pid, "it is the same process");
}
