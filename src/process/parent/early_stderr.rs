//! Passes on what a child writes to stderr before its worker runs.
//!
//! Until then its stderr is a pipe to the parent. The parent passes everything on at once, and
//! keeps the last bytes for the error of a start that fails. (A file in memory, read afterwards,
//! would show the text late, and lose it with the parent.) Then the child replaces the pipe with
//! the real stderr.
//!
//! All text in the pipe must be passed on before the child writes to the real stderr, or lines
//! would change places. Usually the pipe is empty, and then neither side waits: the parent sends
//! [`ParentMessage::HoldStderr`] *before* it takes the first byte out of the pipe. So a child that
//! sees an empty pipe and no such message knows that no text is on its way. Otherwise it asks the
//! parent, and waits for [`ParentMessage::ReleaseStderr`]. The child's half is in `child::serve`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::printable;
use crate::process::handshake::{self, ParentMessage};
use crate::sys;

/// How much of the text an error contains.
const TAIL_MAX: usize = 4 << 10;
/// The number of reads that empty a full pipe, unless it is refilled in the meantime.
const ROUNDS: usize = 20;
/// How long a failed start waits if no one reads the real stderr.
const PATIENCE: Duration = Duration::from_millis(100);

/// The parent's half. Dropping it closes the pipe: what is written to it later has no reader.
#[derive(Debug)]
pub(in crate::process) struct EarlyStderr {
    from: OwnedFd,
    to: OwnedFd,
    /// Text that was read from the pipe and is not passed on yet. While there is any, nothing more
    /// is read, so a child whose reader is slow is slowed down.
    pending: Vec<u8>,
    tail: Vec<u8>,
    /// All writing ends are closed.
    ended: bool,
    /// True if the child was sent [`ParentMessage::HoldStderr`].
    held: bool,
}

impl EarlyStderr {
    /// `to` is the child's real stderr. Also returns the end of the pipe that the child gets until
    /// then.
    pub(in crate::process) fn new(to: OwnedFd) -> io::Result<(EarlyStderr, OwnedFd)> {
        let (from, theirs) = sys::pipe()?;
        sys::set_nonblocking(from.as_fd())?;
        let early = EarlyStderr {
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
    pub(super) fn real(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }

    /// Returns the event to wait for before the next [`pass_on`](EarlyStderr::pass_on); `None` when
    /// all is done.
    pub(super) fn interest(&self) -> Option<sys::IoInterest<'_>> {
        match (self.pending.is_empty(), self.ended) {
            (false, _) => Some(sys::IoInterest::Write(self.to.as_fd())),
            (true, false) => Some(sys::IoInterest::Read(self.from.as_fd())),
            (true, true) => None,
        }
    }

    /// Like [`pass_on`](EarlyStderr::pass_on), while the child may be about to switch to the real
    /// stderr.
    pub(super) fn pass_on_during_start(&mut self, control: BorrowedFd<'_>) {
        if !self.held && sys::has_unread(self.from.as_fd()) {
            self.held = true;
            // It fails only if the child is gone. Then the child writes nothing.
            let _ = handshake::send(control, &ParentMessage::HoldStderr, &[]);
        }
        self.pass_on();
    }

    /// Passes on the text that has arrived, as far as its reader takes it, without blocking.
    pub(super) fn pass_on(&mut self) {
        for _ in 0..ROUNDS {
            if !self.pending.is_empty() && !self.write() {
                return;
            }
            let mut bytes = [0; sys::PIPE_ATOMIC];
            match sys::read_some(self.from.as_fd(), &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.ended = true,
                Ok(count) => self.keep(&bytes[..count]),
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_MAX));
    }

    /// Returns whether nothing is pending any more.
    fn write(&mut self) -> bool {
        match sys::write_now(self.to.as_fd(), &self.pending) {
            Ok(None) => {}
            Ok(Some(count)) => drop(self.pending.drain(..count)),
            // The real stderr is closed, and the child's own writes would have failed.
            Err(_) => self.pending.clear(),
        }
        self.pending.is_empty()
    }

    /// Returns the end of the text, after a failed start.
    pub(super) fn tail(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        self.pass_on();
        while !self.pending.is_empty() && sys::wait_writable(self.real(), deadline) {
            self.pass_on();
        }
        printable::text(String::from_utf8_lossy(&self.tail).into_owned())
    }

    /// Called after a start: the child has its real stderr. If another process still has the pipe
    /// (a wrapper around the child, or a program that the wrapper started), a thread continues for
    /// it.
    pub(super) fn leave(mut self) {
        self.pass_on();
        if self.interest().is_some() {
            // Without a thread their text is lost, as it also is when this process ends.
            let _ = sys::service_thread("offspring-stderr", move || self.pass_on_to_the_end());
        }
    }

    fn pass_on_to_the_end(mut self) {
        while let Some(interest) = self.interest() {
            sys::wait_for(interest);
            self.pass_on();
        }
    }
}
