//! Encoding and decoding of values, with the handles in them.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{DecodeError, EncodeError};
use crate::ipc::catch::{drop_caught, text_of};
use crate::ipc::codec::{self, Decoder, Encoder, Input, Slice, Spill};
use crate::ipc::region::Reader;
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
    /// The handles that the running decoding may claim.
    static CLAIMABLE: RefCell<Vec<Option<WireHandle>>> = const { RefCell::new(Vec::new()) };
}

/// What travels beside the bytes of a value. Nearly every value has nothing, which must cost
/// nothing: so this is one word.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct SideData(Option<Box<HandleSet>>);

#[derive(Default)]
struct HandleSet {
    handles: Vec<WireHandle>,
    /// Put back what was moved out of its handle, because it exists only once.
    restore: Vec<Box<dyn FnOnce() + Send>>,
}

impl SideData {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn take_handles(&mut self) -> Vec<WireHandle> {
        self.0.as_mut().map_or_else(Vec::new, |set| std::mem::take(&mut set.handles))
    }

    /// Returns the result of sending the value. If that is an error, what was moved out of its
    /// handle is put back.
    pub(crate) fn restore_unless_sent<R, E>(self, sent: Result<R, E>) -> Result<R, E> {
        if sent.is_err() {
            self.restore();
        }
        sent
    }

    /// Puts back what was moved out of its handle, because the value is not sent. Dropping
    /// `SideData` instead lets it go.
    pub(crate) fn restore(self) {
        let left = self.0.map_or_else(Vec::new, |set| set.restore);
        left.into_iter().rev().for_each(|restore| restore());
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

/// The state of the encoding that runs on a thread.
struct Noted {
    /// Whether an encoding runs.
    encoding: Cell<bool>,
    /// Whether receivers, which exist only once, may be moved into the value.
    moves: Cell<bool>,
    side_data: RefCell<SideData>,
}

impl Noted {
    /// Begins an encoding. Returns the state of the one that it runs inside of, if any: a
    /// `Serialize` implementation may itself put into a queue.
    #[inline]
    fn begin(&self, moves: bool) -> (bool, Option<SideData>) {
        (self.moves.replace(moves), self.encoding.replace(true).then(|| self.side_data.take()))
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

/// Adds a handle to the value that is being encoded, and returns its index.
pub(crate) fn note(handle: WireHandle) -> Result<u32, &'static str> {
    may_note()?;
    // The thread has its thread-locals: that was checked.
    Ok(NOTED.with(|noted| {
        noted.with_set(|set| {
            set.handles.push(handle);
            (set.handles.len() - 1) as u32
        })
    }))
}

/// Has `restore` called if the value that is being encoded is not sent. For what was moved out of
/// its handle and passed to [`note`].
pub(crate) fn on_unsent(restore: impl FnOnce() + Send + 'static) {
    NOTED.with(|noted| noted.with_set(|set| set.restore.push(Box::new(restore))));
}

/// Returns an error if [`note`] would return one.
pub(crate) fn may_note() -> Result<(), &'static str> {
    may_note_all(1)
}

/// Returns an error if [`note`] would return one for any of `count` more handles.
pub(crate) fn may_note_all(count: usize) -> Result<(), &'static str> {
    let checked = NOTED.try_with(|noted| {
        if !noted.encoding.get() {
            Err(OUTSIDE)
        } else if noted.side_data.borrow().0.as_ref().map_or(0, |set| set.handles.len()) + count
            > HANDLES_MAX
        {
            Err(TOO_MANY)
        } else {
            Ok(())
        }
    });
    checked.unwrap_or(Err(ENDING))
}

/// Returns an error if receivers, which exist only once, must not be moved into the value that is
/// being encoded. To be asked before one is moved out of its handle.
pub(crate) fn may_move() -> Result<(), &'static str> {
    let checked = NOTED.try_with(|noted| noted.moves.get().then_some(()).ok_or(ONCE));
    checked.unwrap_or(Err(ENDING))
}

const ONCE: &str = "a receiving end exists only once, and this value may be sent several times";
const OUTSIDE: &str =
    "handles of offspring can only be sent inside worker fields, outputs, queue items and messages";
const ENDING: &str = "a thread that runs the destructors of its thread-locals sends no handles";
const TOO_MANY: &str =
    "a value may hold at most 32 handles: send a queue or connection first, and the rest over it";

/// Takes the handle with this index from the message that is being decoded.
pub(crate) fn claim(index: u32) -> Result<WireHandle, &'static str> {
    let claimed = CLAIMABLE.try_with(|claimable| {
        claimable.borrow_mut().get_mut(index as usize).and_then(Option::take)
    });
    claimed.ok().flatten().ok_or("the handle did not arrive with the value")
}

/// Returns the error for a handle that cannot be encoded.
pub(crate) fn explain<E: serde::ser::Error>(message: &str) -> E {
    E::custom(message)
}

/// Like [`explain`], for decoding.
pub(crate) fn explain_de<E: serde::de::Error>(message: &str) -> E {
    E::custom(message)
}

static LIMIT: AtomicUsize = AtomicUsize::new(2 << 30);

/// Returns the most bytes that one value may have when this process sends or receives it. The
/// default is 2 GiB; see [`set_message_limit`].
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

/// Sets the most bytes that one value (a message, a queue item, a worker, an output) may have when
/// this process sends or receives it. The default is 2 GiB.
///
/// The limit is on the encoded value, and applies to all threads from this call on. Sending a
/// larger value returns an error. So does receiving one, from a process with a higher limit, before
/// memory is allocated for it.
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
    // A destructor at the end of a thread encodes, too, but only what has no handles.
    let outer = NOTED.try_with(|noted| noted.begin(moves)).ok();
    let outcome = catch_unwind(AssertUnwindSafe(|| encoder.encode(value)));
    let side_data =
        outer.map_or_else(SideData::default, |outer| NOTED.with(|noted| noted.end(outer)));
    match outcome {
        Ok(Ok(spilled)) => Ok((spilled, side_data)),
        Ok(Err(error)) => Err(unencoded::<T>(side_data, &error)),
        Err(panic) => Err(unencoded::<T>(
            side_data,
            &format_args!("its Serialize panicked: {}", text_of(panic)),
        )),
    }
}

#[cold]
fn unencoded<T: ?Sized>(side_data: SideData, why: &dyn std::fmt::Display) -> EncodeError {
    side_data.restore();
    EncodeError::new::<T>(why.to_string())
}

/// Appends the encoded value to `bytes`. On an error, `bytes` is unchanged.
#[inline]
pub(crate) fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<SideData, EncodeError> {
    encode_appending(value, true, bytes)
}

#[inline]
fn encode_appending<T: Serialize + ?Sized>(
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

/// Appends the encoded value to `bytes`, or writes all of it into `spill` if it has more than
/// `above` bytes. Returns how many bytes were spilled.
#[inline]
pub(crate) fn encode_spilling<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
    above: usize,
    spill: &mut dyn Spill,
) -> Result<(usize, SideData), EncodeError> {
    run(value, true, Encoder::spilling(bytes, message_limit(), above, spill))
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let handles = encode_into(value, &mut bytes)?.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// Like [`encode`], for a value that stays here or is sent several times: nothing is moved out of
/// its handle.
pub(crate) fn encode_copy<T: Serialize + ?Sized>(value: &T) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let handles = encode_appending(value, false, &mut bytes)?.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// Like [`encode`], for a value that may hold raw handles of ipc-channel. They are to be
/// [taken](super::take_raw_handles) next.
pub(crate) fn encode_with_raw_handles<T: Serialize + ?Sized>(
    value: &T,
) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let (_, mut side_data) = run(value, true, Encoder::raw(&mut bytes, message_limit()))?;
    let handles = side_data.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// Decodes a value. Bytes that are left over are an error.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    handles: Vec<WireHandle>,
) -> Result<T, DecodeError> {
    decode_with(Slice(bytes), handles, |decoder| T::deserialize(decoder))
}

/// Like [`decode`], from memory that another process may still write.
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
    // Nearly every value has no handles. Then there is nothing to set up, unless one value is
    // decoded inside another.
    let plain =
        handles.is_empty() && CLAIMABLE.try_with(|outer| outer.borrow().is_empty()) != Ok(false);
    let outer = if plain {
        None
    } else {
        // A destructor at the end of a thread claims nothing.
        let claimable = handles.into_iter().map(Some).collect();
        CLAIMABLE.try_with(|outer| outer.replace(claimable)).ok()
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut decoder = Decoder::new(input);
        read(&mut decoder).map(|value| (value, decoder.left()))
    }));
    if let Some(outer) = outer {
        CLAIMABLE.replace(outer);
    }
    match outcome {
        Ok(Ok((value, 0))) => Ok(value),
        Ok(Ok((value, left))) => {
            drop_caught(value);
            Err(DecodeError::new::<R>(format!("{left} bytes are left over")))
        }
        Ok(Err(error)) => Err(DecodeError::new::<R>(error.to_string())),
        Err(panic) => {
            Err(DecodeError::new::<R>(format!("its Deserialize panicked: {}", text_of(panic))))
        }
    }
}
