//! The performing side of a lane.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};

use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ASLEEP, BACK_SLEEPS, Down, FRONT_SLEEPS, NAPPING, PARCEL_BIT, PARCEL_INLINE, PARCELS_MAX,
    PARCELS_TAKEN, QUIT, REGION_BYTES, UP_RING, Up, tag,
};
use crate::ipc::deadline::Forever;
use crate::ipc::parking::{SharedReceiver, SleepFlag};
use crate::ipc::region::Region;
use crate::ipc::ring::{self, Consumer, Corrupt, Producer};
use crate::ipc::small_bytes::SmallBytes;
use crate::ipc::wire::{self, EncodedValue, Envelope, SideData, WireHandle};
use crate::process::Mishap;
use crate::sys::lock;

/// A back that travels to its process as a value; there [`open`](Back::open) begins.
#[derive(Debug)]
pub(crate) struct Back {
    parts: Mutex<Option<Parts>>,
}

#[derive(Debug)]
struct Parts {
    memory: IpcSharedMemory,
    line: IpcReceiver<Down>,
    to_front: IpcSender<Up>,
}

/// A task that was begun.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) kind: u32,
    pub(crate) bytes: SmallBytes,
    /// Instead of the bytes.
    pub(crate) parcel: Option<Envelope>,
}

/// A back in its process.
#[derive(Debug)]
pub(crate) struct Bench {
    tasks: Consumer,
    outcomes: Producer,
    parcels: u64,
    /// SmallBytes answered since the front was last looked at while it napped.
    unsaid: usize,
    shared: Shared,
}

#[derive(Debug)]
struct Shared {
    region: Arc<Region>,
    line: SharedReceiver<Down>,
    to_front: IpcSender<Up>,
    parcels: Mutex<VecDeque<Envelope>>,
}

/// A napping front is rung after so many bytes of outcomes.
const NAP_BYTES: usize = 32 << 10;

impl Back {
    pub(in crate::pool::link) fn new(
        memory: IpcSharedMemory,
        line: IpcReceiver<Down>,
        to_front: IpcSender<Up>,
    ) -> Back {
        let parts = Some(Parts {
            memory,
            line,
            to_front,
        });
        Back {
            parts: Mutex::new(parts),
        }
    }

    /// `None` if it was opened, or sent on, before; or is none.
    pub(crate) fn open(&self) -> Option<Bench> {
        let parts = lock(&self.parts).take()?;
        let region = Arc::new(Region::adopt(parts.memory));
        if region.len() < REGION_BYTES {
            return None;
        }
        Some(Bench {
            tasks: Consumer::new(region.clone(), 0),
            outcomes: Producer::new(region.clone(), UP_RING),
            parcels: 0,
            unsaid: 0,
            shared: Shared {
                region,
                line: SharedReceiver::new(parts.line),
                to_front: parts.to_front,
                parcels: Mutex::new(VecDeque::new()),
            },
        })
    }
}

impl SleepFlag<Down> for Shared {
    fn arm(&self) {
        self.region.atomic(BACK_SLEEPS).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // It may count on more outcomes.
        self.ring_if(NAPPING);
    }

    fn disarm(&self) -> usize {
        usize::from(self.region.atomic(BACK_SLEEPS).swap(0, Ordering::Relaxed) == 0)
    }

    fn message(&self, message: Down) -> bool {
        match message {
            Down::Bell => true,
            Down::Parcel(packet) => {
                lock(&self.parcels).push_back(packet);
                false
            }
        }
    }
}

impl Shared {
    fn ring_if(&self, state: u64) {
        let flag = self.region.atomic(FRONT_SLEEPS);
        if flag.load(Ordering::SeqCst) == state
            && flag
                .compare_exchange(state, 0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        {
            // A front that is gone has ended this process by its lifeline.
            let _ = wire::ring(&self.to_front, Up::Bell);
        }
    }
}

impl Bench {
    /// Begins the next task; waits until there is one. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Given> {
        let (tasks, shared) = (&mut self.tasks, &self.shared);
        let mut begin = || begin(tasks, shared).transpose();
        // Mostly one is there, and there is nothing to set up.
        let begun = match begin() {
            Some(begun) => begun,
            None => shared.line.wait(shared, &Forever, begin).ok()?,
        };
        let (tag, bytes) = begun.ok().filter(|&(tag, _)| tag != QUIT)?;
        if tag & PARCEL_BIT == 0 {
            return Some(Given {
                kind: tag,
                bytes,
                parcel: None,
            });
        }
        let parcel = lock(&shared.parcels).pop_front();
        self.push(tag::BEGUN, &[]);
        Some(Given {
            kind: tag & !PARCEL_BIT,
            bytes,
            parcel,
        })
    }

    /// The task that was begun last returned this.
    pub(crate) fn answer(&mut self, output: &[u8], mut along: SideData) {
        if along.is_empty() && output.len() <= ring::ENTRY_MAX {
            return self.push(tag::OUTPUT, output);
        }
        let encoded = EncodedValue {
            bytes: output.to_vec(),
            handles: along.take_handles(),
        };
        let sent = Envelope::new(encoded).and_then(|packet| self.send_parcel(packet));
        match sent {
            Ok(()) => self.push(tag::PARCEL, &[]),
            Err(error) => self.mishap(&Mishap::BadOutput(format!("it could not be sent: {error}"))),
        }
    }

    /// It ended without an output.
    pub(crate) fn mishap(&mut self, mishap: &Mishap) {
        let mut bytes = Vec::new();
        let fits = wire::encode_into(mishap, &mut bytes).is_ok() && bytes.len() <= ring::ENTRY_MAX;
        if !fits {
            bytes.clear();
            let _ = wire::encode_into(
                &Mishap::BadOutput("the report of what went wrong is too long".to_owned()),
                &mut bytes,
            );
        }
        self.push(tag::MISHAP, &bytes);
    }

    fn send_parcel(&mut self, packet: Envelope) -> io::Result<()> {
        let packet = packet.with_inline_limit(PARCEL_INLINE)?;
        let (shared, parcels) = (&self.shared, self.parcels);
        let room = || {
            let taken = shared.region.atomic(PARCELS_TAKEN).load(Ordering::SeqCst);
            (parcels.saturating_sub(taken) < PARCELS_MAX).then_some(())
        };
        // A front that is gone ends this process.
        let _ = shared.line.wait(shared, &Forever, room);
        wire::send(&shared.to_front, Up::Parcel(packet))
            .map_err(|failure| io::Error::other(format!("{failure:?}")))?;
        self.parcels += 1;
        Ok(())
    }

    fn push(&mut self, tag: u32, payload: &[u8]) {
        let (outcomes, shared) = (&mut self.outcomes, &self.shared);
        let mut push = || {
            outcomes
                .push(tag, payload)
                .map(|pushed| pushed.then_some(()))
                .transpose()
        };
        if push().is_none() {
            let _ = shared.line.wait(shared, &Forever, push);
        }
        shared.ring_if(ASLEEP);
        self.unsaid += payload.len() + 16;
        if self.unsaid >= NAP_BYTES {
            self.unsaid = 0;
            shared.ring_if(NAPPING);
        }
    }
}

/// Takes the next task, if it is there with all that belongs to it.
fn begin(tasks: &mut Consumer, shared: &Shared) -> Result<Option<(u32, SmallBytes)>, Corrupt> {
    while let Some(front) = tasks.front()? {
        if front.tag & PARCEL_BIT != 0 && lock(&shared.parcels).is_empty() {
            return Ok(None);
        }
        let bytes = tasks.read(&front);
        if tasks.take(&front) {
            return Ok(Some((front.tag, bytes)));
        }
    }
    Ok(None)
}

/// As it is written into a value.
#[derive(Serialize, Deserialize)]
struct Token {
    memory: u32,
    line: u32,
    to_front: u32,
}

impl Serialize for Back {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = lock(&self.parts).take();
        let parts = parts
            .ok_or_else(|| wire::explain::<S::Error>("the back of a lane was moved before"))?;
        let note = |handle| wire::note(handle).map_err(wire::explain::<S::Error>);
        let token = Token {
            memory: note(WireHandle::Memory(parts.memory))?,
            line: note(WireHandle::Receiver(parts.line.to_opaque()))?,
            to_front: note(WireHandle::Sender(parts.to_front.to_opaque()))?,
        };
        token.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Back {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = Token::deserialize(deserializer)?;
        let claim = |index| wire::claim(index).map_err(wire::explain_de::<D::Error>);
        match (
            claim(token.memory)?,
            claim(token.line)?,
            claim(token.to_front)?,
        ) {
            (
                WireHandle::Memory(memory),
                WireHandle::Receiver(line),
                WireHandle::Sender(to_front),
            ) => Ok(Back::new(memory, line.to(), to_front.to())),
            _ => Err(wire::explain_de(
                "the back of a lane came with another thing",
            )),
        }
    }
}
