//! Values to bytes and back, with the handles in them.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{DecodeError, EncodeError};
use crate::ipc::catch::panic_text;
use crate::ipc::codec::{self, Decoder, Encoder, Input, Slice, Spill};
use crate::ipc::region::Reader;
use crate::ipc::wire::raw_handles;
use crate::ipc::wire::{HANDLES_MAX, WireHandle};

/// An encoded value.
#[derive(Debug, Default)]
pub(crate) struct EncodedValue {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<WireHandle>,
}

thread_local! {
    static NOTED: Noted = const {
        Noted {
            encoding: Cell::new(false),
            moves: Cell::new(true),
            side_data: RefCell::new(SideData(None)),
        }
    };
    /// Handles that the decoding on this thread may claim.
    static CLAIMABLE: RefCell<Vec<Option<WireHandle>>> = const { RefCell::new(Vec::new()) };
}

/// What goes side_data with a value's bytes. Nearly every value has nothing, and that must cost nothing: it is one word.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct SideData(Option<Box<HandleSet>>);

#[derive(Default)]
struct HandleSet {
    handles: Vec<WireHandle>,
    /// What exists only once has left its handle; these put it back.
    restore: Vec<Box<dyn FnOnce() + Send>>,
}

impl SideData {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn take_handles(&mut self) -> Vec<WireHandle> {
        self.0
            .as_mut()
            .map_or_else(Vec::new, |set| std::mem::take(&mut set.handles))
    }

    /// What came of sending the value: after an error it goes nowhere, and what left its handle is there again.
    pub(crate) fn restore_unless_sent<R, E>(self, sent: Result<R, E>) -> Result<R, E> {
        if sent.is_err() {
            self.restore();
        }
        sent
    }

    /// The value goes nowhere. Dropping this lets it go.
    pub(crate) fn restore(self) {
        let left = self.0.map_or_else(Vec::new, |set| set.restore);
        left.into_iter().rev().for_each(|stay| stay());
    }
}

impl std::fmt::Debug for HandleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandleSet")
            .field("handles", &self.handles)
            .field("restore", &self.restore.len())
            .finish()
    }
}

/// What the encoding that runs on a thread takes side_data.
struct Noted {
    /// Whether one runs.
    encoding: Cell<bool>,
    /// Whether what exists only once may go.
    moves: Cell<bool>,
    side_data: RefCell<SideData>,
}

impl Noted {
    /// The state of the encoding that this one runs inside of, if there is one: a `Serialize` may itself put into a queue.
    #[inline]
    fn begin(&self, moves: bool) -> (bool, Option<SideData>) {
        (
            self.moves.replace(moves),
            self.encoding.replace(true).then(|| self.side_data.take()),
        )
    }

    #[inline]
    fn end(&self, (moves, outer): (bool, Option<SideData>)) -> SideData {
        self.moves.set(moves);
        self.encoding.set(outer.is_some());
        self.side_data.replace(outer.unwrap_or_default())
    }

    fn with_set<R>(&self, change: impl FnOnce(&mut HandleSet) -> R) -> R {
        change(self.side_data.borrow_mut().0.get_or_insert_default())
    }
}

/// Takes a handle side_data with the value that is being encoded, and gives its index.
pub(crate) fn note(handle: WireHandle) -> Result<u32, &'static str> {
    may_note()?;
    Ok(NOTED.with(|noted| {
        noted.with_set(|set| {
            set.handles.push(handle);
            (set.handles.len() - 1) as u32
        })
    }))
}

/// Has `stay` called if the value that is being encoded is not sent: something left its handle with it, that [`note`] took.
pub(crate) fn on_unsent(stay: impl FnOnce() + Send + 'static) {
    NOTED.with(|noted| noted.with_set(|set| set.restore.push(Box::new(stay))));
}

/// Whether [`note`] would take one more.
pub(crate) fn may_note() -> Result<(), &'static str> {
    may_note_all(1)
}

/// Whether [`note`] would take so many more.
pub(crate) fn may_note_all(count: usize) -> Result<(), &'static str> {
    NOTED.with(|noted| {
        if !noted.encoding.get() {
            Err(OUTSIDE)
        } else if noted
            .side_data
            .borrow()
            .0
            .as_ref()
            .map_or(0, |set| set.handles.len())
            + count
            > HANDLES_MAX
        {
            Err(TOO_MANY)
        } else {
            Ok(())
        }
    })
}

/// Whether what exists only once may go with the value that is being encoded. To be asked before it is taken from where it is.
pub(crate) fn may_move() -> Result<(), &'static str> {
    NOTED.with(|noted| noted.moves.get().then_some(()).ok_or(ONCE))
}

const ONCE: &str = "a receiving end exists once, and this value may be needed more often";
const OUTSIDE: &str = "a handle of offspring crosses only inside worker fields, outputs, queue items and messages of offspring";
const TOO_MANY: &str =
    "a value may hold at most 32 handles: send a queue or connection first, and the rest over it";

/// Takes the handle with this index out of the message that is being decoded.
pub(crate) fn claim(index: u32) -> Result<WireHandle, &'static str> {
    CLAIMABLE.with_borrow_mut(|claimable| {
        claimable
            .get_mut(index as usize)
            .and_then(Option::take)
            .ok_or("the handle that belongs here did not arrive with the value")
    })
}

/// The error of a handle that does not encode.
pub(crate) fn explain<E: serde::ser::Error>(message: &str) -> E {
    E::custom(message)
}

/// As [`explain`], for decoding.
pub(crate) fn explain_de<E: serde::de::Error>(message: &str) -> E {
    E::custom(message)
}

static LIMIT: AtomicUsize = AtomicUsize::new(2 << 30);

/// The most bytes that one value may take when this process sends or receives it: 2 GiB if nobody has
/// called [`set_message_limit`].
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert!(offspring::message_limit() >= 1 << 20);
/// # Ok(())
/// # }
/// ```
#[inline]
#[must_use]
pub fn message_limit() -> usize {
    LIMIT.load(Ordering::Relaxed)
}

/// Sets how many bytes one value (a message, a queue item, a worker, an output) may take when this process sends or
/// receives it; the default is 2 GiB. It counts the encoded value, from this call on, for all threads.
///
/// A larger value is an error of the call that sends it. One that comes from a process with a higher limit is an
/// error of the call that receives it, before memory is taken for it.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// offspring::set_message_limit(1 << 20);
/// let queue = offspring::Queue::unbounded()?;
/// assert!(queue.put(vec![0u8; 2 << 20]).is_err());
/// # Ok(())
/// # }
/// ```
pub fn set_message_limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

#[inline]
fn run<T: Serialize + ?Sized>(
    value: &T,
    moves: bool,
    mut encoder: Encoder<'_>,
) -> Result<(usize, SideData), EncodeError> {
    raw_handles::encoded();
    let outer = NOTED.with(|noted| noted.begin(moves));
    let outcome = catch_unwind(AssertUnwindSafe(|| encoder.encode(value)));
    let side_data = NOTED.with(|noted| noted.end(outer));
    match outcome {
        Ok(Ok(spilled)) => Ok((spilled, side_data)),
        Ok(Err(error)) => Err(unencoded::<T>(side_data, &error)),
        Err(panic) => Err(unencoded::<T>(
            side_data,
            &format_args!("its Serialize panicked: {}", panic_text(&*panic)),
        )),
    }
}

#[cold]
fn unencoded<T: ?Sized>(side_data: SideData, why: &dyn std::fmt::Display) -> EncodeError {
    side_data.restore();
    EncodeError::new::<T>(why.to_string())
}

/// Encodes behind what `bytes` already holds. On an error `bytes` is as it was.
#[inline]
pub(crate) fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<SideData, EncodeError> {
    encode_behind(value, true, bytes)
}

#[inline]
fn encode_behind<T: Serialize + ?Sized>(
    value: &T,
    moves: bool,
    bytes: &mut Vec<u8>,
) -> Result<SideData, EncodeError> {
    let start = bytes.len();
    match run(value, moves, Encoder::new(bytes, message_limit())) {
        Ok((_, side_data)) => Ok(side_data),
        Err(error) => {
            bytes.truncate(start);
            Err(error)
        }
    }
}

/// Encodes into `bytes`, or, if there are more than `above`, all of it into `spill`; how many went there.
#[inline]
pub(crate) fn encode_spilling<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
    above: usize,
    spill: &mut dyn Spill,
) -> Result<(usize, SideData), EncodeError> {
    run(
        value,
        true,
        Encoder::spilling(bytes, message_limit(), above, spill),
    )
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let handles = encode_into(value, &mut bytes)?.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// As [`encode`], of what stays here, or is sent several times: it takes side_data nothing that exists only once.
pub(crate) fn encode_copy<T: Serialize + ?Sized>(value: &T) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let handles = encode_behind(value, false, &mut bytes)?.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// As [`encode`], for a value that goes out with this thread's next message of ipc-channel: it may hold raw handles.
pub(crate) fn encode_with_raw_handles<T: Serialize + ?Sized>(
    value: &T,
) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let (_, mut side_data) = run(value, true, Encoder::raw(&mut bytes, message_limit()))?;
    let handles = side_data.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// Decodes a whole value: bytes that are left over are an error too.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    handles: Vec<WireHandle>,
) -> Result<T, DecodeError> {
    decode_with(Slice(bytes), handles, |decoder| T::deserialize(decoder))
}

/// The same from memory that another process may still write.
pub(crate) fn decode_shared<T: DeserializeOwned>(
    reader: Reader<'_>,
    handles: Vec<WireHandle>,
) -> Result<T, DecodeError> {
    decode_with(reader, handles, |decoder| T::deserialize(decoder))
}

pub(crate) fn decode_with<'de, R, I: Input<'de>>(
    input: I,
    handles: Vec<WireHandle>,
    read: impl FnOnce(&mut Decoder<I>) -> Result<R, codec::Error>,
) -> Result<R, DecodeError> {
    if input.left() > message_limit() {
        let (length, limit) = (input.left(), message_limit());
        return Err(DecodeError::new::<R>(format!(
            "it takes {length} bytes, and {limit} are allowed"
        )));
    }
    // Nearly every value has none, and then there is nothing to set up, unless one is decoded inside another.
    let plain = handles.is_empty() && CLAIMABLE.with_borrow(Vec::is_empty);
    let outer = (!plain).then(|| CLAIMABLE.replace(handles.into_iter().map(Some).collect()));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut decoder = Decoder::new(input);
        read(&mut decoder).map(|value| (value, decoder.left()))
    }));
    if let Some(outer) = outer {
        CLAIMABLE.replace(outer);
    }
    match outcome {
        Ok(Ok((value, 0))) => Ok(value),
        Ok(Ok((_, left))) => Err(DecodeError::new::<R>(format!("{left} bytes are left over"))),
        Ok(Err(error)) => Err(DecodeError::new::<R>(error.to_string())),
        Err(panic) => Err(DecodeError::new::<R>(format!(
            "its Deserialize panicked: {}",
            panic_text(&*panic)
        ))),
    }
}
