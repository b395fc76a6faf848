//! Facts about processes from /proc.
//!
//! Processes start and end during a survey, so all facts about one process come from a single read.
//! Two reads might be about two processes, if the pid was reused in between.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::tree::{field, processes, read_stat};

/// One process, at the moment of the read.
#[derive(Clone, Debug)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// At most 15 bytes.
    pub(crate) name: String,
    /// The letter that `ps` shows.
    pub(crate) state: char,
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) threads: u32,
    /// Since boot.
    pub(crate) started: Duration,
    /// Bytes of memory in use.
    pub(crate) resident: u64,
}

impl Stat {
    pub(crate) fn of(pid: u32) -> Option<Stat> {
        parse(&read_stat(format!("/proc/{pid}/stat"))?)
    }

    /// Returns all processes that this one can see.
    pub(crate) fn of_all() -> Vec<Stat> {
        processes().filter_map(|pid| Stat::of(pid.try_into().ok()?)).collect()
    }
}

fn parse(stat: &str) -> Option<Stat> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, _) = rest.rsplit_once(") ")?;
    let number = |n| field(stat, n)?.parse::<u64>().ok();
    let ticks = |n| number(n).map(ticks);
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: number(1)?.try_into().ok()?,
        name: name.to_owned(),
        state: field(stat, 0)?.chars().next()?,
        user: ticks(11)?,
        system: ticks(12)?,
        threads: number(17)?.try_into().ok()?,
        started: ticks(19)?,
        resident: number(21)? * rustix::param::page_size() as u64,
    })
}

fn ticks(count: u64) -> Duration {
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs(count / a_second) + Duration::from_secs(count % a_second) / a_second as u32
}

/// Returns the time since boot, like `Stat::started`.
pub(crate) fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Returns the proportional set size in bytes, in which shared pages are divided among the
/// processes that share them. `None` if the process is gone, or belongs to another user.
pub(crate) fn proportional_memory(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

/// Returns whether a process runs the same file as this one.
pub(crate) fn runs_this_image(pid: u32) -> bool {
    let file = |pid: &str| {
        fs::metadata(format!("/proc/{pid}/exe")).map(|file| (file.dev(), file.ino())).ok()
    };
    file(&pid.to_string()).is_some_and(|image| file("self") == Some(image))
}

/// Returns the microseconds of the monotonic clock, which is the same for all processes (of one
/// time namespace).
pub(crate) fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Returns a monotonic time that is exact to a few milliseconds. The system stored it at its last
/// tick, so reading it is cheaper than reading the clock.
#[inline]
pub(crate) fn rough_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Through the C library: rustix looks for this function in a place that Valgrind hides.
    // SAFETY: `time` is what it writes to, and outlives the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) } != 0 {
        unreachable!("Linux has had this clock since 2.6.32");
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_any_name() {
        let line = "7 (a) b (c) R 3 4 5 6 7 8 9 10 11 12 250 50 15 16 17 18 4 20 1000 22 10 24";
        let stat = parse(line).unwrap();
        assert_eq!((stat.pid, stat.parent, &*stat.name, stat.state), (7, 3, "a) b (c", 'R'));
        assert_eq!(stat.threads, 4);
        let second = rustix::param::clock_ticks_per_second();
        assert_eq!(stat.user, Duration::from_millis(250 * 1000 / second));
        assert_eq!(stat.started, Duration::from_millis(1_000_000 / second));
        assert_eq!(stat.resident, 10 * rustix::param::page_size() as u64);
        for broken in [
            "",
            "7",
            "7 (a",
            "7 (a) R 3",
            "x (a) R 3 4 5 6 7 8 9 10 11 12 250 50 15 16 17 18 4 20 1000 22 10",
        ] {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn this_process() {
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(own.started <= since_boot());
        assert!(own.resident > 100_000 && own.threads >= 1);
        assert!(proportional_memory(own.pid).is_some_and(|bytes| bytes > 100_000));
        assert!(runs_this_image(own.pid) && !runs_this_image(1));
        assert!(Stat::of_all().iter().any(|stat| stat.pid == own.pid));
    }
}
