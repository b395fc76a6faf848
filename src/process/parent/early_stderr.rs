//! What a child writes to stderr before it is one of ours.
//!
//! Until it has received its worker, its stderr is a pipe to the parent, which passes everything on at once and
//! remembers the end for the error of a start that fails. Then the child puts the real stderr in that place. A pipe,
//! and not a file in memory that is read afterwards: so nothing is late, and nothing is lost with the parent.
//!
//! All must be passed on before the child writes to the real one. Mostly there is nothing, and nobody waits: the pipe is empty, and
//! the parent, which says [`Order::Hold`] *before* it takes anything out, has said nothing. Else the child waits for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::process::handshake::{self, Answer, Order};
use crate::sys;

/// How much an error tells of it.
const TAIL_MAX: usize = 4 << 10;
/// So many reads empty a pipe that nobody fills meanwhile.
const ROUNDS: usize = 20;
/// How long a reader that does not read is waited for when the start has failed.
const PATIENCE: Duration = Duration::from_millis(100);

/// The parent's side. Dropped, it is done: who writes into the pipe afterwards has no reader.
#[derive(Debug)]
pub(crate) struct Early {
    from: OwnedFd,
    to: OwnedFd,
    /// Read, and not yet passed on. While there is any, nothing more is read: a child whose reader is slow waits for it.
    pending: Vec<u8>,
    tail: Vec<u8>,
    /// Nobody can write any more.
    ended: bool,
    /// Whether the child knows that something was written.
    held: bool,
}

impl Early {
    /// For a child whose stderr will be `to`: gives what it gets until then.
    pub(crate) fn new(to: OwnedFd) -> io::Result<(Early, OwnedFd)> {
        let (from, theirs) = sys::pipe()?;
        sys::set_nonblocking(from.as_fd())?;
        let early = Early {
            from,
            to,
            pending: Vec::new(),
            tail: Vec::new(),
            ended: false,
            held: false,
        };
        Ok((early, theirs))
    }

    /// The real stderr.
    pub(crate) fn real(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }

    /// What to wait for before the next [`pass_on`](Early::pass_on); `None` when all is done.
    pub(crate) fn interest(&self) -> Option<sys::IoInterest<'_>> {
        match (self.pending.is_empty(), self.ended) {
            (false, _) => Some(sys::IoInterest::Write(self.to.as_fd())),
            (true, false) => Some(sys::IoInterest::Read(self.from.as_fd())),
            (true, true) => None,
        }
    }

    /// As [`pass_on`](Early::pass_on), while the child may be about to change to the real one.
    pub(crate) fn pass_on_for(&mut self, lifeline: BorrowedFd<'_>) {
        if !self.held && sys::has_unread(self.from.as_fd()) {
            self.held = true;
            // A child that is gone writes nothing.
            let _ = handshake::tell(lifeline, &Order::Hold, &[]);
        }
        self.pass_on();
    }

    /// Passes on, without waiting, all that is there now, as far as it is taken.
    pub(crate) fn pass_on(&mut self) {
        for _ in 0..ROUNDS {
            if !self.pending.is_empty() && !self.write() {
                return;
            }
            let mut bytes = [0; sys::PIPE_ATOMIC];
            match sys::read_some(self.from.as_fd(), &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.ended = true,
                Ok(count) => self.take(&bytes[..count]),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_MAX));
    }

    /// Whether all that is pending is written.
    fn write(&mut self) -> bool {
        match sys::write_now(self.to.as_fd(), &self.pending) {
            Ok(None) => {}
            Ok(Some(count)) => drop(self.pending.drain(..count)),
            // The real one is closed: the child would have written into nothing.
            Err(_) => self.pending.clear(),
        }
        self.pending.is_empty()
    }

    /// The start has failed: gives the end of what was written.
    pub(crate) fn tail(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        self.pass_on();
        while !self.pending.is_empty() && sys::wait_writable(self.real(), deadline) {
            self.pass_on();
        }
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    /// The child has its real stderr. If others have the pipe, a wrapper around it or what that started, a thread
    /// stays for them.
    pub(crate) fn leave(mut self) {
        self.pass_on();
        if self.interest().is_some() {
            // Without a thread what they write is lost, as it is when this process ends.
            let _ = sys::service_thread("offspring-stderr", move || self.stay());
        }
    }

    fn stay(mut self) {
        while let Some(interest) = self.interest() {
            sys::wait_for(interest);
            self.pass_on();
        }
    }
}

/// In the child: puts the real stderr in its place, unless a wrapper has put something else there.
pub(crate) fn settle(lifeline: BorrowedFd<'_>, pipe: (u64, u64), real: OwnedFd) -> io::Result<()> {
    if sys::stderr_identity() != Some(pipe) {
        return Ok(());
    }
    // In this order: what is not in the pipe any more was announced before.
    if sys::stderr_has_unread() || handshake::hear_now::<Order>(lifeline).is_ok() {
        handshake::tell(lifeline, &Answer::Early, &[])?;
        while !matches!(handshake::hear(lifeline)?, Some((Order::GoOn, _)) | None) {}
    }
    sys::set_stdio(None, None, Some(real))
}
