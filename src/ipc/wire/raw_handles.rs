//! Raw handles of ipc-channel inside a user's value.
//!
//! They register themselves in ipc-channel's thread-locals, and are sent with the next message of
//! this thread, whatever that is. The codec refuses them where they cannot work. Those that are
//! hidden in a type with its own `Serialize` implementation must still not reach the wrong
//! receiver.

use std::cell::Cell;
use std::sync::OnceLock;

use ipc_channel::ipc::IpcSender;

use crate::ipc::catch::no_panic;

thread_local! {
    /// Whether a user's value was encoded on this thread since its last message.
    static ENCODED: Cell<bool> = const { Cell::new(false) };
}

#[inline]
pub(in crate::ipc::wire) fn encoded() {
    // `with`, and not the shorter `set`, which is a function call: this runs for each item.
    ENCODED.with(|encoded| encoded.set(true));
}

/// Called when a message of this thread was sent, and all pending handles with it.
pub(in crate::ipc::wire) fn sent() {
    ENCODED.set(false);
}

/// Discards pending handles by sending them to a channel whose receiver is gone.
pub(crate) fn drop_raw_handles() {
    static NOWHERE: OnceLock<Option<IpcSender<()>>> = OnceLock::new();
    // Created with the first message and not with the first such handle, so that the set of open
    // descriptors does not depend on it.
    let nowhere =
        NOWHERE.get_or_init(|| ipc_channel::ipc::channel().ok().map(|(sender, _)| sender));
    if !ENCODED.replace(false) {
        return;
    }
    if let Some(nowhere) = nowhere {
        let _ = no_panic("ipc-channel", || nowhere.send(()));
    }
}
