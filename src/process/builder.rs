//! Starting a child.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{self, Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{ExitReason, SpawnError};
use crate::process::child::entry::{self, CHILD_VARIABLE, Entry};
use crate::process::child::serve;
use crate::process::current::{self, Identity};
use crate::process::handle::Process;
use crate::process::handshake::{Hello, WIRE_VERSION};
use crate::process::inline::{self, Backend};
use crate::process::parent::early_stderr::Early;
use crate::process::parent::exit;
use crate::process::parent::reaper;
use crate::process::parent::starting::{Limit, Start};
use crate::process::registry::{self, ProcessWorker};
use crate::process::spawn_hook::{Heir, LogTarget};
use crate::process::stdio::{End, Pipes, Stdio};
use crate::process::value::{self, Sent};
use crate::sys::{self, Pidfd, Setup};

/// How long a child may take until its worker runs.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How deep processes may be nested; `OFFSPRING_MAX_DEPTH` overrides it.
const MAX_DEPTH: u32 = 16;
const NAME_MAX: usize = 200;

/// How a child is started: name, daemon flag, environment, arguments, directory, stdio.
///
/// Dropping it starts nothing. It is used up by [`spawn`](ProcessBuilder::spawn).
///
/// ```
/// # use offspring::{ProcessWorker, Worker};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, Worker)]
/// struct Greet;
///
/// impl ProcessWorker for Greet {
///     type Output = String;
///     fn run(self) -> String {
///         format!("{} says {}", offspring::current().name(), std::env::var("GREETING").unwrap())
///     }
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let process = offspring::ProcessBuilder::new().name("bob").env("GREETING", "hello").spawn(Greet)?;
///     assert_eq!(process.join()?, "bob says hello");
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
#[must_use = "must eventually spawn a worker"]
pub struct ProcessBuilder {
    name: Option<String>,
    daemon: Option<bool>,
    environment: Vec<Change>,
    arguments: Option<Vec<OsString>>,
    directory: Option<PathBuf>,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    start_timeout: Option<Duration>,
    program: Option<OsString>,
    generation: u32,
    detached: bool,
    logs: LogTarget,
    pub(super) setup: Setup,
    pub(super) keeps_descriptors: bool,
    backend: Option<Backend>,
}

#[derive(Debug)]
enum Change {
    Set(OsString, OsString),
    Remove(OsString),
    Clear,
}

impl ProcessBuilder {
    /// The defaults, each stated at its method.
    pub fn new() -> ProcessBuilder {
        ProcessBuilder::default()
    }

    /// The process's name, for messages, [`current`](crate::current) and `ps` (which shows 15 bytes).
    /// Default: the worker's type and a number, such as `Consumer-1`. 1 to 200 bytes without NUL.
    pub fn name(mut self, name: impl Into<String>) -> ProcessBuilder {
        self.name = Some(name.into());
        self
    }

    /// Whether the process is stopped at the end of the program (SIGTERM, after 5 s SIGKILL) instead of
    /// waited for. Default: what this process itself is, as in Python; `false` for the program.
    pub fn daemon(mut self, daemon: bool) -> ProcessBuilder {
        self.daemon = Some(daemon);
        self
    }

    /// Whether the process outlives this one; see [`Process::detach`]. At the end of the program it is neither stopped
    /// nor waited for, daemon or not. Default: `false`.
    pub fn detached(mut self, detached: bool) -> ProcessBuilder {
        self.detached = detached;
        self
    }

    /// Where the records go that the child logs with the `log` crate. Default: [`LogTarget::Parent`].
    ///
    /// The parent's level and filters count, also when they change later. Records carry the key-values `process` and
    /// `pid`. What a child logged before its end is with the logger when [`join`](Process::join) returns, however it ended; records that
    /// come faster than the parent's logger takes them are dropped, and their number is logged.
    ///
    /// The child's own logger is set already when its worker runs: a worker that sets one itself wants
    /// [`LogTarget::Off`].
    pub fn logs(mut self, logs: LogTarget) -> ProcessBuilder {
        self.logs = logs;
        self
    }

    /// Sets an environment variable of the child. Default: the parent's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> ProcessBuilder {
        self.environment.push(Change::Set(
            name.as_ref().to_owned(),
            value.as_ref().to_owned(),
        ));
        self
    }

    /// Sets several.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> ProcessBuilder {
        variables
            .into_iter()
            .fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Removes an environment variable for the child.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> ProcessBuilder {
        self.environment
            .push(Change::Remove(name.as_ref().to_owned()));
        self
    }

    /// Removes all of them; those set afterwards stay.
    pub fn env_clear(mut self) -> ProcessBuilder {
        self.environment.push(Change::Clear);
        self
    }

    /// Adds an argument, for `std::env::args` in the child. Default, if none is given: the arguments of
    /// the program. Under `#[offspring::test]` the test harness needs the arguments for itself: there the
    /// child does not get these.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> ProcessBuilder {
        self.arguments
            .get_or_insert_default()
            .push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments; an empty list means none.
    pub fn args<A: AsRef<OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> ProcessBuilder {
        let list = self.arguments.get_or_insert_default();
        list.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// The child's working directory. Default: the parent's.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> ProcessBuilder {
        self.directory = Some(directory.into());
        self
    }

    /// The child's stdin. Default: [`Stdio::null`].
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> ProcessBuilder {
        self.stdin = Some(stdin.into());
        self
    }

    /// The child's stdout. Default: [`Stdio::inherit`].
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> ProcessBuilder {
        self.stdout = Some(stdout.into());
        self
    }

    /// The child's stderr. Default: [`Stdio::inherit`].
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> ProcessBuilder {
        self.stderr = Some(stderr.into());
        self
    }

    /// How long the child may take until its worker runs; then it is killed. Default: 10 s.
    pub fn start_timeout(mut self, timeout: Duration) -> ProcessBuilder {
        self.start_timeout = Some(timeout);
        self
    }

    /// What [`CurrentProcess::generation`](crate::process::CurrentProcess::generation) says in the child: for those who
    /// start a worker again when it has ended, how often they did. Default: 0.
    pub fn generation(mut self, generation: u32) -> ProcessBuilder {
        self.generation = generation;
        self
    }

    /// What is executed, as [`Command::new`] takes it. Default: the image that runs now, also after its
    /// file was deleted or replaced. It must end up as a copy of this program, with its arguments, environment
    /// and stdin as they are given to it: a copy, or a wrapper (`exec nice copy "$@"`). Anything else is an
    /// error of [`spawn`](ProcessBuilder::spawn): [`BinaryMismatch`](SpawnError::BinaryMismatch) for another build.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> ProcessBuilder {
        self.program = Some(program.as_ref().to_owned());
        self
    }

    /// What the worker runs in. Default: what the environment variable `OFFSPRING_BACKEND` says, `process` or `inline`;
    /// without it a process.
    ///
    /// ```
    /// use offspring::ProcessBuilder;
    /// use offspring::process::Backend;
    ///
    /// #[offspring::worker]
    /// fn whose_process() -> (String, u32) {
    ///     (offspring::current().name().to_owned(), std::process::id())
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let here = ProcessBuilder::new().name("bob").backend(Backend::Inline).spawn(whose_process::new())?;
    ///     assert_eq!(here.join()?, ("bob".to_owned(), std::process::id()));
    ///     Ok(())
    /// }
    /// ```
    pub fn backend(mut self, backend: Backend) -> ProcessBuilder {
        self.backend = Some(backend);
        self
    }

    /// Starts a process that runs `worker`, and waits until it does.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] names what was wrong and what to do. Nothing is left behind then: no child, no
    /// zombie, no file. Mistakes of the program (no `init`, worker not registered, two workers of one
    /// name, bad options, a value that does not encode) are found before a process is started.
    pub fn spawn<W: ProcessWorker>(self, worker: W) -> Result<Process<W::Output>, SpawnError> {
        let entry = entry::entry().ok_or(SpawnError::NotInitialized)?;
        let registered = registry::check::<W>()?;
        if exit::is_exiting() {
            return Err(SpawnError::Exiting);
        }
        let identity = self.identity(registered)?;
        if self.stdin.as_ref().is_some_and(Stdio::is_prefixed) {
            return Err(SpawnError::InvalidOption {
                option: "stdin",
                problem: "cannot be prefixed: only stdout and stderr can".to_owned(),
            });
        }
        // A service of this process that must outlive the child, so it comes first.
        reaper::start().map_err(SpawnError::io("start the reaper thread"))?;
        exit::install();
        let timeout = self.start_timeout.unwrap_or(START_TIMEOUT);
        if self.backend.map_or_else(Backend::of_program, Ok)? == Backend::Inline {
            let value = value::send_here(worker)?;
            return inline::spawn(identity, registered, serve::run::<W>, value, timeout);
        }
        let limit = Limit::of(timeout);
        let heir = Heir {
            name: &identity.name,
            logs: self.logs,
        };
        let value = value::send(worker, &heir)?;
        self.start(registered, identity, entry, limit, value)
    }

    fn start<T: DeserializeOwned>(
        self,
        worker: &'static str,
        identity: Identity,
        entry: &Entry,
        limit: Limit,
        value: Sent,
    ) -> Result<Process<T>, SpawnError> {
        let (detached, keeps_descriptors) = (self.detached, self.keeps_descriptors);
        let (value, channel, has_belongings) = match value {
            Sent::Bytes(bytes) => (Some(bytes), None, false),
            Sent::Channel {
                end,
                has_belongings,
            } => (None, Some(end), has_belongings),
        };
        let image = match self.program {
            // It is this image that is executed.
            None => None,
            Some(_) => {
                Some(sys::image_identity().map_err(SpawnError::io("read this program's image"))?)
            }
        };
        let lives = (!detached).then(sys::pipe).transpose();
        let (theirs, life) = lives.map_err(SpawnError::io("make a pipe"))?.unzip();
        let (mut start, early, stdio, pipes) = self.exec(&identity.name, entry, limit)?;
        let hello = Hello {
            version: WIRE_VERSION,
            image,
            registry: registry::fingerprint(),
            worker: worker.to_owned(),
            identity: identity.clone(),
            entry: entry.clone(),
            stdio: [stdio[0].is_some(), stdio[1].is_some(), true],
            early,
            keeps_descriptors,
            detached,
            has_belongings,
            value,
        };
        start.tell(&hello, &stdio, &[channel.as_ref(), theirs.as_ref()])?;
        drop((stdio, channel, theirs));
        start.hear_started()?;
        let process = start.finish(&identity, worker, life, pipes)?;
        if detached {
            process.running.detach();
        }
        Ok(process)
    }

    fn identity(&self, registered: &'static str) -> Result<Identity, SpawnError> {
        let parent = current::current();
        let depth = parent.depth();
        let limit = std::env::var("OFFSPRING_MAX_DEPTH")
            .ok()
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(MAX_DEPTH);
        if depth >= limit {
            return Err(SpawnError::TooDeep { depth });
        }
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| default_name(registered));
        let wrong = match name.len() {
            0 => Some("is empty".to_owned()),
            length if length > NAME_MAX => Some(format!("has {length} bytes")),
            _ => name.contains('\0').then(|| "has a NUL in it".to_owned()),
        };
        if let Some(wrong) = wrong {
            return Err(SpawnError::InvalidOption {
                option: "name",
                problem: format!("{wrong}: use 1 to {NAME_MAX} bytes without NUL"),
            });
        }
        Ok(Identity {
            name,
            daemon: self.daemon.unwrap_or(parent.is_daemon()),
            depth: depth + 1,
            generation: self.generation,
            parent: Some((parent.name().to_owned(), process::id())),
        })
    }

    /// Starts the image. Gives also which file its stderr is, and what becomes its stdin and stdout later.
    fn exec(
        self,
        name: &str,
        entry: &Entry,
        limit: Limit,
    ) -> Result<(Start, (u64, u64), [Option<OwnedFd>; 2], Pipes), SpawnError> {
        let stdio_error = || SpawnError::io("set up stdin, stdout and stderr");
        let open = |stdio: Stdio, which| stdio.open(which, name).map_err(stdio_error());
        // Without one it is empty.
        let (stdin, stdin_end) = match self.stdin.filter(|stdin| !stdin.is_null()) {
            Some(stdin) => open(stdin, 0).map(|(stdin, end)| (Some(stdin), end))?,
            None => (None, End::None),
        };
        let (stdout, stdout_end) = open(self.stdout.unwrap_or_else(Stdio::inherit), 1)?;
        let (stderr, stderr_end) = open(self.stderr.unwrap_or_else(Stdio::inherit), 2)?;
        let (lifeline, theirs) =
            sys::packet_pair().map_err(SpawnError::io("make a socket pair"))?;
        let mut later = [stdin, None];

        let mut command = self.program.map_or_else(sys::this_program, Command::new);
        // No hook runs between fork and exec, so std can use the fast and safe `posix_spawn`.
        let (early, early_stderr) = Early::new(stderr).map_err(stdio_error())?;
        let early_identity = sys::file_identity(early_stderr.as_fd()).map_err(stdio_error())?;
        command.stdin(theirs).stderr(early_stderr);
        match entry {
            Entry::Main => {
                let arguments = self
                    .arguments
                    .unwrap_or_else(|| std::env::args_os().skip(1).collect());
                command.args(arguments).stdout(stdout);
            }
            Entry::Test(path) => {
                // The harness's own chatter goes nowhere; the worker gets the real stdout in `init`.
                command.args([
                    path.as_str(),
                    "--exact",
                    "--include-ignored",
                    "--nocapture",
                    "--test-threads=1",
                    "--quiet",
                ]);
                command.stdout(process::Stdio::null());
                later[1] = Some(stdout);
            }
        }
        for change in self.environment {
            if let Change::Set(name, _) | Change::Remove(name) = &change {
                check_variable(name)?;
            }
            match change {
                Change::Set(name, value) => command.env(name, value),
                Change::Remove(name) => command.env_remove(name),
                Change::Clear => command.env_clear(),
            };
        }
        command.env(CHILD_VARIABLE, name);
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        self.setup.apply_to(&mut command);
        let child = spawn_command(&mut command)?;
        // Else the parent would hold the child's end of the lifeline open.
        drop(command);
        let pidfd = match Pidfd::of(&child) {
            Ok(pidfd) => pidfd,
            Err(source) => return Err(lost(name, child, source)),
        };
        let pipes = Pipes::new(stdin_end, stdout_end, stderr_end);
        let start = Start::new(child.id(), name.to_owned(), pidfd, lifeline, limit, early);
        Ok((start, early_identity, later, pipes))
    }
}

fn spawn_command(command: &mut Command) -> Result<Child, SpawnError> {
    let source = match command.spawn() {
        Ok(child) => return Ok(child),
        Err(source) => source,
    };
    if let Some((act, source)) = sys::failed_step(&source) {
        return Err(SpawnError::Io { act, source });
    }
    Err(match source.kind() {
        io::ErrorKind::InvalidInput => SpawnError::InvalidOption {
            option: "an argument, environment variable, program or current_dir",
            problem: format!("cannot be passed to a process: {source}"),
        },
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SpawnError::Io {
            act: "start the program (are it and the working directory there?)",
            source,
        },
        _ => SpawnError::Io {
            act: "start the program",
            source,
        },
    })
}

/// A child that cannot be watched is ended by std's own means.
fn lost(name: &str, mut child: Child, source: io::Error) -> SpawnError {
    if source.raw_os_error() == Some(sys::NO_SUCH_PROCESS) {
        // It has ended, and host code took its status: its pid may be a stranger's already.
        return SpawnError::Died {
            name: name.to_owned(),
            pid: child.id(),
            reason: ExitReason::Unknown,
            stderr: String::new(),
        };
    }
    let _ = child.kill();
    let _ = child.wait();
    SpawnError::Io {
        act: "watch the new process",
        source,
    }
}

/// The system takes such names, and makes another variable of them.
fn check_variable(name: &OsStr) -> Result<(), SpawnError> {
    if !name.is_empty() && !name.as_encoded_bytes().contains(&b'=') {
        return Ok(());
    }
    Err(SpawnError::InvalidOption {
        option: "an environment variable",
        problem: format!("is called {name:?}: use a name that is not empty, without `=`"),
    })
}

/// `Consumer-1` of `app::jobs::Consumer`, `Sum-2` of `app::Sum<f32>`.
fn default_name(registered: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let plain = registered.split('<').next().unwrap_or(registered);
    let short = plain.rsplit("::").next().unwrap_or(plain);
    format!("{short}-{}", COUNT.fetch_add(1, Ordering::Relaxed) + 1)
}
