//! What actors, their clients and their keeper say to each other.
//!
//! A client calls the actor's process directly, over a channel that each incarnation has of its own
//! ([`Direct`], [`Request`]). What must survive an incarnation goes through its keeper: casts lie in the mailbox
//! ([`Letter`]), and clients learn of restarts by [`News`] that they ask the keeper's desk for.

use std::cell::Cell;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::channel::{Mark, Receiver, Sender};
use crate::error::{DecodeError, DownReason};
use crate::ipc::wire;
use crate::queue::JoinableQueue;
use crate::sys;

/// Who an actor is, through all its incarnations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct ActorKey {
    /// The process that keeps it.
    pub(crate) owner: u64,
    pub(crate) number: u64,
}

/// A number that no other process has.
pub(crate) fn own_number() -> u64 {
    static NUMBER: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *NUMBER.get_or_init(|| {
        sys::random().map_or_else(|_| u64::from(std::process::id()), u64::from_le_bytes)
    })
}

/// In place of a message's type, where it is not known.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Erased;

/// Who is in line for a reply: it calls, and those before it wait for it.
pub(crate) type Chain = Vec<Caller>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Caller {
    pub(crate) key: ActorKey,
    pub(crate) name: String,
}

/// The mark of a direct call, and of its answer. All else about it is where it comes from and goes to: what is sent is the
/// message, and the reply, as over a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Direct {
    /// Which of its session's it is.
    pub(crate) place: usize,
    /// Of a call: the [`Chain`] of its caller comes before the message. Of an answer: it is a refusal, a text.
    pub(crate) special: bool,
}

impl Direct {
    /// So many places there are.
    pub(crate) const PLACES: usize = Direct::SPECIAL as usize - 1;
    const SPECIAL: u16 = 1 << 13;

    pub(crate) fn mark(self) -> Mark {
        Mark(self.place as u16 + 1 + if self.special { Direct::SPECIAL } else { 0 })
    }

    /// `None` if the message is none of these: it says itself what it is.
    pub(crate) fn of(Mark(mark): Mark) -> Option<Direct> {
        let place = usize::from(mark % Direct::SPECIAL).checked_sub(1)?;
        let special = mark & Direct::SPECIAL != 0;
        Some(Direct { place, special })
    }
}

const _: () = assert!(Direct::SPECIAL <= Mark::MAX / 2 + 1);

/// From a client, or from the keeper, to an incarnation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// From now on this session gets its answers there. It has the ring to itself that this comes from.
    Open {
        session: u64,
        answers: Sender<Erased>,
    },
    Close {
        session: u64,
    },
    /// When the other end is gone without a word, this actor is to end too.
    Bind {
        partner: String,
        bond: Receiver<Release>,
    },
    /// Stop; with `drain`, after what the mailbox holds now.
    Stop {
        drain: bool,
    },
    /// Give a sign of life.
    Ping(u64),
    /// Look whether there is something to do.
    Wake,
}

/// A bond is dissolved in peace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Release;

/// What lies in the mailbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Letter<M> {
    /// Of an incarnation to itself: all before it is handled.
    Marker {
        generation: u64,
    },
    Cast(M),
    /// A call that must not overtake its client's casts. It is for one incarnation only: if that dies, the
    /// client has its error, and nobody waits for the reply.
    Call {
        header: Header,
        generation: u64,
        chain: Chain,
        message: M,
    },
}

impl<M> Letter<M> {
    /// Takes a message out of a letter that was made of one.
    pub(crate) fn into_message(self) -> M {
        match self {
            Letter::Cast(message) | Letter::Call { message, .. } => message,
            Letter::Marker { .. } => unreachable!("only an incarnation makes markers, for itself"),
        }
    }
}

/// To a call that came through the mailbox.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "R: Serialize", deserialize = "R: Deserialize<'de>"))]
pub(crate) struct Answer<R> {
    pub(crate) call: CallNumber,
    pub(crate) reply: Result<R, String>,
}

/// Whose call through the mailbox it is, and which. It notes itself when it is decoded, so that a message whose rest does
/// not decode can still be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Header {
    pub(crate) session: u64,
    pub(crate) call: CallNumber,
}

/// Which of its session's calls through the mailbox it is; notes itself as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct CallNumber(pub(crate) u64);

thread_local! {
    static HEARD: Cell<Option<Header>> = const { Cell::new(None) };
    static HEARD_CALL: Cell<Option<CallNumber>> = const { Cell::new(None) };
}

impl Header {
    /// The last one that was decoded on this thread; once.
    pub(crate) fn heard() -> Option<Header> {
        HEARD.take()
    }
}

impl CallNumber {
    /// The last one that was decoded on this thread; once.
    pub(crate) fn heard() -> Option<CallNumber> {
        HEARD_CALL.take()
    }
}

impl<'de> Deserialize<'de> for CallNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let call = CallNumber(u64::deserialize(deserializer)?);
        HEARD_CALL.set(Some(call));
        Ok(call)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (session, call) = Deserialize::deserialize(deserializer)?;
        let header = Header { session, call };
        HEARD.set(Some(header));
        Ok(header)
    }
}

/// From an incarnation to its keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Started(Result<(), String>),
    Checkpoint(Blob),
    Pong(u64),
}

/// How an incarnation ended by itself: the output of its process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ending {
    Normal,
    Shutdown,
    Failed(String),
}

impl From<Ending> for DownReason {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Normal => DownReason::Normal,
            Ending::Shutdown => DownReason::Shutdown,
            Ending::Failed(error) => DownReason::Failed(error),
        }
    }
}

/// How an actor is, as its keeper tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Status {
    Starting,
    Up {
        generation: u64,
        door: Sender<Erased>,
    },
    /// This incarnation has ended; there will be another.
    Restarting {
        generation: u64,
        reason: DownReason,
    },
    Down {
        generation: u64,
        reason: DownReason,
    },
}

/// From a keeper to the processes that asked for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct News {
    pub(crate) key: ActorKey,
    pub(crate) status: Status,
    /// With the first news only.
    pub(crate) mailbox: Option<JoinableQueue<Erased>>,
}

/// To the desk of a process that keeps actors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DeskRequest {
    /// Keeps the desk's queue from looking abandoned while nobody asks.
    Nothing,
    /// Tell this client from now on how that actor is.
    Attach {
        number: u64,
        client: u64,
        news: Sender<News>,
        /// Whether it needs the way to the mailbox.
        mailbox: bool,
    },
    Stop {
        number: u64,
    },
    Register {
        name: String,
        entry: Entry,
        done: Sender<bool>,
    },
    Unregister {
        name: String,
        key: ActorKey,
    },
    Find {
        name: String,
        found: Sender<Option<Entry>>,
    },
}

/// An address without its type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: ActorKey,
    pub(crate) name: String,
    /// Of the actor's type.
    pub(crate) fingerprint: u64,
    pub(crate) desk: crate::queue::Queue<DeskRequest>,
}

/// Bytes, copied in one piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut bytes: S) -> Result<Blob, S::Error> {
                let mut all = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    all.push(byte);
                }
                Ok(Blob(all))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

impl Blob {
    pub(crate) fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        wire::decode(&self.0, Vec::new())
    }
}
