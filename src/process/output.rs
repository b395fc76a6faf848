//! Joining a child and taking what it printed, so that neither waits for the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{JoinError, JoinTimeoutError};
use crate::process::handle::Process;
use crate::sys;

/// More than a pipe holds: what is read after the end of a child, whose own children may go on writing.
const LAST_MAX: usize = 1 << 20;

/// What a process printed, and what it returned. Bytes only: `Drop` does nothing else.
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
    /// What it wrote to its stdout, if that was [`piped`](crate::Stdio::piped) and not taken.
    pub stdout: Vec<u8>,
    /// The same of its stderr.
    pub stderr: Vec<u8>,
    /// As [`Process::join`] gives it.
    pub result: Result<T, JoinError>,
}

impl<T: DeserializeOwned> Process<T> {
    /// Waits for the end of the process, and reads its piped stdout and stderr meanwhile. Its stdin is closed first,
    /// unless it was taken.
    ///
    /// What children of the process write after its end is not waited for.
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
        self.collect(None);
        let result = self.join();
        self.output(result)
    }

    /// As [`join_with_output`](Process::join_with_output), but waits at most this long. What was read by then is kept
    /// for the next call.
    ///
    /// # Errors
    ///
    /// [`JoinTimeoutError::Timeout`], and no other.
    pub fn join_with_output_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Output<T>, JoinTimeoutError> {
        // A deadline that the clock cannot express is none.
        let deadline = Instant::now().checked_add(timeout);
        self.collect(deadline);
        let left = deadline.map_or(timeout, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let result = match self.join_timeout(left) {
            Ok(output) => Ok(output),
            Err(JoinTimeoutError::Failed(error)) => Err(error),
            Err(JoinTimeoutError::Timeout { name, pid, .. }) => {
                return Err(JoinTimeoutError::Timeout {
                    name,
                    pid,
                    after: timeout,
                });
            }
        };
        Ok(self.output(result))
    }

    fn output(&mut self, result: Result<T, JoinError>) -> Output<T> {
        let [stdout, stderr] = std::mem::take(&mut self.pipes.collected);
        Output {
            stdout,
            stderr,
            result,
        }
    }
}

impl<T> Process<T> {
    /// Reads both pipes until the end of the child or the deadline.
    fn collect(&mut self, deadline: Option<Instant>) {
        self.pipes.stdin = None;
        let pidfd = self.running.pidfd();
        let mut ended = pidfd.is_none();
        while !ended && (self.pipes.stdout.is_some() || self.pipes.stderr.is_some()) {
            let pipes: Vec<BorrowedFd<'_>> = [
                self.pipes.stdout.as_ref().map(AsFd::as_fd),
                self.pipes.stderr.as_ref().map(AsFd::as_fd),
            ]
            .into_iter()
            .flatten()
            .collect();
            match pidfd
                .as_ref()
                .map(|pidfd| pidfd.wait_or_any(&pipes, deadline))
            {
                Some(Ok(Some(false))) => self.read(0),
                Some(Ok(Some(true))) | None => ended = true,
                // No memory to wait with, or too late: the join says what comes of it.
                Some(Ok(None) | Err(_)) => return,
            }
        }
        // It is dead: what it wrote is all here. Only now, since it may have written until the end.
        if ended {
            self.read(LAST_MAX);
        }
    }

    /// Reads what is there, of each pipe once, or until nothing is left or `at_least` was read.
    fn read(&mut self, at_least: usize) {
        let [stdout, stderr] = &mut self.pipes.collected;
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
