//! Records of children, in the logger of this program. This is a separate test binary, since a
//! program has one logger.

use std::sync::{Mutex, Once};
use std::time::Duration;

use log::{Level, LevelFilter};
use offspring::process::LogTarget;
use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{JoinError, ProcessBuilder, Queue, Receiver, Stdio, channel};

#[derive(Clone, Debug)]
struct Seen {
    level: Level,
    target: String,
    text: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    values: Vec<(String, String)>,
}

impl Seen {
    fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
/// Held by a test to make the logger wait.
static SLOW: Mutex<()> = Mutex::new(());
/// Tests that change the level, or look at what all children log, take turns.
static TURN: Mutex<()> = Mutex::new(());

struct Collector;

struct Values<'a>(&'a mut Vec<(String, String)>);

impl<'kvs> log::kv::VisitSource<'kvs> for Values<'_> {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

impl log::Log for Collector {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() != "muted"
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "slow" {
            drop(SLOW.lock().unwrap());
        }
        if record.target() == "file" {
            // A logger that takes its time for each record.
            std::thread::sleep(Duration::from_micros(20));
        }
        let mut values = Vec::new();
        record.key_values().visit(&mut Values(&mut values)).unwrap();
        SEEN.lock().unwrap().push(Seen {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
            module: record.module_path().map(str::to_owned),
            file: record.file().map(str::to_owned),
            line: record.line(),
            values,
        });
    }

    fn flush(&self) {}
}

fn turn() -> std::sync::MutexGuard<'static, ()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| log::set_logger(&Collector).unwrap());
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    log::set_max_level(LevelFilter::Info);
    turn
}

fn seen_of(process: &str) -> Vec<Seen> {
    let seen = SEEN.lock().unwrap();
    seen.iter().filter(|seen| seen.value("process") == Some(process)).cloned().collect()
}

#[offspring::worker]
fn speak() {
    log::warn!(target: "shop", colour = "red", count = 3; "sold {} of them", 3);
    log::info!(target: "muted", "nobody hears this");
    log::debug!("too fine");
}

#[offspring::test(timeout = "30s")]
fn a_record_arrives_whole_with_its_origin() {
    let _turn = turn();
    let process = ProcessBuilder::new().name("speaker").spawn(speak::new()).unwrap();
    process.join().unwrap();
    let seen = seen_of("speaker");
    assert_eq!(seen.len(), 1, "{seen:?}");
    let record = &seen[0];
    assert_eq!(
        (record.level, record.target.as_str(), record.text.as_str()),
        (Level::Warn, "shop", "sold 3 of them")
    );
    assert_eq!((record.value("colour"), record.value("count")), (Some("red"), Some("3")));
    assert_eq!(record.value("pid"), Some(process.pid().to_string().as_str()));
    assert_eq!(record.module.as_deref(), Some("logs"));
    assert!(record.file.as_deref().unwrap().ends_with("logs.rs") && record.line.is_some());
}

#[offspring::worker]
fn count_and_die(how: String) {
    for n in 0..500 {
        log::info!("{n}");
    }
    match how.as_str() {
        "exit" => std::process::exit(3),
        "panic" => panic!("on purpose"),
        "abort" => std::process::abort(),
        _ => {
            let pid = rustix::process::getpid();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
}

#[offspring::test(timeout = "60s")]
fn nothing_that_was_logged_is_lost_with_the_process() {
    let _turn = turn();
    for how in ["exit", "panic", "abort", "kill"] {
        let process = ProcessBuilder::new()
            .name(how)
            .stderr(Stdio::null())
            .spawn(count_and_die::new(how.to_owned()))
            .unwrap();
        assert!(matches!(process.join(), Err(JoinError::Ended { .. })));
        let texts: Vec<String> = seen_of(how).into_iter().map(|seen| seen.text).collect();
        assert_eq!(texts, (0..500).map(|n| n.to_string()).collect::<Vec<_>>(), "after {how}");
    }
}

#[offspring::worker]
fn chatter(over: Queue<()>) {
    while over.try_get().is_err() {
        log::debug!("chatter");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[offspring::test(timeout = "30s")]
fn the_level_is_the_parents_also_when_it_changes() {
    let _turn = turn();
    let over = Queue::unbounded().unwrap();
    let process = ProcessBuilder::new().name("chatter").spawn(chatter::new(over.clone())).unwrap();
    let followed = |level, more: bool| {
        log::set_max_level(level);
        let mut last = seen_of("chatter").len();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            assert!(std::time::Instant::now() < deadline, "it does not follow to {level}");
            std::thread::sleep(Duration::from_millis(100));
            let now = seen_of("chatter").len();
            if (now > last) == more {
                return now;
            }
            last = now;
        }
    };
    assert_eq!(seen_of("chatter").len(), 0);
    followed(LevelFilter::Debug, true);
    followed(LevelFilter::Info, false);
    over.put(()).unwrap();
    process.join().unwrap();
}

#[offspring::worker]
fn flood(count: u64) {
    for n in 0..count {
        log::info!(target: "slow", "{n}: {}", "x".repeat(100));
    }
}

/// Waits until the records about dropped ones, of those from `before` on, tell of this many. They
/// come from another thread, a moment later.
fn await_dropped(before: usize, count: u64) {
    let dropped = || {
        let told = SEEN.lock().unwrap();
        let told = told[before..].iter().filter(|seen| seen.target == "offspring::logs");
        told.map(|seen| seen.text.split(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    while dropped() < count {
        std::thread::yield_now();
    }
    assert_eq!(dropped(), count);
}

#[offspring::test(timeout = "60s")]
fn records_that_come_too_fast_are_counted_and_nobody_waits() {
    let _turn = turn();
    const COUNT: u64 = 20_000;
    let before = SEEN.lock().unwrap().len();
    let held = SLOW.lock().unwrap();
    let process = ProcessBuilder::new().name("flood").spawn(flood::new(COUNT)).unwrap();
    // It ends although nobody takes its records.
    offspring::wait_any(&[&process]).unwrap();
    drop(held);
    process.join().unwrap();
    let seen = seen_of("flood").len() as u64;
    assert!(seen > 100 && seen < COUNT, "{seen}");
    await_dropped(before, COUNT - seen);
}

/// Logs in a burst; every hundredth record is an error.
#[offspring::worker]
fn burst(count: u64) {
    for n in 0..count {
        let level = if n % 100 == 0 { Level::Error } else { Level::Info };
        log::log!(target: "file", level, "{n}: {}", "x".repeat(100));
    }
}

#[offspring::test(timeout = "60s")]
fn errors_in_a_burst_are_kept_and_all_records_if_wanted() {
    let _turn = turn();
    const COUNT: u64 = 20_000;
    let seen = |name: &str, logs| {
        let before = SEEN.lock().unwrap().len();
        let process = ProcessBuilder::new().name(name).logs(logs).spawn(burst::new(COUNT)).unwrap();
        process.join().unwrap();
        let seen = seen_of(name);
        await_dropped(before, COUNT - seen.len() as u64);
        // One in a second, and one for each join, also of other tests; not one for each loss.
        let told = SEEN.lock().unwrap();
        let lines = told[before..].iter().filter(|seen| seen.target == "offspring::logs").count();
        assert!(lines < 100, "{lines} lines about dropped records");
        drop(told);
        let errors = seen.iter().filter(|seen| seen.level == Level::Error).count();
        (seen.len() as u64, errors as u64)
    };
    let (all, errors) = seen("lossy", LogTarget::Parent);
    assert_eq!(errors, COUNT / 100);
    assert!(all < COUNT, "the logger kept up, so this shows nothing");
    assert_eq!(seen("lossless", LogTarget::ParentLossless), (COUNT, COUNT / 100));
}

#[offspring::worker]
fn complain(count: u64) {
    for n in 0..count {
        log::error!(target: "slow", "{n}: {}", "x".repeat(100));
    }
}

#[offspring::test(timeout = "60s")]
fn a_logger_that_is_stuck_holds_a_child_up_once() {
    let _turn = turn();
    const COUNT: u64 = 20_000;
    let before = SEEN.lock().unwrap().len();
    let held = SLOW.lock().unwrap();
    let process = ProcessBuilder::new().name("complainer").spawn(complain::new(COUNT)).unwrap();
    offspring::wait_any(&[&process]).unwrap();
    drop(held);
    // It waited for one of them. It would take hours to wait for each.
    process.join().unwrap();
    let seen = seen_of("complainer").len() as u64;
    assert!(seen < COUNT);
    await_dropped(before, COUNT - seen);
}

#[offspring::worker]
fn has_logger() -> bool {
    log::warn!("into stderr");
    log::max_level() != LevelFilter::Off
}

#[offspring::test(timeout = "30s")]
fn records_go_where_they_are_sent() {
    let _turn = turn();
    let off =
        ProcessBuilder::new().name("off").logs(LogTarget::Off).spawn(has_logger::new()).unwrap();
    assert!(!off.join().unwrap());
    let mut builder = ProcessBuilder::new().name("to-stderr").logs(LogTarget::Stderr);
    builder = builder.stderr(Stdio::piped());
    let mut process = builder.spawn(has_logger::new()).unwrap();
    let output = process.join_with_output();
    assert!(output.result.unwrap());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.trim_end(), format!("[WARN logs to-stderr:{}] into stderr", process.pid()));
    assert!(seen_of("off").is_empty() && seen_of("to-stderr").is_empty());
}

#[offspring::worker]
fn parent_of_a_speaker() {
    ProcessBuilder::new().name("inner").spawn(speak::new()).unwrap().join().unwrap();
}

#[offspring::test(timeout = "30s")]
fn grandchildren_are_heard_with_their_own_name() {
    let _turn = turn();
    parent_of_a_speaker::spawn().unwrap().join().unwrap();
    assert_eq!(seen_of("inner").len(), 1);
}

#[offspring::worker]
fn put(queue: Queue<u64>, gate: Receiver<()>) {
    // The first message makes the channel, which needs descriptors; the second needs none.
    gate.recv().unwrap();
    gate.recv().unwrap();
    queue.put(7).unwrap();
}

/// Its client comes while it has no descriptors for a session.
#[offspring::worker]
fn own() -> u64 {
    let queue = Queue::unbounded().unwrap();
    // No event: waiting for one would open the session before the descriptors are gone.
    let (go, gate) = channel().unwrap();
    let child = put::spawn(queue.clone(), gate).unwrap();
    go.send(()).unwrap();
    let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    go.send(()).unwrap();
    assert!(queue.get_timeout(Duration::from_millis(300)).is_err());
    drop(hoard);
    let got = queue.get().unwrap();
    child.join().unwrap();
    got
}

#[offspring::test(timeout = "60s")]
fn an_owner_without_descriptors_says_so_once() {
    let _turn = turn();
    let builder = ProcessBuilder::new().logs(LogTarget::Stderr).rlimit(Resource::OpenFiles, 64, 64);
    let mut owner = builder.stderr(Stdio::piped()).spawn(own::new()).unwrap();
    let output = owner.join_with_output();
    assert_eq!(output.result.unwrap(), 7);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let said = stderr.matches("out of file descriptors").count();
    // Once more if the session itself found some of them not free yet.
    assert!((1..=2).contains(&said), "{stderr}");
}
