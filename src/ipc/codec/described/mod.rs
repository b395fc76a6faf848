//! The described form: each value is preceded by a tag that identifies its kind, and fields and
//! variants have their names. It holds what JSON holds, in the same structure, so a type that works
//! with JSON works with it. It is more exact than JSON: keys keep their types, `Some(None)` is not
//! `None`, and no number is rounded.
//!
//! It is human-readable in serde's sense. The buffers that serde makes for tagged and untagged
//! enums are human-readable too, and a type that writes itself in two ways must not write one and
//! read the other.

mod decode;
mod encode;

pub(crate) use decode::Describing;
pub(in crate::ipc::codec) use encode::Describer;

/// Returns whether this is a variant of this name, with its content.
pub(crate) fn describes_variant(bytes: &[u8], name: &str) -> bool {
    let rest = bytes.strip_prefix(&[tag::MAP, tag::TEXT]);
    let rest = rest.and_then(|rest| rest.strip_prefix(&[name.len() as u8]));
    rest.is_some_and(|rest| rest.starts_with(name.as_bytes()))
}

/// The tags. Each identifies the kind of the value that follows it.
mod tag {
    /// `()`, `None`, or a structure without fields.
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    /// A number of at most 64 bits that is not negative.
    pub(super) const NUMBER: u8 = 3;
    /// A negative number of at most 64 bits.
    pub(super) const NEGATIVE: u8 = 4;
    pub(super) const WIDE: u8 = 5;
    pub(super) const WIDE_NEGATIVE: u8 = 6;
    pub(super) const F32: u8 = 7;
    pub(super) const F64: u8 = 8;
    /// A text, a character, or a name.
    pub(super) const TEXT: u8 = 9;
    pub(super) const BYTES: u8 = 10;
    /// Elements of one type, as a block.
    pub(super) const F32_BLOCK: u8 = 11;
    pub(super) const F64_BLOCK: u8 = 12;
    /// Elements, up to `END`.
    pub(super) const SEQUENCE: u8 = 13;
    /// Keys with their values, up to `END`.
    pub(super) const MAP: u8 = 14;
    pub(super) const END: u8 = 15;
    /// `Some`, where the value without it would look like `None`.
    pub(super) const SOME: u8 = 16;
}
