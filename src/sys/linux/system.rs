use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Instant;

use super::streams::Interest;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

/// Runs `call` with all signals blocked on this thread, for calls that cannot be retried on EINTR.
pub(crate) fn with_signals_blocked<R>(call: impl FnOnce() -> R) -> R {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: `self.0` is the mask that `pthread_sigmask` wrote below.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    let _restore = Restore(set_signal_mask(true));
    call()
}

fn set_signal_mask(full: bool) -> libc::sigset_t {
    // SAFETY: both sets are plain data that the calls initialise before anything reads them; a mask
    // can be set from any thread for itself.
    unsafe {
        let (mut new, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        if full {
            libc::sigfillset(&mut new);
        } else {
            libc::sigemptyset(&mut new);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &new, &mut old);
        old
    }
}

/// Gives a new child the signals of a fresh program: what its parent blocked or ignored is inherited
/// through exec, and would make `terminate` do nothing.
pub(crate) fn reset_signals() {
    for signal in (1..=libc::SIGRTMAX()).filter(|&signal| signal != libc::SIGPIPE) {
        // SAFETY: reads a disposition into plain data, then sets it to the default; a handler that somebody
        // installed in this process stays. Numbers that the system does not let one ask for are an error.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
            {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
    shrug_off_interrupts();
    set_signal_mask(false);
}

/// Makes SIGINT do nothing, unless somebody handles it: a terminal sends it to the whole family, and the parent
/// decides what it means. By a handler, since a signal that is ignored stays so in programs that this one starts.
fn shrug_off_interrupts() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: reads a disposition into plain data, and sets one whose fields are all given; the handler does nothing,
    // which is safe at any moment.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGINT, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_DFL
        {
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
        }
    }
}

/// Ends the process at once: no exit hooks, no destructors, no flush.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is always allowed.
    unsafe { libc::_exit(code) }
}

/// Runs `hook` when the process exits: after `main`, by `process::exit` or after a panic in `main`.
pub(crate) fn at_exit(hook: extern "C" fn()) {
    // SAFETY: `hook` is a plain function that lives as long as the program. If there is no memory to
    // note it, the children still end with us, by their lifeline.
    unsafe { libc::atexit(hook) };
}

/// Removes a variable from the environment.
///
/// Called by `init` in a new child, before any code of the user runs.
pub(crate) fn remove_env(name: &str) {
    // SAFETY: a new child has started no thread that reads the environment: `init` is the first thing in
    // `main`, or in a test that runs alone in its harness, whose main thread only waits.
    unsafe { std::env::remove_var(name) };
}

/// The name that `ps` and `top` show; the system keeps 15 bytes.
pub(crate) fn set_process_name(name: &str) {
    let end = (0..=name.len().min(15))
        .rev()
        .find(|&end| name.is_char_boundary(end))
        .unwrap_or(0);
    let short = &name[..end];
    // The process's name is its main thread's, and a test runs on another. Only a label: a system that
    // refuses it loses nothing.
    if rustix::thread::gettid() == rustix::process::getpid() {
        let _ = std::ffi::CString::new(short).map(|short| rustix::thread::set_name(&short));
    } else {
        let _ = std::fs::write("/proc/self/comm", short);
    }
}

/// An `Err` if shared memory of this length cannot be made: ipc-channel panics then.
pub(crate) fn probe_shared_memory(length: usize) -> io::Result<()> {
    let memory = rustix::fs::memfd_create("offspring", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memory, length as u64)?;
    Ok(())
}

/// Shared memory of this length, of which no page exists before somebody writes to it. It never shrinks: whoever maps
/// it can touch all of it.
pub(crate) fn sparse_memory(length: usize) -> io::Result<OwnedFd> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| limit < length as u64) {
        // Asking for more would be a deadly signal.
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create(SPARSE_NAME, flags)?;
    rustix::fs::ftruncate(&memory, length as u64)?;
    rustix::fs::fcntl_add_seals(
        &memory,
        rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW | rustix::fs::SealFlags::SEAL,
    )?;
    Ok(memory)
}

/// As ipc-channel names its own, for `close_inherited`.
const SPARSE_NAME: &str = "/ipc-channel-shared-memory.sparse";

/// A second descriptor for a socket of this number, which somebody else keeps open meanwhile.
pub(crate) fn duplicate_socket(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller holds the socket that has this number; were it another one by now, the system or the check
    // below refuses it, and nothing but a second descriptor was made and closed.
    let original = unsafe { BorrowedFd::borrow_raw(number) };
    let socket = rustix::io::fcntl_dupfd_cloexec(original, 3)?;
    rustix::net::sockopt::socket_type(&socket)?;
    Ok(socket)
}

/// Puts a second descriptor of `ours` in the place of this number, which belongs to an object that the caller holds, of the same
/// kind, and that has not been used.
pub(crate) fn replace(number: RawFd, ours: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the owner of that number knows nothing but the number, and in one step it gets another descriptor of the same
    // kind; `ours` stays as it is.
    let replaced = unsafe { libc::dup3(ours.as_raw_fd(), number, libc::O_CLOEXEC) };
    if replaced < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Waits until most of a socket's buffer is free, or its other end gone; whether it was before the deadline.
pub(crate) fn wait_for_room(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    poll_until(
        &mut [PollFd::from_borrowed_fd(socket, PollFlags::OUT)],
        deadline,
    )
}

/// Random bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += retry(|| {
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
        })?;
    }
    Ok(bytes)
}

/// What [`Pidfd::of`] says of a child whose status is taken.
pub(crate) const NO_SUCH_PROCESS: i32 = libc::ESRCH;

/// Whether stdin is a packet socket, as a child's is.
pub(crate) fn stdin_is_packet_socket() -> bool {
    rustix::net::sockopt::socket_type(rustix::stdio::stdin())
        .is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

/// The command that starts the running image again, also after its file was deleted or replaced.
pub(crate) fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    // Without it `ps` would show the link's name.
    if let Some(arg0) = std::env::args_os().next() {
        command.arg0(arg0);
    }
    command
}

/// What tells one executable file from another.
pub(crate) fn image_identity() -> io::Result<[u64; 4]> {
    let file = std::fs::metadata("/proc/self/exe")?;
    Ok([
        file.dev(),
        file.ino(),
        file.len(),
        file.mtime_nsec() as u64 ^ file.mtime() as u64,
    ])
}

/// A connected pair of packet sockets, both close-on-exec.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// The most descriptors in one packet.
const PACKET_FDS: usize = 6;

/// Sends one packet, with descriptors. Never blocks: the few packets of a start fit the buffer.
pub(crate) fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one packet"));
    }
    let sent = retry(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
    })?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::other("a packet was cut"))
    }
}

/// Receives one packet of at most `limit` bytes; an empty one is the end of the stream.
pub(crate) fn recv_packet(
    socket: BorrowedFd<'_>,
    limit: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    recv_packet_with(socket, limit, RecvFlags::CMSG_CLOEXEC)
}

/// As [`recv_packet`], without waiting for a packet.
pub(crate) fn try_recv_packet(
    socket: BorrowedFd<'_>,
    limit: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    recv_packet_with(socket, limit, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

fn recv_packet_with(
    socket: BorrowedFd<'_>,
    limit: usize,
    flags: RecvFlags,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    // Nearly all are short, and memory for the longest would be the most that a new process touches.
    let mut waiting = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    if waiting == 0 {
        match retry(|| {
            recv(
                socket,
                &mut [0; 0][..],
                (flags & RecvFlags::DONTWAIT) | RecvFlags::PEEK,
            )
        }) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error),
            _ => waiting = rustix::io::ioctl_fionread(socket).unwrap_or(limit as u64),
        }
    }
    let mut bytes = vec![0; limit.min(waiting as usize) + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut receive = || {
        retry(|| {
            recvmsg(
                socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                flags,
            )
        })
    };
    let received = match receive() {
        // The other side is gone and has not read all that was said to it. What it said before is still here.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive()?,
        received => received?,
    };
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a packet is too long",
        ));
    }
    bytes.truncate(received.bytes);
    Ok((bytes, fds))
}

/// The begin of the next packet, which stays there; `None` if there is none, or the stream is at its end.
pub(crate) fn peek_packet<const N: usize>(socket: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut bytes = [0; N];
    let (_, count) = retry(|| {
        recv(
            socket,
            &mut bytes[..],
            RecvFlags::DONTWAIT | RecvFlags::PEEK,
        )
    })
    .ok()?;
    (count > 0).then(|| bytes[..count].to_vec())
}

/// Takes the first packet out of the buffer of a socket, unless any descriptor is with it; whether it did.
pub(crate) fn discard_plain_packet(socket: BorrowedFd<'_>) -> bool {
    let look = |flags| {
        let (mut nothing, mut no_space) = ([], RecvAncillaryBuffer::default());
        retry(|| {
            recvmsg(
                socket,
                &mut [IoSliceMut::new(&mut nothing)],
                &mut no_space,
                flags | RecvFlags::DONTWAIT,
            )
        })
    };
    // Without room for them, the system says that they are cut off.
    let is_plain =
        look(RecvFlags::PEEK).is_ok_and(|packet| !packet.flags.contains(ReturnFlags::CTRUNC));
    is_plain && look(RecvFlags::empty()).is_ok()
}

/// A descriptor that lies in the buffer of a socket, and stays there.
pub(crate) fn peek_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut bytes = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::PEEK | RecvFlags::DONTWAIT;
    retry(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags,
        )
    })?;
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors
        .next()
        .and_then(|mut descriptors| descriptors.next());
    descriptor.ok_or_else(|| io::Error::other("no descriptor is left for it"))
}

pub(in crate::sys) fn retry<R>(mut call: impl FnMut() -> rustix::io::Result<R>) -> io::Result<R> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Takes the inherited socket away from stdin, and puts `stdin` there (or nothing to read).
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// Puts descriptors in the places of stdin, stdout and stderr.
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

/// A second descriptor for this process's own stdin, stdout or stderr (0, 1, 2); `None` if it is closed.
pub(crate) fn own_stdio(which: u8) -> io::Result<Option<OwnedFd>> {
    let fd = match which {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    };
    match rustix::io::fcntl_getfd(fd) {
        // In the place of one that was closed, anything may have been opened since, such as a socket of ours;
        // that one is close-on-exec, and stdio never is.
        Err(rustix::io::Errno::BADF) => Ok(None),
        Ok(flags) if flags.contains(rustix::io::FdFlags::CLOEXEC) => Ok(None),
        _ => Ok(Some(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)),
    }
}

/// A pipe, both ends close-on-exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// How a process ended, as the system tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(i32),
    Signaled {
        signal: i32,
        core_dumped: bool,
    },
    /// Somebody else took it.
    Unknown,
}

/// A child of this process, held by a pidfd: no signal through it can reach a stranger.
#[derive(Debug)]
pub(crate) struct Pidfd(pub(in crate::sys) OwnedFd);

impl Pidfd {
    pub(crate) fn of(child: &Child) -> io::Result<Pidfd> {
        let pid = Pid::from_raw(child.id() as i32).ok_or_else(|| io::Error::other("no pid"))?;
        Ok(Pidfd(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// SIGTERM, then SIGCONT: a stopped process must run to die of the first.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub(in crate::sys) fn signal(&self, signal: Signal) {
        // The only failure is that it has ended already, which is what was wanted.
        let _ = pidfd_send_signal(&self.0, signal);
    }

    /// Takes the status of the ended process; `None` if it still runs.
    pub(crate) fn reap(&self) -> Option<Status> {
        self.ask(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// As [`reap`](Pidfd::reap), and leaves it there.
    pub(crate) fn status(&self) -> Option<Status> {
        self.ask(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    fn ask(&self, how: WaitIdOptions) -> Option<Status> {
        match retry(|| waitid(WaitId::PidFd(self.0.as_fd()), how)) {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Status::Exited(code),
                (None, Some(signal)) => Status::Signaled {
                    signal,
                    core_dumped: status.dumped(),
                },
                (None, None) => Status::Unknown,
            }),
            Err(_) => Some(Status::Unknown),
        }
    }

    /// Waits for the end of the process until `deadline`; whether it came.
    pub(crate) fn wait_end(&self, deadline: Instant) -> io::Result<bool> {
        poll_until(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(deadline))
    }

    /// Waits for the end of the process, for something to read on `socket`, or for `other`, until `deadline`.
    pub(crate) fn wait_or_readable(
        &self,
        socket: BorrowedFd<'_>,
        other: Option<Interest<'_>>,
        deadline: Instant,
    ) -> io::Result<Waited> {
        let mut fds = [
            PollFd::from_borrowed_fd(socket, PollFlags::IN),
            PollFd::new(&self.0, PollFlags::IN),
            other.unwrap_or(Interest::Read(socket)).poll(),
        ];
        if !poll_until(&mut fds[..2 + usize::from(other.is_some())], Some(deadline))? {
            return Ok(Waited::Timeout);
        }
        // Something readable comes first: a process that answered and then died has answered.
        Ok(match fds.each_ref().map(|fd| !fd.revents().is_empty()) {
            _ if fds[0].revents().contains(PollFlags::IN) => Waited::Readable,
            [_, true, _] => Waited::Ended,
            [true, ..] => Waited::Readable,
            // What never rests must not keep us from seeing the time.
            _ if deadline <= Instant::now() => Waited::Timeout,
            _ => Waited::Other,
        })
    }
}

/// Whether something happened before the deadline.
pub(in crate::sys) fn poll_until(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    retry(|| {
        let timeout = deadline.map(time_left);
        poll(fds, timeout.as_ref())
    })
    .map(|ready| ready > 0)
}

/// Whether there is something now.
pub(in crate::sys) fn is_ready(fds: &mut [PollFd<'_>]) -> io::Result<bool> {
    // Without a look at the clock, which in a new process is code and data that nothing has touched yet.
    retry(|| {
        poll(
            fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
    })
    .map(|ready| ready > 0)
}

pub(in crate::sys) fn time_left(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// What [`Pidfd::wait_or_readable`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Readable,
    Ended,
    Other,
    Timeout,
}

/// Starts a thread of our own: it blocks all signals from its first instruction on, so it never runs
/// anybody's handler.
pub(crate) fn service_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // The new thread inherits the mask of the one that starts it.
    with_signals_blocked(|| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
    })
    .map(drop)
}

/// Bytes of memory that a process has in use (resident); `None` if it is gone.
pub(crate) fn resident_memory(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
