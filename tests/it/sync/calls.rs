//! Taking and releasing what is free makes no system call.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use offspring::sync::{Event, Mutex, ReentrantMutex, RwLock, Semaphore};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct All {
    mutex: Mutex<u64>,
    reentrant: ReentrantMutex<u64>,
    rwlock: RwLock<u64>,
    semaphore: Semaphore,
    event: Event,
}

impl All {
    fn use_each(&self) {
        *self.mutex.lock().unwrap() += 1;
        *self.rwlock.write().unwrap() += 1;
        drop(self.rwlock.read().unwrap());
        drop(self.reentrant.lock().unwrap());
        drop(self.semaphore.acquire().unwrap());
        assert!(self.event.is_set());
    }
}

/// From here on the system ends this thread at any call but `read`, `write` and its exit.
fn forbid_calls() {
    // SAFETY: it changes what the kernel allows to this thread, and no memory.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    assert_eq!(done, 0);
}

/// Whether a thread gets through without a system call. With `call` it makes one, to prove that the
/// test would notice.
#[offspring::worker]
fn comes_through(all: All, call: bool) -> bool {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // As a file it is written by `write`, as a socket by a call that is not allowed.
    let mut theirs = File::from(OwnedFd::from(theirs));
    // Its stack is never given back, since that takes a call; the process ends soon.
    std::thread::spawn(move || {
        // The first use in a thread finds the owner, and a number for it.
        all.use_each();
        forbid_calls();
        (0..1000).for_each(|_| all.use_each());
        if call {
            std::thread::yield_now();
        }
        let _ = theirs.write_all(b"!");
        // SAFETY: the thread ends here; nothing of it is used afterwards.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    let patience = if call { Duration::from_millis(500) } else { Duration::from_secs(10) };
    ours.set_read_timeout(Some(patience)).unwrap();
    ours.read_exact(&mut [0]).is_ok()
}

#[offspring::test]
fn what_is_free_takes_no_call_of_the_system() {
    let all = All {
        mutex: Mutex::new(0).unwrap(),
        reentrant: ReentrantMutex::new(0).unwrap(),
        rwlock: RwLock::new(0).unwrap(),
        semaphore: Semaphore::new(2).unwrap(),
        event: Event::new().unwrap(),
    };
    all.event.set();
    for (call, through) in [(false, true), (true, false)] {
        assert_eq!(comes_through::spawn(all.clone(), call).unwrap().join().unwrap(), through);
    }
    assert_eq!(*all.mutex.lock().unwrap(), 2 * 1001);
}
