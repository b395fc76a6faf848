//! What crosses a process border: the codec, handles inside values, and the rules for ipc-channel.
//!
//! A user's value becomes bytes (postcard) plus a list of [`WireHandle`]s: our handle types note
//! themselves while a value is encoded ([`note`]) and write only their index; decoding claims them
//! back ([`claim`]). Values therefore never touch ipc-channel's own thread-locals, and a value whose
//! encoding fails half-way leaves nothing behind.
//!
//! Every message stays one packet ([`INLINE_MAX`]): above about 212 KB ipc-channel fragments, and a
//! fragmented message can hang its sender and close the channel for everybody. Longer bodies travel
//! as shared memory.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory, OpaqueIpcReceiver, OpaqueIpcSender};
use ipc_channel::{IpcError, TryRecvError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, EncodeError};
use crate::sys;

/// Bodies up to this many bytes ride in the message itself; four of them fit a socket's buffer.
pub(crate) const INLINE_MAX: usize = 32 << 10;

/// Handles in one message. ipc-channel panics above 64, and the envelope needs some itself.
pub(crate) const HANDLES_MAX: usize = 32;

/// Something of the operating system inside a value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WireHandle {
    Sender(OpaqueIpcSender),
    Receiver(OpaqueIpcReceiver),
    Memory(IpcSharedMemory),
}

impl WireHandle {
    /// A second one of the same, where the system has such a thing: a receiver exists once.
    pub(crate) fn try_clone(&self) -> Option<WireHandle> {
        match self {
            WireHandle::Sender(sender) => Some(WireHandle::Sender(sender.clone())),
            WireHandle::Receiver(_) => None,
            WireHandle::Memory(memory) => memory_again(memory).ok().map(WireHandle::Memory),
        }
    }
}

/// An encoded value.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<WireHandle>,
}

thread_local! {
    /// Whether a value of the user was encoded on this thread since the last message from it.
    static ENCODED: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread is inside of [`no_panic`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Handles noted by the encoding that runs on this thread, if one does.
    static NOTED: RefCell<Option<Vec<WireHandle>>> = const { RefCell::new(None) };
    /// Handles that the decoding on this thread may claim.
    static CLAIMABLE: RefCell<Vec<Option<WireHandle>>> = const { RefCell::new(Vec::new()) };
}

/// Takes a handle along with the value that is being encoded, and gives its index.
pub(crate) fn note(handle: WireHandle) -> Result<u32, &'static str> {
    may_note()?;
    NOTED.with_borrow_mut(|noted| {
        let noted = noted.as_mut().ok_or(OUTSIDE)?;
        noted.push(handle);
        Ok((noted.len() - 1) as u32)
    })
}

/// Whether [`note`] would take one more.
pub(crate) fn may_note() -> Result<(), &'static str> {
    NOTED.with_borrow(|noted| match noted {
        None => Err(OUTSIDE),
        Some(noted) if noted.len() == HANDLES_MAX => Err(TOO_MANY),
        Some(_) => Ok(()),
    })
}

const OUTSIDE: &str = "a handle of offspring crosses only inside worker fields, outputs, queue items and messages of offspring";
const TOO_MANY: &str = "a value may hold at most 32 handles: send a queue or connection first, and the rest over it";

/// Takes the handle with this index out of the message that is being decoded.
pub(crate) fn claim(index: u32) -> Result<WireHandle, &'static str> {
    CLAIMABLE.with_borrow_mut(|claimable| {
        claimable
            .get_mut(index as usize)
            .and_then(Option::take)
            .ok_or("the handle that belongs here did not arrive with the value")
    })
}

/// postcard writes into a buffer that its owner keeps.
struct Buffer<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Buffer<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Encodes behind what `bytes` already holds. On an error `bytes` is as it was.
pub(crate) fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<Vec<WireHandle>, EncodeError> {
    let start = bytes.len();
    ENCODED.set(true);
    // Nested encodings (a `Serialize` that itself puts into a queue) each have a list of their own.
    let outer = NOTED.with(|noted| noted.replace(Some(Vec::new())));
    let outcome = catch_unwind(AssertUnwindSafe(|| postcard::serialize_with_flavor(value, Buffer(bytes))));
    let noted = NOTED.with(|noted| noted.replace(outer)).unwrap_or_default();
    let error = match outcome {
        Ok(Ok(())) => return Ok(noted),
        Ok(Err(error)) => last_custom_error().unwrap_or_else(|| error.to_string()),
        Err(panic) => format!("its Serialize panicked: {}", panic_text(&*panic)),
    };
    bytes.truncate(start);
    Err(EncodeError::new::<T>(error))
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, EncodeError> {
    let mut bytes = Vec::new();
    let handles = encode_into(value, &mut bytes)?;
    Ok(Encoded { bytes, handles })
}

/// Decodes a whole value: bytes that are left over are an error too.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], handles: Vec<WireHandle>) -> Result<T, DecodeError> {
    // Nearly every value has none, and then there is nothing to set up, unless one is decoded inside another.
    let plain = handles.is_empty() && CLAIMABLE.with_borrow(Vec::is_empty);
    let outer = (!plain).then(|| CLAIMABLE.replace(handles.into_iter().map(Some).collect()));
    let outcome = catch_unwind(AssertUnwindSafe(|| postcard::take_from_bytes::<T>(bytes)));
    if let Some(outer) = outer {
        CLAIMABLE.replace(outer);
    }
    match outcome {
        Ok(Ok((value, []))) => Ok(value),
        Ok(Ok((_, rest))) => Err(DecodeError::new::<T>(format!("{} bytes are left over", rest.len()))),
        Ok(Err(error)) => Err(DecodeError::new::<T>(last_custom_error().unwrap_or_else(|| error.to_string()))),
        Err(panic) => Err(DecodeError::new::<T>(format!("its Deserialize panicked: {}", panic_text(&*panic)))),
    }
}

thread_local! {
    static CUSTOM_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// postcard drops the text of custom errors; a handle that fails leaves its own here.
pub(crate) fn explain<E: serde::ser::Error>(message: &str) -> E {
    CUSTOM_ERROR.set(Some(message.to_owned()));
    E::custom(message)
}

/// As [`explain`], for decoding.
pub(crate) fn explain_de<E: serde::de::Error>(message: &str) -> E {
    CUSTOM_ERROR.set(Some(message.to_owned()));
    E::custom(message)
}

fn last_custom_error() -> Option<String> {
    CUSTOM_ERROR.take()
}

/// The text of a panic's payload.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

/// A value as it travels in one message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Packet {
    body: Body,
    handles: Vec<WireHandle>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Body {
    Inline(Vec<u8>),
    Memory(IpcSharedMemory),
}

impl Packet {
    pub(crate) fn new(encoded: Encoded) -> io::Result<Packet> {
        let body = if encoded.bytes.len() <= INLINE_MAX {
            Body::Inline(encoded.bytes)
        } else {
            Body::Memory(memory_from(&encoded.bytes)?)
        };
        Ok(Packet {
            body,
            handles: encoded.handles,
        })
    }

    /// The same with a body that is inline only up to `limit` bytes, so that many fit a socket's buffer.
    pub(crate) fn with_inline_limit(mut self, limit: usize) -> io::Result<Packet> {
        if let Body::Inline(bytes) = &self.body {
            if bytes.len() > limit {
                self.body = Body::Memory(memory_from(bytes)?);
            }
        }
        Ok(self)
    }

    /// A second one, unless it holds something that exists once, or memory or descriptors are short.
    pub(crate) fn try_clone(&self) -> Option<Packet> {
        let handles = self.handles.iter().map(WireHandle::try_clone).collect::<Option<Vec<_>>>()?;
        let body = match &self.body {
            Body::Inline(bytes) => Body::Inline(bytes.clone()),
            Body::Memory(memory) => Body::Memory(memory_again(memory).ok()?),
        };
        Some(Packet { body, handles })
    }

    pub(crate) fn decode<T: DeserializeOwned>(mut self) -> Result<T, DecodeError> {
        self.decode_here()
    }

    /// Decodes it and keeps the bytes; the handles are spent.
    pub(crate) fn decode_here<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let handles = std::mem::take(&mut self.handles);
        decode(self.body(), handles)
    }

    pub(crate) fn body(&self) -> &[u8] {
        match &self.body {
            Body::Inline(bytes) => bytes,
            Body::Memory(memory) => memory,
        }
    }
}

/// A [`Packet`] that is decoded while its message is: there, and only there, raw handles of ipc-channel
/// inside the value find their descriptors.
pub(crate) struct Carried<T>(pub(crate) Result<T, DecodeError>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Carried<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The user's code: its panics are no secret.
        Packet::deserialize(deserializer).map(|packet| Carried(with_quiet(false, || packet.decode())))
    }
}

/// ipc-channel asks it of what is received; what is sent is a [`Packet`].
impl<T> Serialize for Carried<T> {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("send the packet"))
    }
}

/// Shared memory with a copy of `bytes`; an `Err` where ipc-channel would panic.
pub(crate) fn memory_from(bytes: &[u8]) -> io::Result<IpcSharedMemory> {
    sys::probe_shared_memory(bytes.len())?;
    no_panic("shared memory", || IpcSharedMemory::from_bytes(bytes))
}

/// A second mapping of the same memory; an `Err` where ipc-channel would panic.
pub(crate) fn memory_again(memory: &IpcSharedMemory) -> io::Result<IpcSharedMemory> {
    sys::close_on_exec(|| no_panic("shared memory", || memory.clone()))?
}

/// Zeroed shared memory; an `Err` where ipc-channel would panic.
pub(crate) fn memory_zeroed(length: usize) -> io::Result<IpcSharedMemory> {
    sys::probe_shared_memory(length)?;
    no_panic("shared memory", || IpcSharedMemory::from_byte(0, length))
}

/// Runs a call of ipc-channel that panics where it should give an error. Nobody hears of the panic: it is an
/// error value, and neither the program's nor the worker's own.
pub(crate) fn no_panic<R>(what: &str, call: impl FnOnce() -> R) -> io::Result<R> {
    with_quiet(true, || survive(what, call))
}

/// Runs what should not panic, where a mistake of ours must not end a service.
pub(crate) fn survive<R>(what: &str, call: impl FnOnce() -> R) -> io::Result<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| io::Error::other(format!("{what}: {}", panic_text(&*panic))))
}

fn with_quiet<R>(quiet: bool, call: impl FnOnce() -> R) -> R {
    let outer = QUIET.replace(quiet);
    let result = call();
    QUIET.set(outer);
    result
}

/// For panic hooks: whether the panic that runs on this thread is about to become an error value. Where panics
/// abort it becomes none, and its message is the last word of the process.
pub(crate) fn is_quiet() -> bool {
    // A thread that is ending may have lost its thread-locals.
    !cfg!(panic = "abort") && QUIET.try_with(Cell::get).unwrap_or(false)
}

/// Says yes at most every few milliseconds: when to ask whether the other side still lives.
#[derive(Debug)]
pub(crate) struct Pulse(Instant);

impl Pulse {
    const EVERY: Duration = Duration::from_millis(5);

    pub(crate) fn new() -> Pulse {
        Pulse(Instant::now())
    }

    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now.saturating_duration_since(self.0) >= Pulse::EVERY;
        if due {
            self.0 = now;
        }
        due
    }
}

/// How a message failed to go out or come in.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The other side is gone.
    Disconnected,
    /// Nothing came in time.
    Timeout,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => Failure::Disconnected,
            _ => Failure::Io(error),
        }
    }
}

impl From<IpcError> for Failure {
    fn from(error: IpcError) -> Self {
        match error {
            IpcError::Disconnected => Failure::Disconnected,
            IpcError::Io(error) => error.into(),
            IpcError::SerializationError(error) => Failure::Io(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

/// Sends one message. It may block while the receiver's buffer is full, so callers count what they send.
pub(crate) fn send<M: Serialize>(sender: &IpcSender<M>, message: M) -> Result<(), Failure> {
    drop_strays();
    send_with_strays(sender, message)
}

/// Sends a doorbell: what never waits, since its sender knows that the last one was heard, needs no care for
/// signals.
pub(crate) fn ring<M: Serialize>(sender: &IpcSender<M>, bell: M) -> Result<(), Failure> {
    drop_strays();
    no_panic("ipc-channel", || sender.send(bell))
        .map_err(Failure::Io)?
        .map_err(Failure::from)
}

/// As [`send`], with the raw handles of ipc-channel that were encoded on this thread before.
pub(crate) fn send_with_strays<M: Serialize>(sender: &IpcSender<M>, message: M) -> Result<(), Failure> {
    // ipc-channel never retries EINTR, and a message with handles cannot be sent twice.
    sys::with_signals_blocked(|| {
        no_panic("ipc-channel", || sender.send(message))
            .map_err(Failure::Io)?
            .map_err(Failure::from)
    })
}

/// Runs `call` on another thread, and waits for it.
pub(crate) fn beside<R: Send>(call: impl FnOnce() -> R + Send) -> io::Result<R> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, call)?;
        thread.join().map_err(|panic| io::Error::other(panic_text(&*panic)))
    })
}

/// Raw handles of ipc-channel in a user's value note themselves in ipc-channel's thread-locals, and ride
/// on whatever this thread sends next. Where they cannot work they must not end up in a stranger's
/// hands: sending to a receiver that is gone takes them along into nothing.
pub(crate) fn drop_strays() {
    if !ENCODED.replace(false) {
        return;
    }
    static NOWHERE: OnceLock<Option<IpcSender<()>>> = OnceLock::new();
    let nowhere = NOWHERE.get_or_init(|| ipc_channel::ipc::channel().ok().map(|(sender, _)| sender));
    if let Some(nowhere) = nowhere {
        let _ = no_panic("ipc-channel", || nowhere.send(()));
    }
}

/// Receives one message, until `deadline` if there is one.
pub(crate) fn recv<M>(receiver: &IpcReceiver<M>, deadline: Option<Instant>) -> Result<M, Failure>
where
    M: DeserializeOwned + Serialize,
{
    loop {
        let outcome = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => no_panic("ipc-channel", || receiver.recv().map_err(TryRecvError::IpcError)),
            Some(Duration::ZERO) => no_panic("ipc-channel", || receiver.try_recv()),
            // ipc-channel cuts to whole milliseconds, and takes what does not fit its integer for no limit.
            Some(left) => {
                let left = left.min(Duration::from_secs(3600)) + Duration::from_micros(999);
                no_panic("ipc-channel", || receiver.try_recv_timeout(left))
            }
        };
        match outcome.map_err(Failure::Io)? {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Empty) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return Err(Failure::Timeout),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::IpcError(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryRecvError::IpcError(error)) => return Err(error.into()),
        }
    }
}

/// The number of the socket that a receiver reads. ipc-channel keeps it to itself, except in `Debug`; where that
/// shows none, the receiver cannot be waited for together with others.
pub(crate) fn socket<M: std::fmt::Debug>(receiver: &IpcReceiver<M>) -> Option<RawFd> {
    let text = format!("{receiver:?}");
    let (_, number) = text.split_once("fd: Cell { value: ")?;
    let number = number.split_once(' ')?.0.parse().ok()?;
    sys::is_packet_socket(number).then_some(number)
}

/// FNV-1a over a text: the fingerprint of a type's name in a header.
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_whole() {
        let value = (7u64, "text".to_owned(), vec![1u8, 2, 3], Some(-1i32));
        let encoded = encode(&value).unwrap();
        let back: (u64, String, Vec<u8>, Option<i32>) = decode(&encoded.bytes, encoded.handles).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let encoded = encode(&(1u8, 2u8)).unwrap();
        let error = decode::<u8>(&encoded.bytes, Vec::new()).unwrap_err();
        assert!(error.to_string().contains("left over"), "{error}");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_a_value_or_an_error() {
        let value = (vec!["a".to_owned(), "bc".to_owned()], Some(vec![1u32, 2, 3]), 'x');
        let bytes = encode(&value).unwrap().bytes;
        for cut in 0..bytes.len() {
            assert!(decode::<(Vec<String>, Option<Vec<u32>>, char)>(&bytes[..cut], Vec::new()).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = decode::<(Vec<String>, Option<Vec<u32>>, char)>(&bytes, Vec::new());
        }
    }

    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(explain("no way"))
        }
    }

    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("oh")
        }
    }

    #[test]
    fn failing_encodings_leave_the_buffer_as_it_was() {
        let mut bytes = vec![9];
        let error = encode_into(&("some text", Refuses), &mut bytes).unwrap_err();
        assert!(error.to_string().contains("no way"), "{error}");
        let error = encode_into(&("some text", Panics), &mut bytes).unwrap_err();
        assert!(error.to_string().contains("oh"), "{error}");
        assert_eq!(bytes, [9]);
    }

    #[test]
    fn the_socket_of_a_receiver_has_a_packet_when_the_receiver_has_a_message() {
        let (sender, receiver) = ipc_channel::ipc::channel::<u8>().unwrap();
        let socket = socket(&receiver).expect("Debug shows the socket");
        assert!(!sys::has_packet(socket));
        sender.send(1).unwrap();
        assert!(sys::has_packet(socket));
        receiver.recv().unwrap();
        assert!(!sys::has_packet(socket));
        drop(sender);
        assert!(sys::has_packet(socket), "the end is something to read");
    }

    #[test]
    fn handles_outside_of_offspring_are_refused() {
        let memory = memory_from(b"x").unwrap();
        assert!(note(WireHandle::Memory(memory)).is_err());
        assert!(claim(0).is_err());
    }
}
