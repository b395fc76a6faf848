//! A worker starts, as what it was started.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use offspring::unix::{ProcessBuilderExt, Resource};
use offspring::{
    Connection, ExitReason, Process, ProcessBuilder, ProcessWorker, SpawnError, Stdio, Worker,
    active_children, pipe,
};
use serde::{Deserialize, Serialize};

use super::stage::{Lines, answer};

#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    number: u32,
    text: String,
    name: String,
    pid: u32,
    daemon: bool,
    depth: u32,
    generation: u32,
    parent: Option<(String, u32)>,
    label: String,
}

/// Prints its name once it has read a line.
#[offspring::worker]
fn tell_facts(number: u32, text: String) -> Facts {
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let current = offspring::current();
    Facts {
        number,
        text,
        name: current.name().to_owned(),
        pid: current.pid(),
        daemon: current.is_daemon(),
        depth: current.depth(),
        generation: current.generation(),
        parent: offspring::parent().map(|parent| (parent.name().to_owned(), parent.pid())),
        label: std::fs::read_to_string("/proc/self/comm").unwrap(),
    }
}

fn is_listed<T>(process: &Process<T>) -> bool {
    active_children()
        .iter()
        .any(|child| child.pid() == process.pid() && child.name() == process.name())
}

#[offspring::test(timeout = "20s")]
fn a_child_is_what_its_parent_says_it_is() {
    let builder =
        ProcessBuilder::new().name("bob").daemon(true).generation(3).stdin(Stdio::piped());
    let mut process = builder.spawn(tell_facts::new(7, "é".to_owned())).unwrap();
    assert!(process.is_alive() && is_listed(&process));
    assert_eq!(process.exit_reason(), None);
    process.take_stdin().unwrap().write_all(b"go\n").unwrap();

    let facts = process.join().unwrap();
    assert_eq!((facts.number, facts.text.as_str()), (7, "é"));
    assert_eq!((facts.name.as_str(), facts.label.trim_end()), ("bob", "bob"));
    assert_eq!((facts.pid, facts.daemon), (process.pid(), true));
    assert_eq!((facts.depth, facts.generation), (1, 3));
    assert_eq!(facts.parent, Some(("main".to_owned(), std::process::id())));
    assert_eq!((process.name(), process.is_daemon()), ("bob", true));
    assert!(!process.is_alive() && !is_listed(&process));
    assert_eq!(process.exit_reason(), Some(ExitReason::Returned));
    assert_eq!(process.exit_reason().unwrap().code(), Some(0));
}

#[offspring::test(timeout = "20s")]
fn the_program_itself_has_no_parent() {
    let current = offspring::current();
    assert_eq!(
        (current.name(), current.pid(), current.is_daemon()),
        ("main", std::process::id(), false)
    );
    assert_eq!((current.depth(), current.generation()), (0, 0));
    assert!(offspring::parent().is_none());
}

#[offspring::test(timeout = "20s")]
fn the_default_name_is_the_workers_with_a_number_of_its_own() {
    let (one, two) = (answer::spawn().unwrap(), answer::spawn().unwrap());
    let number = |process: &Process<u32>| {
        process.name().strip_prefix("answer-").unwrap().parse::<u32>().unwrap()
    };
    assert_ne!(number(&one), number(&two));
}

/// Its own flag, and that of a child for each way to ask for it.
#[offspring::worker]
fn flags() -> (bool, [bool; 3]) {
    let default = own_flag::spawn().unwrap();
    let yes = ProcessBuilder::new().daemon(true).spawn(own_flag::new()).unwrap();
    let no = ProcessBuilder::new().daemon(false).spawn(own_flag::new()).unwrap();
    (own_flag(), [default, yes, no].map(|child| child.join().unwrap()))
}

#[offspring::worker]
fn own_flag() -> bool {
    offspring::current().is_daemon()
}

#[offspring::test(timeout = "20s")]
fn the_daemon_flag_is_inherited_unless_it_is_given() {
    assert!(!own_flag::spawn().unwrap().join().unwrap());
    let of_daemon = ProcessBuilder::new().daemon(true).spawn(flags::new()).unwrap();
    let of_other = ProcessBuilder::new().daemon(false).spawn(flags::new()).unwrap();
    assert_eq!(of_daemon.join().unwrap(), (true, [true, true, false]));
    assert_eq!(of_other.join().unwrap(), (false, [false, true, false]));
}

/// Prints its place in the tree, and starts two children one after the other.
#[offspring::worker]
fn branch(place: Vec<u32>) {
    println!("{place:?}");
    if place.len() < 2 {
        for child in 0..2 {
            branch::spawn([place.as_slice(), &[child]].concat()).unwrap().join().unwrap();
        }
    }
}

#[offspring::test(timeout = "20s")]
fn children_start_children_and_join_them() {
    let mut root = ProcessBuilder::new().stdout(Stdio::piped()).spawn(branch::new(vec![])).unwrap();
    let mut lines = Lines::of(&mut root);
    let order: Vec<String> = std::iter::from_fn(|| lines.next()).collect();
    assert_eq!(order, ["[]", "[0]", "[0, 0]", "[0, 1]", "[1]", "[1, 0]", "[1, 1]"]);
    root.join().unwrap();
}

#[derive(Serialize, Deserialize, Worker)]
struct Holds {
    #[serde(skip)]
    held: Option<Arc<()>>,
}

impl ProcessWorker for Holds {
    type Output = bool;
    fn run(self) -> bool {
        self.held.is_some()
    }
}

#[offspring::test(timeout = "20s")]
fn the_parent_keeps_no_copy_of_the_worker() {
    let held = Arc::new(());
    let worker = || Holds { held: Some(held.clone()) };
    let process = worker().spawn().unwrap();
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(!process.join().unwrap());
    // Nor after an error.
    ProcessBuilder::new().name("").spawn(worker()).unwrap_err();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[derive(Serialize, Deserialize, Worker)]
struct Shout {
    connection: Connection<String, Option<String>>,
}

impl ProcessWorker for Shout {
    type Output = usize;
    fn run(self) -> usize {
        let mut shouted = 0;
        while let Some(word) = self.connection.recv().unwrap() {
            self.connection.send(word.to_uppercase()).unwrap();
            shouted += 1;
        }
        shouted
    }
}

#[offspring::test(timeout = "20s")]
fn a_worker_type_serves_over_a_pipe_of_its_own() {
    let (ours, theirs) = pipe().unwrap();
    let process = ProcessBuilder::new().daemon(true).spawn(Shout { connection: theirs }).unwrap();
    for (word, answer) in [("hello", "HELLO"), ("world", "WORLD")] {
        ours.send(Some(word.to_owned())).unwrap();
        assert_eq!(ours.recv().unwrap(), answer);
    }
    ours.send(None).unwrap();
    assert_eq!(process.join().unwrap(), 2);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Surroundings {
    directory: PathBuf,
    colour: Option<String>,
    home: Option<String>,
    /// Our own variable, which nothing that a worker starts must see.
    marked: bool,
    arguments: Vec<String>,
}

#[offspring::worker]
fn surroundings() -> Surroundings {
    Surroundings {
        directory: std::env::current_dir().unwrap(),
        colour: std::env::var("COLOUR").ok(),
        home: std::env::var("HOME").ok(),
        marked: std::env::vars().any(|(name, _)| name == "OFFSPRING_CHILD"),
        arguments: std::env::args().collect(),
    }
}

/// The environment of itself and of its child: without options, and with others.
#[offspring::worker]
fn surroundings_of_three() -> [Surroundings; 3] {
    let alike = surroundings::spawn().unwrap();
    let other = ProcessBuilder::new()
        .env("COLOUR", "red")
        .env_remove("HOME")
        .current_dir("/")
        .spawn(surroundings::new())
        .unwrap();
    [surroundings(), alike.join().unwrap(), other.join().unwrap()]
}

#[offspring::test(timeout = "20s")]
fn environment_and_directory_are_the_parents_unless_they_are_given() {
    let directory = tempfile::tempdir().unwrap();
    let stage = ProcessBuilder::new()
        .env("COLOUR", "blue")
        .env("HOME", "/home")
        .current_dir(directory.path());
    let [own, alike, other] = stage.spawn(surroundings_of_three::new()).unwrap().join().unwrap();
    assert_eq!(own.directory, directory.path().canonicalize().unwrap());
    assert_eq!(
        (own.colour.as_deref(), own.home.as_deref(), own.marked),
        (Some("blue"), Some("/home"), false)
    );
    assert_eq!(alike, own);
    assert_eq!((other.colour.as_deref(), other.home, other.marked), (Some("red"), None, false));
    assert_eq!(other.directory, PathBuf::from("/"));
}

#[offspring::test(timeout = "20s")]
fn env_clear_leaves_only_what_is_set_after_it() {
    let builder = ProcessBuilder::new().env("COLOUR", "blue").env_clear().env("HOME", "/nowhere");
    let seen = builder.spawn(surroundings::new()).unwrap().join().unwrap();
    assert_eq!((seen.colour, seen.home.as_deref(), seen.marked), (None, Some("/nowhere"), false));
}

#[offspring::worker]
fn backtrace_is_asked_for() -> bool {
    std::backtrace::Backtrace::capture().status() == std::backtrace::BacktraceStatus::Captured
}

#[offspring::test(timeout = "20s")]
fn the_flags_of_rusts_runtime_are_those_of_the_environment() {
    let with = |value| {
        ProcessBuilder::new()
            .env("RUST_BACKTRACE", value)
            .spawn(backtrace_is_asked_for::new())
            .unwrap()
    };
    assert!(with("1").join().unwrap());
    assert!(!with("0").join().unwrap());
}

#[offspring::test(timeout = "20s")]
fn options_that_cannot_be_used_are_named() {
    let long = "x".repeat(10_000);
    let bad: [(&str, ProcessBuilder); 9] = [
        ("name", ProcessBuilder::new().name("")),
        ("name", ProcessBuilder::new().name(long)),
        ("name", ProcessBuilder::new().name("a\0b")),
        ("OpenFiles", ProcessBuilder::new().rlimit(Resource::OpenFiles, 20, 10)),
        ("argument", ProcessBuilder::new().env("A", "nul \0 inside")),
        ("environment variable", ProcessBuilder::new().env("A=B", "c")),
        ("environment variable", ProcessBuilder::new().env("", "c")),
        ("environment variable", ProcessBuilder::new().env_remove("A=B")),
        ("current_dir", ProcessBuilder::new().current_dir("nul \0 inside")),
    ];
    for (expected, builder) in bad {
        let shown = format!("{builder:?}");
        match builder.spawn(answer::new()) {
            Err(error @ SpawnError::InvalidOption { .. }) => {
                assert!(error.to_string().contains(expected), "{error} for {shown}")
            }
            other => panic!("{other:?} for {shown}"),
        }
    }
}

#[offspring::test(timeout = "20s")]
fn absurd_options_are_errors_or_harmless() {
    let never_ready =
        ProcessBuilder::new().start_timeout(Duration::ZERO).spawn(answer::new()).unwrap_err();
    assert!(
        never_ready.is_timeout() && matches!(never_ready, SpawnError::Timeout { .. }),
        "{never_ready:?}"
    );
    let patient = ProcessBuilder::new().start_timeout(Duration::MAX).generation(u32::MAX);
    assert_eq!(patient.spawn(answer::new()).unwrap().join().unwrap(), 42);
    // More than the system passes on.
    for builder in [
        ProcessBuilder::new().env("LONG", "x".repeat(10_000_000)),
        ProcessBuilder::new().current_dir("x".repeat(10_000)),
        ProcessBuilder::new().program("x".repeat(10_000)),
        ProcessBuilder::new().program(""),
    ] {
        let error = builder.spawn(answer::new()).unwrap_err();
        assert!(matches!(error, SpawnError::Io { .. }), "{error:?}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_working_directory_that_is_not_there_is_named() {
    for directory in ["/nowhere/at/all", "/dev/null"] {
        let error = ProcessBuilder::new().current_dir(directory).spawn(answer::new()).unwrap_err();
        assert!(matches!(error, SpawnError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains("working directory"), "{error}");
    }
}

#[offspring::test(timeout = "20s")]
fn a_hundred_short_children_return() {
    for _ in 0..4 {
        let children: Vec<_> = (0..25).map(|_| answer::spawn().unwrap()).collect();
        for child in children {
            assert_eq!(child.join().unwrap(), 42);
            assert_eq!(child.exit_reason(), Some(ExitReason::Returned));
        }
    }
}

/// How deep it gets before a start is refused.
#[offspring::worker]
fn dig() -> (u32, String) {
    match dig::spawn() {
        Ok(deeper) => deeper.join().unwrap(),
        Err(error) => (offspring::current().depth(), format!("{error:?}")),
    }
}

#[offspring::test(timeout = "20s")]
fn the_depth_limit_is_the_last_fuse() {
    let root = ProcessBuilder::new().env("OFFSPRING_MAX_DEPTH", "3").spawn(dig::new()).unwrap();
    let (depth, error) = root.join().unwrap();
    assert!(
        depth == 3 && error.starts_with("TooDeep (processes are nested 3 deep"),
        "{depth}: {error}"
    );
}
