//! What a child's stdin, stdout and stderr are.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process;

use crate::sys;

/// What a child gets as stdin, stdout or stderr. Dropping one closes what it holds.
///
/// The default is [`null`](Stdio::null) for stdin, since two processes that read one terminal take each
/// other's input, and [`inherit`](Stdio::inherit) for the others.
#[derive(Debug)]
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Inherit,
    Null,
    Piped,
    File(OwnedFd),
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

    /// The child's end, and the parent's if there is one. `which` is 0, 1 or 2.
    pub(crate) fn open(&self, which: u8) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        match &self.0 {
            // A closed stdin, stdout or stderr of ours becomes an empty one of the child.
            Kind::Inherit => Ok((sys::own_stdio(which)?.map_or_else(null, Ok)?, None)),
            Kind::Null => Ok((null()?, None)),
            Kind::Piped => {
                let (read, write) = sys::pipe()?;
                Ok(if which == 0 { (read, Some(write)) } else { (write, Some(read)) })
            }
            Kind::File(file) => Ok((file.try_clone()?, None)),
        }
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
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

/// The parent's ends of a child's pipes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<process::ChildStdin>,
    pub(crate) stdout: Option<process::ChildStdout>,
    pub(crate) stderr: Option<process::ChildStderr>,
}
