//! Raw handles of ipc-channel inside a user's value.
//!
//! They note themselves in ipc-channel's thread-locals, and ride on whatever this thread sends next. The codec refuses
//! them where they cannot work; those that hide in a type with a `Serialize` of its own must still not end up in
//! a stranger's hands.

use std::cell::Cell;
use std::sync::OnceLock;

use ipc_channel::ipc::IpcSender;

use crate::ipc::catch::no_panic;

thread_local! {
    /// Whether a value of the user was encoded on this thread since the last message from it.
    static ENCODED: Cell<bool> = const { Cell::new(false) };
}

#[inline]
pub(in crate::ipc::wire) fn encoded() {
    // `with`, and not the shorter `set`: that is a function call, and this is done for each item.
    ENCODED.with(|encoded| encoded.set(true));
}

/// A message of this thread has gone out, and all of them with it.
pub(in crate::ipc::wire) fn sent() {
    ENCODED.set(false);
}

/// Sends what hides to a receiver that is gone, which takes it along into nothing.
pub(crate) fn drop_raw_handles() {
    static NOWHERE: OnceLock<Option<IpcSender<()>>> = OnceLock::new();
    // Made with the first message, not with the first of these: so that what a process has open does not depend on it.
    let nowhere =
        NOWHERE.get_or_init(|| ipc_channel::ipc::channel().ok().map(|(sender, _)| sender));
    if !ENCODED.replace(false) {
        return;
    }
    if let Some(nowhere) = nowhere {
        let _ = no_panic("ipc-channel", || nowhere.send(()));
    }
}
