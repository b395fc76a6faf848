//! What the receiver has of one process that sends.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcSender, IpcSharedMemory, OpaqueIpcReceiver};
use serde::de::DeserializeOwned;

use super::heap;
use super::layout::{
    self, DONE, HEAP_START, LARGE, Mark, PARCEL, PARCELS_TAKEN, READER_SLEEPS, VALUE, WRITER_SLEEPS,
};
use super::{Bell, Joining};
use crate::error::RecvError;
use crate::ipc::codec::Slice;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::doorbell::claim;
use crate::ipc::region::{Reader, Region};
use crate::ipc::ring;
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{self, CheckedReceiver, Envelope, Failure};
use crate::sys::lock;

/// Memory of large messages that nobody has used for so long goes back to the system, once the receiver waits.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// The region, and the way to wake a sender that waits for room in it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) region: Arc<Region>,
    back: Mutex<IpcSender<Bell>>,
}

impl Link {
    fn tell_room(&self) {
        if claim(self.region.atomic(WRITER_SLEEPS)) {
            // A sender that is gone waits for nothing.
            let _ = wire::ring(&lock(&self.back), Bell);
        }
    }
}

#[derive(Debug)]
pub(super) struct Source {
    /// Its receiver gives each a number.
    pub(super) number: u64,
    pub(super) link: Arc<Link>,
    entries: ring::Consumer,
    parcels: CheckedReceiver<Envelope>,
    /// Parcels that were read before their entries, in the look for the sender's end.
    early: VecDeque<Envelope>,
    /// It wrote what no sender writes, or is gone: nothing more will be read, or come.
    corrupt: bool,
    gone: bool,
    /// So far into the heap the last messages lay, and when.
    touched: usize,
    used: Instant,
}

/// A message that was taken, and not decoded.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Which of the rings it came from; each has another number, also one after the other.
    pub(crate) source: u64,
    pub(crate) mark: Mark,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Bytes(SmallBytes),
    Large(Large),
    Parcel(Envelope),
    /// The system refused the descriptors that it came with.
    Lost(io::Error),
}

/// A message in the heap of its sender; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Large {
    link: Arc<Link>,
    slot: usize,
    offset: usize,
    length: usize,
}

impl Drop for Large {
    fn drop(&mut self) {
        heap::free(&self.link.region, self.slot);
        self.link.tell_room();
    }
}

impl Arrived {
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, RecvError> {
        match self.body {
            Body::Bytes(bytes) => wire::decode(bytes.as_slice(), Vec::new()),
            Body::Large(large) => wire::decode_shared(large.reader(), Vec::new()),
            Body::Parcel(packet) => packet.decode(),
            Body::Lost(error) => return Err(RecvError::Io(error)),
        }
        .map_err(RecvError::Decode)
    }

    /// Appends the bytes that were sent as one value; how many they are.
    pub(super) fn bytes_into(self, to: &mut Vec<u8>) -> Result<usize, RecvError> {
        match self.body {
            Body::Bytes(bytes) => {
                wire::decode_with(Slice(bytes.as_slice()), Vec::new(), |decoder| {
                    decoder.bytes_into(to)
                })
            }
            Body::Large(large) => {
                wire::decode_with(large.reader(), Vec::new(), |decoder| decoder.bytes_into(to))
            }
            Body::Parcel(packet) => packet.bytes_into(to),
            Body::Lost(error) => return Err(RecvError::Io(error)),
        }
        .map_err(RecvError::Decode)
    }
}

impl Large {
    fn reader(&self) -> Reader<'_> {
        self.link.region.reader(self.offset, self.length)
    }
}

impl Source {
    /// `None` if it is not what a sender of ours sends.
    pub(super) fn new(joining: Joining) -> Option<Source> {
        Source::moved(joining, 0)
    }

    /// The same, of another receiver, which had touched so much of the heap.
    pub(super) fn moved(joining: Joining, touched: usize) -> Option<Source> {
        let region = Arc::new(Region::adopt(joining.region));
        if region.len() < HEAP_START {
            return None;
        }
        // Armed like the others, so that `disarm` counts it right.
        region.atomic(READER_SLEEPS).store(1, Ordering::SeqCst);
        Some(Source {
            number: 0,
            entries: ring::Consumer::new(region.clone(), 0),
            link: Arc::new(Link {
                region,
                back: Mutex::new(joining.back),
            }),
            parcels: CheckedReceiver::new(joining.parcels),
            early: VecDeque::new(),
            corrupt: false,
            gone: false,
            touched,
            used: Instant::now(),
        })
    }

    /// What another process needs to go on with it: the region, the way back, the parcels, and how far the heap was touched.
    pub(super) fn share(
        &self,
    ) -> io::Result<(IpcSharedMemory, IpcSender<Bell>, OpaqueIpcReceiver, usize)> {
        let back = lock(&self.link.back).clone();
        Ok((
            self.link.region.share()?,
            back,
            self.parcels.share()?,
            self.touched,
        ))
    }

    pub(super) fn has_early_parcels(&self) -> bool {
        !self.early.is_empty()
    }

    pub(super) fn has_next(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Nothing will come from it any more.
    pub(super) fn is_finished(&self) -> bool {
        let done = self.gone || self.link.region.atomic(DONE).load(Ordering::Acquire) == 1;
        self.corrupt || (done && self.entries.is_empty())
    }

    /// Looks whether the process has ended.
    pub(super) fn look_for_end(&mut self) {
        while !self.gone {
            match self.parcels.recv(&Deadline::now()) {
                Ok(packet) => self.early.push_back(packet),
                Err(WaitEnd::Timeout(_) | WaitEnd::Failed(Failure::Starved)) => return,
                Err(WaitEnd::Failed(Failure::Gone | Failure::Io(_))) => self.gone = true,
            }
        }
    }

    /// The next message, if there is one.
    pub(super) fn next(&mut self) -> Option<Arrived> {
        let front = match self.entries.front() {
            Ok(Some(front)) => front,
            Ok(None) => return None,
            Err(ring::Corrupt) => return self.distrust(),
        };
        let (kind, mark) = layout::split_tag(front.tag);
        let body = self.take(kind, &front)?;
        Some(Arrived {
            source: self.number,
            mark,
            body,
        })
    }

    fn take(&mut self, kind: u32, front: &ring::Peeked) -> Option<Body> {
        if kind == PARCEL {
            return self.parcel(front);
        }
        let entry = self.entries.read(front);
        // Nobody recalls from this ring.
        self.entries.take(front);
        match kind {
            VALUE => {
                self.link.tell_room();
                Some(Body::Bytes(entry))
            }
            LARGE => self
                .large(entry.as_slice())
                .map(Body::Large)
                .or_else(|| self.distrust()),
            _ => self.distrust(),
        }
    }

    fn distrust<R>(&mut self) -> Option<R> {
        log::error!(target: "offspring::channel", "a sender wrote what no sender writes; it is not heard any more");
        self.corrupt = true;
        None
    }

    fn large(&mut self, entry: &[u8]) -> Option<Large> {
        let (slot, offset, length) = layout::large_of(entry, &self.link.region)?;
        self.touched = self.touched.max(offset + length - HEAP_START);
        self.used = Instant::now();
        self.link.tell_room();
        Some(Large {
            link: self.link.clone(),
            slot,
            offset,
            length,
        })
    }

    fn parcel(&mut self, front: &ring::Peeked) -> Option<Body> {
        let packet = match self.early.pop_front() {
            Some(packet) => Ok(packet),
            // It was sent before its entry was written, so it is here.
            None => self.parcels.recv(&Deadline::now()),
        };
        if matches!(packet, Err(WaitEnd::Failed(Failure::Starved))) {
            // It is still there, and so is its entry.
            return Some(Body::Lost(Failure::Starved.into_io()));
        }
        self.entries.take(front);
        self.link
            .region
            .atomic(PARCELS_TAKEN)
            .fetch_add(1, Ordering::SeqCst);
        self.link.tell_room();
        match packet {
            Ok(packet) => Some(Body::Parcel(packet)),
            Err(WaitEnd::Failed(Failure::Io(error))) => Some(Body::Lost(error)),
            Err(_) => self.distrust(),
        }
    }

    /// When memory that it holds will have been idle for long, if it holds any.
    pub(super) fn idle_at(&self) -> Option<Instant> {
        (self.touched > 0).then(|| self.used + IDLE)
    }

    /// Gives idle memory back.
    pub(super) fn give_back(&mut self, now: Instant) {
        if self.idle_at().is_some_and(|at| at <= now) {
            if heap::give_back(&self.link.region, self.touched) {
                self.touched = 0;
                self.link.tell_room();
            }
            self.used = now;
        }
    }
}
