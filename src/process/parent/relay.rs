//! Lines of children, shown in our own stdout and stderr with the name of their process before each.
//!
//! One thread reads the pipes of all children and prints. It alone sleeps when nobody takes what we print (a
//! stopped terminal): then the pipes fill, and the children wait, as if they printed there themselves.
//! Nobody waits for that thread without a limit.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::sys::{self, Poller, Service};

/// A longer line is shown in pieces.
const LINE_MAX: usize = 64 << 10;
/// Longer prints are cut between lines: up to this size the system keeps them whole in a pipe that others write to.
const PRINT_MAX: usize = 4 << 10;
/// What one pipe may have printed before the others get their turn.
const TURN_MAX: usize = 256 << 10;
/// How long a `join`, or the end of the program, waits for the last lines while none of them gets out.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Stdout,
    Stderr,
}

/// One pipe of one child.
#[derive(Debug)]
pub(crate) struct Stream {
    id: u64,
    pipe: OwnedFd,
    /// `[name] `
    tag: Vec<u8>,
    place: Place,
    /// Whether all that its child wrote has been shown.
    settled: Mutex<bool>,
    settling: Condvar,
}

struct Relay {
    readable: Poller,
    streams: Mutex<BTreeMap<u64, Arc<Stream>>>,
    /// Those whose child has ended.
    due: Mutex<Vec<u64>>,
}

static RELAY: Service<Relay> = Service::new("offspring-relay");

fn start() -> io::Result<&'static Relay> {
    RELAY.start(|| {
        let relay = Relay {
            readable: Poller::new()?,
            streams: Mutex::default(),
            due: Mutex::default(),
        };
        Ok((relay, Relay::run))
    })
}

/// Shows what comes out of `pipe`, until its end.
pub(crate) fn show(name: &str, pipe: OwnedFd, place: Place) -> io::Result<Arc<Stream>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let relay = start()?;
    sys::set_nonblocking(pipe.as_fd())?;
    let printable = name.chars().map(|c| if c.is_control() { '?' } else { c });
    let stream = Arc::new(Stream {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        pipe,
        tag: format!("[{}] ", printable.collect::<String>()).into_bytes(),
        place,
        settled: Mutex::new(false),
        settling: Condvar::new(),
    });
    // Known before it is watched: its first line may come at once.
    sys::lock(&relay.streams).insert(stream.id, stream.clone());
    let watched = relay.readable.add(&stream.pipe, stream.id);
    watched.inspect_err(|_| {
        sys::lock(&relay.streams).remove(&stream.id);
    })?;
    Ok(stream)
}

/// The last lines of all children, at the end of the program.
pub(crate) fn finish() {
    let Some(relay) = RELAY.get() else { return };
    let streams: Vec<_> = sys::lock(&relay.streams).values().cloned().collect();
    // If one does not get out, the others do not either.
    streams.iter().all(|stream| stream.settle(None));
}

impl Stream {
    /// Waits until all is shown that the child, which has ended, wrote; not long if nobody takes it. Whether it is.
    pub(crate) fn settle(&self, deadline: Option<Instant>) -> bool {
        let patience = Instant::now() + PATIENCE;
        let deadline = deadline.map_or(patience, |deadline| deadline.min(patience));
        let mut settled = sys::lock(&self.settled);
        if *settled {
            return true;
        }
        if let Some(relay) = RELAY.get() {
            sys::lock(&relay.due).push(self.id);
            relay.readable.wake();
        }
        while !*settled && Instant::now() < deadline {
            settled = sys::wait(&self.settling, settled, Some(deadline));
        }
        *settled
    }

    fn is_settled(&self) {
        *sys::lock(&self.settled) = true;
        self.settling.notify_all();
    }
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

    /// Shows what one pipe holds. Its child has ended if it `is_due`: then also what is no line yet.
    fn turn(&self, id: u64, lines: &mut BTreeMap<u64, Lines>, is_due: bool) {
        let Some(stream) = sys::lock(&self.streams).get(&id).cloned() else {
            return;
        };
        let of_stream = lines.entry(id).or_default();
        let at_end = of_stream.drain(&stream);
        if at_end || is_due {
            of_stream.rest(&stream);
            stream.is_settled();
        }
        // A child of the child may go on writing after the end of the child.
        if at_end {
            lines.remove(&id);
            sys::lock(&self.streams).remove(&id);
            self.readable.remove(&stream.pipe);
        }
    }
}

/// What came out of one pipe and is not shown yet.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Whether the pipe is at its end.
    fn drain(&mut self, stream: &Stream) -> bool {
        let mut bytes = [0; 16 << 10];
        let mut turn = 0;
        while turn < TURN_MAX {
            match sys::read_some(stream.pipe.as_fd(), &mut bytes) {
                Ok(0) => return true,
                Ok(count) => {
                    self.take(stream, &bytes[..count]);
                    turn += count;
                }
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    fn take(&mut self, stream: &Stream, bytes: &[u8]) {
        let mut print = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.0.extend_from_slice(piece);
            if !piece.ends_with(b"\n") && self.0.len() < LINE_MAX {
                continue;
            }
            if !print.is_empty() && print.len() + stream.tag.len() + self.0.len() > PRINT_MAX {
                stream.place.print(&print);
                print.clear();
            }
            self.line(stream, &mut print);
        }
        stream.place.print(&print);
    }

    /// Moves the line over.
    fn line(&mut self, stream: &Stream, print: &mut Vec<u8>) {
        print.extend_from_slice(&stream.tag);
        print.append(&mut self.0);
        if !print.ends_with(b"\n") {
            print.push(b'\n');
        }
    }

    /// A line without an end.
    fn rest(&mut self, stream: &Stream) {
        if !self.0.is_empty() {
            let mut print = Vec::new();
            self.line(stream, &mut print);
            stream.place.print(&print);
        }
    }
}

impl Place {
    /// All at once: the lock keeps it whole among what other threads print. Nobody can be told of an error.
    fn print(self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        match self {
            Place::Stdout => {
                let mut stdout = io::stdout().lock();
                let _ = stdout.write_all(text).and_then(|()| stdout.flush());
            }
            Place::Stderr => {
                let _ = io::stderr().lock().write_all(text);
            }
        }
    }
}
