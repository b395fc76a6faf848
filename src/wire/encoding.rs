//! Values to bytes and back, with the handles in them.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Decoder, Encoder, Input, Slice, Spill};
use crate::error::{DecodeError, EncodeError};
use crate::guard::panic_text;
use crate::region::Reader;
use crate::wire::{HANDLES_MAX, WireHandle, strays};

/// An encoded value.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<WireHandle>,
}

thread_local! {
    static NOTED: Noted = const {
        Noted {
            encoding: Cell::new(false),
            moves: Cell::new(true),
            handles: RefCell::new(Vec::new()),
            left: RefCell::new(Left(Vec::new())),
        }
    };
    /// Handles that the decoding on this thread may claim.
    static CLAIMABLE: RefCell<Vec<Option<WireHandle>>> = const { RefCell::new(Vec::new()) };
}

/// What the encoding that runs on a thread takes along.
struct Noted {
    /// Whether one runs.
    encoding: Cell<bool>,
    /// Whether what exists only once may go.
    moves: Cell<bool>,
    handles: RefCell<Vec<WireHandle>>,
    /// Of the encoding that runs, or that was the last.
    left: RefCell<Left>,
}

/// What the encoding that runs on a thread found there, if it runs inside of another: a `Serialize` may itself put into a queue.
type Outer = Option<(Vec<WireHandle>, Left)>;

/// What left its handle with an encoded value, since it exists only once. Dropping this lets it go.
#[must_use]
pub(crate) struct Left(Vec<Box<dyn FnOnce() + Send>>);

impl Left {
    /// The value goes nowhere: all is again where it was.
    pub(crate) fn stay(self) {
        self.0.into_iter().rev().for_each(|stay| stay());
    }
}

impl std::fmt::Debug for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Left").field(&self.0.len()).finish()
    }
}

impl Noted {
    #[inline]
    fn begin(&self, moves: bool) -> (bool, Outer) {
        let outer = self
            .encoding
            .replace(true)
            .then(|| (self.handles.take(), self.left.replace(Left(Vec::new()))));
        (self.moves.replace(moves), outer)
    }

    #[inline]
    fn end(&self, (moves, outer): (bool, Outer)) -> Encoding {
        self.moves.set(moves);
        self.encoding.set(outer.is_some());
        // Nearly every value has none.
        if outer.is_none() && self.handles.borrow().is_empty() {
            return (Vec::new(), Left(Vec::new()));
        }
        let (handles, left) = outer.unwrap_or((Vec::new(), Left(Vec::new())));
        (self.handles.replace(handles), self.left.replace(left))
    }
}

/// Takes a handle along with the value that is being encoded, and gives its index.
pub(crate) fn note(handle: WireHandle) -> Result<u32, &'static str> {
    may_note()?;
    NOTED.with(|noted| {
        let mut handles = noted.handles.borrow_mut();
        handles.push(handle);
        Ok((handles.len() - 1) as u32)
    })
}

/// Has `stay` called if the value that is being encoded is not sent: something left its handle with it.
pub(crate) fn leave(stay: impl FnOnce() + Send + 'static) {
    NOTED.with(|noted| noted.left.borrow_mut().0.push(Box::new(stay)));
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
        } else if noted.handles.borrow().len() + count > HANDLES_MAX {
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

/// The handles of an encoded value, and what left with it.
pub(crate) type Encoding = (Vec<WireHandle>, Left);

#[inline]
fn run<T: Serialize + ?Sized>(value: &T, moves: bool, mut encoder: Encoder<'_>) -> Result<(usize, Encoding), EncodeError> {
    strays::encoded();
    let outer = NOTED.with(|noted| noted.begin(moves));
    let outcome = catch_unwind(AssertUnwindSafe(|| encoder.encode(value)));
    let (handles, left) = NOTED.with(|noted| noted.end(outer));
    let error = match outcome {
        Ok(Ok(spilled)) => return Ok((spilled, (handles, left))),
        Ok(Err(error)) => EncodeError::new::<T>(error.to_string()),
        Err(panic) => EncodeError::new::<T>(format!("its Serialize panicked: {}", panic_text(&*panic))),
    };
    left.stay();
    Err(error)
}

/// Encodes behind what `bytes` already holds. On an error `bytes` is as it was.
pub(crate) fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<Vec<WireHandle>, EncodeError> {
    encode_behind(value, true, bytes).map(|(handles, _gone)| handles)
}

/// As [`encode_into`], of what may not be sent after all.
pub(crate) fn encode_item_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
    encode_behind(value, true, bytes)
}

fn encode_behind<T: Serialize + ?Sized>(value: &T, moves: bool, bytes: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
    let start = bytes.len();
    match run(value, moves, Encoder::new(bytes, message_limit())) {
        Ok((_, encoding)) => Ok(encoding),
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
) -> Result<(usize, Encoding), EncodeError> {
    run(value, true, Encoder::spilling(bytes, message_limit(), above, spill))
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, EncodeError> {
    let mut bytes = Vec::new();
    let handles = encode_into(value, &mut bytes)?;
    Ok(Encoded { bytes, handles })
}

/// As [`encode`], of what stays here, or is sent several times: it takes along nothing that exists only once.
pub(crate) fn encode_copy<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, EncodeError> {
    let mut bytes = Vec::new();
    let (handles, _none) = encode_behind(value, false, &mut bytes)?;
    Ok(Encoded { bytes, handles })
}

/// As [`encode`], for a value that goes out with this thread's next message of ipc-channel: it may hold raw handles.
pub(crate) fn encode_with_strays<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, EncodeError> {
    let mut bytes = Vec::new();
    let (_, (handles, _gone)) = run(value, true, Encoder::raw(&mut bytes, message_limit()))?;
    Ok(Encoded { bytes, handles })
}

/// Decodes a whole value: bytes that are left over are an error too.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], handles: Vec<WireHandle>) -> Result<T, DecodeError> {
    decode_with(Slice(bytes), handles, |decoder| T::deserialize(decoder))
}

/// The same from memory that another process may still write.
pub(crate) fn decode_shared<T: DeserializeOwned>(reader: Reader<'_>, handles: Vec<WireHandle>) -> Result<T, DecodeError> {
    decode_with(reader, handles, |decoder| T::deserialize(decoder))
}

pub(crate) fn decode_with<'de, R, I: Input<'de>>(
    input: I,
    handles: Vec<WireHandle>,
    read: impl FnOnce(&mut Decoder<I>) -> Result<R, codec::Error>,
) -> Result<R, DecodeError> {
    if input.left() > message_limit() {
        let (length, limit) = (input.left(), message_limit());
        return Err(DecodeError::new::<R>(format!("it takes {length} bytes, and {limit} are allowed")));
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
        Err(panic) => Err(DecodeError::new::<R>(format!("its Deserialize panicked: {}", panic_text(&*panic)))),
    }
}
