//! Encoding and decoding of values, with the handles in them.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::error::{DecodeError, EncodeError};
use crate::ipc::catch::{drop_caught, text_of};
use crate::ipc::codec::{self, Decoder, Describing, Encoder, Input, Slice, Spill};
use crate::ipc::wire::limit::{limit, message_limit};
use crate::ipc::wire::shape::{Form, Shape};
use crate::ipc::wire::{HANDLES_MAX, WireHandle};

/// An encoded value.
#[derive(Debug, Default)]
pub(crate) struct EncodedValue {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<WireHandle>,
}

impl EncodedValue {
    /// Returns whether this `Result` is an `Err`.
    pub(crate) fn is_err(&self) -> bool {
        match self.bytes.split_first() {
            Some((&POSITIONAL, value)) => value.first() == Some(&1),
            Some((&DESCRIBED, value)) => codec::describes_variant(value, "Err"),
            _ => false,
        }
    }
}

thread_local! {
    static NOTED: Noted = const {
        Noted {
            encoding: Cell::new(false),
            moves: Cell::new(true),
            side_data: RefCell::new(SideData(None)),
        }
    };
    static CLAIMS: Claims = const {
        Claims {
            handles: RefCell::new(Vec::new()),
            is_trial: Cell::new(false),
            repeats: Cell::new(false),
            missed: Cell::new(false),
        }
    };
}

/// The handles that the current decoding may claim.
struct Claims {
    handles: RefCell<Vec<Option<WireHandle>>>,
    /// If true, the decoding is a trial at the sender; see [`is_trial`].
    is_trial: Cell<bool>,
    /// If true, a handle may be claimed again, because the first type to claim it did not keep it:
    /// an untagged enum tries one variant after the other.
    repeats: Cell<bool>,
    /// If true, a handle was claimed that is not there.
    missed: Cell<bool>,
}

impl Claims {
    fn is_idle(&self) -> bool {
        self.handles.borrow().is_empty() && !self.is_trial.get()
    }

    fn replace(&self, (handles, mode): Claimable) -> Claimable {
        let outer = Claiming { is_trial: self.is_trial.get(), repeats: self.repeats.get() };
        self.is_trial.set(mode.is_trial);
        self.repeats.set(mode.repeats);
        (self.handles.replace(handles), outer)
    }

    fn claim(&self, index: u32) -> Option<WireHandle> {
        let mut handles = self.handles.borrow_mut();
        let handle = handles.get_mut(index as usize)?;
        let copy = handle.as_ref().filter(|_| self.repeats.get()).and_then(WireHandle::try_clone);
        copy.or_else(|| handle.take())
    }
}

#[derive(Clone, Copy)]
pub(in crate::ipc::wire) struct Claiming {
    pub(in crate::ipc::wire) is_trial: bool,
    pub(in crate::ipc::wire) repeats: bool,
}

type Claimable = (Vec<Option<WireHandle>>, Claiming);

/// Runs a decoding that may claim these handles. It may run inside another one.
#[inline]
pub(in crate::ipc::wire) fn claiming<R>(
    handles: Vec<WireHandle>,
    mode: Claiming,
    decode: impl FnOnce() -> R,
) -> R {
    // Nearly every value has no handles, and is not decoded inside another. Then there is nothing
    // to set up.
    let plain =
        !mode.is_trial && handles.is_empty() && CLAIMS.try_with(Claims::is_idle) != Ok(false);
    if plain {
        return decode();
    }
    // A destructor at the end of a thread claims nothing.
    let claimable = (handles.into_iter().map(Some).collect(), mode);
    let outer = CLAIMS.try_with(|claims| claims.replace(claimable)).ok();
    let decoded = decode();
    if let Some(outer) = outer {
        CLAIMS.with(|claims| claims.replace(outer));
    }
    decoded
}

/// What travels beside the bytes of a value. Nearly every value has nothing there, and that must
/// cost nothing, so this is one word.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct SideData(Option<Box<HandleSet>>);

#[derive(Default)]
struct HandleSet {
    handles: Vec<WireHandle>,
    /// Puts back what was moved out of its handle because it exists only once.
    restore: Vec<Box<dyn FnOnce() + Send>>,
}

impl SideData {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(in crate::ipc::wire) fn handles(&self) -> &[WireHandle] {
        self.0.as_ref().map_or(&[], |set| &set.handles)
    }

    pub(crate) fn take_handles(&mut self) -> Vec<WireHandle> {
        self.0.as_mut().map_or_else(Vec::new, |set| std::mem::take(&mut set.handles))
    }

    /// Returns the result of sending the value. If the result is an error, puts back what was moved
    /// out of its handle.
    pub(crate) fn restore_unless_sent<R, E>(self, sent: Result<R, E>) -> Result<R, E> {
        if sent.is_err() {
            self.restore();
        }
        sent
    }

    /// Puts back what was moved out of its handle, because the value was not sent. Merely dropping
    /// `SideData` gives that up.
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

/// The state of the encoding in progress on a thread.
struct Noted {
    /// Whether an encoding is in progress.
    encoding: Cell<bool>,
    /// Whether receivers, which exist only once, may be moved into the value.
    moves: Cell<bool>,
    side_data: RefCell<SideData>,
}

impl Noted {
    /// Begins an encoding. Returns the state of the encoding that it runs inside, if there is one:
    /// a `Serialize` implementation may itself put into a queue.
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
    // The thread has its thread-locals: that was checked above.
    Ok(NOTED.with(|noted| {
        noted.with_set(|set| {
            set.handles.push(handle);
            (set.handles.len() - 1) as u32
        })
    }))
}

/// Has `restore` called if the value that is being encoded is not sent. For things that were moved
/// out of their handle and passed to [`note`].
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
/// being encoded. Call this before moving one out of its handle.
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
    let claimed = CLAIMS.try_with(|claims| {
        let claimed = claims.claim(index);
        claims.missed.set(claims.missed.get() || claimed.is_none());
        claimed
    });
    let claimed = claimed.ok().flatten();
    claimed.ok_or("the handle did not arrive with the value, or was claimed before")
}

/// Returns whether the decoding is a trial at the sender: it only checks whether the value can be
/// decoded, and then drops it. The handles in it are copies, and things that exist only once must
/// not be used.
pub(crate) fn is_trial() -> bool {
    CLAIMS.try_with(|claims| claims.is_trial.get()).unwrap_or(false)
}

/// Returns whether a handle was claimed that is not there, since the last call.
pub(in crate::ipc::wire) fn missed_handle() -> bool {
    CLAIMS.try_with(|claims| claims.missed.replace(false)).unwrap_or(false)
}

/// Returns the error for a handle that cannot be encoded.
pub(crate) fn explain<E: serde::ser::Error>(message: &str) -> E {
    E::custom(message)
}

/// Like [`explain`], for decoding.
pub(crate) fn explain_de<E: serde::de::Error>(message: &str) -> E {
    E::custom(message)
}

/// A value without its type. Only what is here is compiled for each type that crosses.
trait Encode {
    fn positional(&self, encoder: &mut Encoder<'_>) -> Result<usize, codec::Error>;

    fn described(&self, encoder: &mut Encoder<'_>) -> Result<usize, codec::Error>;

    fn type_name(&self) -> &'static str;
}

/// For the reference, because only a type whose size is known becomes a trait object.
impl<T: Serialize + ?Sized> Encode for &T {
    fn positional(&self, encoder: &mut Encoder<'_>) -> Result<usize, codec::Error> {
        encoder.encode(*self)
    }

    fn described(&self, encoder: &mut Encoder<'_>) -> Result<usize, codec::Error> {
        encoder.describe(*self)
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
}

#[inline]
fn run(
    value: &dyn Encode,
    moves: bool,
    encode: impl FnOnce() -> Result<usize, codec::Error>,
) -> Result<(usize, SideData), Box<EncodeError>> {
    // A destructor at the end of a thread may encode too, but only values without handles.
    let outer = NOTED.try_with(|noted| noted.begin(moves)).ok();
    let outcome = catch_unwind(AssertUnwindSafe(encode));
    let side_data =
        outer.map_or_else(SideData::default, |outer| NOTED.with(|noted| noted.end(outer)));
    match outcome {
        Ok(Ok(spilled)) => Ok((spilled, side_data)),
        Ok(Err(error)) => Err(unencoded(value, side_data, error.to_string())),
        Err(panic) => {
            let message = format!("its Serialize panicked: {}", text_of(panic));
            Err(unencoded(value, side_data, message))
        }
    }
}

/// The first byte of an encoded value: its form.
const POSITIONAL: u8 = 0;
const DESCRIBED: u8 = 1;

fn encode_with(
    value: &dyn Encode,
    shape: Shape,
    form: Form,
    moves: bool,
    encoder: &mut Encoder<'_>,
) -> Result<(usize, SideData), Box<EncodeError>> {
    if let Form::Described | Form::DescribedOnly = form {
        return describe(value, shape, moves, encoder);
    }
    let encoded = run(value, moves, || {
        encoder.push(POSITIONAL)?;
        value.positional(encoder)
    });
    match encoded {
        Ok((spilled, side_data)) if form == Form::Positional || side_data.is_empty() => {
            Ok((spilled, side_data))
        }
        Ok((_, side_data)) => {
            side_data.restore();
            describe(value, shape, moves, encoder)
        }
        Err(_) if encoder.needs_names() && shape.set_described() => {
            describe(value, shape, moves, encoder)
        }
        Err(error) => Err(error),
    }
}

/// Encodes a value in the described form. If not every value of the type can be decoded, checks
/// that this one can.
#[cold]
fn describe(
    value: &dyn Encode,
    shape: Shape,
    moves: bool,
    encoder: &mut Encoder<'_>,
) -> Result<(usize, SideData), Box<EncodeError>> {
    encoder.restart();
    let mut bytes = Vec::new();
    let (_, side_data) = run(value, moves, || {
        let mut description = encoder.aside(&mut bytes);
        description.push(DESCRIBED)?;
        value.described(&mut description)
    })?;
    // Raw handles cannot be copied. They occur only in workers, and `spawn` reports a worker that
    // does not decode.
    let trial = shape.trial().filter(|_| shape.form() == Form::Described && !encoder.is_raw());
    if let Some(trial) = trial {
        if let Err(message) = trial(&bytes[1..], &side_data) {
            return Err(unencoded(value, side_data, message));
        }
    }
    match encoder.append(&bytes) {
        Ok(spilled) => Ok((spilled, side_data)),
        Err(error) => Err(unencoded(value, side_data, error.to_string())),
    }
}

#[cold]
fn unencoded(value: &dyn Encode, side_data: SideData, message: String) -> Box<EncodeError> {
    side_data.restore();
    Box::new(EncodeError::of(value.type_name(), message))
}

/// Appends the encoded value to `bytes`. On an error, `bytes` is unchanged.
#[inline]
pub(crate) fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    shape: Shape,
    bytes: &mut Vec<u8>,
) -> Result<SideData, EncodeError> {
    // The form is looked up here, where the compiler knows the type.
    encode_appending(&value, shape, shape.form(), true, bytes).map_err(|error| *error)
}

fn encode_appending(
    value: &dyn Encode,
    shape: Shape,
    form: Form,
    moves: bool,
    bytes: &mut Vec<u8>,
) -> Result<SideData, Box<EncodeError>> {
    let start = bytes.len();
    match encode_with(value, shape, form, moves, &mut Encoder::new(bytes, limit())) {
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
    shape: Shape,
    bytes: &mut Vec<u8>,
    above: usize,
    spill: &mut dyn Spill,
) -> Result<(usize, SideData), EncodeError> {
    let mut encoder = Encoder::spilling(bytes, limit(), above, spill);
    encode_with(&value, shape, shape.form(), true, &mut encoder).map_err(|error| *error)
}

pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    shape: Shape,
) -> Result<EncodedValue, EncodeError> {
    encode_whole(&value, shape, true)
}

/// Like [`encode`], for a value that stays here or is sent several times: nothing is moved out of
/// its handle.
pub(crate) fn encode_copy<T: Serialize + ?Sized>(
    value: &T,
    shape: Shape,
) -> Result<EncodedValue, EncodeError> {
    encode_whole(&value, shape, false)
}

fn encode_whole(
    value: &dyn Encode,
    shape: Shape,
    moves: bool,
) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let encoded = encode_appending(value, shape, shape.form(), moves, &mut bytes);
    let handles = encoded.map_err(|error| *error)?.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// Like [`encode`], for a value that may hold raw handles of ipc-channel. The caller must
/// [take](super::take_raw_handles) them next.
pub(crate) fn encode_with_raw_handles<T: Serialize + ?Sized>(
    value: &T,
    shape: Shape,
) -> Result<EncodedValue, EncodeError> {
    encode_raw(&value, shape)
}

fn encode_raw(value: &dyn Encode, shape: Shape) -> Result<EncodedValue, EncodeError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::raw(&mut bytes, limit());
    let encoded = encode_with(value, shape, shape.form(), true, &mut encoder);
    let (_, mut side_data) = encoded.map_err(|error| *error)?;
    let handles = side_data.take_handles();
    Ok(EncodedValue { bytes, handles })
}

/// Decodes a value. It is an error if bytes are left over.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    handles: Vec<WireHandle>,
) -> Result<T, DecodeError> {
    decode_from(Slice(bytes), handles)
}

/// Like [`decode`], from any input, such as memory that another process may still write.
pub(crate) fn decode_from<'de, T: DeserializeOwned>(
    mut input: impl Input<'de>,
    handles: Vec<WireHandle>,
) -> Result<T, DecodeError> {
    if form_of(type_name::<T>(), &mut input)? == DESCRIBED {
        return from_description(&private(input), handles);
    }
    let mode = Claiming { is_trial: false, repeats: false };
    decode_whole(Decoder::new(input), Decoder::left, handles, mode)
}

fn from_description<T: DeserializeOwned>(
    bytes: &[u8],
    handles: Vec<WireHandle>,
) -> Result<T, DecodeError> {
    let mode = Claiming { is_trial: false, repeats: true };
    decode_whole(Describing::new(bytes), Describing::left, handles, mode)
}

/// Decodes a value with this decoder, up to the end of its bytes.
#[inline]
fn decode_whole<'de, T, D>(
    mut decoder: D,
    left_in: impl Fn(&D) -> usize,
    handles: Vec<WireHandle>,
    mode: Claiming,
) -> Result<T, DecodeError>
where
    T: DeserializeOwned,
    for<'d> &'d mut D: Deserializer<'de, Error = codec::Error>,
{
    let (name, mut value) = (type_name::<T>(), None);
    decode_with(name, handles, mode, &mut |left| {
        let decoded = T::deserialize(&mut decoder)?;
        *left = left_in(&decoder);
        // An incomplete value is dropped here, where a panic of its `Drop` is caught.
        if *left == 0 {
            value = Some(decoded);
        }
        Ok(())
    })
    .map_err(|error| *error)?;
    value.ok_or_else(|| DecodeError::elsewhere(name, UNKEPT))
}

const UNKEPT: &str = "it was decoded, and is not there";

/// Returns the bytes of the input, copied if another process may still write them.
fn private<'de>(mut input: impl Input<'de>) -> Cow<'de, [u8]> {
    let left = input.left();
    if let Some(bytes) = input.borrow(left) {
        return Cow::Borrowed(bytes);
    }
    let mut bytes = Vec::new();
    input.append(left, &mut bytes);
    Cow::Owned(bytes)
}

/// Appends the bytes of a value that was encoded as bytes. Returns their number.
pub(crate) fn decode_bytes<'de>(
    mut input: impl Input<'de>,
    bytes: &mut Vec<u8>,
) -> Result<usize, DecodeError> {
    let name = type_name::<Vec<u8>>();
    if form_of(name, &mut input)? != POSITIONAL {
        return Err(DecodeError::new::<Vec<u8>>("it is not a value of bytes"));
    }
    let mut length = 0;
    let mut decoder = Decoder::new(input);
    catch_decoding(name, &mut |left| {
        length = decoder.bytes_into(bytes)?;
        *left = decoder.left();
        Ok(())
    })
    .map_err(|error| *error)?;
    Ok(length)
}

#[inline]
fn form_of<'de>(name: &'static str, input: &mut impl Input<'de>) -> Result<u8, DecodeError> {
    let left = input.left();
    match input.byte() {
        Some(form @ (POSITIONAL | DESCRIBED)) if left <= limit() => Ok(form),
        form => Err(no_form(name, left, form)),
    }
}

#[cold]
fn no_form(name: &'static str, left: usize, form: Option<u8>) -> DecodeError {
    let message = match form {
        _ if left > limit() => format!(
            "it takes {} bytes, more than the limit of {} (`offspring::set_message_limit`)",
            left - 1,
            message_limit()
        ),
        Some(_) => "its form is unknown".to_owned(),
        None => "the bytes end too early".to_owned(),
    };
    DecodeError::elsewhere(name, message)
}

/// Decodes a value, keeps it, and sets how many bytes are left over. Called once.
pub(in crate::ipc::wire) type DecodeStep<'d> =
    &'d mut dyn FnMut(&mut usize) -> Result<(), codec::Error>;

/// Runs a decoding that may claim these handles.
///
/// Its error is boxed, and so is that of an encoding, so that a result stays in registers.
pub(in crate::ipc::wire) fn decode_with(
    name: &'static str,
    handles: Vec<WireHandle>,
    mode: Claiming,
    decode: DecodeStep<'_>,
) -> Result<(), Box<DecodeError>> {
    claiming(handles, mode, || catch_decoding(name, decode))
}

/// Runs a decoding. It is an error if bytes are left over, or if the value's type panics.
#[inline]
fn catch_decoding(name: &'static str, decode: DecodeStep<'_>) -> Result<(), Box<DecodeError>> {
    let mut left = 0;
    match catch_unwind(AssertUnwindSafe(|| decode(&mut left))) {
        Ok(Ok(())) if left == 0 => Ok(()),
        outcome => Err(undecoded(name, left, outcome)),
    }
}

#[cold]
fn undecoded(
    name: &'static str,
    left: usize,
    outcome: std::thread::Result<Result<(), codec::Error>>,
) -> Box<DecodeError> {
    let message = match outcome {
        Ok(Err(error)) => error.to_string(),
        Err(panic) if left == 0 => format!("its Deserialize panicked: {}", text_of(panic)),
        outcome => {
            // A value that is not the whole was dropped, which may have panicked.
            outcome.map_or_else(drop_caught, drop);
            format!("{left} bytes are left over")
        }
    };
    Box::new(DecodeError::elsewhere(name, message))
}
