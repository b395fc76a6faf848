//! Starting a child.
//!
//! A start has this order: first everything that can be wrong with the program (no `init`, an
//! unregistered worker, bad options, a value that does not encode), then the parent's own
//! resources, then the process. So most errors occur before there is a process, and those after the
//! exec end it: see `parent::starting`.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::error::{ExitReason, SpawnError};
use crate::ipc::wire::{self, Shape};
use crate::process::backend::Backend;
use crate::process::child::entry;
use crate::process::current;
use crate::process::default_name::default_name;
use crate::process::handle::{Process, StartedChild};
use crate::process::handshake::{self, CHILD_VARIABLE, Hello, WIRE_VERSION};
use crate::process::identity::{Entry, Identity};
use crate::process::parent::early_stderr::EarlyStderr;
use crate::process::parent::exit;
use crate::process::parent::starting::{StartLimit, StartingChild};
#[cfg(feature = "sandbox")]
use crate::process::sandbox::Sandbox;
use crate::process::spawn_hook::{LogTarget, NewChild};
use crate::process::stdio::{ParentPipes, ParentStdio, Stdio};
use crate::process::value::{self, EncodeWorker, OutgoingValue};
use crate::process::worker::ProcessWorker;
use crate::process::{inline, registry};
use crate::sys::{self, Limit, Pidfd, Setup};

/// The default of [`ProcessBuilder::start_timeout`].
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The default of [`ProcessBuilder::exit_timeout`].
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The depth to which processes may be nested, unless `OFFSPRING_MAX_DEPTH` sets another.
const MAX_DEPTH: u32 = 16;
const NAME_MAX: usize = 200;

/// Configures and starts a child: name, daemon flag, environment, arguments, directory, stdio.
///
/// Dropping it starts nothing; [`spawn`](ProcessBuilder::spawn) consumes it.
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
#[must_use = "does nothing until `spawn` is called"]
pub struct ProcessBuilder {
    name: Option<String>,
    daemon: Option<bool>,
    environment: Vec<EnvChange>,
    arguments: Option<Vec<OsString>>,
    directory: Option<PathBuf>,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    start_timeout: Option<Duration>,
    exit_timeout: Option<Duration>,
    program: Option<OsString>,
    generation: u32,
    slot: Option<u32>,
    detached: bool,
    /// The program gets no handle, so nothing could read a pipe.
    unattended: bool,
    logs: LogTarget,
    pub(super) setup: Setup,
    pub(super) keeps_descriptors: bool,
    pub(super) shielded: bool,
    backend: Option<Backend>,
    #[cfg(feature = "sandbox")]
    sandbox: Option<Sandbox>,
}

#[derive(Debug)]
enum EnvChange {
    Set(OsString, OsString),
    Remove(OsString),
    Clear,
}

impl ProcessBuilder {
    /// Creates a builder with the default of each option, which is stated at its method.
    pub fn new() -> ProcessBuilder {
        ProcessBuilder::default()
    }

    /// Sets the name of the process, for messages, [`current`](crate::current) and `ps` (which
    /// shows 15 bytes). It has 1 to 200 bytes, without control characters.
    ///
    /// Default: the worker's type and a number, such as `Consumer-1`.
    pub fn name(mut self, name: impl Into<String>) -> ProcessBuilder {
        self.name = Some(name.into());
        self
    }

    /// Sets whether the end of the program stops the process (SIGTERM, and SIGKILL after 5 seconds)
    /// instead of waiting for it. SIGTERM ends it without exit hooks, and text that it has not
    /// flushed is lost: stop and join a daemon that is to end in order.
    ///
    /// Default: inherited from this process, as in Python; `false` in the program itself.
    pub fn daemon(mut self, daemon: bool) -> ProcessBuilder {
        self.daemon = Some(daemon);
        self
    }

    /// Sets whether the process outlives this one; see [`Process::detach`].
    ///
    /// The end of the program neither stops a detached process nor waits for it, even if it is a
    /// daemon. Default: `false`.
    pub fn detached(mut self, detached: bool) -> ProcessBuilder {
        self.detached = detached;
        self
    }

    pub(super) fn is_detached(&self) -> bool {
        self.detached
    }

    /// Sets where the records go that the child logs with the `log` crate. Default:
    /// [`LogTarget::Parent`].
    ///
    /// The parent's level and filters apply, even if they change later. Records carry the
    /// key-values `process` and `pid`. When [`join`](Process::join) returns, the parent's logger
    /// has all records that the child logged before its end, however it ended, unless they came
    /// faster than it takes them: [`LogTarget`] says what happens then.
    ///
    /// The child's own logger is installed before its worker runs. A worker that installs one
    /// itself needs [`LogTarget::Off`].
    pub fn logs(mut self, logs: LogTarget) -> ProcessBuilder {
        self.logs = logs;
        self
    }

    /// Sets an environment variable of the child. Default: the parent's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> ProcessBuilder {
        self.environment.push(EnvChange::Set(name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets several environment variables of the child.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> ProcessBuilder {
        variables.into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Removes an environment variable for the child.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> ProcessBuilder {
        self.environment.push(EnvChange::Remove(name.as_ref().to_owned()));
        self
    }

    /// Removes all environment variables for the child, except those that are set afterwards.
    pub fn env_clear(mut self) -> ProcessBuilder {
        self.environment.push(EnvChange::Clear);
        self
    }

    /// Adds an argument, for `std::env::args` in the child. Default: the arguments of this process.
    ///
    /// Under `#[offspring::test]` the child does not get them, because the test harness needs the
    /// arguments for itself.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> ProcessBuilder {
        self.arguments.get_or_insert_default().push(argument.as_ref().to_owned());
        self
    }

    /// Adds several arguments. An empty list replaces the default as well: the child then gets no
    /// arguments, unless others are added.
    pub fn args<A: AsRef<OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> ProcessBuilder {
        let list = self.arguments.get_or_insert_default();
        list.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets the child's working directory. Default: the parent's.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> ProcessBuilder {
        self.directory = Some(directory.into());
        self
    }

    /// Sets the child's stdin. Default: [`Stdio::null`].
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> ProcessBuilder {
        self.stdin = Some(stdin.into());
        self
    }

    /// Sets the child's stdout. Default: [`Stdio::inherit`].
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> ProcessBuilder {
        self.stdout = Some(stdout.into());
        self
    }

    /// Sets the child's stderr. Default: [`Stdio::inherit`].
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> ProcessBuilder {
        self.stderr = Some(stderr.into());
        self
    }

    /// Sets how long the child may take until its worker runs. After that it is killed. Time
    /// counts even while a process is suspended. Default: 10 seconds.
    pub fn start_timeout(mut self, timeout: Duration) -> ProcessBuilder {
        self.start_timeout = Some(timeout);
        self
    }

    /// Sets how long the child may take to exit after its worker has returned. After that it is
    /// killed, but [`join`](Process::join) still returns the output. Default: 10 seconds;
    /// `Duration::MAX` for no limit.
    ///
    /// This is when the exit hooks and static destructors of libraries run, which may hang, and
    /// when coverage tools write their files. The time for which the child waits for its own
    /// children does not count.
    pub fn exit_timeout(mut self, timeout: Duration) -> ProcessBuilder {
        self.exit_timeout = Some(timeout);
        self
    }

    /// Sets the value of [`CurrentProcess::generation`](crate::process::CurrentProcess::generation)
    /// in the child: how many times its parent has restarted the worker. Default: 0.
    pub fn generation(mut self, generation: u32) -> ProcessBuilder {
        self.generation = generation;
        self
    }

    /// Sets the process's place in a pool.
    pub(crate) fn slot(mut self, slot: usize) -> ProcessBuilder {
        self.slot = u32::try_from(slot).ok();
        self
    }

    /// Marks a process whose handle stays inside this crate.
    pub(crate) fn unattended(mut self) -> ProcessBuilder {
        self.unattended = true;
        self
    }

    /// Sets the program that is executed, like [`Command::new`]. Default: the image of this
    /// process, even if its file has been deleted or replaced.
    ///
    /// The program must be a copy of this one, or a wrapper that executes a copy with the same
    /// arguments, environment and stdin (`exec nice copy "$@"`). [`spawn`](ProcessBuilder::spawn)
    /// returns an error for anything else: [`BinaryMismatch`](SpawnError::BinaryMismatch) for
    /// another build.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> ProcessBuilder {
        self.program = Some(program.as_ref().to_owned());
        self
    }

    /// Sets what the worker runs in. Default: the value of the environment variable
    /// `OFFSPRING_BACKEND`, `process` or `inline`; without it, a process.
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

    /// Takes away from the worker what it does not need: it can use its fields, and what the sandbox
    /// names. Default: no sandbox; the worker can do what its user can.
    ///
    /// The sandbox is put on before the worker's value is decoded. If the kernel cannot do what is
    /// asked for, [`spawn`](ProcessBuilder::spawn) returns [`SpawnError::Sandbox`], unless the
    /// sandbox is a [best effort](Sandbox::best_effort). A worker on a thread cannot have one.
    ///
    /// For the workers of pools, actors and supervised children, use `process` of their builders:
    /// [`PoolBuilder::process`](crate::PoolBuilder::process),
    /// [`ActorBuilder::process`](crate::ActorBuilder::process),
    /// [`ChildSpec::process`](crate::supervisor::ChildSpec::process).
    ///
    /// ```
    /// use offspring::Pool;
    /// use offspring::process::Sandbox;
    ///
    /// #[offspring::worker]
    /// fn can_read() -> bool {
    ///     std::fs::read("/etc/passwd").is_ok()
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = Pool::builder()
    ///         .workers(1)
    ///         .process(|_, builder| builder.sandbox(Sandbox::fields_only()))
    ///         .build()?;
    ///     assert_eq!(pool.run(can_read::new())?, false);
    ///     Ok(())
    /// }
    /// ```
    #[cfg(feature = "sandbox")]
    pub fn sandbox(mut self, sandbox: Sandbox) -> ProcessBuilder {
        self.sandbox = Some(sandbox);
        self
    }

    /// Starts a process that runs `worker`, and waits until the worker runs.
    ///
    /// # Errors
    ///
    /// Returns a [`SpawnError`], whose text names the mistake and its remedy. After an error there
    /// is no process, no zombie and no file. Mistakes of the program (no `init`, worker not
    /// registered, bad options, a value that does not encode) are found before a process is started.
    pub fn spawn<W: ProcessWorker>(self, worker: W) -> Result<Process<W::Output>, SpawnError> {
        let encode = || wire::encode_with_raw_handles(&worker, Shape::of::<W>());
        let started = self.spawn_encoded(TypeId::of::<W>(), W::worker_name(), &encode)?;
        Ok(Process::new(started))
    }

    /// The part of a start that is compiled once, and not for each type of worker.
    fn spawn_encoded(
        self,
        worker: TypeId,
        worker_name: &'static str,
        encode: EncodeWorker<'_>,
    ) -> Result<StartedChild, SpawnError> {
        let entry = entry::entry().ok_or(SpawnError::NotInitialized)?;
        let registered = registry::key(worker, worker_name)?;
        if exit::is_exiting() {
            return Err(SpawnError::Exiting);
        }
        let identity = self.identity(worker_name)?;
        self.check()?;
        // Before the child exists: when the child ends, the reaper must be running, and if this
        // program exits, the hook must be installed.
        exit::start_services().map_err(SpawnError::io("start the reaper thread"))?;
        let timeout = self.start_timeout.unwrap_or(START_TIMEOUT);
        if self.backend.map_or_else(Backend::of_program, Ok)? == Backend::Inline {
            #[cfg(feature = "sandbox")]
            if self.sandbox.is_some() {
                return Err(SpawnError::InvalidOption {
                    option: "sandbox",
                    problem: "cannot hold a worker on a thread: use `Backend::Process`".to_owned(),
                });
            }
            let not_registered = SpawnError::NotRegistered { worker: worker_name };
            let run = registry::find(registered).ok_or(not_registered)?;
            let value = value::send_inline(encode)?;
            return inline::spawn(identity, registered, run, value, timeout);
        }
        let limit = StartLimit::after(timeout);
        let child = NewChild { name: &identity.name, logs: self.logs };
        let value = value::send(encode, &child)?;
        self.start(registered, identity, entry, limit, value)
    }

    #[cfg_attr(not(feature = "sandbox"), expect(unused_mut, reason = "the sandbox is taken"))]
    fn start(
        mut self,
        worker: &'static str,
        identity: Identity,
        entry: &Entry,
        limit: StartLimit,
        value: OutgoingValue,
    ) -> Result<StartedChild, SpawnError> {
        let ProcessBuilder { detached, keeps_descriptors, shielded, exit_timeout, .. } = self;
        let (value, channel, has_hooks) = match value {
            OutgoingValue::Bytes(bytes) => (Some(bytes), None, false),
            OutgoingValue::Channel { end, has_hooks } => (None, Some(end), has_hooks),
        };
        let image = match self.program {
            // This process's own image is executed, so there is nothing to compare.
            None => None,
            Some(_) => {
                Some(sys::image_identity().map_err(SpawnError::io("read this program's image"))?)
            }
        };
        let pipe = (!detached).then(sys::pipe).transpose();
        let (their_liveness, liveness) = pipe.map_err(SpawnError::io("make a pipe"))?.unzip();
        #[cfg(feature = "sandbox")]
        let sandbox = self.sandbox.take().map(Sandbox::into_plan);
        #[cfg(feature = "sandbox")]
        let has_sandbox = sandbox.is_some();
        #[cfg(not(feature = "sandbox"))]
        let has_sandbox = false;
        let (mut starting, early_stderr, stdio, pipes) = self.exec(&identity.name, entry, limit)?;
        let hello = Hello {
            version: WIRE_VERSION,
            image,
            registry: registry::fingerprint(),
            worker: worker.to_owned(),
            identity: identity.clone(),
            entry: entry.clone(),
            stdio: [stdio[0].is_some(), stdio[1].is_some(), true],
            early_stderr,
            keeps_descriptors,
            detached,
            shielded,
            exit_timeout: exit_timeout.unwrap_or(EXIT_TIMEOUT),
            has_hooks,
            #[cfg(feature = "sandbox")]
            sandbox,
            value,
        };
        let after = [channel.as_ref().map(AsFd::as_fd), their_liveness.as_ref().map(AsFd::as_fd)];
        starting.send_hello(&hello, &stdio, &after)?;
        // The child has its own copies now. If this process kept the other ends, it would never see
        // the end of a pipe.
        drop((stdio, channel, their_liveness));
        starting.wait_started(has_sandbox)?;
        let record = starting.finish(&identity, worker, liveness)?;
        if detached {
            record.detach();
        }
        Ok((record, pipes))
    }

    /// Finds the options that no system could apply.
    fn check(&self) -> Result<(), SpawnError> {
        let invalid = |option, problem: &str| {
            Err(SpawnError::InvalidOption { option, problem: problem.to_owned() })
        };
        if self.stdin.as_ref().is_some_and(Stdio::is_relayed) {
            return invalid(
                "stdin",
                "cannot be passed on line by line: only stdout and stderr can",
            );
        }
        let stdio = [("stdin", &self.stdin), ("stdout", &self.stdout), ("stderr", &self.stderr)];
        for (option, stdio) in stdio {
            if self.unattended && stdio.as_ref().is_some_and(Stdio::is_piped) {
                return invalid(
                    option,
                    "cannot be piped: the pool or supervisor keeps the process, so nobody could \
                     take the other end. Use a file, `prefixed` or `null`",
                );
            }
        }
        if let Some(problem) = self.setup.limits.iter().find_map(Limit::problem) {
            return invalid("rlimit", &problem);
        }
        #[cfg(feature = "sandbox")]
        self.sandbox.as_ref().map_or(Ok(()), Sandbox::check)?;
        self.setup.check().or_else(|problem| invalid("cpus", &problem))
    }

    fn identity(&self, registered: &'static str) -> Result<Identity, SpawnError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let parent = current::current();
        let depth = parent.depth();
        let limit = std::env::var("OFFSPRING_MAX_DEPTH")
            .ok()
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(MAX_DEPTH);
        if depth >= limit {
            return Err(SpawnError::TooDeep { depth });
        }
        let name = self.name.clone().unwrap_or_else(|| default_name(registered, &COUNT));
        let wrong = match name.len() {
            0 => Some(format!("is empty: use 1 to {NAME_MAX} bytes")),
            length if length > NAME_MAX => {
                Some(format!("has {length} bytes: use at most {NAME_MAX}"))
            }
            _ => name
                .contains(char::is_control)
                .then(|| format!("{name:?} contains a control character")),
        };
        if let Some(problem) = wrong {
            return Err(SpawnError::InvalidOption { option: "name", problem });
        }
        Ok(Identity {
            name,
            daemon: self.daemon.unwrap_or(parent.is_daemon()),
            depth: depth + 1,
            generation: self.generation,
            slot: self.slot,
            parent: Some((parent.name().to_owned(), process::id())),
        })
    }

    /// Executes the image. Also returns the identity of the pipe that is its early stderr, and the
    /// descriptors that later become its stdin and stdout.
    fn exec(
        self,
        name: &str,
        entry: &Entry,
        limit: StartLimit,
    ) -> Result<(StartingChild, (u64, u64), [Option<OwnedFd>; 2], ParentPipes), SpawnError> {
        let stdio_error = || SpawnError::io("set up stdin, stdout and stderr");
        let open = |stdio: Stdio, which| stdio.open(which, name).map_err(stdio_error());
        // If there is no descriptor for it, the child's stdin is empty.
        let (stdin, stdin_end) = match self.stdin.filter(|stdin| !stdin.is_null()) {
            Some(stdin) => open(stdin, 0).map(|(stdin, end)| (Some(stdin), end))?,
            None => (None, ParentStdio::None),
        };
        let (stdout, stdout_end) = open(self.stdout.unwrap_or_else(Stdio::inherit), 1)?;
        let (stderr, stderr_end) = open(self.stderr.unwrap_or_else(Stdio::inherit), 2)?;
        let (control, theirs) = sys::packet_pair().map_err(SpawnError::io("make a socket pair"))?;
        let mut later = [stdin, None];

        let mut command = self.program.map_or_else(sys::this_program, Command::new);
        let (early, early_stderr) = EarlyStderr::new(stderr).map_err(stdio_error())?;
        let early_identity = sys::file_identity(early_stderr.as_fd()).map_err(stdio_error())?;
        command.stdin(theirs).stderr(early_stderr);
        match entry {
            Entry::Main => {
                let arguments =
                    self.arguments.unwrap_or_else(|| std::env::args_os().skip(1).collect());
                command.args(arguments).stdout(stdout);
            }
            Entry::Test(path) => {
                // The harness itself prints to /dev/null; the worker gets the real stdout in
                // `init`.
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
            if let EnvChange::Set(name, _) | EnvChange::Remove(name) = &change {
                check_variable(name)?;
            }
            match change {
                EnvChange::Set(name, value) => command.env(name, value),
                EnvChange::Remove(name) => command.env_remove(name),
                EnvChange::Clear => command.env_clear(),
            };
        }
        command.env(CHILD_VARIABLE, handshake::child_mark(name));
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        // Without such options nothing runs between fork and exec, and std can use `posix_spawn`,
        // which does not copy this process's page tables.
        let limits = self.setup.limits.clone();
        self.setup.apply_to(&mut command);
        let child = command.spawn().map_err(|cause| start_error(cause, &command, &limits))?;
        // The command holds the child's ends. While the parent holds one, it cannot notice that the
        // child has closed its own.
        drop(command);
        let pidfd = match Pidfd::of(&child) {
            Ok(pidfd) => pidfd,
            Err(cause) => return Err(unwatched(name, child, cause)),
        };
        let pipes = ParentPipes::new(stdin_end, stdout_end, stderr_end);
        let starting =
            StartingChild::new(child.id(), name.to_owned(), pidfd, control, limit, early);
        Ok((starting, early_identity, later, pipes))
    }
}

/// Names the part of the start that failed: a step of its setup, the working directory, or the
/// program.
fn start_error(cause: io::Error, command: &Command, limits: &[Limit]) -> SpawnError {
    if let Some((act, cause)) = sys::failed_step(&cause, limits) {
        return SpawnError::Io { act, cause };
    }
    if cause.kind() == io::ErrorKind::InvalidInput {
        return SpawnError::InvalidOption {
            option: "an argument, environment variable, program or current_dir",
            problem: format!("cannot be passed to a process: {cause}"),
        };
    }
    if cause.kind() == io::ErrorKind::NotFound && !sys::has_proc() {
        return SpawnError::Io { act: "start this program, which needs /proc".into(), cause };
    }
    let program = Path::new(command.get_program()).display();
    let act = match command.get_current_dir() {
        Some(directory) if !directory.is_dir() => {
            format!("enter the working directory `{}`", directory.display())
        }
        Some(directory) => {
            format!("start `{program}` in the working directory `{}`", directory.display())
        }
        None => format!("start `{program}`"),
    };
    SpawnError::Io { act: act.into(), cause }
}

/// Ends a child for which there is no pidfd, with std's own means.
fn unwatched(name: &str, mut child: Child, cause: io::Error) -> SpawnError {
    if cause.raw_os_error() == Some(sys::NO_SUCH_PROCESS) {
        // It has ended, and host code took its status, so its pid may already belong to another
        // process.
        return SpawnError::Died {
            name: name.to_owned(),
            pid: child.id(),
            reason: ExitReason::Unknown,
            stderr: String::new(),
        };
    }
    let _ = child.kill();
    let _ = child.wait();
    SpawnError::io(match cause.raw_os_error() {
        Some(sys::NO_SUCH_CALL) => {
            "watch the new process (is this valgrind, or an emulator? It needs Linux 5.4; with OFFSPRING_BACKEND=inline, workers are threads)"
        }
        _ => "watch the new process",
    })(cause)
}

/// Rejects names that the system would accept but split at the wrong `=`.
fn check_variable(name: &OsStr) -> Result<(), SpawnError> {
    if !name.is_empty() && !name.as_encoded_bytes().contains(&b'=') {
        return Ok(());
    }
    Err(SpawnError::InvalidOption {
        option: "an environment variable",
        problem: format!("is called {name:?}: use a name that is not empty, without `=`"),
    })
}
