//! The stdin, stdout and stderr of a child.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process;
use std::sync::Arc;
use std::time::Instant;

use crate::process::parent::relay::{self, LineHandler, RelayTarget, RelayedPipe};
use crate::sys;

/// The stdin, stdout or stderr of a child. Dropping it closes the file that it holds, if any.
///
/// The default for stdin is [`null`](Stdio::null), because two processes that read from one
/// terminal take each other's input. The default for stdout and stderr is
/// [`inherit`](Stdio::inherit).
///
/// ```
/// use std::io::Write;
/// use offspring::{ProcessBuilder, Stdio};
///
/// #[offspring::worker]
/// fn shout() {
///     let mut line = String::new();
///     std::io::stdin().read_line(&mut line).unwrap();
///     print!("{}", line.to_uppercase());
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut child = ProcessBuilder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn(shout::new())?;
///     child.take_stdin().expect("it is a pipe").write_all(b"hello\n")?;
///     assert_eq!(child.join_with_output().stdout, b"HELLO\n");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Stdio(StdioKind);

#[derive(Debug)]
enum StdioKind {
    Inherit,
    Null,
    Piped,
    Prefixed,
    Lines(LineHandler),
    File(OwnedFd),
}

/// The parent's end of a child's stdin, stdout or stderr.
#[derive(Debug)]
pub(super) enum ParentStdio {
    None,
    Pipe(OwnedFd),
    /// The relay reads it.
    Relayed(Arc<RelayedPipe>),
}

impl ParentStdio {
    /// Returns a pipe for the handle, or adds the pipe to those that the relay reads.
    fn split<P: From<OwnedFd>>(self, relayed: &mut Vec<Arc<RelayedPipe>>) -> Option<P> {
        match self {
            ParentStdio::None => None,
            ParentStdio::Pipe(fd) => Some(fd.into()),
            ParentStdio::Relayed(pipe) => {
                relayed.push(pipe);
                None
            }
        }
    }
}

impl Stdio {
    /// The parent's own stdin, stdout or stderr.
    #[must_use]
    pub fn inherit() -> Stdio {
        Stdio(StdioKind::Inherit)
    }

    /// `/dev/null`: reads return the end of the file, and writes are discarded.
    #[must_use]
    pub fn null() -> Stdio {
        Stdio(StdioKind::Null)
    }

    /// A pipe. [`Process::take_stdin`](crate::Process::take_stdin), `take_stdout` and `take_stderr`
    /// return the other end.
    #[must_use]
    pub fn piped() -> Stdio {
        Stdio(StdioKind::Piped)
    }

    /// For stdout and stderr: the parent prints each line to its own stdout or stderr, with
    /// `[name] ` before it.
    ///
    /// Lines of different processes are not mixed. A last line without a newline is printed when
    /// the process ends, however it ends. [`join`](crate::Process::join) returns after the last
    /// line is printed; if the parent's own stdout is blocked, it waits for at most a second more.
    ///
    /// A line longer than 64 KiB is printed in pieces. One thread of the parent prints for all
    /// children; while it is blocked, a child blocks once its pipe is full (64 KiB).
    ///
    /// ```
    /// use offspring::{ProcessBuilder, Stdio};
    ///
    /// #[offspring::worker]
    /// fn greet() {
    ///     println!("hello");
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let bob = ProcessBuilder::new().name("bob").stdout(Stdio::prefixed()).spawn(greet::new())?;
    ///     bob.join()?; // prints `[bob] hello`
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn prefixed() -> Stdio {
        Stdio(StdioKind::Prefixed)
    }

    /// For stdout and stderr: the parent calls this function with each line, without its newline.
    /// So lines can go where the program's own output goes: above a progress bar, to a logger, into
    /// a user interface.
    ///
    /// The function runs on the thread that [`prefixed`](Stdio::prefixed) prints on, which serves
    /// all children, and what is said there holds here, too: about the last line, about `join`,
    /// about lines longer than 64 KiB, and about a function that blocks. If it panics, the panic is
    /// reported, and the next line comes. Bytes that are not UTF-8 become U+FFFD; control characters
    /// stay.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use offspring::{Pool, Stdio};
    ///
    /// #[offspring::worker]
    /// fn halve(n: u32) -> u32 {
    ///     if n % 2 == 1 {
    ///         eprintln!("{n} is odd");
    ///     }
    ///     n / 2
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let (lines, printed) = mpsc::channel();
    ///     let builder = Pool::builder().workers(2).process(move |_, process| {
    ///         let lines = lines.clone();
    ///         process.stderr(Stdio::lines(move |line| lines.send(line.to_owned()).unwrap_or(())))
    ///     });
    ///     let pool = builder.build()?;
    ///     assert_eq!(pool.run(halve::new(7))?, 3);
    ///     assert_eq!(printed.recv()?, "7 is odd");
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn lines(handle: impl Fn(&str) + Send + Sync + 'static) -> Stdio {
        Stdio(StdioKind::Lines(LineHandler(Arc::new(handle))))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.0, StdioKind::Null)
    }

    pub(super) fn is_piped(&self) -> bool {
        matches!(self.0, StdioKind::Piped)
    }

    /// Returns whether the parent reads it line by line.
    pub(super) fn is_relayed(&self) -> bool {
        matches!(self.0, StdioKind::Prefixed | StdioKind::Lines(_))
    }

    /// Opens both ends, the child's and the parent's. `which` is 0 for stdin, 1 for stdout, 2 for
    /// stderr.
    pub(super) fn open(&self, which: u8, name: &str) -> io::Result<(OwnedFd, ParentStdio)> {
        match &self.0 {
            // If it is closed in this process, the child gets `/dev/null`.
            StdioKind::Inherit => {
                Ok((sys::own_stdio(which)?.map_or_else(null, Ok)?, ParentStdio::None))
            }
            StdioKind::Null => Ok((null()?, ParentStdio::None)),
            StdioKind::Piped => {
                let (read, write) = sys::pipe()?;
                Ok(if which == 0 {
                    (read, ParentStdio::Pipe(write))
                } else {
                    (write, ParentStdio::Pipe(read))
                })
            }
            StdioKind::Prefixed => relayed(which, name, RelayTarget::Print),
            StdioKind::Lines(handler) => {
                relayed(which, name, RelayTarget::Handler(handler.clone()))
            }
            StdioKind::File(file) => Ok((file.try_clone()?, ParentStdio::None)),
        }
    }
}

fn relayed(which: u8, name: &str, target: RelayTarget) -> io::Result<(OwnedFd, ParentStdio)> {
    let (read, write) = sys::pipe()?;
    Ok((write, ParentStdio::Relayed(relay::start_pipe(name, read, which == 2, target)?)))
}

fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio(StdioKind::File(file.into()))
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio(StdioKind::File(fd))
    }
}

impl From<process::ChildStdin> for Stdio {
    fn from(pipe: process::ChildStdin) -> Stdio {
        OwnedFd::from(pipe).into()
    }
}

impl From<process::ChildStdout> for Stdio {
    fn from(pipe: process::ChildStdout) -> Stdio {
        OwnedFd::from(pipe).into()
    }
}

impl From<process::ChildStderr> for Stdio {
    fn from(pipe: process::ChildStderr) -> Stdio {
        OwnedFd::from(pipe).into()
    }
}

/// The parent's ends of a child's pipes.
#[derive(Debug, Default)]
pub(super) struct ParentPipes {
    pub(super) stdin: Option<process::ChildStdin>,
    pub(super) stdout: Option<process::ChildStdout>,
    pub(super) stderr: Option<process::ChildStderr>,
    relayed: Vec<Arc<RelayedPipe>>,
    /// The bytes of stdout and stderr that
    /// [`Process::join_with_output`](crate::Process::join_with_output) has read.
    pub(super) captured: [Vec<u8>; 2],
}

impl ParentPipes {
    pub(super) fn new(stdin: ParentStdio, stdout: ParentStdio, stderr: ParentStdio) -> ParentPipes {
        let mut relayed = Vec::new();
        ParentPipes {
            stdin: stdin.split(&mut relayed),
            stdout: stdout.split(&mut relayed),
            stderr: stderr.split(&mut relayed),
            relayed,
            captured: Default::default(),
        }
    }

    /// Returns the last kilobyte of the child's stderr, if this process has read it: it reads a
    /// stderr that is prefixed, or piped and collected by `join_with_output`.
    pub(super) fn stderr_tail(&self) -> String {
        let relayed = self.relayed.iter().find_map(|pipe| pipe.stderr_tail());
        relayed.unwrap_or_else(|| relay::tail_text(&self.captured[1]))
    }

    /// Waits until the relay has printed the last lines of a child that has ended.
    pub(super) fn flush(&self, deadline: Option<Instant>) {
        // If the relay is blocked for one pipe, it is blocked for all: stop at the first timeout.
        self.relayed.iter().all(|pipe| pipe.flush(deadline));
    }
}
