//! Helpers of all tests.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use offspring::ProcessBuilder;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Polls for an event that no call waits for, such as the end of a process of another parent.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `wait` on a thread of the scope, and returns when that thread sleeps.
pub(crate) fn spawn_asleep<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    wait: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let (number, numbers) = mpsc::channel();
    let thread = scope.spawn(move || {
        number.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
        wait()
    });
    let stat = Path::new("/proc").join(numbers.recv().unwrap()).join("stat");
    // A lock may put it to sleep for a moment, so one look is not enough.
    let mut asleep = 0;
    eventually("the thread sleeps", || {
        let state = fs::read_to_string(&stat).unwrap_or_default();
        let sleeps = state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"));
        asleep = if sleeps { asleep + 1 } else { 0 };
        asleep == 3 || thread.is_finished()
    });
    thread
}

/// Writes a shell script that can be executed.
///
/// Another process writes it: whatever this process forks meanwhile would hold the file open for
/// writing, and no such file can be executed.
pub(crate) fn write_script(path: &Path, text: &str) {
    let write = r##"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""##;
    let written = Command::new("sh").args(["-c", write]).arg(path).arg(text).status();
    assert!(written.unwrap().success());
}

/// Copies a program, so that the copy can be executed: see [`write_script`].
pub(crate) fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// Waits until all threads of a process sleep.
pub(crate) fn wait_asleep(pid: u32) {
    let is_asleep = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"))
    };
    // A lock may put a thread to sleep for a moment, so one look is not enough.
    let mut looks = 0;
    eventually("the process sleeps", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
        looks = if threads.flatten().all(is_asleep) { looks + 1 } else { 0 };
        looks == 3
    });
}

/// The number of descriptors that this process has open.
pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is there").count() - 1
}

/// Returns whether a process with this pid exists and is not a zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// Suspends a process, and returns when none of its threads runs. The signal alone does not suffice:
/// its other threads run on until the one that receives it gets a processor.
pub(crate) fn suspend(pid: u32) {
    signal(pid, "STOP");
    let is_stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    eventually("all of its threads are stopped", || {
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it is there");
        threads.all(|thread| is_stopped(thread.unwrap()))
    });
}

/// Sends a signal, such as `CONT`.
pub(crate) fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Closes all descriptors, as a program does that turns itself into a daemon. That closes the
/// sessions of this process, which runs on.
pub(crate) fn close_descriptors() {
    // SAFETY: it breaks what owns them, which is what this is about; the process ends soon.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Pseudo-random numbers, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// Uses the seed in `OFFSPRING_STORM_SEED`, or a new one, which is printed.
    pub(crate) fn of_storm() -> Random {
        let seed = std::env::var("OFFSPRING_STORM_SEED").map_or_else(
            |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1,
            |seed| seed.parse().expect("OFFSPRING_STORM_SEED is a number"),
        );
        println!("OFFSPRING_STORM_SEED={seed}");
        Random::new(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(crate) fn sleep(&mut self, micros: u64) {
        std::thread::sleep(Duration::from_micros(self.below(micros)));
    }
}

/// The number of processes that a storm kills: `OFFSPRING_STORM_KILLS`, or 40. A storm suspends
/// about as many.
pub(crate) fn storm_kills() -> u64 {
    std::env::var("OFFSPRING_STORM_KILLS")
        .map_or(40, |kills| kills.parse().expect("OFFSPRING_STORM_KILLS is a number"))
}

/// Starts a process of a storm. The machine may be busy for longer than the default start timeout.
pub(crate) fn patient() -> ProcessBuilder {
    ProcessBuilder::new().start_timeout(Duration::from_secs(60))
}

/// A process that a storm strikes. A pidfd holds it, so no signal reaches a later process that has
/// the same pid.
pub(crate) struct Victim(OwnedFd);

impl Victim {
    /// Returns `None` if there is no such process any more. If the pid is not that of a child which
    /// the caller has not joined, check afterwards that it still is the process that was meant.
    pub(crate) fn of(pid: u32) -> Option<Victim> {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).expect("a pid is not 0");
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Victim)
    }

    /// Sends SIGKILL. Returns whether the process had not been reaped before.
    pub(crate) fn kill(&self) -> bool {
        pidfd_send_signal(&self.0, Signal::KILL).is_ok()
    }

    /// Suspends the process, and returns at once. A thread continues it after 1 to 500 ms; short
    /// times are more frequent. The process may be killed meanwhile.
    pub(crate) fn stop_for_a_while(&self, random: &mut Random) {
        let longest = (1 << random.below(10)).min(500);
        let time = Duration::from_micros(1000 + random.below(longest * 1000));
        let process = self.0.try_clone().unwrap();
        if pidfd_send_signal(&process, Signal::STOP).is_ok() {
            std::thread::spawn(move || {
                std::thread::sleep(time);
                let _ = pidfd_send_signal(&process, Signal::CONT);
            });
        }
    }
}
