//! The messages between `client`, `host` and `worker`: the only file that all three use.
//!
//! | from | to | over | messages |
//! | --- | --- | --- | --- |
//! | client | worker | a channel, one for each incarnation | [`CallMark`] and the message; [`Request`] |
//! | worker | client | a channel, one for each session | [`CallMark`] and the reply; [`MailboxReply`] |
//! | client | worker | the mailbox, a queue that the host owns | [`MailboxItem`] |
//! | client | host | the host's directory, a queue | [`DirectoryRequest`] |
//! | host | client | a channel, one for each client process | [`StatusUpdate`] |
//! | host | worker | the worker's channel | [`Request`] |
//! | worker | host | a channel, one for each incarnation | [`Report`], and the process's output: [`ActorExit`] |
//!
//! What must survive an incarnation goes through the host: casts wait in the mailbox, and clients
//! learn of restarts from the host.

use std::cell::Cell;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::channel::{Mark, Receiver, Sender};
use crate::error::{DecodeError, DownReason, printable};
use crate::ipc::wire;
use crate::queue::{JoinableProducer, Producer};
use crate::sys;
use crate::trace::{Captured, ORIGIN_BYTES};

/// Identifies an actor through all its incarnations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct ActorKey {
    /// The host process.
    pub(crate) host: u64,
    pub(crate) number: u64,
}

/// Returns a random number that identifies this process.
pub(crate) fn own_process_number() -> u64 {
    static NUMBER: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *NUMBER.get_or_init(|| {
        sys::random().map_or_else(|_| u64::from(std::process::id()), u64::from_le_bytes)
    })
}

/// Replaces the type of a message where that is not known.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Erased;

/// The origin of a call. Most calls are sent without one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CallChain {
    /// The actors that wait for the call. The caller is last, and each actor before it waits for the
    /// one after it.
    pub(crate) callers: Vec<Caller>,
    /// The span that it was made in.
    #[cfg(feature = "tracing")]
    origin: Option<[u8; ORIGIN_BYTES]>,
}

impl CallChain {
    pub(crate) fn of(callers: Vec<Caller>) -> CallChain {
        CallChain {
            callers,
            #[cfg(feature = "tracing")]
            origin: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.callers.is_empty() && self.origin().is_none()
    }

    /// The same for a call that is made in this span.
    pub(crate) fn within(self, context: Option<&Captured>) -> CallChain {
        let _ = context;
        CallChain {
            #[cfg(feature = "tracing")]
            origin: context.map(Captured::origin),
            ..self
        }
    }

    pub(crate) fn origin(&self) -> Option<[u8; ORIGIN_BYTES]> {
        #[cfg(feature = "tracing")]
        {
            self.origin
        }
        #[cfg(not(feature = "tracing"))]
        {
            None
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Caller {
    pub(crate) key: ActorKey,
    #[serde(deserialize_with = "printable::deserialize_name")]
    pub(crate) name: String,
}

/// The mark of a direct call and of its reply. The payload is only the message or the reply: the
/// ring that it came through shows which client it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallMark {
    /// The slot of the call in its session.
    pub(crate) slot: usize,
    /// In a call: the caller's [`CallChain`] precedes the message. In a reply: the payload is an
    /// error text.
    pub(crate) special: bool,
}

impl CallMark {
    pub(crate) const SLOTS: usize = CallMark::SPECIAL as usize - 1;
    const SPECIAL: u16 = 1 << 13;

    pub(crate) fn mark(self) -> Mark {
        Mark(self.slot as u16 + 1 + if self.special { CallMark::SPECIAL } else { 0 })
    }

    /// Returns `None` for a message without a call's mark: a [`Request`] or a [`MailboxReply`].
    pub(crate) fn of(Mark(mark): Mark) -> Option<CallMark> {
        let slot = usize::from(mark % CallMark::SPECIAL).checked_sub(1)?;
        let special = mark & CallMark::SPECIAL != 0;
        Some(CallMark { slot, special })
    }
}

const _: () = assert!(CallMark::SPECIAL <= Mark::MAX / 2 + 1);

/// From a client or the host to an incarnation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Opens a session: calls that come through the same ring are answered through `replies`.
    Open {
        session: u64,
        replies: Sender<Erased>,
    },
    Close {
        session: u64,
    },
    /// Links the actor to the process `partner`: the actor fails if the channel closes before
    /// [`Unlink`] has come.
    Link {
        #[serde(deserialize_with = "printable::deserialize_name")]
        partner: String,
        unlinked: Receiver<Unlink>,
    },
    /// Asks the actor to stop; with `drain`, after the messages that are in its mailbox now.
    Stop {
        drain: bool,
    },
    /// Asks for a [`Report::Pong`].
    Ping(u64),
    /// Makes the main thread check its flags.
    Wake,
}

/// The link ends in an orderly way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unlink;

/// An item of the mailbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum MailboxItem<M> {
    /// Put by an incarnation for itself: when it comes out, all items before it have been handled.
    Marker {
        generation: u64,
    },
    Cast(M),
    /// A call that must not overtake its client's casts. It is for one incarnation only: if that
    /// dies, the client gets an error, and no thread waits for the reply any more.
    Call {
        /// First, so that a call whose message does not decode can still be refused: see
        /// [`CallHeader::observe`].
        header: CallHeader,
        generation: u64,
        chain: CallChain,
        message: M,
    },
}

impl<M> MailboxItem<M> {
    /// The message of a cast or call.
    pub(crate) fn into_message(self) -> M {
        match self {
            MailboxItem::Cast(message) | MailboxItem::Call { message, .. } => message,
            MailboxItem::Marker { .. } => {
                unreachable!("only an incarnation puts markers, for itself")
            }
        }
    }
}

/// The reply to a call through the mailbox.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "R: Serialize", deserialize = "R: Deserialize<'de>"))]
pub(crate) struct MailboxReply<R> {
    /// First, so that the caller is known even if the reply does not decode: see
    /// [`CallHeader::observe`].
    pub(crate) header: CallHeader,
    pub(crate) reply: Result<R, String>,
}

/// Identifies a call through the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallHeader {
    pub(crate) session: u64,
    pub(crate) call: CallNumber,
}

/// Numbers the calls through the mailbox of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CallNumber(pub(crate) u64);

thread_local! {
    /// A side channel through serde. Only [`CallHeader::observe`] reads it.
    static DECODED: Cell<Option<CallHeader>> = const { Cell::new(None) };
}

impl CallHeader {
    /// Runs `decode`, and also returns the last header that was decoded in it.
    ///
    /// If the message of a call does not decode, the call must be refused; if a reply does not
    /// decode, its call must end. But a queue and a channel decode an item as a whole, and return
    /// nothing but an error if a part of it fails, and serde's `Deserialize` takes no context
    /// through which the parts could be handed out. So a header leaves a copy of itself in a
    /// thread-local when it is decoded. It is the first field of its item, so it has been decoded
    /// when a later field fails.
    pub(crate) fn observe<T>(decode: impl FnOnce() -> T) -> (T, Option<CallHeader>) {
        // Forget a header that an earlier item left.
        DECODED.set(None);
        let decoded = decode();
        (decoded, DECODED.take())
    }
}

impl Serialize for CallHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.session, self.call).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CallHeader {
    /// Leaves a copy for [`CallHeader::observe`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (session, call) = Deserialize::deserialize(deserializer)?;
        let header = CallHeader { session, call };
        DECODED.set(Some(header));
        Ok(header)
    }
}

/// From an incarnation to its host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Started(Result<(), String>),
    Checkpoint(Blob),
    Pong(u64),
}

/// How an actor that ended by itself did so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ending {
    Normal,
    Shutdown,
    Failed(#[serde(deserialize_with = "printable::deserialize_text")] String),
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

/// The output of an actor's process. Not public API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActorExit(pub(crate) Ending);

/// The state of an actor, as its host knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ActorStatus {
    Starting,
    Up {
        generation: u64,
        requests: Sender<Erased>,
    },
    /// This incarnation has ended, and another one will follow.
    Restarting {
        generation: u64,
        reason: DownReason,
    },
    /// This incarnation was the last.
    Down {
        generation: u64,
        reason: DownReason,
    },
}

/// From a host to each client process that subscribed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusUpdate {
    pub(crate) key: ActorKey,
    /// The number under which this client has subscribed. Another host does not know it, so that
    /// none can report on actors that are not its own.
    pub(crate) client: u64,
    pub(crate) status: ActorStatus,
    /// In the first update only, if the client asked for it.
    pub(crate) mailbox: Option<JoinableProducer<Erased>>,
}

/// To the directory of a host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DirectoryRequest {
    /// Sends the actor's status to `client`, now and at each change.
    Subscribe {
        number: u64,
        client: u64,
        updates: Sender<StatusUpdate>,
        /// Whether the client needs the mailbox.
        mailbox: bool,
    },
    Stop {
        number: u64,
    },
    Register {
        name: String,
        actor: UntypedRef,
        /// Receives whether the name was free, or why the directory takes no more names.
        done: Sender<Result<bool, String>>,
    },
    /// Asks whether this actor is down for good.
    IsDown {
        number: u64,
        answer: Sender<bool>,
    },
    Unregister {
        name: String,
        key: ActorKey,
    },
    Find {
        name: String,
        found: Sender<Option<UntypedRef>>,
    },
}

/// The address of an actor of any type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UntypedRef {
    pub(crate) key: ActorKey,
    #[serde(deserialize_with = "printable::deserialize_name")]
    pub(crate) name: String,
    /// The fingerprint of the actor's type.
    pub(crate) fingerprint: u64,
    pub(crate) directory: Producer<DirectoryRequest>,
}

/// Bytes that are encoded in one piece, not one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl<'de> Visitor<'de> for BlobVisitor {
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
        deserializer.deserialize_byte_buf(BlobVisitor)
    }
}

impl Blob {
    pub(crate) fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        wire::decode(&self.0, Vec::new())
    }
}
