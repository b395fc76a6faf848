//! The selector, on the explorer's locks.

#[path = "../../src/select/selector.rs"]
pub(crate) mod selector;
