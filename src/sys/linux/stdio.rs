//! Standard input, output and error of this process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::SocketType;

/// Returns whether stdin is a packet socket, as it is in a child.
pub(crate) fn stdin_is_packet_socket() -> bool {
    rustix::net::sockopt::socket_type(rustix::stdio::stdin())
        .is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

/// Takes the inherited socket from stdin, and puts /dev/null there.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// Replaces stdin, stdout and stderr.
pub(crate) fn set_stdio(
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
) -> io::Result<()> {
    if let Some(fd) = stdin {
        rustix::stdio::dup2_stdin(fd)?;
    }
    if let Some(fd) = stdout {
        rustix::stdio::dup2_stdout(fd)?;
    }
    if let Some(fd) = stderr {
        rustix::stdio::dup2_stderr(fd)?;
    }
    Ok(())
}

/// Returns a second descriptor for this process's own stdin, stdout or stderr (0, 1, 2); `None` if
/// it is closed.
pub(crate) fn own_stdio(which: u8) -> io::Result<Option<OwnedFd>> {
    let fd = match which {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    };
    is_stdio(fd).then(|| Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)).transpose()
}

/// Returns whether this process has a stdout or stderr of its own.
pub(crate) fn has_output(is_stderr: bool) -> bool {
    is_stdio(if is_stderr { rustix::stdio::stderr() } else { rustix::stdio::stdout() })
}

/// If one of the three was closed, its number may belong to anything by now, such as one of our
/// sockets. Those are close-on-exec, and stdio never is.
fn is_stdio(fd: BorrowedFd<'_>) -> bool {
    rustix::io::fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC))
}

/// Returns a pipe, both ends close-on-exec. In a process that has closed its stdout, they do not get
/// that number: what the process prints must not go into the pipe.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}

/// Returns the same file under a number that is not that of stdin, stdout or stderr.
pub(super) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?) }
}
