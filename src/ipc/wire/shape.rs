//! The choice of a form for the values of a type.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ipc::codec::Symmetry;
use crate::ipc::wire::encoding::SideData;
use crate::ipc::wire::trial;
use crate::sys;

/// What a sender knows about the type that its receiver will decode. The sender chooses the form
/// accordingly; the receiver reads the form from the first byte.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// A type of this crate, which is known to be read as it is written.
    Own,
    /// A type that only the receiver knows. Its values are described, without a trial.
    Unknown,
    /// A function and not its result, because this is copied with each value that is sent.
    User(fn() -> UserShape),
}

#[derive(Clone, Copy)]
pub(crate) struct UserShape {
    key: u64,
    explore: fn() -> Symmetry,
    trial: Trial,
}

/// Decodes a value in the described form. If that is not possible, returns an error with the
/// reason.
pub(in crate::ipc::wire) type Trial = fn(&[u8], &SideData) -> Result<(), String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ipc::wire) enum Form {
    Positional = 1,
    /// Positional, unless the value holds handles.
    PositionalWithoutHandles = 2,
    /// Described, and tried: it is likely that not every value decodes.
    Described = 3,
    /// Described, because little is known of the type.
    DescribedOnly = 4,
}

/// The forms of the types that were used last, so that a look-up costs one load. Each word is a
/// hash, with the form in its lowest bits.
static FORMS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// The forms of all types.
static ALL_FORMS: Mutex<BTreeMap<u64, Form>> = Mutex::new(BTreeMap::new());

const FORM_MASK: u64 = 7;

impl Shape {
    #[inline]
    pub(crate) fn of<T: Serialize + DeserializeOwned>() -> Shape {
        Shape::User(UserShape::of::<T>)
    }

    #[inline]
    pub(in crate::ipc::wire) fn form(self) -> Form {
        let shape = match self {
            Shape::User(shape) => shape(),
            Shape::Own => return Form::Positional,
            Shape::Unknown => return Form::DescribedOnly,
        };
        let known = shape.slot().load(Ordering::Relaxed);
        match known ^ shape.key {
            1 => Form::Positional,
            2 => Form::PositionalWithoutHandles,
            3 => Form::Described,
            4 => Form::DescribedOnly,
            _ => shape.find(),
        }
    }

    /// Sets the described form for all later values. Returns whether that is possible.
    pub(in crate::ipc::wire) fn set_described(self) -> bool {
        let Shape::User(shape) = self else { return false };
        shape().set(Form::Described);
        true
    }

    pub(in crate::ipc::wire) fn trial(self) -> Option<Trial> {
        match self {
            Shape::User(shape) => Some(shape().trial),
            Shape::Own | Shape::Unknown => None,
        }
    }
}

impl UserShape {
    #[inline]
    fn of<T: Serialize + DeserializeOwned>() -> UserShape {
        UserShape {
            key: key_of(sys::type_id_of::<T>()),
            explore: trial::explore::<T>,
            trial: trial::try_decoding::<T>,
        }
    }

    #[inline]
    fn slot(&self) -> &'static AtomicU64 {
        &FORMS[(self.key >> 3) as usize % FORMS.len()]
    }

    #[cold]
    fn find(&self) -> Form {
        let known = sys::lock(&ALL_FORMS).get(&self.key).copied();
        let form = known.unwrap_or_else(|| match (self.explore)() {
            Symmetry::Full => Form::Positional,
            Symmetry::WithoutHandles => Form::PositionalWithoutHandles,
            Symmetry::Unknown => Form::DescribedOnly,
            Symmetry::None => Form::Described,
        });
        self.set(form);
        form
    }

    fn set(&self, form: Form) {
        let mut forms = sys::lock(&ALL_FORMS);
        // Once described, always described: the exploration by another thread may end later.
        let form = *forms
            .entry(self.key)
            .and_modify(|known| {
                if form == Form::Described {
                    *known = form;
                }
            })
            .or_insert(form);
        self.slot().store(self.key | form as u64, Ordering::Relaxed);
    }
}

/// Returns the 61 bits of the id that are kept.
#[inline]
fn key_of(id: TypeId) -> u64 {
    /// A hasher that keeps a part of what it is given: a type's id is a hash already.
    struct PartHasher(u64);
    impl Hasher for PartHasher {
        #[inline]
        fn write(&mut self, bytes: &[u8]) {
            for &byte in bytes {
                self.0 = self.0.rotate_left(8) ^ u64::from(byte);
            }
        }

        #[inline]
        fn write_u64(&mut self, part: u64) {
            self.0 ^= part;
        }

        #[inline]
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut part = PartHasher(0);
    id.hash(&mut part);
    part.finish() & !FORM_MASK
}
