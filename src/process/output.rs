//! Joining a child while its output is read, so that neither waits for the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{JoinError, JoinTimeoutError};
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::process::handle::Process;
use crate::sys;

/// The most bytes that are read after the end of a child. It is more than a pipe holds, but
/// limited, because children of the child may keep writing for ever.
const LAST_MAX: usize = 1 << 20;

/// The captured stdout and stderr of a process, and the result of its join.
///
/// ```
/// use offspring::{ProcessBuilder, Stdio};
///
/// #[offspring::worker]
/// fn check(line: String) {
///     println!("checking {line}");
///     panic!("no colon in it");
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut process = ProcessBuilder::new().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn(check::new("abc".to_owned()))?;
///     let output = process.join_with_output();
///     assert_eq!(output.stdout, b"checking abc\n"); // what it printed is here, however it ended
///     assert!(String::from_utf8_lossy(&output.stderr).contains("no colon in it"));
///     assert!(output.result.is_err());
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Output<T> {
    /// The bytes that it wrote to stdout, if that was [`piped`](crate::Stdio::piped) and not taken.
    pub stdout: Vec<u8>,
    /// The bytes that it wrote to stderr, under the same condition.
    pub stderr: Vec<u8>,
    /// The result of [`Process::join`].
    pub result: Result<T, JoinError>,
}

impl<T: DeserializeOwned> Process<T> {
    /// Waits for the end of the process, and reads its piped stdout and stderr meanwhile.
    ///
    /// A piped stdin that was not taken is closed first. What children of the process write after
    /// its end is not waited for.
    ///
    /// ```
    /// use offspring::{ProcessBuilder, Stdio};
    ///
    /// #[offspring::worker]
    /// fn greet() -> u32 {
    ///     println!("hello");
    ///     7
    /// }
    ///
    /// #[offspring::main]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let mut process = ProcessBuilder::new().stdout(Stdio::piped()).spawn(greet::new())?;
    ///     let output = process.join_with_output();
    ///     assert_eq!(output.stdout, b"hello\n");
    ///     assert_eq!(output.result?, 7);
    ///     Ok(())
    /// }
    /// ```
    pub fn join_with_output(&mut self) -> Output<T> {
        self.capture(None);
        let result = self.join();
        self.output(result)
    }

    /// Like [`join_with_output`](Process::join_with_output), but waits no longer than `timeout`.
    /// The next call also returns the bytes that this one has read.
    ///
    /// # Errors
    ///
    /// Returns [`JoinTimeoutError::Timeout`] if the process still runs, and no other error: all
    /// others are in [`Output::result`].
    pub fn join_with_output_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Output<T>, JoinTimeoutError> {
        let limit = Deadline::after(timeout);
        self.capture(limit.deadline());
        let result = match self.join_within(&limit) {
            Ok(output) => Ok(output),
            Err(WaitEnd::Failed(error)) => Err(error),
            Err(WaitEnd::Timeout(_)) => return Err(self.timed_out(timeout)),
        };
        Ok(self.output(result))
    }

    fn output(&mut self, result: Result<T, JoinError>) -> Output<T> {
        let [stdout, stderr] = std::mem::take(&mut self.pipes.captured);
        Output { stdout, stderr, result }
    }
}

impl<T> Process<T> {
    /// Reads both pipes until the child ends, or until the deadline.
    fn capture(&mut self, deadline: Option<Instant>) {
        self.pipes.stdin = None;
        let pidfd = self.record.pidfd();
        let mut ended = pidfd.is_none();
        while !ended && (self.pipes.stdout.is_some() || self.pipes.stderr.is_some()) {
            let pipes: Vec<BorrowedFd<'_>> = [
                self.pipes.stdout.as_ref().map(AsFd::as_fd),
                self.pipes.stderr.as_ref().map(AsFd::as_fd),
            ]
            .into_iter()
            .flatten()
            .collect();
            match pidfd.as_ref().map(|pidfd| pidfd.wait_or_any(&pipes, deadline)) {
                Some(Ok(Some(false))) => self.read(0),
                Some(Ok(Some(true))) | None => ended = true,
                // At the deadline, or if there is no memory to wait with, the join that follows
                // decides.
                Some(Ok(None) | Err(_)) => return,
            }
        }
        // Read after its end, so that its last words are in the pipes.
        if ended {
            self.read(LAST_MAX);
        }
    }

    /// Reads from each pipe: once, or until it is empty or `at_least` bytes were read.
    fn read(&mut self, at_least: usize) {
        let [stdout, stderr] = &mut self.pipes.captured;
        read_pipe(&mut self.pipes.stdout, stdout, at_least);
        read_pipe(&mut self.pipes.stderr, stderr, at_least);
    }
}

fn read_pipe<P: AsFd>(pipe: &mut Option<P>, into: &mut Vec<u8>, at_least: usize) {
    let before = into.len();
    let mut bytes = [0; 16 << 10];
    while let Some(open) = pipe {
        match sys::read_ready(open.as_fd(), &mut bytes) {
            Ok(count) if count > 0 => into.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => *pipe = None,
        }
        if into.len() - before >= at_least {
            return;
        }
    }
}
