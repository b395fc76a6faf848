//! Standard input, output and error of this process.

use std::io;
use std::os::fd::OwnedFd;

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
    match rustix::io::fcntl_getfd(fd) {
        // If stdin was closed, its number may belong to anything by now, such as one of our
        // sockets. Those are close-on-exec, and stdio never is.
        Err(rustix::io::Errno::BADF) => Ok(None),
        Ok(flags) if flags.contains(rustix::io::FdFlags::CLOEXEC) => Ok(None),
        _ => Ok(Some(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)),
    }
}

/// Returns a pipe, both ends close-on-exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
