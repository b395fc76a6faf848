//! How deep a value may be nested.

use super::{Error, Result};
use crate::sys;

/// The deepest nesting of containers.
const DEPTH_MAX: u32 = 256;

/// The stack that a decoder takes for granted: while it uses less, it does not ask the system.
const GRANTED: usize = 16 << 10;

/// The stack that must be left for the frames of one more level, apart from the level's value.
const FRAMES: usize = 64 << 10;

/// How many copies of a value are on the stack while it is decoded: without optimization, each
/// function that passes it on has a copy.
const COPIES: usize = 32;

const DEEP: &str = "it is nested more than 256 deep";
const NO_STACK: &str = "it is nested too deep for the stack of this thread";

/// Counts the levels of nesting and the stack that they use. Frames are as large as the user's
/// types, so a number of levels alone does not bound the stack.
#[derive(Debug)]
pub(in crate::ipc::codec) struct Nesting {
    depth: u32,
    /// The address on the stack where the value begins.
    base: usize,
}

impl Nesting {
    #[inline]
    pub(in crate::ipc::codec) fn new() -> Nesting {
        Nesting { depth: 0, base: sys::stack_address() }
    }

    /// Enters a container inside a value of `size` bytes.
    #[inline]
    pub(in crate::ipc::codec) fn enter(&mut self, size: usize) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(Error::new(DEEP));
        }
        let needed = COPIES.saturating_mul(size);
        if self.base.abs_diff(sys::stack_address()).saturating_add(needed) > GRANTED
            && sys::stack_left() < needed.saturating_add(FRAMES)
        {
            return Err(Error::new(NO_STACK));
        }
        self.depth += 1;
        Ok(())
    }

    #[inline]
    pub(in crate::ipc::codec) fn leave(&mut self) {
        self.depth -= 1;
    }
}
