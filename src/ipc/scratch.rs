//! The buffer in which a thread encodes what it sends, so that a short value costs no allocation.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer, initially empty. Dropping it returns the buffer to the thread.
///
/// This happens in `Drop` so that a function that holds the buffer can write its result straight to
/// where its caller wants it. Moving the result there afterwards would cost more than encoding a
/// short value.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    /// Takes the buffer. An encoding inside another one, or in a destructor at the end of a thread,
    /// gets a new buffer.
    #[inline]
    pub(crate) fn take() -> Scratch {
        let mut bytes = SCRATCH.try_with(Cell::take).unwrap_or_default();
        bytes.clear();
        Scratch(bytes)
    }
}

impl Deref for Scratch {
    type Target = Vec<u8>;

    #[inline]
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Scratch {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Scratch {
    #[inline]
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        let _ = SCRATCH.try_with(|scratch| scratch.set(bytes));
    }
}
