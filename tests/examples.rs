//! Runs every example as a user would, as a program of its own, and compares its output.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

/// An example that runs longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long the processes of an example may outlive it.
const GRACE: Duration = Duration::from_secs(3);
/// An environment variable that all processes of one run inherit.
const MARK: &str = "OFFSPRING_EXAMPLE_RUN";

#[test]
fn clock_function() {
    let run = example("clock_function").run();
    run.printed("Run >>> 1\nRun >>> 2\nRun >>> 3\nRun >>> 4\nRun >>> 5\nEnding!\n");
    run.printed_as_python_does(&[]);
}

#[test]
fn clock_worker() {
    let run = example("clock_worker").run();
    run.printed("Run >>> 1\nRun >>> 2\nRun >>> 3\nRun >>> 4\nRun >>> 5\nEnding!\n");
    run.printed_as_python_does(&[]);
}

#[test]
fn daemon() {
    let run = example("daemon").run();
    run.printed("Starting!\nENDING!\nEnding!\n");
    run.printed_as_python_does(&[]);
    let run = example("daemon").args(["--daemon"]).run();
    run.printed("Starting!\nENDING!\n");
    run.printed_as_python_does(&["--daemon"]);
}

#[test]
fn producer_consumer() {
    let run = example("producer_consumer").run();
    assert_eq!((run.code(), run.stderr()), (Some(0), ""));
    for side in ["produced", "consumed"] {
        let lines: Vec<&str> = run.stdout().lines().filter(|line| line.starts_with(side)).collect();
        assert_eq!(lines, [1, 2, 3, 4].map(|n| format!("{side} {n}")), "{}", run.stdout());
    }
    run.printed_as_python_does(&[]);
}

#[test]
fn pipe() {
    let run = example("pipe").run();
    run.printed("7\n42\nAdder done\n");
    run.printed_as_python_does(&[]);
}

#[test]
fn async_main() {
    example("async_main").run().printed("168 primes below 1000, 1229 below 10000\n");
}

#[test]
fn sandboxed_decoder() {
    let run = example("sandboxed_decoder").run();
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    let lines: Vec<&str> = run.stdout().lines().collect();
    assert_eq!(lines[..2], ["a picture:", "  64 x 64, average 128"]);
    assert!(lines[2] == "half a picture:" && lines[3].starts_with("  not decoded: "), "{lines:?}");
    assert!(lines[4] == "a bomb:" && lines[5].contains("SIGABRT"), "{lines:?}");
    assert_eq!(
        lines[6..],
        [
            "an attack:",
            "  stolen: Err(PermissionDenied)",
            "  sent: Err(PermissionDenied)",
            "  started: Err(PermissionDenied)",
            "  8 x 8, average 128",
        ]
    );
}

#[test]
fn logging() {
    let run = example("logging").run();
    // Remove the time and the pids.
    let line = |line: &str| {
        let line = line.split_once(' ').map_or(line, |(_, line)| line);
        line.split(" pid=").next().unwrap_or(line).to_owned()
    };
    let lines: Vec<String> = run.stderr().lines().map(line).collect();
    for (name, loaves) in [("anna", 2), ("ben", 3)] {
        let ours: Vec<&String> = lines.iter().filter(|line| line.contains(name)).collect();
        let mut expected: Vec<String> = (1..=loaves)
            .map(|loaf| format!("INFO  logging] in the oven loaf={loaf} process={name}"))
            .collect();
        expected
            .extend((loaves > 2).then(|| format!("WARN  logging] out of flour process={name}")));
        expected.push(format!("INFO  logging] {name} has baked {loaves}"));
        assert_eq!(ours.len(), expected.len(), "{lines:?}");
        assert!(ours.iter().zip(&expected).all(|(line, expected)| *line == expected), "{lines:?}");
    }
    assert_eq!(run.code(), Some(0));
}

#[test]
fn pool_crash() {
    let run = example("pool_crash").run();
    let expected = "60 / 1 = 60\n60 / 2 = 30\n60 / 0: task `pool_crash::divide` panicked in process `pool-N` (pid ...) at \
        examples/pool_crash.rs:10:14: attempt to divide by zero\n60 / 3 = 20\n60 / 13: task `pool_crash::divide` died with its \
        process `pool-N` (pid ...), which was killed by signal 6 (SIGABRT)\n60 / 4 = 15\n60 / 99: task `pool_crash::divide` did not end \
        within 500ms; its process `pool-N` (pid ...) was killed\n60 / 5 = 12\ntasks that failed: 3\n";
    let printed = run.stdout().replace("pool-0", "pool-N").replace("pool-1", "pool-N");
    // It depends on the machine whether a core is dumped.
    assert_eq!(printed.replace(", core dumped", ""), expected, "{}", run.stderr());
    assert_eq!(run.code(), Some(0));
}

#[test]
fn top() {
    let run = example("top").run();
    assert_eq!((run.code(), run.stderr()), (Some(0), ""));
    // Stdout is not a terminal: all rounds are printed, without cursor movements.
    assert!(!run.stdout().contains('\x1b'));
    let rounds: Vec<&str> = run.stdout().split("process ").skip(1).collect();
    assert_eq!(rounds.len(), 8, "{}", run.stdout());
    for round in rounds {
        let mut lines = round.lines().skip(1);
        for start in ["main  ", "├─ anna  ", "├─ ben  ", "└─ carla  ", "", "queue  ", "u32  "]
        {
            assert!(lines.next().is_some_and(|line| line.starts_with(start)), "{start}: {round}");
        }
        assert_eq!(round.matches("count_primes (daemon)").count(), 3);
    }
}

#[test]
fn checksums_of_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("b")).expect("a folder");
    let large: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    for (name, content) in [("a", &b"123456789"[..]), ("b/empty", b""), ("b/large", &large)] {
        fs::write(folder.path().join(name), content).expect("a file");
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let expected = format!(
        "cbf43926  {}\n00000000  {}\ndf5b4358  {}\n",
        path("a"),
        path("b/empty"),
        path("b/large")
    );
    example("checksum").args([folder.path()]).run().printed(&expected);
    let nothing = tempfile::tempdir().expect("a folder");
    example("checksum").args([nothing.path()]).run().printed("");
}

#[test]
fn ctrl_c_ends_a_pool_silently() {
    let corpus = Corpus::new();
    let sparse = corpus.endless();
    let running =
        example("wordcount").in_a_group().args(["--workers", "2"]).args([&sparse]).start();
    let _ = running.worker_with(&sparse);
    // To the whole group, like a terminal.
    let group = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("a pid");
    rustix::process::kill_process_group(group, Signal::INT).expect("it is there");
    let run = running.end();
    assert_eq!((run.code(), run.stdout(), run.stderr()), (None, "", ""));
}

#[test]
fn shared_counter() {
    example("shared_counter").run().printed(
        "three processes counted to 30000\n\
         it died with the lock, which is poisoned now; the value may be half changed: 40000\n",
    );
}

#[test]
fn shared_array() {
    // Numpy computes the same means for this matrix.
    example("shared_array")
        .run()
        .printed("the sums are the same: true\nmean of the first and the last place: 0.12 10.11\ncentered in place: true\n");
}

#[test]
fn manager() {
    let printed =
        "{\"0.25\": \"none\", \"1\": \"one\", \"2\": \"two\"}\n[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]\n";
    example("manager").run().printed(printed);
}

#[test]
fn kv() {
    let run = example("kv").args(["3", "60"]).run();
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert_eq!(run.stdout(), "180 keys written and read back, 180 in the store, 1 restart\n");
}

#[test]
fn every_example_has_a_test() {
    let tests = include_str!("examples.rs");
    for entry in fs::read_dir(sources()).expect("the examples are there") {
        let path = entry.expect("the folder is readable").path();
        let is_example = path.extension() == Some(OsStr::new("rs"))
            || path.join("main.rs").exists()
            || path.join("src/main.rs").exists();
        let name = path.file_stem().expect("a file has a name").display().to_string();
        assert!(
            !is_example || tests.contains(&format!("example(\"{name}\")")),
            "no test runs the example `{name}`"
        );
    }
}

#[test]
fn wordcount_counts_as_one_process_does() {
    let corpus = Corpus::new();
    let expected = corpus.table(100_000);
    corpus.wordcount(["--top", "100000", "--plain"]).counted(&expected);
    for workers in ["1", "2", "5"] {
        corpus.wordcount(["--top", "100000", "--workers", workers]).counted(&expected);
    }
    corpus.wordcount(["--top", "3"]).counted(&corpus.table(3));
    corpus.wordcount(["--top", "3", "--plain"]).counted(&corpus.table(3));
}

#[test]
fn wordcount_counts_a_named_file_once_and_even_if_it_is_binary() {
    let mut corpus = Corpus::new();
    let binary = corpus.path("binary");
    let a = corpus.path("a.txt");
    corpus.expect(b"binary\0file");
    corpus.files += 1;
    corpus.binary = 0;
    for mode in [&["--plain"][..], &["--workers", "4"]] {
        let run = example("wordcount")
            .args(mode)
            .args([corpus.root(), &binary, &a, &a, corpus.root()])
            .run();
        run.counted(&corpus.table(20));
    }
}

#[test]
fn wordcount_of_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let empty = folder.path().join("empty");
    fs::write(&empty, "").expect("a file");
    example("wordcount").args([&empty]).run().counted(&table(&BTreeMap::new(), 20, 1, 0));
    fs::remove_file(&empty).expect("it is there");
    example("wordcount").args([folder.path()]).run().counted(&table(&BTreeMap::new(), 20, 0, 0));
    // The contents of the repository change: check only that it is found, and what cargo has of the
    // packages in its Cargo.lock.
    let cargo = tempfile::tempdir().expect("a temporary folder");
    let package = concat!("registry/src/index/offspring-", env!("CARGO_PKG_VERSION"));
    let package = cargo.path().join(package);
    fs::create_dir_all(&package).expect("a folder");
    fs::write(package.join("file"), "words").expect("a file");
    let run = |arguments: &[&str]| {
        let run = example("wordcount").env("CARGO_HOME", cargo.path()).args(arguments).run();
        assert_eq!((run.code(), run.stderr()), (Some(0), ""));
        let files = run.stdout().lines().find_map(|line| line.strip_suffix("  files"));
        files.expect("a line with the files").trim().parse::<u32>().expect("a number")
    };
    let (repository, all) = (run(&[env!("CARGO_MANIFEST_DIR")]), run(&[]));
    assert!(repository > 100 && all == repository + 1, "{repository}, {all} in all");
}

#[test]
fn wordcount_names_what_it_cannot_count_and_counts_the_rest() {
    let corpus = Corpus::new();
    let missing = corpus.path("is missing");
    let dangling = corpus.path("dangling");
    // It can be opened, but the worker fails to read it.
    let unreadable = Path::new("/proc/self/mem");
    let endless = Path::new("/dev/zero");
    let mut problems = [
        format!("wordcount: {}: No such file or directory (os error 2)\n", missing.display()),
        format!("wordcount: {}: No such file or directory (os error 2)\n", dangling.display()),
        format!("wordcount: {}: Input/output error (os error 5)\n", unreadable.display()),
        format!("wordcount: {}: is neither a file nor a folder\n", endless.display()),
    ];
    problems.sort();
    for mode in [&["--plain"][..], &["--workers", "2"]] {
        let paths = [&missing, unreadable, endless, corpus.root(), &dangling];
        let run = example("wordcount").args(mode).args(paths).run();
        assert_eq!(run.code(), Some(1), "{mode:?}: {}", run.stderr());
        assert_eq!(run.stderr(), problems.concat(), "{mode:?}");
        assert_eq!(run.stdout_without_time(), corpus.table(20), "{mode:?}");
    }
}

#[test]
fn wordcount_loses_only_the_file_that_crashes_its_worker() {
    let corpus = Corpus::new();
    let counted = corpus.table(20);
    corpus.write("poison.txt".as_ref(), b"words that nobody counts");
    let crash = ["--crash", "poison.txt", "--workers", "2", "--tree"];
    let run = corpus.wordcount(crash);
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    assert_eq!(run.stdout_without_time(), counted);
    let verdict = format!(
        "wordcount: {}: 3 workers died while they counted it\n",
        corpus.path("poison.txt").display()
    );
    assert!(run.stderr().ends_with(&verdict), "{}", run.stderr());
    assert!(run.stderr().contains("SIGABRT"), "{}", run.stderr());
    assert!(run.stderr().contains("─ counter-"), "the tree is not in {}", run.stderr());
}

#[test]
fn wordcount_explains_its_usage() {
    let help = example("wordcount").args(["--help"]).run();
    assert_eq!((help.code(), help.stderr()), (Some(0), ""));
    for option in [
        "Usage: wordcount",
        "--workers N",
        "--plain",
        "--top N",
        "--tree",
        "--crash NAME",
        "--help",
        "Exit code",
    ] {
        assert!(help.stdout().contains(option), "{option} is not in:\n{}", help.stdout());
    }
    for (wrong, problem) in [
        (&["--wrong"][..], "unknown option --wrong"),
        (&["--workers", "0"], "--workers needs at least 1"),
        (&["--workers", "many"], "--workers needs a number, not many"),
        (&["--top"], "--top needs a number"),
        (&["--crash"], "--crash needs a name"),
    ] {
        let run = example("wordcount").args(wrong).run();
        assert_eq!((run.code(), run.stdout()), (Some(2), ""), "{wrong:?}");
        assert_eq!(run.stderr(), format!("wordcount: {problem}; see --help\n"));
    }
}

#[test]
fn wordcount_into_a_closed_stdout() {
    let corpus = Corpus::new();
    let root = corpus.root().as_os_str();
    for arguments in [
        &["--help".as_ref()][..],
        &[root],
        &["--plain".as_ref(), "--top".as_ref(), "100000".as_ref(), root],
    ] {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        drop(reader);
        let run = example("wordcount").args(arguments).stdout(writer.into()).run();
        assert_eq!((run.code(), run.stderr()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn wordcount_survives_the_death_of_workers() {
    for workers in ["1", "2"] {
        let mut corpus = Corpus::new();
        let sparse = corpus.endless();
        let running = example("wordcount")
            .args(["--workers", workers])
            .args([corpus.root(), &sparse])
            .start();
        // Fewer than may die at one file.
        for _ in 0..2 {
            let worker = running.worker_with(&sparse);
            kill(worker);
            eventually("it ended", || !running.workers().contains(&worker));
        }
        // The third worker, which may have opened it already, finds its end.
        fs::File::create(&sparse).expect("an empty file");
        corpus.files += 1;
        let run = running.end();
        assert_eq!(run.code(), Some(0), "{}", run.stderr());
        assert_eq!(run.stdout_without_time(), corpus.table(20), "{}", run.stderr());
    }
}

#[test]
fn wordcount_gives_up_a_file_at_which_workers_die() {
    let corpus = Corpus::new();
    let sparse = corpus.endless();
    let running =
        example("wordcount").args(["--workers", "1"]).args([corpus.root(), &sparse]).start();
    for _ in 0..3 {
        let worker = running.worker_with(&sparse);
        kill(worker);
        eventually("it ended", || !running.workers().contains(&worker));
    }
    let run = running.end();
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    let verdict =
        format!("wordcount: {}: 3 workers died while they counted it\n", sparse.display());
    assert!(run.stderr().ends_with(&verdict), "{}", run.stderr());
    assert!(run.stderr().contains("SIGKILL"), "{}", run.stderr());
    assert_eq!(run.stdout_without_time(), corpus.table(20));
}

#[test]
fn wordcount_leaves_no_worker_when_it_is_killed() {
    let corpus = Corpus::new();
    let sparse = corpus.endless();
    let running =
        example("wordcount").args(["--workers", "2"]).args([corpus.root(), &sparse]).start();
    // One of them may still be starting: it must not mistake itself for the main program.
    eventually("two workers run", || running.workers().len() == 2);
    kill(running.pid());
    // `end` checks that no worker is left.
    assert_eq!(running.end().code(), None);
}

/// Text to count, and the expected counts.
struct Corpus {
    folder: tempfile::TempDir,
    files: usize,
    binary: usize,
    words: BTreeMap<String, u64>,
}

impl Corpus {
    /// A few tricky files and many small ones.
    fn new() -> Corpus {
        let mut corpus = Corpus::empty();
        corpus.counted(
            "a.txt",
            b"The quick brown fox, the lazy dog's tail.\nDon't 'quote' rock 'n' roll: a''b' 'c'd'e' ''\n",
        );
        corpus.counted(
            "letters.txt",
            "Straße ÉCOLE école naïve 東京、大阪 ２ x² snake_case 3.14\r\n".as_bytes(),
        );
        corpus.counted("latin-1.txt", b"caf\xe9 cr\xe8me\xff\xfebar'\xe9'foo");
        corpus.counted("cut character.txt", b"abc\xc3");
        corpus.counted("empty", b"");
        corpus.counted("apostrophe at the end", b"end'");
        corpus.counted("late binary", &[b"early ".repeat(2_000), b"\0late".to_vec()].concat());
        corpus.counted("folder/in folder/deep", b"deep, deeper");
        corpus.write(OsStr::from_bytes(b"folder/name \xff.txt"), b"the name is not UTF-8");
        corpus.expect(b"the name is not UTF-8");
        corpus.files += 1;

        // Pieces of 64 KiB end in the middle of words, characters and apostrophes.
        let mut line = "x".repeat(1 << 20);
        while line.len() < 3 << 20 {
            write!(line, " wörd{}'s €é", line.len() % 1_009).expect("a string grows");
        }
        corpus.counted("one long line", line.as_bytes());
        let mut random = Random(7);
        for n in 0..300 {
            let text = random.text(300);
            corpus.counted(&format!("small/{n}.txt"), text.as_bytes());
        }

        corpus.not_counted("folder/.git/config", b"passed over");
        corpus.not_counted("target/debug/log", b"passed over");
        corpus.not_counted("binary", b"binary\0file");
        corpus.binary = 1;
        symlink("..", corpus.path("folder/loop")).expect("a link");
        symlink("nowhere", corpus.path("dangling")).expect("a link");
        symlink("a.txt", corpus.path("link")).expect("a link");
        corpus
    }

    fn empty() -> Corpus {
        Corpus {
            folder: tempfile::tempdir().expect("a temporary folder"),
            files: 0,
            binary: 0,
            words: BTreeMap::new(),
        }
    }

    /// A file that takes longer to count than any test. It is in `target`, so it must be named.
    fn endless(&self) -> PathBuf {
        let path = self.path("target/sparse");
        let file = fs::File::create(&path).expect("a file");
        file.set_len(1 << 40).expect("a file with a hole");
        path
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn write(&self, name: &OsStr, text: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().expect("it is in the corpus")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn not_counted(&self, name: &str, text: &[u8]) {
        self.write(name.as_ref(), text);
    }

    fn counted(&mut self, name: &str, text: &[u8]) {
        self.write(name.as_ref(), text);
        self.expect(text);
        self.files += 1;
    }

    /// Counts differently from the example: all at once, by splitting.
    fn expect(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text).to_lowercase();
        let runs = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
        for word in runs.flat_map(|run| run.split("''")).map(|word| word.trim_matches('\'')) {
            if !word.is_empty() {
                let kept = word.chars().take(256).collect();
                *self.words.entry(kept).or_default() += 1;
            }
        }
    }

    fn table(&self, top: usize) -> String {
        table(&self.words, top, self.files, self.binary)
    }

    fn wordcount<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ended {
        example("wordcount").args(arguments).args([self.root()]).run()
    }
}

fn table(words: &BTreeMap<String, u64>, top: usize, files: usize, binary: usize) -> String {
    let mut sorted: Vec<_> = words.iter().collect();
    // A stable sort, so that words with equal counts stay in order.
    sorted.sort_by(|a, b| b.1.cmp(a.1));
    let mut table = format!("{:>12}  word\n", "count");
    for (word, count) in sorted.into_iter().take(top) {
        writeln!(table, "{count:>12}  {word}").expect("a string grows");
    }
    let total: u64 = words.values().sum();
    write!(
        table,
        "\n{files:>12}  files\n{binary:>12}  binary files skipped\n{total:>12}  words\n{:>12}  distinct words\n",
        words.len()
    )
    .expect("a string grows");
    table
}

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn text(&mut self, words: usize) -> String {
        let mut text = String::new();
        for _ in 0..words {
            // Frequent and rare words, as in a language.
            let rare = self.below(5_000);
            let number = self.below(rare + 1);
            let space = [" ", ", ", ".\n", " '", "' "][self.below(5) as usize];
            write!(text, "{}{number}{space}", ["Word", "w'", "é"][self.below(3) as usize])
                .expect("a string grows");
        }
        text
    }
}

fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))
}

/// An example to run.
struct Example {
    name: &'static str,
    command: Command,
    mark: OsString,
}

fn example(name: &'static str) -> Example {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let test = std::env::current_exe().expect("this test knows its program");
    let profile = test.ancestors().nth(2).expect("the test is in <profile>/deps");
    let program = profile.join("examples").join(name);
    let hint = "`cargo test` builds it, and so does `cargo build --examples` (with the options of the test run)";
    let built = fs::metadata(&program).and_then(|metadata| metadata.modified());
    let built = built.unwrap_or_else(|error| panic!("{}: {error}: {hint}", program.display()));
    assert!(built >= newest_source(name), "{} is older than its source: {hint}", program.display());

    let mark = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let mut command = Command::new(program);
    command.env(MARK, &mark).env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Example { name, command, mark: format!("{MARK}={mark}").into() }
}

fn newest_source(name: &str) -> SystemTime {
    let mut folder = sources().join(name);
    if folder.join("src").exists() {
        folder.push("src");
    }
    let files: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.expect("the folder is readable").path()).collect(),
        Err(_) => vec![folder.with_extension("rs")],
    };
    let modified = files.iter().map(|file| {
        fs::metadata(file).and_then(|metadata| metadata.modified()).expect("the source is there")
    });
    modified.max().expect("an example has a source")
}

impl Example {
    fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Example {
        self.command.args(arguments);
        self
    }

    fn env(mut self, name: &str, value: &Path) -> Example {
        self.command.env(name, value);
        self
    }

    /// With its workers in a process group of its own, as a shell starts it.
    fn in_a_group(mut self) -> Example {
        std::os::unix::process::CommandExt::process_group(&mut self.command, 0);
        self
    }

    fn stdout(mut self, stdout: Stdio) -> Example {
        self.command.stdout(stdout);
        self
    }

    fn start(mut self) -> Running {
        let start = Instant::now();
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        // The command may hold our end of a pipe open.
        drop(self.command);
        Running {
            name: self.name,
            mark: self.mark,
            start,
            pid: child.id(),
            stdout: child.stdout.take().map(read),
            stderr: child.stderr.take().map(read),
            child: std::cell::RefCell::new(child),
        }
    }

    fn run(self) -> Ended {
        self.start().end()
    }
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // On an error, keep what was read before.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A running example. Dropping it kills it and its workers.
struct Running {
    name: &'static str,
    mark: OsString,
    start: Instant,
    pid: u32,
    child: std::cell::RefCell<Child>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn status(&self) -> Option<ExitStatus> {
        self.child.borrow_mut().try_wait().expect("it is our child")
    }

    /// Its living processes.
    fn processes(&self) -> Vec<u32> {
        let pids = fs::read_dir("/proc")
            .expect("/proc is there")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        // Empty for a zombie.
        let environment = |pid| fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        pids.filter(|&pid| {
            environment(pid)
                .split(|&byte| byte == 0)
                .any(|variable| variable == self.mark.as_bytes())
        })
        .collect()
    }

    fn workers(&self) -> Vec<u32> {
        self.processes().into_iter().filter(|&pid| pid != self.pid).collect()
    }

    /// A worker that has this file, or a file in this folder, open.
    fn worker_with(&self, path: &Path) -> u32 {
        let mut found = None;
        eventually("a worker opened the file", || {
            let has_it_open = |&pid: &u32| {
                let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
                files
                    .flatten()
                    .any(|file| fs::read_link(file.path()).is_ok_and(|file| file.starts_with(path)))
            };
            found = self.workers().into_iter().find(has_it_open);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    fn end(mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.status() {
                break Some(status);
            }
            if self.start.elapsed() > DEADLINE {
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let deadline = Instant::now() + GRACE;
        while status.is_some() && !self.processes().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let left = self.kill_all();
        let [stdout, stderr] = [self.stdout.take(), self.stderr.take()].map(|reader| {
            reader
                .map(|reader| reader.join().expect("the reader does not panic"))
                .unwrap_or_default()
        });
        let name = self.name;
        let Some(status) = status else {
            panic!(
                "`{name}` did not end within {DEADLINE:?}; stdout:\n{stdout}\nstderr:\n{stderr}"
            );
        };
        assert!(
            left.is_empty(),
            "`{name}` ended ({status}) and left processes {left:?}; stderr:\n{stderr}"
        );
        Ended { name, status, stdout, stderr }
    }

    /// Returns the processes that it killed.
    fn kill_all(&self) -> Vec<u32> {
        let mut found = Vec::new();
        loop {
            let alive = self.processes();
            if alive.is_empty() {
                return found;
            }
            alive.iter().copied().for_each(kill);
            found.extend(alive);
            thread::sleep(Duration::from_millis(5));
            // Reap it, so that it does not stay a zombie.
            let _ = self.status();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_all();
        let _ = self.status();
    }
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // It may have ended already.
    let _ = kill_process(pid, Signal::KILL);
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The result of an example.
struct Ended {
    name: &'static str,
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn code(&self) -> Option<i32> {
        self.status.code()
    }

    fn stdout(&self) -> &str {
        &self.stdout
    }

    fn stderr(&self) -> &str {
        &self.stderr
    }

    /// Checks that it succeeded and printed exactly this.
    #[track_caller]
    fn printed(&self, stdout: &str) {
        let name = self.name;
        assert_eq!((self.code(), self.stderr()), (Some(0), ""), "`{name}`: exit code and stderr");
        assert_eq!(self.stdout(), stdout, "`{name}`: stdout");
    }

    /// Runs the Python program in the example's documentation, if Python is installed, and checks
    /// that it prints the same lines. Two processes print at once, so their order does not count.
    #[track_caller]
    fn printed_as_python_does(&self, arguments: &[&str]) {
        let source = fs::read_to_string(sources().join(self.name).with_extension("rs"));
        let source = source.expect("the source is there");
        let comment = source.lines().map_while(|line| line.strip_prefix("//!"));
        let program: Vec<&str> = comment
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .skip_while(|line| *line != "```python")
            .skip(1)
            .take_while(|line| *line != "```")
            .collect();
        assert!(program.len() > 5, "`{}`: {program:?}", self.name);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("program.py");
        // Each line at once, and as a whole: unbuffered, the parts of a line are written one by one.
        let lines =
            "import sys\nsys.stdout.reconfigure(line_buffering=True, write_through=False)\n";
        fs::write(&file, lines.to_owned() + &program.join("\n")).expect("a file");
        let Ok(output) = Command::new("python3").arg(&file).args(arguments).output() else {
            eprintln!("skipped: python3 is not installed");
            return;
        };
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            (output.status.code(), sorted(&printed)),
            (Some(0), sorted(self.stdout())),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Like `printed`, but ignores the last line.
    #[track_caller]
    fn counted(&self, table: &str) {
        assert_eq!((self.code(), self.stderr()), (Some(0), ""), "exit code and stderr");
        assert_eq!(self.stdout_without_time(), table);
    }

    #[track_caller]
    fn stdout_without_time(&self) -> &str {
        let lines = self.stdout.trim_end_matches('\n');
        let last = lines.rfind('\n').map_or(0, |end| end + 1);
        assert!(lines[last..].ends_with("  seconds"), "the last line of:\n{}", self.stdout);
        &self.stdout[..last]
    }
}
