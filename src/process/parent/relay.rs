//! Prints the lines of children to this process's stdout and stderr, each with the name of its
//! process, or passes them to a function of the program.
//!
//! One thread, the relay, reads the pipes of all children and prints. Only this thread blocks when
//! our own stdout has no reader (a stopped terminal), or a function does not return: then the pipes
//! fill up and the children block, as if they printed there themselves. No other thread waits for
//! the relay without a limit.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::error::printable;
use crate::ipc::catch::catch_panic;
use crate::sys::{self, Poller, Service};

/// A longer line is printed in pieces.
const LINE_MAX: usize = 64 << 10;
/// A longer print is split between lines, because the system writes up to this size to a pipe at
/// once.
const PRINT_MAX: usize = 4 << 10;
/// The bytes that one pipe may print before the others have their turn.
const TURN_MAX: usize = 256 << 10;
/// The bytes of a child's stderr that are kept for the error of its end.
const TAIL_MAX: usize = 1 << 10;
/// The longest wait of a `join`, or of the end of the program, for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// A function of the program that gets lines.
#[derive(Clone)]
pub(in crate::process) struct LineHandler(pub(in crate::process) Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for LineHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineHandler")
    }
}

/// Where lines go.
#[derive(Debug)]
pub(in crate::process) enum RelayTarget {
    /// To this process's own stdout or stderr, with the name of the child before each.
    Print,
    Handler(LineHandler),
}

/// A pipe of a child, whose lines the relay passes on.
#[derive(Debug)]
pub(in crate::process) struct RelayedPipe {
    id: u64,
    fd: OwnedFd,
    /// `[name] `
    tag: Vec<u8>,
    is_stderr: bool,
    target: RelayTarget,
    /// The last bytes that came out of the pipe.
    tail: Mutex<Vec<u8>>,
    /// True once all lines of the child, which has ended, are printed.
    flushed: Mutex<bool>,
    changed: Condvar,
}

struct Relay {
    readable: Poller,
    pipes: Mutex<BTreeMap<u64, Arc<RelayedPipe>>>,
    /// The pipes whose child has ended, and whose last lines some thread waits for.
    due: Mutex<Vec<u64>>,
}

static RELAY: Service<Relay> = Service::new("offspring-relay");

fn start() -> io::Result<&'static Relay> {
    RELAY.start(|| {
        let relay =
            Relay { readable: Poller::new()?, pipes: Mutex::default(), due: Mutex::default() };
        Ok((relay, Relay::run))
    })
}

/// Passes on the lines that come out of `fd`, the child's stdout or stderr, until its end.
pub(in crate::process) fn start_pipe(
    name: &str,
    fd: OwnedFd,
    is_stderr: bool,
    target: RelayTarget,
) -> io::Result<Arc<RelayedPipe>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let relay = start()?;
    sys::set_nonblocking(fd.as_fd())?;
    let pipe = Arc::new(RelayedPipe {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        fd,
        tag: format!("[{}] ", printable::name(name)).into_bytes(),
        is_stderr,
        target,
        tail: Mutex::default(),
        flushed: Mutex::new(false),
        changed: Condvar::new(),
    });
    // Into the table first: the pipe may be readable at once, and then the relay looks for it
    // there.
    sys::lock(&relay.pipes).insert(pipe.id, pipe.clone());
    let watched = relay.readable.add(&pipe.fd, pipe.id);
    watched.inspect_err(|_| {
        sys::lock(&relay.pipes).remove(&pipe.id);
    })?;
    Ok(pipe)
}

/// Waits for the last lines of all children, at the end of the program.
pub(super) fn finish() {
    let Some(relay) = RELAY.get() else { return };
    let pipes: Vec<_> = sys::lock(&relay.pipes).values().cloned().collect();
    // If the relay is blocked for one pipe, it is blocked for all: stop at the first timeout.
    pipes.iter().all(|pipe| pipe.flush(None));
}

impl RelayedPipe {
    /// Waits until the lines of the child, which has ended, are printed. Returns `false` at the
    /// deadline, or after a second.
    pub(in crate::process) fn flush(&self, deadline: Option<Instant>) -> bool {
        let patience = Instant::now() + PATIENCE;
        let deadline = deadline.map_or(patience, |deadline| deadline.min(patience));
        let mut flushed = sys::lock(&self.flushed);
        if *flushed {
            return true;
        }
        if let Some(relay) = RELAY.get() {
            sys::lock(&relay.due).push(self.id);
            relay.readable.wake();
        }
        while !*flushed && Instant::now() < deadline {
            flushed = sys::wait(&self.changed, flushed, Some(deadline));
        }
        *flushed
    }

    /// Returns the last kilobyte of a stderr.
    pub(in crate::process) fn stderr_tail(&self) -> Option<String> {
        self.is_stderr.then(|| tail_text(&sys::lock(&self.tail)))
    }

    fn keep(&self, bytes: &[u8]) {
        let mut tail = sys::lock(&self.tail);
        tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_MAX)..]);
        let excess = tail.len().saturating_sub(TAIL_MAX);
        tail.drain(..excess);
    }

    fn set_flushed(&self) {
        *sys::lock(&self.flushed) = true;
        self.changed.notify_all();
    }
}

/// Returns the last kilobyte of what a child wrote to stderr, as text.
pub(in crate::process) fn tail_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_MAX)..]).into_owned()
}

impl Relay {
    fn run(&self) {
        let mut lines: BTreeMap<u64, Lines> = BTreeMap::new();
        loop {
            for id in self.readable.wait(None) {
                if id != Poller::WAKE {
                    self.turn(id, &mut lines, false);
                    continue;
                }
                let due = std::mem::take(&mut *sys::lock(&self.due));
                for id in due {
                    self.turn(id, &mut lines, true);
                }
            }
        }
    }

    /// Prints the lines in one pipe. If it `is_due`, its child has ended, and text without a
    /// newline counts as a line, too.
    fn turn(&self, id: u64, lines: &mut BTreeMap<u64, Lines>, is_due: bool) {
        let Some(pipe) = sys::lock(&self.pipes).get(&id).cloned() else {
            return;
        };
        let pending_lines = lines.entry(id).or_default();
        let at_end = pending_lines.drain(&pipe);
        if at_end || is_due {
            pending_lines.rest(&pipe);
            pipe.set_flushed();
        }
        // The pipe may outlive the child, whose own children may have it.
        if at_end {
            lines.remove(&id);
            sys::lock(&self.pipes).remove(&id);
            self.readable.remove(&pipe.fd);
        }
    }
}

/// Text of one pipe that has been read and not printed yet.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Reads and prints. Returns whether the pipe is at its end.
    fn drain(&mut self, pipe: &RelayedPipe) -> bool {
        let mut bytes = [0; 16 << 10];
        let mut turn = 0;
        while turn < TURN_MAX {
            match sys::read_some(pipe.fd.as_fd(), &mut bytes) {
                Ok(0) => return true,
                Ok(count) => {
                    pipe.keep(&bytes[..count]);
                    self.take(pipe, &bytes[..count]);
                    turn += count;
                }
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    fn take(&mut self, pipe: &RelayedPipe, bytes: &[u8]) {
        let mut print = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.0.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.0.len() >= LINE_MAX {
                self.line(pipe, &mut print);
            }
        }
        pipe.print(&print);
    }

    /// Passes the line on. If it is to be printed, adds it to `print`, and prints what is there
    /// first if that becomes too long.
    fn line(&mut self, pipe: &RelayedPipe, print: &mut Vec<u8>) {
        if let RelayTarget::Handler(LineHandler(handle)) = &pipe.target {
            let line = std::mem::take(&mut self.0);
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
            // The thread must survive: it serves all children.
            let _ = catch_panic("line handler", || handle(&text));
            return;
        }
        if !print.is_empty() && print.len() + pipe.tag.len() + self.0.len() > PRINT_MAX {
            pipe.print(print);
            print.clear();
        }
        print.extend_from_slice(&pipe.tag);
        print.append(&mut self.0);
        if !print.ends_with(b"\n") {
            print.push(b'\n');
        }
    }

    /// Passes on a last line without a newline.
    fn rest(&mut self, pipe: &RelayedPipe) {
        if !self.0.is_empty() {
            let mut print = Vec::new();
            self.line(pipe, &mut print);
            pipe.print(&print);
        }
    }
}

impl RelayedPipe {
    /// Prints the text under one lock, so that other threads do not print between its lines.
    /// Ignores errors: no caller could handle them.
    fn print(&self, text: &[u8]) {
        if text.is_empty() || !sys::has_output(self.is_stderr) {
            return;
        }
        if self.is_stderr {
            let _ = io::stderr().lock().write_all(text);
        } else {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(text).and_then(|()| stdout.flush());
        }
    }
}
