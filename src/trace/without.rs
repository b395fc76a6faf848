//! The interface of this module without the feature `tracing`, at no cost.

use super::ORIGIN_BYTES;

/// No span is ever captured.
#[derive(Debug)]
pub(crate) enum Captured {}

impl Captured {
    pub(crate) fn origin(&self) -> [u8; ORIGIN_BYTES] {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) struct Attached;

#[inline]
pub(crate) fn capture() -> Option<Captured> {
    None
}

#[inline]
pub(crate) fn attach(_: Option<[u8; ORIGIN_BYTES]>) -> Attached {
    Attached
}

#[inline]
pub(crate) fn release_due() {}
