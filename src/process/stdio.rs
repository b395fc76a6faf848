//! What a child's stdin, stdout and stderr are.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process;
use std::sync::Arc;
use std::time::Instant;

use crate::process::parent::relay::{self, Place, Stream};
use crate::sys;

/// What a child gets as stdin, stdout or stderr. Dropping one closes what it holds.
///
/// The default is [`null`](Stdio::null) for stdin, since two processes that read one terminal take each
/// other's input, and [`inherit`](Stdio::inherit) for the others.
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
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Inherit,
    Null,
    Piped,
    Prefixed,
    File(OwnedFd),
}

/// What stays with the parent.
#[derive(Debug)]
pub(crate) enum End {
    None,
    Pipe(OwnedFd),
    Shown(Arc<Stream>),
}

impl End {
    /// The end of a pipe; what is shown is noted in `shown`.
    pub(crate) fn pipe<P: From<OwnedFd>>(self, shown: &mut Vec<Arc<Stream>>) -> Option<P> {
        match self {
            End::None => None,
            End::Pipe(fd) => Some(fd.into()),
            End::Shown(stream) => {
                shown.push(stream);
                None
            }
        }
    }
}

impl Stdio {
    /// The same as the parent's.
    #[must_use]
    pub fn inherit() -> Stdio {
        Stdio(Kind::Inherit)
    }

    /// Nothing to read; what is written is dropped.
    #[must_use]
    pub fn null() -> Stdio {
        Stdio(Kind::Null)
    }

    /// A pipe whose other end [`Process::take_stdin`](crate::Process::take_stdin), `take_stdout` or `take_stderr` gives.
    #[must_use]
    pub fn piped() -> Stdio {
        Stdio(Kind::Piped)
    }

    /// For stdout and stderr: each line appears in the parent's own, with `[name] ` before it, whole. The last one
    /// also if it has no end when the process dies. [`join`](crate::Process::join) returns after them, unless nobody
    /// takes what the parent prints: then it waits for at most a second.
    ///
    /// A line of more than 64 KiB is shown in pieces. One thread of the parent does it for all children; while
    /// nobody takes what it prints, children wait once they have written 64 KiB more.
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
        Stdio(Kind::Prefixed)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.0, Kind::Null)
    }

    pub(crate) fn is_prefixed(&self) -> bool {
        matches!(self.0, Kind::Prefixed)
    }

    /// The child's end, and the parent's. `which` is 0, 1 or 2 of the process called `name`.
    pub(crate) fn open(&self, which: u8, name: &str) -> io::Result<(OwnedFd, End)> {
        match &self.0 {
            // A closed stdin, stdout or stderr of ours becomes an empty one of the child.
            Kind::Inherit => Ok((sys::own_stdio(which)?.map_or_else(null, Ok)?, End::None)),
            Kind::Null => Ok((null()?, End::None)),
            Kind::Piped => {
                let (read, write) = sys::pipe()?;
                Ok(if which == 0 {
                    (read, End::Pipe(write))
                } else {
                    (write, End::Pipe(read))
                })
            }
            Kind::Prefixed => {
                let (read, write) = sys::pipe()?;
                let place = if which == 1 {
                    Place::Stdout
                } else {
                    Place::Stderr
                };
                Ok((write, End::Shown(relay::show(name, read, place)?)))
            }
            Kind::File(file) => Ok((file.try_clone()?, End::None)),
        }
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into())
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio(Kind::File(file.into()))
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio(Kind::File(fd))
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
pub(crate) struct Pipes {
    pub(crate) stdin: Option<process::ChildStdin>,
    pub(crate) stdout: Option<process::ChildStdout>,
    pub(crate) stderr: Option<process::ChildStderr>,
    pub(crate) shown: Vec<Arc<Stream>>,
    /// What [`Process::join_with_output`](crate::Process::join_with_output) has read: stdout, stderr.
    pub(crate) collected: [Vec<u8>; 2],
}

impl Pipes {
    pub(crate) fn new(stdin: End, stdout: End, stderr: End) -> Pipes {
        let mut shown = Vec::new();
        Pipes {
            stdin: stdin.pipe(&mut shown),
            stdout: stdout.pipe(&mut shown),
            stderr: stderr.pipe(&mut shown),
            shown,
            collected: Default::default(),
        }
    }

    /// Waits for the last lines of a child that has ended.
    pub(crate) fn settle(&self, deadline: Option<Instant>) {
        // If one does not get out, the others do not either.
        self.shown.iter().all(|stream| stream.settle(deadline));
    }
}
