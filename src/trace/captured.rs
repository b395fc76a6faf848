//! The span that a task or call is made in.

use super::record::{self, Origin};
use super::{ORIGIN_BYTES, context, relay};

/// The current span of a caller. It stays open until this is dropped and what children have sent by
/// then is handled.
#[derive(Debug)]
pub(crate) struct Captured {
    origin: Origin,
}

/// Captures the current span of this thread, if there is one. The caller holds no lock: this calls
/// the program's subscriber.
pub(crate) fn capture() -> Option<Captured> {
    // One load, if this program has no subscriber.
    if record::wanted() == 0 {
        return None;
    }
    context::hold().map(|origin| Captured { origin })
}

impl Captured {
    pub(crate) fn origin(&self) -> [u8; ORIGIN_BYTES] {
        let Origin { process, span } = self.origin;
        let mut bytes = [0; ORIGIN_BYTES];
        bytes[..4].copy_from_slice(&process.to_le_bytes());
        bytes[4..].copy_from_slice(&span.to_le_bytes());
        bytes
    }
}

/// May be dropped under a lock, so this does not call the subscriber, but wakes the thread that
/// does: the thread that drops the last one does not always check for spans to close afterwards.
impl Drop for Captured {
    fn drop(&mut self) {
        if context::let_go(self.origin) {
            relay::wake();
        }
    }
}
