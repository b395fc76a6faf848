//! Control characters in what a child says of itself: none reaches a terminal through this crate's
//! own messages.

use std::time::Duration;

use offspring::actor::{ActorBuilder, Context};
use offspring::pool::TaskError;
use offspring::queue::DeadCause;
use offspring::{ExitReason, Pool, ProcessBuilder, Queue, SpawnError, Stdio};
use serde::{Deserialize, Serialize};

use super::stage::script;
use crate::support::{eventually, is_running};

/// Clears the screen, and returns to the begin of the line.
const EVIL: &str = "\x1b[2J\u{9b}31m\x07\r";
const HARMLESS: &str = r"\u{1b}[2J\u{9b}31m\u{7}\r";

fn assert_harmless(text: impl ToString) {
    let text = text.to_string();
    let is_evil = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!text.contains(is_evil) && text.contains(HARMLESS), "{text:?}");
}

#[offspring::worker]
fn panic_with(message: String) {
    let thread = std::thread::Builder::new().name(message.clone());
    let _ = thread.spawn(move || panic!("one\n\ttwo{message}")).unwrap().join();
    panic!("one\n\ttwo{EVIL}");
}

#[offspring::test(timeout = "30s")]
fn the_text_of_a_panic_keeps_its_lines_and_no_other_control_character() {
    let child = ProcessBuilder::new().stderr(Stdio::null());
    let error = child.spawn(panic_with::new(EVIL.to_owned())).unwrap().join().unwrap_err();
    assert_harmless(&error);
    assert_harmless(format!("{error:?}"));
    let Some(ExitReason::Panicked(report)) = error.reason() else { panic!("{error:?}") };
    assert_eq!(report.message, format!("one\n\ttwo{HARMLESS}"));
    let pool = Pool::new(1).unwrap();
    let error = pool.run(panic_with::new(EVIL.to_owned())).unwrap_err();
    assert!(matches!(error, TaskError::Panicked { .. }), "{error:?}");
    assert_harmless(&error);
}

#[offspring::worker]
fn never_runs() {}

#[offspring::test(timeout = "30s")]
fn a_name_with_control_characters_is_refused() {
    for name in [EVIL, "two\nlines", "\t"] {
        let error = ProcessBuilder::new().name(name).spawn(never_runs::new()).unwrap_err();
        assert!(matches!(error, SpawnError::InvalidOption { option: "name", .. }), "{error:?}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}

#[offspring::test(timeout = "30s")]
fn the_last_lines_of_stderr_are_harmless_in_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let says = r"printf 'last words\033[2J\302\23331m\007\r' >&2";
    let dies = ProcessBuilder::new().program(script(directory.path(), says)).stderr(Stdio::null());
    let error = dies.spawn(never_runs::new()).unwrap_err();
    assert_harmless(&error);
    assert!(error.stderr().unwrap().starts_with("last words"), "{error:?}");
}

/// Cannot be decoded, and says so loudly.
#[derive(Serialize, Debug)]
struct Evil;

impl<'de> Deserialize<'de> for Evil {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(format!("no {EVIL}")))
    }
}

/// Cannot be encoded, and says so loudly.
#[derive(Deserialize, Debug)]
struct Unsent;

impl Serialize for Unsent {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(format!("no {EVIL}")))
    }
}

#[offspring::worker]
fn take(evil: Evil) -> bool {
    matches!(evil, Evil)
}

#[offspring::worker]
fn give() -> Unsent {
    Unsent
}

#[offspring::worker]
fn get(items: Queue<Evil>) {
    items.get().unwrap_err();
}

#[offspring::test(timeout = "30s")]
fn what_does_not_cross_is_no_way_for_them() {
    assert_harmless(take::spawn(Evil).unwrap_err());
    assert_harmless(give::spawn().unwrap().join().unwrap_err());
    let pool = Pool::new(1).unwrap();
    assert_harmless(pool.run(take::new(Evil)).unwrap_err());
    assert_harmless(pool.run(give::new()).unwrap_err());
    let items = Queue::unbounded().unwrap();
    items.put(Evil).unwrap();
    get::spawn(items.clone()).unwrap().join().unwrap();
    // The hub may hear of it after the end of the process.
    eventually("the letter is there", || !items.dead_letters().unwrap().is_empty());
    let letters = items.dead_letters().unwrap();
    let DeadCause::Decode(error) = letters[0].cause() else { panic!("{:?}", letters[0]) };
    assert_harmless(error);
}

struct Loud {
    context: Context<Loud>,
}

#[offspring::actor]
impl Loud {
    fn start(fails: bool, context: &Context<Self>) -> Result<Self, String> {
        if fails { Err(format!("no {EVIL}")) } else { Ok(Loud { context: context.clone() }) }
    }

    pub fn fail(&mut self) {
        self.context.fail(format!("no {EVIL}"));
    }

    pub fn give(&mut self) -> Unsent {
        Unsent
    }
}

#[offspring::test(timeout = "30s")]
fn an_actor_fails_without_them() {
    let builder = || ActorBuilder::new();
    assert_harmless(builder().spawn::<Loud>((true,)).unwrap_err());
    let loud = builder().spawn::<Loud>((false,)).unwrap().typed::<LoudHandle>();
    assert_harmless(loud.give().unwrap_err());
    loud.fail().unwrap();
    assert_harmless(loud.monitor().unwrap().wait_timeout(Duration::from_secs(20)).unwrap().reason);
    builder().register(EVIL).spawn::<Loud>((false,)).map(drop).unwrap_err();
}

/// Names that no process could choose if this crate had a say.
const NAMES: [&std::ffi::CStr; 3] = [c"\x1b[2J\x07", c"\xff) R 1 1", c"\xf0\x9f"];

#[offspring::worker]
fn rename_itself(name: usize, ready: Queue<u32>) {
    std::fs::write("/proc/self/comm", NAMES[name].to_bytes()).unwrap();
    ready.put(std::process::id()).unwrap();
    offspring::current().wait_stopping();
}

#[offspring::worker]
fn start_them(ready: Queue<u32>) {
    let _children: Vec<_> =
        (0..NAMES.len()).map(|n| rename_itself::spawn(n, ready.clone()).unwrap()).collect();
    offspring::current().wait_stopping();
}

#[offspring::test(timeout = "30s")]
fn no_name_hides_a_process_or_spoils_a_table() {
    let ready = Queue::unbounded().unwrap();
    let child = start_them::spawn(ready.clone()).unwrap();
    let pids: Vec<u32> = NAMES.iter().map(|_| ready.get().unwrap()).collect();
    let tree = offspring::tree();
    assert!(pids.iter().all(|&pid| tree.find(pid).is_some()), "{pids:?}, {tree}");
    // A grandchild's name is what the system knows.
    assert!(tree.to_string().contains(r"\u{1b}[2J\u{7}"), "{tree}");
    child.kill_tree();
    child.join().unwrap_err();
    eventually("all have ended", || !pids.iter().any(|&pid| is_running(pid)));
}
