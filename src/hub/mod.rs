//! stub
pub(crate) fn announce() {}
