//! The giving side of a lane.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};

use super::{
    ASLEEP, BACK_SLEEPS, Down, FRONT_SLEEPS, NAPPING, PARCEL_BIT, PARCEL_INLINE, PARCELS_TAKEN,
    QUIT, REGION_BYTES, UP_RING, Up, tag,
};
use crate::ipc::deadline::{Deadline, Forever};
use crate::ipc::doorbell::claim;
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::region::Region;
use crate::ipc::ring::{self, CAPACITY, Consumer, Corrupt, Producer};
use crate::ipc::wire::{self, Envelope};
use crate::process::Mishap;
use crate::sys::lock;

/// One thread waits and drains; any thread gives.
#[derive(Debug)]
pub(crate) struct Front {
    region: Arc<Region>,
    tasks: Mutex<Producer>,
    outcomes: Mutex<Consumer>,
    line: SharedReceiver<Up>,
    to_back: Mutex<IpcSender<Down>>,
    to_self: Mutex<IpcSender<Up>>,
    parcels: Mutex<VecDeque<Envelope>>,
    /// What [`FRONT_SLEEPS`] becomes while the front waits.
    manner: AtomicU64,
    poked: AtomicBool,
    /// Whether a poke lies in the channel: one is enough.
    poke_unread: AtomicBool,
    ended: AtomicBool,
}

/// Outcomes as they came, in the order of their tasks.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    bytes: Vec<u8>,
    parcels: VecDeque<Envelope>,
}

/// What came of one task.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    Output(&'a [u8]),
    Parcel(Envelope),
    Mishap(Mishap),
    /// None yet, but it was begun: told only of tasks that came as parcels.
    Begun,
}

/// The tag of tasks of this kind; from [`QUIT`] on tags mean other things.
fn task_tag(kind: u32) -> u32 {
    assert!(kind < QUIT, "a program has fewer than {QUIT} workers");
    kind
}

impl Front {
    pub(in crate::pool::link) fn new(
        to_back: IpcSender<Down>,
        line: IpcReceiver<Up>,
        to_self: IpcSender<Up>,
    ) -> io::Result<Front> {
        let region = Arc::new(Region::new(REGION_BYTES)?);
        Ok(Front {
            tasks: Mutex::new(Producer::new(region.clone(), 0)),
            outcomes: Mutex::new(Consumer::new(region.clone(), UP_RING)),
            region,
            line: SharedReceiver::new(line),
            to_back: Mutex::new(to_back),
            to_self: Mutex::new(to_self),
            parcels: Mutex::new(VecDeque::new()),
            manner: AtomicU64::new(ASLEEP),
            poked: AtomicBool::new(false),
            poke_unread: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    pub(in crate::pool::link) fn share(&self) -> io::Result<IpcSharedMemory> {
        self.region.share()
    }

    /// Gives tasks of a kind while there is room, for [`ring`](Front::ring) to tell; how many.
    pub(crate) fn push<'a>(&self, kind: u32, values: impl Iterator<Item = &'a [u8]>) -> u64 {
        let tag = task_tag(kind);
        let mut tasks = lock(&self.tasks);
        // A back that scribbled over its ring gets nothing; who drains it finds out.
        let given = values
            .take_while(|value| tasks.write(tag, value).unwrap_or(false))
            .count();
        tasks.publish();
        given as u64
    }

    /// Gives a task as a parcel. Only to a back that has nothing to do: then nothing of it is ever recalled.
    pub(crate) fn push_parcel(&self, kind: u32, packet: Envelope) -> io::Result<()> {
        let tag = task_tag(kind) | PARCEL_BIT;
        let packet = packet.with_inline_limit(PARCEL_INLINE)?;
        // The parcel first: who sees its entry finds it in the channel.
        wire::send(&lock(&self.to_back), Down::Parcel(packet))
            .map_err(|failure| io::Error::other(format!("{failure:?}")))?;
        match lock(&self.tasks).push(tag, &[]) {
            Ok(true) => Ok(()),
            _ => Err(io::Error::other("the ring of an idle worker has no room")),
        }
    }

    /// Tells the back to end when it has come so far.
    pub(crate) fn quit(&self) {
        // Given to an idle back only, so there is room, or it is none of ours; then it is killed by somebody.
        let _ = lock(&self.tasks).push(QUIT, &[]);
    }

    /// Wakes the back if it sleeps.
    pub(crate) fn ring(&self) {
        if claim(self.region.atomic(BACK_SLEEPS)) {
            // Its death is told by its process.
            let _ = wire::ring(&lock(&self.to_back), Down::Bell);
        }
    }

    /// Where the next task will stand.
    pub(crate) fn position(&self) -> u64 {
        lock(&self.tasks).position()
    }

    /// Whether the task that stands here was begun.
    pub(crate) fn is_begun(&self, position: u64) -> bool {
        let mut tasks = lock(&self.tasks);
        tasks.look().is_ok() && tasks.is_taken(position)
    }

    /// Takes back what was not begun, and calls `each` for every position with whether it was begun.
    pub(crate) fn recall(
        &self,
        positions: impl IntoIterator<Item = u64>,
        mut each: impl FnMut(bool),
    ) -> Result<(), Corrupt> {
        let mut tasks = lock(&self.tasks);
        tasks.recall()?;
        for position in positions {
            each(tasks.is_taken(position));
        }
        tasks.resume();
        drop(tasks);
        // It may have found the ring shut.
        self.ring();
        Ok(())
    }

    /// Waits for outcomes, a poke, or the back's end; a napping front, for many outcomes or a back that has
    /// nothing left to do. Until `deadline` if there is one.
    pub(crate) fn wait(&self, nap: bool, deadline: Option<Instant>) {
        self.manner
            .store(if nap { NAPPING } else { ASLEEP }, Ordering::Relaxed);
        let _ = self.line.wait(self, &Deadline::from(deadline), || {
            self.is_due(nap).then_some(())
        });
        self.poked.store(false, Ordering::SeqCst);
    }

    fn is_due(&self, nap: bool) -> bool {
        if self.poked.load(Ordering::SeqCst) || self.has_ended() {
            return true;
        }
        let waiting = lock(&self.outcomes).waiting();
        let idle = || self.region.atomic(BACK_SLEEPS).load(Ordering::SeqCst) == 1;
        waiting > 0 && (!nap || waiting >= CAPACITY as u64 / 4 || idle())
    }

    /// Takes all outcomes that are there.
    pub(crate) fn drain(&self, drained: &mut Drained) -> Result<(), Corrupt> {
        drained.parcels.clear();
        lock(&self.outcomes).take_all(&mut drained.bytes)?;
        let wanted = ring::entries(&drained.bytes)
            .filter(|entry| matches!(entry, Ok((tag::PARCEL, _))))
            .count();
        for _ in 0..wanted {
            drained
                .parcels
                .push_back(self.next_parcel().ok_or(Corrupt)?);
            self.region
                .atomic(PARCELS_TAKEN)
                .fetch_add(1, Ordering::SeqCst);
        }
        if !drained.bytes.is_empty() {
            // It may wait for room.
            self.ring();
        }
        Ok(())
    }

    /// The next parcel. It was sent before its entry was written, so this does not wait; for a back that lies, it
    /// does until that ends.
    fn next_parcel(&self) -> Option<Envelope> {
        let next = || lock(&self.parcels).pop_front();
        let found = self.line.wait(self, &Forever, || {
            next()
                .map(Some)
                .or_else(|| self.has_ended().then_some(None))
        });
        // What it sent before its end lies in the channel still.
        found
            .ok()?
            .or_else(|| self.line.wait(self, &Deadline::now(), next).ok())
    }

    /// Makes [`wait`](Front::wait) return.
    pub(crate) fn poke(&self) {
        self.poked.store(true, Ordering::SeqCst);
        if !self.poke_unread.swap(true, Ordering::SeqCst) {
            // This process holds the other end as well.
            let _ = wire::send(&lock(&self.to_self), Up::Poke);
        }
    }

    /// The back's process has ended.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.poke();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

impl SleepFlag<Up> for Front {
    fn arm(&self) {
        let manner = self.manner.load(Ordering::Relaxed);
        self.region
            .atomic(FRONT_SLEEPS)
            .store(manner, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn disarm(&self) -> usize {
        usize::from(self.region.atomic(FRONT_SLEEPS).swap(0, Ordering::Relaxed) == 0)
    }

    fn message(&self, message: Up) -> bool {
        match message {
            Up::Bell => return true,
            Up::Parcel(packet) => lock(&self.parcels).push_back(packet),
            Up::Poke => self.poke_unread.store(false, Ordering::SeqCst),
        }
        false
    }
}

impl Drained {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many tasks ended, and whether one was told to be begun.
    pub(crate) fn count(&self) -> Result<(u64, bool), Corrupt> {
        let (mut ended, mut begun) = (0, false);
        for entry in ring::entries(&self.bytes) {
            match entry?.0 {
                tag::BEGUN => begun = true,
                _ => ended += 1,
            }
        }
        Ok((ended, begun))
    }

    /// Calls `each` for every outcome; one that no back writes is a mishap, and an error at the end.
    pub(crate) fn for_each(&mut self, mut each: impl FnMut(Outcome<'_>)) -> Result<(), Corrupt> {
        let mut sound = Ok(());
        for entry in ring::entries(&self.bytes) {
            let (tag, payload) = entry?;
            let outcome = match tag {
                tag::OUTPUT => Some(Outcome::Output(payload)),
                tag::PARCEL => self.parcels.pop_front().map(Outcome::Parcel),
                tag::MISHAP => wire::decode(payload, Vec::new()).ok().map(Outcome::Mishap),
                tag::BEGUN => Some(Outcome::Begun),
                _ => None,
            };
            each(outcome.unwrap_or_else(|| {
                sound = Err(Corrupt);
                Outcome::Mishap(Mishap::BadOutput(
                    "its process wrote what no worker writes".to_owned(),
                ))
            }));
        }
        sound
    }
}
