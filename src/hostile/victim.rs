//! The process that is attacked.

use std::fs;
use std::panic::PanicHookInfo;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::scenes::Scene;
use super::witness::Witness;
use crate::ipc::fuzz::Random;
use crate::ipc::wire;
use crate::process::Process;
use crate::shared::SharedSlice;
use crate::sys::lock;

/// A step that takes longer is a hang. All steps of a scene have limits below a second; this one
/// allows for an overloaded machine.
const STEP_MAX: Duration = Duration::from_secs(60);
/// How long what a dead worker held may take to be released.
const RELEASE: Duration = Duration::from_secs(20);

/// How many descriptors and how much memory the victim may use after a round, beyond what it used
/// after the first: for what is made once and kept.
const DESCRIPTORS_KEPT: usize = 12;
const MEMORY_KEPT: usize = 64 << 20;
/// The same limits while a hostile worker lives. docs/security.md names both.
const DESCRIPTORS_MAX: usize = 512;
const MEMORY_MAX: usize = 512 << 20;

/// The step that the victim is performing.
static STEP: Mutex<String> = Mutex::new(String::new());
static STEPS: AtomicU64 = AtomicU64::new(0);
/// The panics inside this crate.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes what comes next, for the report of a hang.
pub(super) fn step(what: &str) {
    STEPS.fetch_add(1, Ordering::SeqCst);
    *lock(&STEP) = what.to_owned();
}

/// Plays a scene again and again. Returns a summary.
#[crate::worker(crate = crate)]
pub(super) fn victim(
    scene: Scene,
    first: u64,
    time: Duration,
    progress: SharedSlice<u64>,
) -> String {
    play(scene, first, time, &progress).unwrap_or_else(|what| fail(&what))
}

/// Prints what went wrong, and exits at once: an orderly exit would wait for the call that hangs.
fn fail(what: &str) -> ! {
    eprintln!("{what}, while it {}", lock(&STEP));
    show_threads(std::process::id());
    std::process::abort()
}

fn play(
    scene: Scene,
    first: u64,
    time: Duration,
    progress: &SharedSlice<u64>,
) -> Result<String, String> {
    note_panics();
    thread::spawn(watch);
    let until = Instant::now() + time;
    let mut witness = Witness::new();
    let (mut rounds, mut most) = (0, Use::default());
    witness.check_start()?;
    let before = Use::now();
    while rounds < 3 || Instant::now() < until {
        let seed = first + rounds;
        progress.set(0, seed);
        progress.set(1, rounds);
        step("begins a round");
        scene
            .play(&mut Attack { witness: &mut witness, most: &mut most }, &mut Random::of(seed))?;
        step("checks the witnesses after it");
        witness.check()?;
        step("waits for what the hostile worker held to be released");
        check_released(&before)?;
        if rounds % 8 == 0 {
            step("starts a worker");
            witness.check_start()?;
        }
        if let Some(panic) = lock(&PANICS).first() {
            return Err(format!("a panic: {panic}"));
        }
        rounds += 1;
    }
    step("ends");
    witness.end()?;
    Ok(format!("{rounds} rounds, at most {most:?}"))
}

/// The context in which a scene is played.
pub(super) struct Attack<'a> {
    witness: &'a mut Witness,
    most: &'a mut Use,
}

impl Attack<'_> {
    /// Checks that the honest workers are served while the hostile worker lives, and that the
    /// victim's use of descriptors and memory stays within bounds.
    pub(super) fn check(&mut self) -> Result<(), String> {
        step("checks the witnesses during the attack");
        self.witness.check()?;
        let now = Use::now();
        self.most.descriptors = self.most.descriptors.max(now.descriptors);
        self.most.memory = self.most.memory.max(now.memory);
        if now.descriptors > DESCRIPTORS_MAX || now.memory > MEMORY_MAX {
            return Err(format!("in use during an attack: {now:?}"));
        }
        Ok(())
    }

    /// How many descriptors this process has open.
    pub(super) fn descriptors() -> usize {
        Use::now().descriptors
    }

    /// Ends a hostile worker.
    pub(super) fn end<T: serde::de::DeserializeOwned>(
        &mut self,
        process: Process<T>,
    ) -> Result<(), String> {
        self.check()?;
        step("kills the hostile worker");
        process.kill();
        // The worker has ended, no matter what it reported about its end.
        match process.join_timeout(RELEASE) {
            Err(crate::error::JoinTimeoutError::Timeout { .. }) => {
                Err("the hostile worker does not end".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// The system resources that this process uses.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    descriptors: usize,
    memory: usize,
}

impl Use {
    fn now() -> Use {
        // It fails if there is no descriptor left.
        let descriptors = fs::read_dir("/proc/self/fd").map_or(DESCRIPTORS_MAX, Iterator::count);
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = pages.split(' ').nth(1).map_or(0, |pages| pages.parse().unwrap());
        Use { descriptors, memory: pages * 4096 }
    }
}

fn check_released(before: &Use) -> Result<(), String> {
    let until = Instant::now() + RELEASE;
    loop {
        let now = Use::now();
        let kept = now.descriptors > before.descriptors + DESCRIPTORS_KEPT
            || now.memory > before.memory + MEMORY_KEPT;
        if !kept {
            return Ok(());
        }
        if Instant::now() > until {
            let mut open: Vec<String> = fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
                .map(|link| link.to_string_lossy().chars().take_while(|c| *c != '[').collect())
                .collect();
            open.sort();
            return Err(format!("not released: {now:?}, at first {before:?}: {open:?}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn note_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if !wire::is_quiet() {
            lock(&PANICS).push(format!("{info} on {:?}", thread::current().name()));
        }
        before(info);
    }));
}

/// Prints what each thread of a process waits in.
fn show_threads(pid: u32) {
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let (name, place, call) = (read("comm"), read("wchan"), read("syscall"));
        eprintln!("{pid} {}: {place}: {}", name.trim(), call.trim());
    }
}

/// If a step takes too long, prints what each thread waits in, and ends the process.
fn watch() {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = STEPS.load(Ordering::SeqCst);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > STEP_MAX {
            fail("it hangs");
        }
    }
}
